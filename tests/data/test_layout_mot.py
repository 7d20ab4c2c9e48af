"""Annotated videos: what is cut out of them, whose it is, and what it serves for."""

import json
import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import decode, pack, split
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.packed import open_part
from deepsort_reid.data.samples import Crop, Dataset, Sample, Split
from tests.support import stages, videos
from tests.support.datasets import mot_config, source_config, split_config

RULES: dict[str, Any] = {"val_fraction": 0.25}


def opened(path: Path, files: dict[str, bytes], layout: str = "auto", **limits: Any) -> Dataset:
    return open_dataset(
        videos.zipped(path / "a.zip", files), source_config(layout), mot_config(**limits)
    )


def boxes(dataset: Dataset) -> set[str]:
    return {sample.name for sample in dataset.samples}


def test_tracks_become_identities_and_sequences_cameras(tmp_path: Path) -> None:
    files = videos.sequence(2, people=2, frames=2) | videos.sequence(10, people=1, frames=1)
    dataset = opened(tmp_path, files)
    assert dataset.layout == "mot"
    assert [(s.name, s.identity, s.pid, s.camid) for s in dataset.samples] == [
        ("s10/img1/000001.png#1", "s10/1", 1, 1),
        ("s2/img1/000001.png#1", "s2/1", 2, 2),
        ("s2/img1/000001.png#2", "s2/2", 3, 2),
        ("s2/img1/000002.png#1", "s2/1", 2, 2),
        ("s2/img1/000002.png#2", "s2/2", 3, 2),
    ]
    box = tuple(float(edge) for edge in videos.place(2, 2))
    assert dataset.samples[-1].crop == Crop("s2/img1/000002.png", 2, box)  # type: ignore[arg-type]
    assert {s.member for s in dataset.samples} == {n for n in files if n.endswith("png")}


def test_identities_are_numbered_as_numbers(tmp_path: Path) -> None:
    dataset = opened(tmp_path, videos.sequence(1, people=11, frames=1))
    assert {s.identity: s.pid for s in dataset.samples} == {f"s1/{n}": n for n in range(1, 12)}


@pytest.mark.parametrize(
    ("end", "limits", "cut"),
    [
        ("1,1,0.5", {}, True),
        ("1,1,0.49", {}, False),
        ("1,1,0.49", {"min_visibility": 0.4}, True),
        ("0,1,1", {}, False),
        ("1,2,1", {}, False),
        ("1,2,1", {"classes": (2, 3)}, True),
        ("1,1,1", {"min_height": 20}, True),
        ("1,1,1", {"min_height": 21}, False),
    ],
)
def test_limits(tmp_path: Path, end: str, limits: dict[str, Any], cut: bool) -> None:
    gt = videos.line(1, 1, end=end) + videos.line(1, 2, (0, 0, 9, 50), "1,3,1")
    limits = {"classes": (1, 3)} | limits
    dataset = opened(tmp_path, videos.sequence(1, gt=gt), **limits)
    assert ("s1/img1/000001.png#1" in boxes(dataset)) == cut


def test_one_frame_of_so_many(tmp_path: Path) -> None:
    dataset = opened(tmp_path, videos.sequence(1, people=1, frames=8), every=3)
    assert [s.crop.frame for s in dataset.samples if s.crop] == [1, 4, 7]


def test_boxes_of_nobody_are_not_cut(tmp_path: Path) -> None:
    gt = videos.line(1, -1) + videos.line(1, 2)
    assert boxes(opened(tmp_path, videos.sequence(1, gt=gt))) == {"s1/img1/000001.png#2"}


def test_no_box_is_left(tmp_path: Path) -> None:
    gt = videos.line(1, 1, end="1,7,1") + videos.line(2, 1) + videos.line(3, 1, end="0,1,1")
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, videos.sequence(1, gt=gt), every=2)
    assert str(caught.value) == (
        "no box of 's1' is to be cut: 1 in frames passed over (dataset.mot.every: 2), "
        "1 to be ignored (confidence 0 or identity -1), "
        "1 of other classes (dataset.mot.classes: [1]); annotated are classes 1, 7"
    )


@pytest.mark.parametrize("layout", ["auto", "mot"])
def test_no_annotations_at_all(tmp_path: Path, layout: str) -> None:
    files = {n: d for n, d in videos.sequence(1).items() if "gt" not in n}
    with pytest.raises(DatasetError, match=r"none of the sequences \('s1'\) has annotations"):
        opened(tmp_path, files, layout)


def test_sequences_without_annotations_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = {n: d for n, d in videos.sequence(1).items() if "gt" not in n}
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        dataset = opened(tmp_path, test | videos.sequence(2))
    assert {s.camid for s in dataset.samples} == {1}
    assert "left out, since they have no annotations: 's1'" in caplog.text


