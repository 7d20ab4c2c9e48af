"""What people really bring: spellings, wrappers and words that look like identities."""

import logging
from pathlib import Path

import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.samples import JUNK, NO_CAMERA
from deepsort_reid.data.split import assign_all
from tests.support.datasets import (
    contents,
    market,
    pack,
    picture,
    read_dataset,
    read_files,
    split_config,
)


def people(*names: str, images: int = 2, begin: str = "") -> list[str]:
    """A folder for each name."""
    return [f"{begin}{name}/{k}.jpg" for name in names for k in range(images)]


def refusal(names: list[str], **source: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(names, **source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


FOUR = ("ann", "bob", "cai", "dan")


@pytest.mark.parametrize(
    "twins",
    [("Eve", "eve"), ("eve", "eve "), ("0002", "2"), ("Zo\u00eb", "Zoe\u0308"), ("ed", "e\u200bd")],
)
def test_two_spellings_of_one_identity_are_refused(twins: tuple[str, str]) -> None:
    assert "differ only in case, spaces, zeros" in refusal(people(*FOUR, *twins))
    parts = people(*FOUR, twins[0], begin="train/") + people("x", "y", twins[1], begin="test/")
    assert "differ only in case" in refusal(parts)
    cameras = people(*FOUR, twins[0], begin="cam1/") + people(*FOUR, twins[1], begin="cam2/")
    assert "differ only in case" in refusal(cameras)


def test_names_that_differ_are_two() -> None:
    names = ("1", "10", "100", "a1", "a01", "p 1", "p1")
    assert read_dataset(people(*names)).understood["identities"] == len(names)


@pytest.mark.parametrize("name", ["unknown", "Distractors", "JPEGImages", "masks", "unlabeled2017"])
def test_folders_of_nobody_are_refused_unless_the_layout_is_stated(name: str) -> None:
    assert f"'{name}' of '{name}/0.jpg' looks like" in refusal(people(*FOUR, name))
    dataset = read_dataset(people(*FOUR, name), "folders")
    assert dataset.understood["identities"] == 5
    assert "looks like" in refusal(people(*FOUR, begin="train/") + people(name, begin="test/"))


def test_coco_and_yolo_exports_are_refused() -> None:
    coco = people("train2017", "val2017", "test2017", "other2017")
    assert "looks like a part of a dataset" in refusal(coco)
    yolo = people("train/images", "valid/images", "test/images")
    assert "'images' of 'test/images/0.jpg' looks like a kind of file" in refusal(yolo)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (people("a", "b", begin="train/") + people("a", "b", begin="dev/"), "'dev' beside it"),
        (people("a", "b", begin="x/train/") + people("c", begin="y/test/"), "'x/train' looks like"),
        (people("a", "b", begin="test1/") + people("c", begin="test2/"), "both stand for the part"),
    ],
)
def test_parts_that_do_not_stand_alone_are_refused(names: list[str], message: str) -> None:
    for level in (None, 1, 2):
        assert message in refusal(names, identity_level=level)


def test_parts_may_have_numbers_and_capitals() -> None:
    names = people("a", "b", begin="Train_2017/") + people("c", "d", begin="VAL2017/")
    dataset = read_dataset(names)
    assert dataset.understood["images_by_role"] == {"test": 4, "train": 4}
    assert dataset.understood["notes"] == ["'val' serves as 'test', of which queries are drawn"]


def test_a_part_that_serves_as_another_is_said() -> None:
    names = people("a", "b", begin="train/") + people("a", "b", begin="test/")
    (note,) = read_dataset(names).understood["notes"]
    assert note == "'test' serves as 'val', since it holds the identities of train"


def test_one_name_below_two_folders_is_said() -> None:
    names = people(*FOUR, begin="batch1/") + people("ann", begin="batch2/")
    assert "'batch1/ann' and 'batch2/ann' are two identities: if they are one" in refusal(names)
    (note,) = read_dataset(names, identity_level=2).understood["notes"]
    assert note == "'batch1/ann' and 'batch2/ann' are two identities"


