"""Miniatures of published datasets of people, with the traps of the real ones."""

from collections import Counter

import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import split
from deepsort_reid.data.layouts.reading import differences
from deepsort_reid.data.samples import DISTRACTOR, JUNK, SEQUENCE
from tests.support.datasets import (
    Content,
    images,
    read_dataset,
    read_files,
    refused,
    roles,
    split_config,
)

# Market-1501's folders


def market(root: str = "", *, first: int = 1, test: int = 901) -> list[str]:
    return [
        *(f"{root}bounding_box_train/{i:04}_c{c}s1_000451_0{c}.jpg"
          for i in range(first, first + 3) for c in (1, 2)),
        *(f"{root}bounding_box_test/{i:04}_c{c}s1_000020_0{c}.jpg"
          for i in (test, test + 1) for c in (1, 2)),
        *(f"{root}query/{i:04}_c1s1_000010_00.jpg" for i in (test, test + 1)),
    ]  # fmt: skip


def test_market_leaves_out_its_needless_folders_and_copies_of_itself() -> None:
    root = "Market-1501-v15.09.15/"
    dataset = read_dataset([
        *market(root),
        f"{root}bounding_box_test/0000_c1s1_0_0.jpg",
        f"{root}bounding_box_test/-1_c1s1_0_0.jpg",
        f"{root}bounding_box_test/Thumbs.db",
        f"{root}gt_bbox/0001_c1s1_001051_00.jpg",
        f"{root}gt_query/0001_c1s1_001051_00_good.mat",
        f"{root}pytorch/train/0001/0001_c1s1_000451_01.jpg",
        f"{root}pytorch/query/0901/0901_c1s1_000010_00.jpg",
        f"{root}readme.txt",
    ])  # fmt: skip
    assert dataset.layout == "market1501"
    assert roles(dataset) == {"train": 6, "gallery": 6, "query": 2}
    assert {s.pid for s in dataset.samples} == {JUNK, DISTRACTOR, 1, 2, 3, 901, 902}
    assert sum(dataset.understood["left_out"].values()) == 6
    assert differences(dataset.understood).startswith("train 6 of 12,936")


def test_who_counts_people_from_zero_keeps_person_zero() -> None:
    dataset = read_dataset([*market(first=0), "bounding_box_test/-1_c1s1_0_0.jpg"])
    people = {s.identity: s.pid for s in dataset.samples}
    assert people == {"0000": 1, "0001": 2, "0002": 3, "0901": 902, "0902": 903, "-1": JUNK}
    assert dataset.understood["identities"] == 5
    assert not dataset.understood["published"]


@pytest.mark.parametrize("test", [0, 3])
def test_people_who_are_learned_and_tested_with_are_refused(test: int) -> None:
    line = refused(images(*market(first=1, test=test)))
    assert "is learned ('bounding_box_train/" in line
    assert "layout: table" in line


@pytest.mark.parametrize("name", ["0005_c2_f0046985.jpg", "0005_c2s1_05.png", "5_c2_1.jpg.jpg"])
def test_kin_of_market_name_their_files_otherwise(name: str) -> None:
    dataset = read_dataset([*market(), f"bounding_box_train/{name}"])
    assert [(s.pid, s.camid) for s in dataset.samples if s.name.endswith(f"/{name}")] == [(5, 2)]


CUHK = [*market("cuhk03-np/detected/"), *market("cuhk03-np/labeled/")[:-1]]


@pytest.mark.parametrize(("subset", "queries"), [("detected", 2), ("labeled", 1)])
def test_cuhk03_np_is_detected_or_labeled(subset: str, queries: int) -> None:
    dataset = read_dataset(CUHK, subset=subset)
    assert all(subset in sample.name for sample in dataset.samples)
    assert roles(dataset)["query"] == queries
    assert dataset.understood["published"]["query"] == 1_400
    left = dataset.understood["left_out"]["files of the other versions"]
    assert left == len(CUHK) - len(dataset.samples)


def test_cuhk03_np_is_never_pooled() -> None:
    assert refused(images(*CUHK)).endswith("set dataset.subset to detected or labeled")
    assert "the source holds detected or labeled" in refused(images(*CUHK), subset="both")
    assert read_dataset(CUHK[:12], subset="detected").samples
    assert "set dataset.subset to null" in refused(images(*market()), subset="labeled")