def test_a_video_that_is_there_thrice_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = videos.sequence(1) | videos.sequence(2, people=3)
    again = {name.replace("s1", "s1-FRCNN"): data for name, data in videos.sequence(1).items()}
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        assert opened(tmp_path, files | again).samples == opened(tmp_path, files).samples
    assert "left out, since 's1' has the same annotations: 's1-FRCNN'" in caplog.text


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["id/1.png", "id/2.png"], "folders"),
        (["img1/1.png", "gt/gt.txt"], "mot"),
        (["1.png", "gt/gt.txt"], "mot"),
        (["1.png", "gt.txt"], "mot"),
    ],
)
def test_the_layout_is_recognised(tmp_path: Path, names: list[str], layout: str) -> None:
    files = dict.fromkeys(names, videos.frame_of(1, [1], 1))
    files |= {name: videos.line(1, 1).encode() for name in names if name.endswith("txt")}
    assert opened(tmp_path, files).layout == layout


# Cutting


def packed(
    folder: Path, files: dict[str, bytes], dataset: Dataset, size: tuple[int, int], **rules: Any
) -> tuple[Split, videos.Counting]:
    """Make parts of a dataset, counting reads."""
    folder.mkdir(exist_ok=True)
    source = videos.Counting(videos.zipped(folder.parent / f"{folder.name}.zip", files))
    config = split_config(**RULES, **rules, image_size=size)
    return pack.make_parts(source, [dataset], folder, config), source