def test_a_folder_minus_one_is_junk() -> None:
    """As in Market-1501 sorted into folders; its gallery has a folder of junk."""
    names = [
        *people(*FOUR, begin="train/"), *people("x", "y", begin="query/"),
        *people("x", "y", "-1", begin="gallery/"),
    ]  # fmt: skip
    dataset = read_dataset(names)
    assert {s.pid for s in dataset.samples if s.identity == "-1"} == {JUNK}
    assert dataset.understood["identities"] == 6
    assert dataset.understood["junk"] == 2
    drawn = assign_all([read_dataset(people(*FOUR, "-1"))], split_config())
    assert "-1" not in {s.identity for samples in drawn.values() for s in samples}
    nobody = [*people("a", begin="train/"), *people("x", begin="gallery/"), "query/-1/1.jpg"]
    assert "'query/-1/1.jpg' shows '-1', which is nobody" in refusal(nobody)


def test_market_names_in_wrappers_are_no_identities() -> None:
    names = [f"day{d}/{i:04}_c1s1_00015{d}_00.jpg" for d in range(4) for i in range(1, 4)]
    assert "names in 'day0' tell several identities" in refusal(names)
    alike = [f"{i:04}/{i:04}_c1s1_00015{k}_00.jpg" for i in range(1, 5) for k in range(2)]
    assert read_dataset(alike).understood["identities"] == 4


# Cameras


@pytest.mark.parametrize(
    ("form", "cameras"),
    [
        ("cam{n}_{k}.jpg", {1, 2}), ("cam0{n}.{k}.jpg", {1, 2}), ("c1{n}s2_{k}.jpg", {11, 12}),
        ("camera{n}_{k}.jpg", {1, 2}), ("Camera {n} {k}.jpg", {1, 2}), ("cam_{n}_{k}.jpg", {1, 2}),
        ("cam{l}_{k}.jpg", {1, 2}), ("camera_{l}.{k}.jpg", {1, 2}), ("cam{n}/{k}.jpg", {1, 2}),
        ("camp{n}_{k}.jpg", {NO_CAMERA}), ("cam_{n}{k}.jpg", {NO_CAMERA}),
        ("c{n}99999999999999999999_{k}.jpg", {NO_CAMERA}),
    ],
)  # fmt: skip
def test_forms_of_cameras(form: str, cameras: set[int]) -> None:
    names = [
        f"{who}/{form.format(n=n, l='?AB'[n], k=k)}" for who in FOUR for n in (1, 2) for k in (7, 8)
    ]
    dataset = read_dataset(names, identity_level=1)
    assert {s.camid for s in dataset.samples} == cameras


def test_cameras_that_are_none_are_refused() -> None:
    assert "tells two cameras, 1 and 2" in refusal([f"{who}/c1_to_c2.jpg" for who in FOUR])
    mixed = [f"{who}/cam{c}_1.jpg" for who in FOUR for c in "1b"]
    assert "by a number and" in refusal(mixed)
    counter = [f"{who}/c{k:04}.jpg" for who in FOUR for k in range(20)]
    assert "the number seems to count images" in refusal(counter)


def test_cameras_within_parts_are_refused() -> None:
    """One part as a version of the other would leave the test out."""
    names = people("a", "b", begin="train/cam1/") + people("a", "b", begin="train/cam2/")
    names += people("c", "d", begin="test/cam1/") + people("c", "d", begin="test/cam2/")
    assert "'cam1' looks like a camera" in refusal(names)


# Published datasets, and what lies beside


def test_a_missing_or_renamed_folder_is_named() -> None:
    renamed = [name.replace("bounding_box_t", "Bounding_Box_T") for name in market()]
    assert "(rename 'Bounding_Box_Train' to 'bounding_box_train')" in refusal(renamed)
    (where,) = {refusal([n for n in market() if "query" not in n], layout="market1501")}
    assert "bring it, or write a table that says who is on which image (dataset.table)" in where