def test_occluded_people_are_queries() -> None:
    dataset = read_dataset(
        f"Occluded_REID/{kind}_body_images/{i:03}/{i:03}_{k:02}.tif"
        for kind in ("occluded", "whole") for i in (1, 2) for k in (1, 2)
    )  # fmt: skip
    assert roles(dataset) == {"query": 4, "gallery": 4}
    query, gallery = split.assign_to_test(dataset, seed=0)
    assert {s.identity for s in query} == {s.identity for s in gallery} == {"001", "002"}


# MSMT17


def msmt(version: int = 1, lists: str = "train val query gallery") -> dict[str, Content]:
    """Three people to learn and two others, who bear the same numbers."""
    root = f"MSMT17_V{version}/"
    train, test = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")
    names = {
        part: [f"{i:04}/{i:04}_{k:03}_{camera:02}_0303morning_0008_{k}.jpg"
               for i in range(people) for k, camera in enumerate((1, 1, 15))]
        for part, people in ((train, 3), (test, 2))
    }  # fmt: skip
    told = {
        "train": [n for n in names[train] if "_000_" not in n],
        "val": [n for n in names[train] if "_000_" in n],
        "query": [n for n in names[test] if "_000_" in n],
        "gallery": [n for n in names[test] if "_000_" not in n],
    }
    return images(*(f"{root}{part}/{name}" for part in names for name in names[part])) | {
        f"{root}list_{part}.txt": "".join(f"{n} {int(n[:4])}\n" for n in told[part])
        for part in lists.split()
    }


@pytest.mark.parametrize("version", [1, 2])
def test_msmt17_by_its_lists(version: int) -> None:
    dataset = read_files(msmt(version))
    assert dataset.layout == "msmt17"
    assert roles(dataset) == {"train": 6, "val": 3, "query": 2, "gallery": 4}
    assert {s.camid for s in dataset.samples} == {1, 15}
    by_part = {role: {s.pid for s in dataset.samples if s.role == role} for role in roles(dataset)}
    assert by_part["train"] == by_part["val"]
    assert by_part["query"] == by_part["gallery"]
    assert not by_part["train"] & by_part["query"]
    assert dataset.understood["identities"] == 5
    assert differences(dataset.understood)
    assert len(split.assign_all([dataset], split_config())["val"]) == 3


@pytest.mark.parametrize(
    ("lists", "found"),
    [
        ("", {"train": 9, "test": 6}),
        ("train val", {"train": 6, "val": 3, "test": 6}),
        ("query gallery", {"train": 9, "query": 2, "gallery": 4}),
    ],
)
def test_msmt17_without_lists_goes_by_its_folders(lists: str, found: dict[str, int]) -> None:
    dataset = read_files(msmt(lists=lists))
    assert roles(dataset) == found
    assert dataset.understood["identities"] == 5
    parts = split.assign_all([dataset], split_config())
    assert not {s.pid for s in parts["train"]} & {s.pid for s in parts["query"]}


@pytest.mark.parametrize(
    ("lists", "missing"),
    [("train", "list_val"), ("val", "list_train"), ("gallery", "list_query")],
)
def test_half_of_msmt17s_lists_is_refused(lists: str, missing: str) -> None:
    line = refused(msmt(lists=lists))
    assert f"'{missing}.txt', which would name the others, is missing" in line


def test_images_that_none_of_msmt17s_lists_names_are_counted() -> None:
    files = msmt()
    files["MSMT17_V1/test/0000/0000_009_02_0303noon_0001_0.jpg"] = b""
    dataset = read_files(files)
    assert dataset.understood["left_out"] == {"images that no list names": 1}
    assert len(dataset.samples) == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0009/no.jpg 9\n", "'MSMT17_V1/list_val.txt', line 1: there is no image"),
        ("\n0000\n", "line 2: '0000'; expected 'path pid'"),
        ("0000/0000_000_01_0303morning_0008_0.jpg x\n", "identity 'x'; expected a whole number"),
        ("0000/0000_001_01_0303morning_0008_1.jpg 0\n", "stands in 'MSMT17_V1/list_train.txt'"),
        ("", "'MSMT17_V1/list_val.txt' lists nothing"),
    ],
)
def test_a_wrong_line_of_msmt17s_lists_is_named(text: str, message: str) -> None:
    assert message in refused(msmt() | {"MSMT17_V1/list_val.txt": text})


