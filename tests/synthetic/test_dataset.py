"""The synthetic dataset is Market-1501 by name and folder, and a function of its arguments."""

import io
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.core.dataset_config import SyntheticConfig
from deepsort_reid.synthetic import dataset
from deepsort_reid.synthetic.dataset import write_synthetic

SMALL = SyntheticConfig(
    seed=3,
    train_identities=4,
    test_identities=3,
    images_per_identity=6,
    cameras=3,
    distractors=5,
    junk=4,
    image_size=(64, 32),
)
NAME = re.compile(r"synthetic/(\w+)/(-1|\d{4})_c(\d)s(\d)_(\d{6})_(\d\d)\.jpg")


def written(folder: Path, processes: int = 1, **changes: Any) -> dict[str, bytes]:
    """The files of a dataset that differs from SMALL as the changes say."""
    path = folder / "dataset.zip"
    write_synthetic(path, SMALL.model_copy(update=changes), processes=processes)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return written(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def images(files: dict[str, bytes]) -> list[tuple[str, int, int]]:
    """Folder, identity and camera of each file."""
    matches = [NAME.fullmatch(name) for name in files]
    assert all(matches)
    return [(match[1], int(match[2]), int(match[3])) for match in matches if match]


def test_folders_hold_as_many_images_as_asked_for(images: list[tuple[str, int, int]]):
    folders = Counter(folder for folder, _, _ in images)
    assert folders["bounding_box_train"] == 4 * 6
    assert folders["query"] + folders["bounding_box_test"] == 3 * 6 + 5 + 4
    identities = Counter(pid for _, pid, _ in images)
    assert identities == {0: 5, -1: 4} | dict.fromkeys(range(1, 8), 6)


def test_people_to_learn_from_are_not_the_people_to_find(images: list[tuple[str, int, int]]):
    train = {pid for folder, pid, _ in images if folder == "bounding_box_train"}
    query = {pid for folder, pid, _ in images if folder == "query"}
    gallery = {pid for folder, pid, _ in images if folder == "bounding_box_test"}
    assert train == {1, 2, 3, 4}
    assert query == {5, 6, 7}
    assert gallery == query | {0, -1}


def test_there_is_one_query_for_each_identity_and_camera(images: list[tuple[str, int, int]]):
    queries = Counter((pid, cam) for folder, pid, cam in images if folder == "query")
    seen = {(pid, cam) for folder, pid, cam in images if folder != "bounding_box_train" and pid > 0}
    assert set(queries) == seen
    assert set(queries.values()) == {1}


def test_each_query_can_be_found_on_another_camera(images: list[tuple[str, int, int]]):
    gallery = [(pid, cam) for folder, pid, cam in images if folder == "bounding_box_test"]
    for folder, pid, cam in images:
        if folder == "query":
            assert any(pid == other and cam != at for other, at in gallery)


@pytest.mark.parametrize(("count", "cameras"), [(4, 2), (4, 6), (5, 3), (12, 4), (13, 6)])
def test_each_camera_that_sees_somebody_sees_them_twice(count: int, cameras: int):
    config = SMALL.model_copy(update={"images_per_identity": count, "cameras": cameras})
    for identity in range(1, 30):
        sightings = dataset.sightings(config, identity)
        seen = Counter(camera for camera, _ in sightings)
        assert len(sightings) == len(set(sightings)) == count
        assert 2 <= len(seen) <= cameras
        assert min(seen.values()) >= 2
        assert set(seen) <= set(range(1, cameras + 1))


def test_images_have_the_size_asked_for(files: dict[str, bytes]):
    for content in files.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))


def test_odd_sizes_work(tmp_path: Path):
    content = next(iter(written(tmp_path, image_size=(75, 41)).values()))
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (41, 75)


def test_images_are_not_of_one_colour(files: dict[str, bytes]):
    for content in files.values():
        with Image.open(io.BytesIO(content)) as image:
            assert np.asarray(image).std() > 5


def test_the_archive_says_nothing_of_day_or_machine(tmp_path: Path):
    path = tmp_path / "dataset.zip"
    write_synthetic(path, SMALL, processes=1)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dataset, "FEW", 16)
    assert written(tmp_path, processes=3) == files


def test_another_seed_makes_other_people(tmp_path: Path, files: dict[str, bytes]):
    others = written(tmp_path, seed=4)
    assert not set(others.values()) & set(files.values())


def test_an_image_does_not_depend_on_the_others(tmp_path: Path, files: dict[str, bytes]):
    fewer = written(tmp_path, train_identities=2, test_identities=2, distractors=2, junk=0)
    kept = [name for name in fewer if "bounding_box_train" in name or "/0000_" in name]
    assert len(kept) == 2 * 6 + 2
    assert all(fewer[name] == files[name] for name in kept)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    (tmp_path / "dataset.zip").write_bytes(b"before")
    monkeypatch.setattr(dataset, "draw_crop", fail)
    with pytest.raises(OSError, match="no space left"):
        written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.zip"]
    assert (tmp_path / "dataset.zip").read_bytes() == b"before"
