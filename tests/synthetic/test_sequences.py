"""The rendered sequences are MOTChallenge's by name and column, and a function of the arguments."""

import configparser
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.core.boxes import intersections_over_unions
from deepsort_reid.core.config import SequencesConfig
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.sources.archive import Archive
from deepsort_reid.synthetic import sequences
from deepsort_reid.synthetic.sequences import write_sequences
from deepsort_reid.tracking.deep_sort import by_appearance, by_motion
from deepsort_reid.tracking.embed import sure
from deepsort_reid.tracking.score import align, score
from tests.support.tracks import CONFIG

SMALL = SequencesConfig(seed=3, sequences=2, frames=24, people=5, image_size=(90, 160), missed=0.2)
NAMES = ("synthetic-01", "synthetic-02")


def written(folder: Path, processes: int = 1, **changes: Any) -> dict[str, bytes]:
    """The files of sequences that differ from SMALL as the changes say, whatever the bounds."""
    path = folder / "dataset.zip"
    write_sequences(path, SMALL.model_copy(update=changes), processes=processes)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return written(tmp_path_factory.mktemp("sequences"))


def table(files: dict[str, bytes], name: str) -> np.ndarray:
    return np.loadtxt(io.BytesIO(files[name]), delimiter=",", ndmin=2)


def test_the_files_are_motchallenges(files: dict[str, bytes]):
    expected = {f"{name}/{file}" for name in NAMES for file in
                ("seqinfo.ini", "gt/gt.txt", "det/det.txt",
                 *(f"img1/{frame:06d}.jpg" for frame in range(1, 25)))}  # fmt: skip
    assert files.keys() == expected


def test_images_have_the_size_asked_for(files: dict[str, bytes]):
    for name, content in files.items():
        if name.endswith(".jpg"):
            with Image.open(io.BytesIO(content)) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 90))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_the_sequence(files: dict[str, bytes], name: str):
    parser = configparser.ConfigParser()
    parser.read_string(files[f"{name}/seqinfo.ini"].decode())
    said = parser["Sequence"]
    assert said["name"] == name
    assert said["imDir"] == "img1"
    assert said["imExt"] == ".jpg"
    assert (said.getint("imWidth"), said.getint("imHeight")) == (160, 90)
    assert said.getint("seqLength") == 24
    assert said.getfloat("frameRate") == 14