def test_one_version_of_msmt17() -> None:
    both = msmt(1) | msmt(2)
    assert "set dataset.subset to MSMT17_V1 or MSMT17_V2" in refused(both)
    assert all("mask_" in s.name for s in read_files(both, subset="MSMT17_V2").samples)
    mixed = {name.replace("_V2", "_V1"): content for name, content in both.items()}
    assert "the source holds 'MSMT17_V1/mask_test_v2'" in refused(mixed)
    half = {name: content for name, content in msmt().items() if "/test/" not in name}
    assert "the source holds 'MSMT17_V1/train'" in refused(half)


def test_msmt17s_name_without_a_camera_is_named() -> None:
    name = "MSMT17_V1/train/0000/crop.jpg"
    assert refused(msmt(lists="") | {name: b""}).startswith(f"'{name}' tells no camera")


def test_train_and_test_of_cars_are_not_msmt17() -> None:
    cars = [
        f"{part}/{i:04}/{i:04}_c00{c}_{k:08}_0.jpg" for part, first in (("train", 1), ("test", 5))
        for i in range(first, first + 3) for c in (1, 2) for k in (0, 1)
    ]  # fmt: skip
    assert read_dataset(cars).layout == "split_folders"


# MARS


def mars() -> dict[str, Content]:
    names = [
        f"{folder}/{who}/{who}C{camera}T{track:04}F{frame:03}.jpg"
        for folder, people in (("bbox_train", ("0001", "0003")),
                               ("bbox_test", ("00-1", "0000", "0002", "0004")))
        for who in people for camera in (1, 2) for track in (1, 2) for frame in (1, 2)
    ]  # fmt: skip
    info = ("query_IDX.mat", "tracks_test_info.mat", "tracks_train_info.mat", "test_name.txt")
    return images(*names) | {f"info/{name}": b"MATLAB 5.0 MAT-file" for name in info}


def test_mars_knows_junk_and_distractors() -> None:
    dataset = read_files(mars())
    assert dataset.layout == "mars"
    assert roles(dataset) == {"train": 16, "test": 32}
    pids = {s.identity: s.pid for s in dataset.samples}
    assert pids == {"0001": 1, "0003": 3, "00-1": JUNK, "0000": DISTRACTOR, "0002": 2, "0004": 4}
    assert dataset.understood["left_out"] == {
        "lists of tracklets in info, since queries are drawn": 4
    }
    parts = split.assign_all([dataset], split_config())
    assert Counter((s.pid, s.camid) for s in parts["query"]) == {
        (pid, camid): 1 for pid in (2, 4) for camid in (1, 2)
    }
    assert {s.pid for s in parts["gallery"]} == {JUNK, DISTRACTOR, 2, 4}
    assert {s.pid for s in parts["train"]} == {1, 3}


def test_tracklets_of_mars_lie_far_apart_in_time() -> None:
    frames = {s.name[-12:-4]: s.frame for s in read_files(mars()).samples}
    assert frames == {
        f"{t:04}F{f:03}": SEQUENCE * t + f for t in (1, 2) for f in (1, 2)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bbox_test/0001/0001C1T0009F001.jpg", "identity '0001' is learned"),
        ("bbox_train/0001/0003C1T0009F001.jpg", "is no name of MARS"),
        ("bbox_train/0001/frame.jpg", "is no name of MARS"),
        ("bbox_train/0001C1T0009F001.jpg", "does not explain 'bbox_train/0001C1T0009F001.jpg'"),
    ],
)
def test_what_is_wrong_in_mars_is_named(name: str, message: str) -> None:
    assert message in refused(mars() | images(name))


def test_mars_without_its_test_part_is_refused() -> None:
    files = {name: b"" for name in mars() if "test" not in name}
    assert "no images in 'bbox_test/<identity>'" in refused(files)


