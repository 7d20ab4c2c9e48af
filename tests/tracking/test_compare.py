"""Sequences tracked three ways, from an archive to the reports."""

import csv
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking import report, video
from deepsort_reid.tracking.compare import Contender, Trial, compare_variants
from deepsort_reid.tracking.embed import Stopwatch, embed_detections
from deepsort_reid.tracking.frames import frames_in_order
from tests.support.tracks import CONFIG, SIZE, Colours, archive, boxes, crossing, found_when, table


def tried(source: Archive, min_confidence: float = 0.3, classes: tuple[int, ...] = (1,)) -> Trial:
    return compare_variants(
        source,
        read_sequences(source),
        trained=Contender(Colours(), 0.2),
        untrained=Contender(Colours(blind=True), 0.1),
        config=CONFIG.model_copy(update={"classes": classes, "min_confidence": min_confidence}),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive(tmp_path_factory.mktemp("video") / "dataset.zip", crossing())


@pytest.fixture(scope="module")
def done(source: Archive) -> Trial:
    return tried(source)


def test_what_the_embedding_earns(done: Trial) -> None:
    metrics = report.metrics(done)
    assert metrics["id_switches"] == 0
    assert metrics["none"]["id_switches"] == 2
    assert metrics["earned"]["id_switches"] == -2
    assert metrics["earned"]["idf1"] == metrics["idf1"] - metrics["none"]["idf1"] > 0.3
    assert metrics["hota"] > metrics["untrained"]["hota"]
    assert metrics["untrained"]["threshold"] == 0.1
    assert (metrics["threshold"], metrics["frames"], metrics["sequences"]) == (0.2, 40, 1)


def test_scores_of_few_people_say_so(done: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    content = report.contents(done)
    assert (content["people"], content["meaningful"]) == (2, False)
    assert content["too_few"] == {"scores": f"people: 2 (needs {report.LEAST_PEOPLE})"}
    assert report.tags(done)["track_too_few"] == f"scores: {content['too_few']['scores']}"
    text = report.closing_table(done)
    assert "not meaningful, too few people: 2" in text
    assert "1 sequence, 40 frames, 2 people; max_cosine_distance 0.200" in text
    monkeypatch.setattr(report, "LEAST_PEOPLE", 2)
    assert report.contents(done)["meaningful"] is True
    assert report.tags(done)["track_too_few"] == "no"
    assert "meaningful" not in report.closing_table(done)


def test_a_network_that_does_harm_is_told(done: Trial) -> None:
    """Two people's crops once trained one: 40.6 % HOTA, against 50.2 % without appearance."""
    turned = replace(
        done, scores=done.scores | {"trained": done.scores["none"], "none": done.scores["trained"]}
    )
    for trial, worse in ((done, False), (turned, True)):
        text = report.closing_table(trial)
        assert ("the trained network is worse here than no appearance" in text) is worse
        assert ("people, more epochs, real data" in text) is worse
        assert report.contents(trial)["worse_than_no_appearance"] is worse
        assert report.tags(trial)["worse_than_no_appearance"] == str(worse).lower()
        assert len(text.splitlines()) <= 8
        assert all(len(line) <= 100 for line in text.splitlines())


def test_mlflow_gets_scores_and_speed_in_sections_and_counts_as_tags(done: Trial) -> None:
    measured, told = report.numbers_of_run(done)
    assert measured["track/hota"] == report.metrics(done)["hota"]
    assert measured["track/none/idf1"] == report.metrics(done)["none"]["idf1"]
    assert measured["track/fps_embedding"] > measured["track/fps"] > 0
    assert all(isinstance(value, int | float) for value in measured.values())
    assert told == {
        "track.threshold": 0.2,
        "track.untrained_threshold": 0.1,
        "track.sequences": 1,
        "track.sequences_with_truth": 1,
        "track.frames": 40,
        "track.people": 2,
        "track.detections": report.metrics(done)["detections"],
    }


def test_no_clock_gets_into_the_files(done: Trial) -> None:
    assert not any("fps" in name or "second" in name for name in report.metrics(done))


def test_the_reports(source: Archive, done: Trial, tmp_path: Path) -> None:
    names = report.write_trial(tmp_path, source, done)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "track.json").read_text()) == report.contents(done)
    with (tmp_path / "track.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["appearance"] for row in rows] == ["trained", "none", "untrained"]
    assert (rows[0]["sequence"], rows[0]["tracks"], rows[1]["id_switches"]) == ("a", "2", "2")
    with zipfile.ZipFile(tmp_path / "tracks.zip") as zipped:
        assert zipped.namelist() == ["a.txt"]
        lines = zipped.read("a.txt").decode().splitlines()
    assert len(lines) == len(done.tracked[0].tracks["trained"])
    with Image.open(tmp_path / "track.jpg") as page:
        assert page.width > 600


def test_the_video_shows_both_ways_side_by_side(
    source: Archive, done: Trial, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report.write_trial(tmp_path, source, done)
    assert capfd.readouterr() == ("", "")
    capture = cv2.VideoCapture(str(tmp_path / "track.webm"))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1])
    assert len(frames) == 40
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    height, width = frames[0].shape[:2]
    assert (width % 2, height % 2) == (0, 0)
    # Once tracked, a person's box is drawn on both halves, in different places of the picture.
    assert np.abs(frames[30].astype(int) - frames[0]).max() > 100


