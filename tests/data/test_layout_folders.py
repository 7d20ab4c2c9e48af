"""Folders of people's own images: what is an identity, and what nobody can know."""

import logging
from collections import Counter

import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import split
from deepsort_reid.data.samples import Dataset
from tests.support.datasets import picture, read_dataset, read_files, split_config

FLAT = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
TRACKLETS = ["up/alice/t1/1.jpg", "up/alice/t2/2.jpg", "up/bob/t1/1.jpg"]


def who(dataset: Dataset) -> dict[str, str]:
    return {sample.name: sample.identity for sample in dataset.samples}


def roles(dataset: Dataset) -> Counter[tuple[str, str]]:
    return Counter((sample.role, sample.identity) for sample in dataset.samples)


def refusal(names: list[str], layout: str = "auto", **source: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read_dataset(names, layout, **source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nested_folders_need_a_level() -> None:
    line = refusal(TRACKLETS)
    assert "dataset.identity_level=1 makes it 'bob' (with a folder for each tracklet" in line
    assert "dataset.identity_level=2 makes it 'bob/t1'" in line
    assert set(who(read_dataset(TRACKLETS, identity_level=1)).values()) == {"alice", "bob"}
    assert set(who(read_dataset(TRACKLETS, identity_level=2)).values()) == {
        "alice/t1", "alice/t2", "bob/t1"
    }  # fmt: skip
    assert "lies only 3 folders deep" in refusal(TRACKLETS, identity_level=4)


def test_a_class_above_each_identity_is_no_wrapper() -> None:
    names = ["x/cars/1/a.jpg", "x/cars/2/a.jpg", "x/cars/2/b.jpg"]
    assert set(who(read_dataset(names, identity_level=2)).values()) == {"cars/1", "cars/2"}
    assert set(who(read_dataset(names)).values()) == {"1", "2"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("c/x/1.jpg", "images do not lie equally deep: 'a/1.jpg' and 'c/x/1.jpg'"),
        ("1.jpg", "'1.jpg' lies in no identity's folder"),
        ("labels.csv", "set dataset.layout: table and dataset.table: labels.csv"),
        ("a/boxes.txt", "layout 'folders' does not explain 'a/boxes.txt'"),
        ("a/seqs.ini", "layout 'folders' does not explain 'a/seqs.ini'"),
        ("annotations.json", "does not explain 'annotations.json'"),
        ("a/walk.mp4", "a video has to be cut into images of identities first"),
        ("a/1.xyz", "does not explain 'a/1.xyz'"),
        ("train/1.jpg", "the folder 'train' looks like a part of a dataset"),
        ("query/1.jpg", "the folder 'query' looks like a part of a dataset"),
    ],
)
def test_what_is_not_understood_is_refused(more: str, message: str) -> None:
    assert message in refusal([*FLAT, more])


def test_harmless_files_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dataset = read_dataset([*FLAT, "README.txt", "a/Thumbs.db", ".DS_Store", "LICENSE"])
    assert dataset.understood["left_out"] == {"readme and the like": 4}
    assert caplog.messages == [
        "layout folders: 3 images; 2 identities by folder ('a' of 'a/1.jpg'); cameras unknown; "
        "left out: 4 readme and the like"
    ]


def test_an_image_is_known_by_content_where_its_suffix_says_nothing() -> None:
    found = read_files({"a/1.jpg": b"", "b/photo": picture(1, kind="gif")})
    assert len(found.samples) == 2
    with pytest.raises(DatasetError, match="does not explain 'b/photo'"):
        read_files({"a/1.jpg": b"", "b/photo": b"no image"})


# Parts


def test_a_division_into_parts_is_kept() -> None:
    names = [f"x/train/{i}/{k}.jpg" for i in "abc" for k in range(4)]
    names += [f"x/val/{i}/{k}.jpg" for i in "abc" for k in (7, 8)]
    names += [f"x/test/{i}/{k}.jpg" for i in "de" for k in range(3)]
    dataset = read_dataset(names)
    assert dataset.layout == "split_folders"
    parts = split.assign_all([dataset], split_config())
    assert {part: len(samples) for part, samples in parts.items()} == {
        "train": 12, "val": 6, "query": 2, "gallery": 4
    }  # fmt: skip
    assert {s.identity for s in parts["query"]} == {"d", "e"}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"train": "abc", "test": "de"}, {"train": "abc", "test": "de"}),
        ({"train": "abc", "test": "abc"}, {"train": "abc", "val": "abc"}),
        ({"train": "abc", "valid": "ab", "test": "d"}, {"train": "abc", "val": "ab", "test": "d"}),
        ({"train": "abc", "val": "de"}, {"train": "abc", "test": "de"}),
        ({"train": "abc", "val": "fg", "test": "de"}, {"train": "abc", "tune": "fg", "test": "de"}),
        ({"train": "abc", "query": "de", "gallery": "def"},
         {"train": "abc", "query": "de", "gallery": "def"}),
        ({"train": "abc", "query": "de", "test": "def"},
         {"train": "abc", "query": "de", "gallery": "def"}),
        ({"train": "abc", "gallery": "de"}, {"train": "abc", "test": "de"}),
        ({"image_train": "ab", "Image_Query": "c", "image-gallery": "c"},
         {"train": "ab", "query": "c", "gallery": "c"}),
        ({"query": "de", "gallery": "de"}, {"query": "de", "gallery": "de"}),
    ],
)  # fmt: skip
def test_what_the_parts_mean(folders: dict[str, str], expected: dict[str, str]) -> None:
    names = [f"{part}/{i}/{k}.jpg" for part, who in folders.items() for i in who for k in (1, 2)]
    found = roles(read_dataset(names))
    assert found == Counter({(role, i): 2 for role, who in expected.items() for i in who})


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"train": "abc", "test": "cd"}, "'c' is in train and in test, while 'd' is in test alone"),
        ({"train": "abc", "query": "c", "gallery": "c"}, "'c' is in train and in gallery"),
        ({"train": "abc", "val": "ad"}, "'a' is in train and in val, while 'd' is in val alone"),
        ({"train": "abc", "query": "d"}, "there are queries, but no gallery"),
        ({"train": "ab", "query": "c", "gallery": "c", "test": "c"}, "query, gallery and test;"),
        ({"train": "ab", "training": "c", "test": "d"}, "both stand for the part 'train'"),
        ({"train": "ab", "val": "ab", "test": "ab"}, "val and test both hold the identities of"),
    ],
)
def test_parts_that_do_not_fit(folders: dict[str, str], message: str) -> None:
    names = [f"{part}/{i}/{k}.jpg" for part, who in folders.items() for i in who for k in (1, 2)]
    assert message in refusal(names)


def test_images_beside_the_identities_of_a_part() -> None:
    names = ["train/a/1.jpg", "train/2.jpg", "test/b/1.jpg"]
    assert "'train/2.jpg' lies in no identity's folder; expected train/<identity>" in refusal(names)
    nested = ["train/a/t/1.jpg", "train/b/t/2.jpg", "test/c/t/1.jpg"]
    assert "dataset.identity_level=1 makes it" in refusal(nested)
    assert len(roles(read_dataset(nested, identity_level=1))) == 3