def test_only_layouts_that_read_it_are_suggested() -> None:
    files = {**dict.fromkeys(market(), ""), "meta.json": "{}"}
    with pytest.raises(DatasetError, match=r"does not explain 'meta.json'; take it out"):
        read_files(files)
    both = [*(f"a/{name}" for name in market()), *people(*FOUR, begin="b/")]
    assert "name its folder as a source of its own" in refusal(both)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("cuhk-03.mat", "into files"), ("train.zip", "unpack"), ("a.mp4", "docs/video.md")],
)
def test_images_in_other_files_are_no_images(name: str, remedy: str) -> None:
    assert remedy in refusal([name, "readme.txt"])


@pytest.mark.parametrize("name", ["license_plates.txt", "readme.csv", "notice.json"])
def test_data_is_no_readme(name: str) -> None:
    assert f"does not explain '{name}'" in refusal([*people(*FOUR), name])


@pytest.mark.parametrize(
    "stated", [{"subset": "800"}, {"table": "x.csv", "layout": "folders"}, {"identity_level": 1}]
)
def test_what_has_no_effect_is_refused(stated: dict[str, object]) -> None:
    names = market() if "identity_level" in stated else people(*FOUR)
    assert "does not use it" in refusal(names, **stated)


def test_boxes_in_other_forms_are_refused() -> None:
    rows = {"0 3 4 15": "reaches out of its image of 8 × 16", "0.1 0.2 0.3 0.4": "no side above 1"}
    for box, message in rows.items():
        table = f"path,identity,box\na.png,x,{box}\n"
        with pytest.raises(DatasetError, match=message):
            read_files({"a.png": picture(1), "t.csv": table}, table="t.csv")
    fits = "path,identity,box\na.png,x,1 2 4 9\na.png,y,5 9 3 6\n"
    assert len(read_files({"a.png": picture(1), "t.csv": fits}, table="t.csv").samples) == 2


def test_copies_of_images_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = people("a", "b", begin="train/") + people("a", "b", begin="val/")
    dataset = read_dataset(names + people("x", "y", "z", begin="test/", images=3))
    images = contents(dataset)
    images["val/a/0.jpg"] = images["train/a/0.jpg"]
    images["test/x/0.jpg"] = images["test/y/0.jpg"]
    (tmp_path / "parts").mkdir()
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        pack(tmp_path / "parts", dataset, images)
    said = [record.getMessage() for record in caplog.records]
    assert any("1 images are copies of others and are of two identities" in line for line in said)
    assert any(
        "are in training and in a test or val part, 'train/a/0.jpg' and 'val/a/0.jpg' first" in line
        for line in said
    )


def test_lists_that_were_moved_are_sent_back() -> None:
    names = [
        f"{part}/{i:04}/{i:04}_00{k}_01_0303morning_0008_0.jpg"
        for part in ("train", "test") for i in range(4) for k in range(2)
    ]  # fmt: skip
    said = refusal([*names, "splits/list_train.txt"])
    assert "'splits/list_train.txt' has to lie beside the folders that it lists" in said


def test_a_copy_of_msmt17_in_other_folders_keeps_its_two_spaces_of_numbers() -> None:
    """`0000` of the test is another person than `0000` of the training part."""
    dataset = read_dataset(
        f"MSMT17/bounding_box_{part}/{i:04}/{i:04}_00{k}_0{k}_0303morning_0008_0.jpg"
        for part in ("train", "test") for i in range(4) for k in (1, 2)
    )  # fmt: skip
    assert dataset.understood["identities"] == 8
    assert dataset.understood["cameras"] == 2


def test_a_table_beside_images_that_are_not_understood_is_named() -> None:
    names = ["images/1.jpg", "images/2.jpg", "train.csv", "sample_submission.csv"]
    assert "the source holds 'sample_submission.csv', 'train.csv': if it says" in refusal(names)