def test_crops_are_the_frame_within_the_box(tmp_path: Path) -> None:
    files = videos.sequence(1, people=4, frames=8)
    made, source = packed(tmp_path / "parts", files, opened(tmp_path, files), size=(20, 8))
    for part, samples in made.items():
        assert samples
        for image, sample in zip(open_part(tmp_path / "parts", part).images, samples, strict=True):
            person, frame = int(sample.identity.removeprefix("s1/")), int(Path(sample.member).stem)
            left, top, width, height = videos.place(person, frame)
            whole = videos.pixels(files[sample.member])
            assert (image == whole[top : top + height, left : left + width]).all()
    assert sorted(source.reads) == sorted(n for n in files if n.endswith("png"))  # once each


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((10, 20, 30, 40), (10, 20, 40, 60)),
        ((10.4, 19.6, 30.2, 40), (10, 20, 41, 60)),
        ((-14, 5, 30, 10), (0, 5, 16, 15)),
        ((90, 50, 15, 12), (90, 50, 100, 60)),
        ((-1, -1, 102, 62), (0, 0, 100, 60)),
        ((99.6, 5, 0.5, 0.2), (99, 5, 100, 6)),
        ((5.1, 59.8, 0.1, 0.2), (5, 59, 6, 60)),
        ((-16, 5, 30, 10), None),  # 14 of 30 columns are inside
        ((-20, -20, 30, 30), None),
        ((100, 0, 10, 10), None),
        ((-10, -10, 5, 5), None),
        ((-1e6, -1e6, 2e6, 2e6), None),
    ],
)
def test_boxes_are_clipped_or_dropped(box: Any, edges: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    cut = decode.cut(noise, box)
    if edges is None:
        assert cut is None
    else:
        left, top, right, bottom = edges
        assert cut is not None
        assert (cut == noise[top:bottom, left:right]).all()


def test_boxes_outside_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gt = "".join(videos.line(f, p) for f in range(1, 6) for p in range(1, 5))
    files = videos.sequence(1, gt=gt + videos.line(1, 9, (95, 0, 20, 20)))
    dataset = opened(tmp_path, files)
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        made, _ = packed(tmp_path / "parts", files, dataset, size=(20, 8))
    assert "1 boxes lie mostly outside their frame: left out" in caplog.text
    assert not any(sample.identity == "s1/9" for part in made.values() for sample in part)


def test_an_unreadable_frame_is_counted_once(tmp_path: Path) -> None:
    files = videos.sequence(1) | {"s1/img1/000003.png": b"no image"}
    dataset = opened(tmp_path, files)
    with pytest.raises(DatasetError, match=r"1 unreadable image\(s\), 's1/img1/000003.png' first"):
        packed(tmp_path / "parts", files, dataset, size=(20, 8))
    made, _ = packed(tmp_path / "parts", files, dataset, size=(20, 8), skip_unreadable=1)
    assert not any("000003" in sample.name for part in made.values() for sample in part)


def test_the_same_bytes_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = videos.sequence(1) | videos.sequence(2, people=5)
    backwards = dict(reversed(files.items()))
    made = []
    for name, contents, cores in (("a", files, 1), ("b", backwards, 5)):
        monkeypatch.setattr(decode, "cores", lambda cores=cores: cores)
        folder = tmp_path / name
        packed(folder, contents, opened(tmp_path, contents), size=(16, 8))
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert len(made[0]) == 8


# Dealing out


def track(identity: str, frames: list[int]) -> list[Sample]:
    return [
        Sample(f"{frame:06}.png#{identity}", identity, int(identity), 1, "any",
               Crop(f"{frame:06}.png", frame, (0, 0, 9, 9)))
        for frame in frames
    ]  # fmt: skip


def assigned(tracks: list[list[Sample]]) -> dict[str, dict[str, list[int]]]:
    """Part -> identity -> the frames it has there."""
    samples = sorted((s for t in tracks for s in t), key=lambda s: s.name)
    made = split.assign_all([Dataset("mot", samples, in_time=True)], split_config(**RULES))
    found: dict[str, dict[str, list[int]]] = {}
    for part, chosen in made.items():
        found[part] = defaultdict(list)
        for sample in chosen:
            found[part][sample.identity].append(split.moment(sample))
    return found


def test_parts_are_parted_in_time() -> None:
    frames = [1, 6, 11, 16, 21, 26, 51, 101]
    parts = assigned([track(str(n), frames) for n in range(1, 9)])
    assert list(parts["train"].values()) == [frames[:6]] * 6
    assert list(parts["val"].values()) == [frames[6:]] * 6
    assert list(parts["query"].values()) == [[101]] * 2
    assert list(parts["gallery"].values()) == [frames[:7]] * 2  # up to frame 51
    assert parts["train"].keys() == parts["val"].keys()
    assert parts["query"].keys() == parts["gallery"].keys()
    assert not parts["train"].keys() & parts["query"].keys()


@pytest.mark.parametrize("frames", [[3, 4], [1, 2, 3], [1, 50, 99], list(range(1, 100, 5))])
def test_half_a_track_lies_between_query_and_gallery(frames: list[int]) -> None:
    parts = assigned([track(str(n), frames) for n in range(1, 5)])
    for identity, (query,) in parts["query"].items():
        gallery = parts["gallery"][identity]
        assert query - max(gallery) >= (frames[-1] - frames[0]) / 2
        assert gallery


def test_frames_count_by_their_number_not_their_name() -> None:
    unpadded = [
        Sample(f"{f}.png#{n}", str(n), n, 1, "any", Crop(f"{f}.png", f, (0, 0, 9, 9)))
        for n in range(1, 5) for f in (2, 10, 100)
    ]  # fmt: skip
    parts = assigned([unpadded])
    assert list(parts["query"].values()) == [[100]] * 2
    assert [sorted(found) for found in parts["train"].values()] == [[2, 10]] * 2


def test_tracks_of_one_image_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    tracks = [track(str(n), [1, 2, 3]) for n in range(1, 5)]
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        assert assigned([*tracks, track("9", [1])]) == assigned(tracks)
    assert "1 tracks have one image" in caplog.text


def test_too_few_tracks() -> None:
    tracks = [*(track(str(n), [1, 2, 3]) for n in range(1, 4)), track("9", [1])]
    with pytest.raises(DatasetError, match=r"the dataset has 3 identities \(1, 2, 3\); it takes"):
        assigned(tracks)


# From the archive to the report


def prepare(workspace: Path, tmp_path: Path) -> None:
    """Write two videos, and parameters that take nearly all of them."""
    for name, data in (videos.sequence(1) | videos.sequence(2, people=5)).items():
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    cut = {"every": 2, "min_height": 10, "classes": [1], "min_visibility": 0.5}
    stages.write_params(
        workspace,
        {"dataset.source": str(tmp_path / "videos"), "arch": "deepsort", "epochs": 1}
        | {f"dataset.mot.{key}": value for key, value in cut.items()},
    )


def test_from_videos_to_parts(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(workspace, tmp_path)
    for stage in ("download", "split"):
        stages.run(stage)
    counts = json.loads((workspace / "reports/split.json").read_text())
    assert counts["train"] == {"images": 35, "identities": 7, "cameras": 2}  # 5 of 6 in time
    assert counts["query"]["images"] == counts["gallery"]["identities"] == 2
    assert "layout mot: 54 images; 9 identities by track" in capsys.readouterr().err


@pytest.mark.slow
def test_from_videos_to_a_report(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(workspace, tmp_path)
    for stage in ("download", "split", "train", "evaluate"):
        stages.run(stage)
    metrics = json.loads((workspace / "reports/evaluation.json").read_text())
    assert (metrics["same_camera_removed"], metrics["cameras_known"]) == (False, True)
    assert metrics["queries_without_match"] == 0
    assert 0 < metrics["mAP"] <= 1
    said = capsys.readouterr()
    assert "nobody is seen by two cameras" in said.out


def test_a_damaged_annotation_stops_the_stage(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = videos.zipped(tmp_path / "v.zip", videos.sequence(1, gt="1,1,1,1,5,5\n"))
    stages.write_params(workspace, {"dataset.source": str(archive.path)})
    stages.run("download")
    with pytest.raises(SystemExit):
        stages.run("split")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: data/raw/dataset.zip: s1/gt/gt.txt, line 1: 6 columns")
    assert not (workspace / "data/split").exists()