# Rendered people


@pytest.mark.parametrize("form", ["{i:06}_c{c:02}_s{s:02}_f00{k}.jpg",
                                  "{i:06}_s{s:02}_c{c:02}_f00{k}.jpg"])  # fmt: skip
def test_randperson_counts_cameras_anew_in_each_scene(form: str) -> None:
    dataset = read_dataset(
        "randperson_subset/" + form.format(i=i, c=c, s=s, k=k)
        for i in range(5) for s in (0, 1) for c in (0, 1) for k in (1, 2)
    )  # fmt: skip
    assert dataset.layout == "randperson"
    assert len({s.camid for s in dataset.samples}) == 4
    assert {s.identity: s.pid for s in dataset.samples}["000000"] == 1
    assert dataset.understood["identities"] == 5
    assert split.assign_all([dataset], split_config())["query"]


def test_randperson_leaves_out_what_its_authors_deleted() -> None:
    root = "randperson/images/scene00/"
    names = [f"{root}camera0_1/{i:06}_s00_c0{c}_f00264.jpg" for i in range(4) for c in (0, 1)]
    more = {f"{root}delete_camera0_1/000000_s00_c00_f00999.jpg": b"",
            f"{root}camera0_1_point.txt": "000000_s00_c00_f000264.jpg 1 2 3 4"}  # fmt: skip
    dataset = read_files(images(*names) | more)
    assert len(dataset.samples) == 8
    assert sum(dataset.understood["left_out"].values()) == 2
    copy = "randperson/images/subset/000000_s00_c00_f00264.jpg"
    assert "are one image" in refused(images(*names, copy))


def unreal() -> dict[str, Content]:
    return images(*(
        f"unreal_v{version}/images/{i:04}_c{c}_{k:04}.jpg"
        for version in ("1.1", "1.2", "2.1") for i in range(2) for c in (0, 1) for k in (1, 2)
    ))  # fmt: skip


def test_unrealpersons_model_sets_and_scenes_are_apart() -> None:
    dataset = read_files(unreal())
    assert dataset.layout == "unrealperson"
    assert dataset.understood["identities"] == 4  # models 1 in two scenes, models 2 in one
    assert dataset.understood["cameras"] == 4  # two scenes with two cameras each
    assert dataset.crosses_cameras


def test_unrealpersons_list_rules() -> None:
    lines = [f"/data/unreal_v1.1/images/{i:04}_c{c}_0001.jpg {i} {c} \n"
             for i in (0, 1) for c in (0, 1)]  # fmt: skip
    files = unreal() | {"list_unreal_train.txt": "".join(lines)}
    dataset = read_files(files)
    assert {(s.identity, s.pid, s.camid) for s in dataset.samples} == {
        ("0000", 1, 1), ("0000", 1, 2), ("0001", 2, 1), ("0001", 2, 2)
    }  # fmt: skip
    assert dataset.understood["left_out"] == {"images that the list does not name": 20}
    lost = files | {"list_unreal_train.txt": "unreal_v9.9/images/0000_c0_0001.jpg 0 0\n"}
    assert "'list_unreal_train.txt', line 1: there is no image" in refused(lost)
    assert "tells no person" in refused(unreal() | images("unreal_v1.1/images/x.jpg"))


# A folder for each camera


def test_one_identity_below_two_cameras() -> None:
    dataset = read_dataset(
        f"crops/cam{c}/{who}/{k}.png" for c in (1, 3) for who in ("alice", "bob") for k in (1, 2)
    )
    assert dataset.layout == "camera_folders"
    assert {(s.identity, s.pid, s.camid) for s in dataset.samples} == {
        ("alice", 1, 1), ("alice", 1, 3), ("bob", 2, 1), ("bob", 2, 3)
    }  # fmt: skip


def prid(shots: str) -> list[str]:
    numbers = {"cam_a": (1, 200, 201), "cam_b": (1, 200, 201, 749)}
    people = [(camera, f"person_{i:04}") for camera in numbers for i in numbers[camera]]
    if shots == "single_shot":
        return [f"prid_2011/single_shot/{camera}/{who}.png" for camera, who in people]
    return [f"prid_2011/multi_shot/{c}/{who}/000{k}.png" for c, who in people for k in (1, 2)]