@pytest.mark.parametrize("name", NAMES)
def test_the_truth(files: dict[str, bytes], name: str):
    truth = table(files, f"{name}/gt/gt.txt")
    assert truth.shape[1] == 9
    frames, identities, left, top, width, height, counts, kind, visible = truth.T
    assert set(frames) <= set(range(1, 25))
    assert set(identities) <= set(range(1, 6))
    assert len({*zip(frames, identities, strict=True)}) == len(truth)
    assert [*zip(frames, identities, strict=True)] == sorted(zip(frames, identities, strict=True))
    assert (counts == 1).all()
    assert (kind == 1).all()
    assert ((visible >= 0) & (visible <= 1)).all()
    assert visible.max() > 0.9
    assert ((height > 15) & (height < 90)).all()
    assert ((left + width > 1) & (left < 161) & (top < 91) & (top + height > 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_detections(files: dict[str, bytes], name: str):
    found = table(files, f"{name}/det/det.txt")
    assert found.shape[1] == 10
    frames, identities, left, top, width, height, confidence, *world = found.T
    assert set(frames) <= set(range(1, 25))
    assert (identities == -1).all()
    assert (np.stack(world) == -1).all()
    assert ((confidence > 0) & (confidence < 1)).all()
    # The first pixel is 1; figures are rounded to a hundredth.
    assert ((left >= 1) & (top >= 1)).all()
    assert ((left + width <= 161.02) & (top + height <= 91.02)).all()


@pytest.mark.parametrize("name", NAMES)
def test_detections_are_about_people(files: dict[str, bytes], name: str):
    truth = table(files, f"{name}/gt/gt.txt")
    found = table(files, f"{name}/det/det.txt")
    near = 0
    for frame, _, left, top, width, height, *_ in found:
        there = truth[truth[:, 0] == frame]
        centre = np.hypot(
            there[:, 2] + there[:, 4] / 2 - left - width / 2,
            there[:, 3] + there[:, 5] / 2 - top - height / 2,
        )
        near += bool(len(centre)) and centre.min() < 0.25 * height
    assert near > 0.8 * len(found)


def test_bytes_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sequences, "FEW", 8)
    assert written(tmp_path, processes=2) == files


def test_the_archive_says_nothing_of_day_or_machine(tmp_path: Path):
    written(tmp_path, sequences=1, frames=2)
    with zipfile.ZipFile(tmp_path / "dataset.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_seed_makes_another_street(tmp_path: Path, files: dict[str, bytes]):
    others = written(tmp_path, seed=4, sequences=1, frames=3)
    assert not set(others.values()) & set(files.values())


def test_a_sequence_does_not_depend_on_the_others(tmp_path: Path, files: dict[str, bytes]):
    one = written(tmp_path, sequences=1)
    assert one == {name: content for name, content in files.items() if name.startswith(NAMES[0])}


@pytest.mark.parametrize("size", [(75, 41), (64, 300)])
def test_odd_sizes_work(tmp_path: Path, size: tuple[int, int]):
    made = written(tmp_path, image_size=size, sequences=1, frames=2)
    with Image.open(io.BytesIO(made["synthetic-01/img1/000001.jpg"])) as image:
        assert image.size == size[::-1]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError("no space left")

    (tmp_path / "dataset.zip").write_bytes(b"before")
    monkeypatch.setattr(sequences, "film", fail)
    with pytest.raises(OSError, match="no space left"):
        written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.zip"]
    assert (tmp_path / "dataset.zip").read_bytes() == b"before"


@pytest.mark.parametrize(
    ("sequences", "frames", "least", "gains"),
    [(1, 100, 4, (0.0, 0.0)), pytest.param(2, 300, 20, (0.15, 0.1), marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_who_knows_who_is_who_switches_far_less_than_motion(
    tmp_path: Path, sequences: int, frames: int, least: int, gains: tuple[float, float]
):
    """Else the sequences would measure the detector, or chance, and not the appearance."""
    path = tmp_path / "dataset.zip"
    config = SequencesConfig(
        seed=0, sequences=sequences, frames=frames, people=6, image_size=(90, 160), missed=0.15
    )
    write_sequences(path, config)
    track = CONFIG.model_copy(update={"max_age": 60})
    known, moved = {}, {}
    for sequence in read_sequences(Archive(path)):
        assert sequence.truth is not None
        assert sequence.detections is not None
        found = sure(sequence.detections, 0.3)
        tracks = by_appearance(found, recognised(sequence.truth, found), frames, track, 0.2)
        known[sequence.name] = align(sequence.truth, tracks, frames)
        tracks = by_motion(found, frames, track)
        moved[sequence.name] = align(sequence.truth, tracks, frames)
    best, blind = score(known)[1], score(moved)[1]
    assert blind.id_switches >= least
    assert best.id_switches <= blind.id_switches / 3
    assert best.idf1 > blind.idf1 + gains[0]
    assert best.hota > blind.hota + gains[1]


def recognised(truth: Boxes, found: Boxes) -> np.ndarray:
    """An embedding that tells everybody apart, and mistakes from people: (N, 10)."""
    whose = np.full(len(found), 9)
    for frame in range(1, 301):
        people, boxes = np.flatnonzero(truth.frames == frame), np.flatnonzero(found.frames == frame)
        overlaps = intersections_over_unions(found.ltwh[boxes], truth.ltwh[people])
        for box, row in zip(boxes, overlaps, strict=True):
            if row.max(initial=0.0) >= 0.4:
                whose[box] = truth.ids[people[row.argmax()]]
    return np.eye(10, dtype=np.float32)[whose]