def test_the_same_input_gives_the_same_bytes(source: Archive, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        report.write_trial(folder, source, tried(source))
    one, two = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert one == two


def test_without_truth_there_are_tracks_and_pictures_but_no_scores(tmp_path: Path) -> None:
    source = archive(tmp_path / "dataset.zip", crossing(), leave_out=["gt/gt.txt"])
    done = tried(source)
    metrics = report.metrics(done)
    assert "hota" not in metrics
    assert "none" not in metrics
    assert (metrics["sequences"], metrics["sequences_with_truth"]) == (1, 0)
    assert "nothing was scored" in report.closing_table(done)
    assert "meaningful" not in report.contents(done)
    assert set(report.tags(done).values()) == {"not scored"}
    folder = tmp_path / "reports"
    folder.mkdir()
    report.write_trial(folder, source, done)
    with (folder / "track.csv").open() as file:
        assert {row["hota"] for row in csv.DictReader(file)} == {""}
    assert (folder / "track.webm").stat().st_size > 1000


def test_without_detections_nothing_can_be_tracked(tmp_path: Path) -> None:
    source = archive(tmp_path / "dataset.zip", crossing(), leave_out=["det/det.txt"])
    with pytest.raises(DatasetError, match=r"sequence 'a' has no det/det\.txt"):
        tried(source)


def test_another_format_is_tracked_as_well(tmp_path: Path, done: Trial) -> None:
    """KITTI's frames and labels count from 0, and so do the detections beside them."""
    rows = crossing()
    plain = archive(tmp_path / "mot.zip", rows)
    labels = "".join(
        f"{frame - 1} {who} Pedestrian 0 0 0 {left} {top} {left + width} {top + height} "
        "0 0 0 0 0 0 0\n"
        for frame, who, (left, top, width, height) in rows
    )
    found = table(sorted(rows, key=found_when), identities=False).splitlines()
    shifted = "".join(
        f"{int(frame) - 1},{rest}\n" for frame, _, rest in (line.partition(",") for line in found)
    )
    path = tmp_path / "kitti.zip"
    with zipfile.ZipFile(plain.path) as whole, zipfile.ZipFile(path, "w") as target:
        for name in whole.namelist():
            if name.endswith(".png"):
                number = int(Path(name).stem) - 1
                target.writestr(f"training/image_02/0007/{number:06}.png", whole.read(name))
        target.writestr("training/label_02/0007.txt", labels)
        target.writestr("training/det/0007.txt", shifted)
    metrics, expected = report.metrics(tried(Archive(path))), report.metrics(done)
    assert metrics == expected
    with pytest.raises(DatasetError, match=r"class 1 \(Pedestrian\), and track\.classes is \[4\]"):
        tried(Archive(path), classes=(4,))


def test_truth_of_other_classes_alone_is_refused(source: Archive) -> None:
    with pytest.raises(DatasetError, match=r"boxes of class 1, and track\.classes is \[2, 3\]"):
        tried(source, classes=(2, 3))


def unsure(path: Path, confidences: Sequence[float], name: str = "a") -> Archive:
    """The sequence with these confidences of its detections, in turn."""
    rows = crossing()
    lines = [
        f"{line.rsplit(',', 3)[0]},{confidences[place % len(confidences)]},-1,-1,-1\n"
        for place, line in enumerate(
            table(sorted(rows, key=found_when), identities=False).splitlines()
        )
    ]
    return archive(path, rows, name=name, texts={"det/det.txt": "".join(lines)})


def test_unsure_detections_are_left_out(tmp_path: Path, done: Trial) -> None:
    assert report.metrics(done)["detections"] == len(crossing())
    half = tried(unsure(tmp_path / "a.zip", [0.9, 0.1]))
    assert report.metrics(half)["detections"] == len(crossing()) / 2


def test_where_no_detection_is_sure_enough_the_line_names_the_parameter(tmp_path: Path) -> None:
    source = unsure(tmp_path / "a.zip", [0.25, 0.1])
    expected = (
        r"track\.min_confidence=0\.3 removes all 56 detections, whose .* 0\.1 to 0\.25; lower"
    )
    with pytest.raises(DatasetError, match=expected):
        tried(source)
    assert report.metrics(tried(source, min_confidence=0.2))["detections"] == 28


def test_one_sequence_without_sure_detections_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    merged = tmp_path / "both.zip"
    with zipfile.ZipFile(merged, "w") as target:
        for name, sure in (("a", 0.1), ("b", 0.9)):
            one = unsure(tmp_path / f"{name}.zip", [sure, sure / 2], name)
            with zipfile.ZipFile(one.path) as whole:
                for member in whole.namelist():
                    target.writestr(member, whole.read(member))
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        assert len(tried(Archive(merged)).tracked) == 2
    assert "sequences 'a': track.min_confidence=0.3 removes all 56" in caplog.text


@pytest.mark.parametrize("confidence", [-1, 0.05])
def test_detections_without_confidence_count_as_sure(
    confidence: float, tmp_path: Path, done: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    source = unsure(tmp_path / "a.zip", [confidence])
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        trial = tried(source)
    assert report.metrics(trial) == report.metrics(done)
    assert caplog.text.count("one and the same confidence, which counts as 1: 'a'") == 1


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dataset.zip"
    archive(path, crossing())
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(damaged, "w") as target:
        for name in whole.namelist():
            target.writestr(name, b"no image" if name.endswith("07.png") else whole.read(name))
    with pytest.raises(DatasetError, match=r"a/img1/000007\.png cannot be read"):
        tried(Archive(damaged))


def test_boxes_beyond_the_frame_are_left_out(source: Archive) -> None:
    (sequence,) = read_sequences(source)
    height, width = SIZE
    inside = [(1, -1, (-5.0, -5.0, 10.0, 20.0)), (2, -1, (width - 1.0, 0.0, 50.0, 20.0))]
    outside = [(1, -1, (-30.0, 0.0, 20.0, 20.0)), (2, -1, (0.0, float(height), 20.0, 20.0))]
    found = boxes(sorted([*inside, *outside]))
    embedder = Colours()
    (looked,) = embed_detections(
        source,
        [type(sequence)(sequence.name, sequence.images, 10.0, found, None)],
        {"one": embedder},
        min_confidence=0.0,
        watch=Stopwatch(),
    )
    assert embedder.crops == 2
    assert len(looked.detections) == len(looked.embeddings["one"]) == 2
    assert (looked.detections.ltwh[:, 2] != 20).all()


def test_frames_come_in_order_whatever_the_archive_s_is(tmp_path: Path) -> None:
    path = tmp_path / "dataset.zip"
    archive(path, crossing(6), 6)
    turned = tmp_path / "turned.zip"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(turned, "w") as target:
        for name in reversed(whole.namelist()):
            target.writestr(name, whole.read(name))
    names = read_sequences(Archive(path))[0].images
    straight, back = (list(frames_in_order(Archive(p), names)) for p in (path, turned))
    assert all((one == other).all() for one, other in zip(straight, back, strict=True))
    assert len(straight) == 6


def test_the_page_shows_the_excerpts_that_only_the_baseline_gets_wrong(done: Trial) -> None:
    one = done.tracked[0]
    excerpts = video.choose_excerpts(one.sequence, report.switches_of(one, "none"), [])
    assert len(excerpts) == 1  # both people are mistaken at the same time
    assert len(excerpts[0].frames) == video.COLUMNS
    assert report.switches_of(one, "none")[0].frame in excerpts[0].frames


def test_without_switches_the_page_shows_the_whole_sequence(done: Trial) -> None:
    excerpts = video.choose_excerpts(done.tracked[0].sequence, [], [])
    shown = [frame for excerpt in excerpts for frame in excerpt.frames]
    assert (shown[0], shown[-1], len(shown)) == (1, 40, video.COLUMNS * video.EVENTS)


def test_frames_of_several_sizes_make_no_video(tmp_path: Path) -> None:
    with video.open_video(tmp_path / "a.webm", 10) as film:
        film.write(Image.new("RGB", (64, 48)), "1")
        with pytest.raises(DatasetError, match="2: not as large as the frames before it"):
            film.write(Image.new("RGB", (48, 64)), "2")