def test_prids_numbers_above_200_mean_others_in_each_camera() -> None:
    both = [*prid("multi_shot"), *prid("single_shot"), "prid_2011/readme.txt"]
    assert "set dataset.subset to multi_shot or single_shot" in refused(images(*both))
    for shots, count in (("multi_shot", 14), ("single_shot", 7)):
        dataset = read_dataset(both, subset=shots)
        assert len(dataset.samples) == count
        cameras: dict[str, set[int]] = {}
        for sample in dataset.samples:
            cameras.setdefault(sample.identity, set()).add(sample.camid)
        assert cameras == {
            "person_0001": {1, 2}, "person_0200": {1, 2}, "cam_a/person_0201": {1},
            "cam_b/person_0201": {2}, "cam_b/person_0749": {2},
        }  # fmt: skip


def test_own_cameras_are_not_prids() -> None:
    dataset = read_dataset(f"cam_{c}/person_{i:04}/1.png" for c in "ab" for i in (1, 201, 300))
    assert dataset.understood["identities"] == 3


def test_ilids_and_viper() -> None:
    root = "i-LIDS-VID/"
    people = [(c, i) for c in (1, 2) for i in (1, 2)]
    names = [f"{root}images/cam{c}/person{i:03}/cam{c}_person{i:03}.png" for c, i in people]
    frames = [f"{root}sequences/cam{c}/person{i:03}/cam{c}_person{i:03}_{k:05}.png"
              for c, i in people for k in (317, 318)]  # fmt: skip
    mat = f"{root}train-test people splits/train_test_splits_ilidsvid.mat"
    dataset = read_dataset([*names, *frames, mat], subset="sequences")
    assert (len(dataset.samples), dataset.understood["identities"]) == (8, 2)
    viper = read_dataset(
        f"VIPeR/cam_{c}/{i:03}_{view}.bmp" for c, view in (("a", 0), ("b", 90)) for i in (0, 1)
    )
    assert {(s.identity, s.camid) for s in viper.samples} == {
        ("000", 1), ("000", 2), ("001", 1), ("001", 2)
    }  # fmt: skip
    assert viper.understood["published"] == {"any": 1_264}


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["cam1/a/1.png", "cam1/b/1.png"], "folders"),
        (["cam1/a/1.png", "cam2/a/1.png", "x/a/1.png"], "folders are nested"),
        (["cam1/1.png", "cam2/1.png"], "'cam1' looks like a camera"),
        (["cam1/a/t1/1.png", "cam2/a/t1/1.png"], "folders are nested"),
    ],
)
def test_what_are_no_folders_of_cameras(names: list[str], layout: str) -> None:
    if layout == "folders":
        assert read_dataset(names).layout == layout
    else:
        assert layout in refused(images(*names))
    assert "camera_folders" in refused(images(*names), "camera_folders")


def counted(train: range, test: range) -> list[str]:
    """Market-1501's folders with people of these numbers."""
    return [
        *(f"bounding_box_train/{i:04}_c{k}s1_0_0.jpg" for i in train for k in (1, 2)),
        *(f"bounding_box_test/{i:04}_c{k}s1_0_0.jpg" for i in test for k in (1, 2)),
        *(f"query/{i:04}_c1s1_9_0.jpg" for i in test),
    ]


def test_parts_that_count_people_anew_hold_different_people(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = read_dataset(counted(range(4), range(3)))
    learned = {s.pid for s in dataset.samples if s.role == "train"}
    tested = {s.pid for s in dataset.samples if s.role != "train"}
    assert (len(learned), len(tested), learned & tested) == (4, 3, set())
    assert min(learned | tested) > 0
    assert "train and test both count people from 0 without a gap, 4 and 3" in caplog.text


@pytest.mark.parametrize(
    ("train", "test"),
    [(range(4), range(4)), (range(1, 5), range(3, 9)), (range(0, 8, 2), range(3))],
)
def test_parts_that_share_people_are_refused(train: range, test: range) -> None:
    with pytest.raises(DatasetError, match=r"is learned .* and tested with"):
        read_dataset(counted(train, test))
