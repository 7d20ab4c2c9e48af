"""Annotated videos in each format: miniatures with the traps of the real datasets."""

import json
import logging
from typing import Any

import pytest

from deepsort_reid.core.errors import DatasetError, DeepSortReidError, SourceError
from deepsort_reid.data import split
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.data.samples import Dataset
from deepsort_reid.data.video import mots
from deepsort_reid.data.video.sequence import Sequence
from tests.fuzz.annotations import rle
from tests.support.datasets import InMemory, picture, read_files, split_config

SIZE = (100, 60)  # width and height of every frame
FRAME = picture(90, SIZE)

Files = dict[str, bytes | str]


def frames(folder: str, first: int = 1, count: int = 6, name: str = "{:06}.png") -> Files:
    """Frames of a folder."""
    return {f"{folder}/{name.format(first + n)}": FRAME for n in range(count)}


def gt(first: int = 1, count: int = 6, people: int = 2, end: str = "1,1,1") -> str:
    """A table in which everybody is in every frame."""
    return "".join(
        f"{frame},{who},{10 * who + frame % 50},5,8,40,{end}\n"
        for frame in range(first, first + count)
        for who in range(1, people + 1)
    )


def sequences(files: Files) -> list[Sequence]:
    archive: Any = InMemory({n: c.encode() if isinstance(c, str) else c for n, c in files.items()})
    return read_sequences(archive)


def only(files: Files) -> Sequence:
    (one,) = sequences(files)
    return one


def refused(files: Files, error: type[DeepSortReidError] = SourceError) -> str:
    """The line by which the files are refused."""
    with pytest.raises(error) as caught:
        read_files(files)
    return str(caught.value)


def identities(dataset: Dataset) -> set[str]:
    return {sample.identity for sample in dataset.samples}


# MOTChallenge's folders


@pytest.mark.parametrize(
    ("place", "info"),
    [
        ("s/img1", None),
        ("s", None),
        ("s/frames", None),
        ("s/left", "imDir=left\nimExt=.png\n"),
        ("s/left/colour", "imDir=left/colour\n"),
    ],
)
def test_where_the_frames_lie(place: str, info: str | None) -> None:
    files = frames(place) | {"s/gt/gt.txt": gt()}
    if info:
        files |= {"s/seqinfo.ini": f"[Sequence]\nframeRate=14\n{info}", "s/img9/1.jpg": FRAME}
        with pytest.raises(DatasetError, match=r"layout 'mot' does not explain 's/img9/1\.jpg'"):
            read_files(files)
        del files["s/img9/1.jpg"]
    dataset = read_files(files)
    assert (dataset.layout, len(dataset.samples)) == ("mot", 12)
    assert dataset.samples[0].member == f"{place}/000001.png"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ("imDir=right", "imDir=right, but 's/right' holds no images"),
        ("imDir=../t", "imDir=../t must be a folder within the sequence's"),
        ("imExt=.jpg", "imExt=.jpg, but the frames are named as 's/img1/000001.png' is"),
    ],
)
def test_a_description_that_does_not_fit(info: str, message: str) -> None:
    files = frames("s/img1") | {"s/gt/gt.txt": gt()}
    assert message in refused(files | {"s/seqinfo.ini": f"[Sequence]\nframeRate=9\n{info}\n"})


@pytest.mark.parametrize(
    ("files_from", "frames_from", "count"),
    [
        (1, 1, 6), (0, 0, 6), (0, 1, 6), (1, 0, 5), (100, 100, 6), (100, 1, 6), (100, 0, 3),
        (3, 1, 4),
    ],
)  # fmt: skip
def test_frame_numbers_are_those_of_files_or_count_from_1_or_0(
    files_from: int, frames_from: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    files = frames("s/img1", files_from) | {"s/gt/gt.txt": gt(frames_from, count)}
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        truth = only(files).truth
    assert truth is not None
    assert truth.frames.tolist() == [n for n in range(1, count + 1) for _ in "ab"]
    assert ("frames count from" in caplog.text) is (files_from != frames_from)


@pytest.mark.parametrize(("files_from", "frames_from", "count"), [(0, 1, 5), (3, 3, 4), (2, 2, 5)])
def test_frame_numbers_that_may_mean_two_things_are_refused(
    files_from: int, frames_from: int, count: int
) -> None:
    line = refused(frames("s/img1", files_from) | {"s/gt/gt.txt": gt(frames_from, count)})
    assert f"begin at {files_from}, or count from 1, and nothing tells which" in line


def test_truth_and_detections_count_alike() -> None:
    """The truth alone could count from 0 or from 1; the detections tell."""
    files = frames("s/img1", 0) | {"s/gt/gt.txt": gt(1, 5), "s/det/det.txt": gt(0, 6)}
    truth = only(files).truth
    assert truth is not None
    assert truth.frames.tolist()[0] == 2


def test_a_few_boxes_without_area_or_outside_are_left_out_and_counted() -> None:
    lost = "3,7,5,5,0,40,1,1,1\n4,8,300,5,8,40,1,1,1\n"
    files = frames("s/img1") | {"s/gt/gt.txt": gt() + lost, "s/det/det.txt": gt() + lost}
    dataset = read_files(files)
    assert dataset.understood["left_out"] == {
        "boxes without area in annotations": 1,
        "boxes outside the frame in annotations": 1,
    }
    assert identities(dataset) == {"s/1", "s/2"}
    found = only(files).detections
    assert found is not None
    assert len(found) == 12


@pytest.mark.parametrize("table", ["gt/gt.txt", "det/det.txt"])
def test_many_boxes_outside_are_refused(table: str) -> None:
    """They are of frames of another size, or corners and not sizes."""
    rows = "".join(f"{n},{n},{200 + n},5,8,40,1,1,1\n" for n in range(1, 3))
    line = refused(frames("s/img1") | {"s/gt/gt.txt": gt(), f"s/{table}": gt() + rows})
    assert f"s/{table}, line 13: 2 of 14 boxes, this one first, lie outside the frame of" in line


def test_corners_in_place_of_sizes_are_refused() -> None:
    rows = "".join(f"{n},{w},{30 * w},5,{30 * w + 9},45,1\n" for n in range(1, 7) for w in (1, 2))
    line = refused(frames("s/img1") | {"s/gt/gt.txt": rows})
    assert "s/gt/gt.txt, line 2: 6 of 12 boxes, this one first, reach far beyond the frame" in line


def test_categories_of_visdrone_in_ten_columns() -> None:
    rows = "".join(
        f"{frame},{who},{10 * who},5,8,40,1,{kind},0,{occlusion}\n"
        for frame in range(1, 7)
        for who, kind, occlusion in ((1, 4, 0), (2, 9, 0), (3, 1, 0), (4, 1, 1), (5, 1, 2))
    )
    dataset = read_files(frames("s/img1") | {"s/gt/gt.txt": rows})
    assert identities(dataset) == {"s/3", "s/4"}  # 1 is a car, 2 a bus, 5 hidden
    left = dataset.understood["left_out"]
    assert left["of other classes (dataset.mot.classes: [1])"] == 12
    assert left["hidden (dataset.mot.min_visibility: 0.5)"] == 6
    one = only(frames("s/img1") | {"s/gt/gt.txt": rows})
    assert (one.class_names[9], one.distractors) == ("bus", ())


def test_columns_that_nobody_can_tell_name_the_parameter() -> None:
    line = refused(frames("s/img1") | {"s/gt/gt.txt": gt(end="1,3,0.5,9")})
    assert "columns 8 to 10 are neither" in line
    assert "dataset.mot.classes" in line


def test_shares_of_the_frame_are_scaled(caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"{n},{w},0.{w}5,0.25,0.1,0.5,1\n" for n in range(1, 7) for w in (1, 2))
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        one = only(frames("s/img1") | {"s/gt/gt.txt": rows, "s/det/det.txt": rows})
    for found in (one.truth, one.detections):
        assert found is not None
        assert found.ltwh[0] == pytest.approx([15, 15, 10, 30])
    assert caplog.text.count("boxes are shares of the frame, and were scaled to its pixels") == 1


def test_shares_that_cannot_be_scaled_are_one_line() -> None:
    rows = "".join(f"{n},1,0.8,0.5,0.3,0.5,1\n" for n in range(1, 7))
    files = frames("s/img1") | {"s/gt/gt.txt": rows}
    assert "are shares of the frame and reach beyond it; expected left" in refused(files)
    files = dict.fromkeys(files, b"") | {"s/gt/gt.txt": rows.replace("0.8", "0.1")}
    assert "boxes are shares of a frame whose size is not known" in refused(files)


def test_cvat_s_mot_with_its_labels() -> None:
    rows = "".join(
        f"{frame},{who},{10 * who},5,8,40,1,{kind},1\n"
        for frame in range(1, 7)
        for who, kind in ((1, 1), (2, 2))
    )
    files = frames("img1") | {"gt/gt.txt": rows, "gt/labels.txt": "car\nperson\n"}
    assert identities(read_files(files)) == {"sequence/1"}
    one = only(files)
    assert (one.class_names, one.distractors) == ({1: "car", 2: "person"}, ())
    assert only(frames("img1") | {"gt/gt.txt": rows}).distractors == (2, 7, 8, 12)
    # Nobody is in the last frame: by the numbers alone, 1 to 5 could be those of the files.
    early = {"gt/gt.txt": gt(1, 5), "gt/labels.txt": "person"}
    for name, first in (("frame_{:06}.png", 1), ("image{}.png", 1)):
        truth = only(frames("img1", 0, name=name) | early).truth
        assert truth is not None
        assert truth.frames[0] == first
    assert "nothing tells which" in refused(frames("img1", 0) | early)


def test_masks_of_mots_and_no_box_of_the_class() -> None:
    """The box around columns 2 and 3, rows 1 to 4, of a mask ten pixels high and six wide."""
    text = rle([21, 4, 6, 4, 25])
    lines = "".join(f"{n} 2001 2 10 6 {text}\n1 10000 10 10 6 {rle([0, 60])}\n" for n in (1,))
    files = frames("s/img1") | {"s/gt/gt.txt": lines}
    truth = only(files).truth
    assert truth is not None
    assert truth.ltwh.tolist() == [[2, 1, 2, 4], [0, 0, 6, 10]]
    assert (truth.classes.tolist(), truth.ids.tolist()) == ([2, 0], [2001, -1])
    assert "annotated are classes 2 pedestrian" in refused(files, DatasetError)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (rle([3, 4]), "the mask has not 6×10 pixels"),
        (rle([3, 4]) + "~", "is no RLE as COCO compresses it"),
        ("o", "ends within a number"),
        ("O" * 9, "a run of -"),
    ],
)
def test_a_mask_that_is_none(mask: str, message: str) -> None:
    with pytest.raises(SourceError, match=f"gt.txt, line 1: .*{message}"):
        mots.read_masks(f"1 1 2 10 6 {mask}\n".encode(), "gt.txt")


def test_a_mask_of_several_columns_reaches_top_and_bottom() -> None:
    assert mots.box_of(rle([25, 12, 23]), 10, 6, "") == (2, 0, 2, 10)
    assert mots.box_of(rle([60]), 10, 6, "") == (0, 0, 0, 0)


def test_what_dancetrack_and_sportsmot_ship_with_is_known() -> None:
    files = frames("train/d1/img1") | {
        "train/d1/gt/gt.txt": gt(), "train/d1/gt/gt_val_half.txt": "", "train_seqmap.txt": "name",
        "splits_txt/train.txt": "d1\n", "train/d1/seqinfo.ini": "[Sequence]\nframeRate=20\n",
    }  # fmt: skip
    assert read_files(files).understood["left_out"] == {
        "further tables of sequences": 1, "lists of sequences": 2
    }  # fmt: skip


def test_pictures_of_no_sequence_are_refused_and_of_frames_alone_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = frames("s/img1") | {"s/gt/gt.txt": gt()}
    stray = "layout 'mot' does not explain 'faces/a.jpg'"
    assert stray in refused(files | {"faces/a.jpg": FRAME}, DatasetError)
    assert len(sequences(files | {"faces/a.jpg": FRAME})) == 1  # to track, it does no harm
    assert "1 images belong to no sequence: 'faces/a.jpg'" in caplog.text
    left = read_files(files | {"s.mp4": b""}).understood["left_out"]
    assert left == {"video files beside the frames": 1}
    assert "none of the sequences ('s') has annotations" in refused(frames("s/img1"), DatasetError)


@pytest.mark.parametrize("mark", ["s/gt.txt", "s/seqinfo.ini", "s/det.txt", "s/det/det.txt"])
def test_a_sequence_is_never_a_person(mark: str) -> None:
    content = "[Sequence]\nframeRate=5\n" if mark.endswith("ini") else gt()
    files = frames("s") | frames("t") | {mark: content}
    with pytest.raises(DatasetError):
        read_files(files)
    assert [one.name for one in sequences(files)] == ["s"]


def test_train_and_val_of_a_dataset_stay_apart() -> None:
    files: Files = {}
    for part, numbers in (("train", (1, 2)), ("val", (3, 4)), ("test", (5,))):
        for number in numbers:
            files |= frames(f"set/{part}/s{number}/img1")
            if part != "test":
                files[f"set/{part}/s{number}/gt/gt.txt"] = gt().replace(",5,8,", f",{number},8,")
    dataset = read_files(files)
    parts = split.assign_all([dataset], split_config())
    sides = [{sample.identity[:2] for sample in parts[part]} for part in ("train", "query")]
    assert sides == [{"s1", "s2"}, {"s3", "s4"}]
    assert dataset.understood["left_out"] == {"frames of sequences that are left out": 6}
    files["set/test/s5/gt/gt.txt"] = gt(people=3)
    every = read_files(files)
    roles = {sample.identity[:2]: sample.role for sample in every.samples}
    assert roles == {"s1": "train", "s2": "train", "s3": "tune", "s4": "tune", "s5": "test"}
    for tune, queries in ((0.0, {"s5"}), (0.2, {"s3", "s4"})):
        parts = split.assign_all([every], split_config(tune_fraction=tune))
        assert {sample.identity[:2] for sample in parts["query"]} == queries
    del files["set/test/s5/gt/gt.txt"]
    alone = {name: data for name, data in files.items() if "/val/" not in name}
    assert {sample.role for sample in read_files(alone).samples} == {"any"}


# KITTI

REST = "1.5 0.6 0.8 1 2 3 0.1"


def kitti_lines() -> str:
    """Labels of six frames from 0: two people, one hidden, a car, somebody sitting, DontCare."""
    return "".join(
        f"{frame} {track} {kind} 0 {occluded} -1.5 {left}.0 5.0 {left + 8}.5 50.0 {REST}\n"
        for frame in range(6)
        for track, kind, occluded, left in (
            (0, "Pedestrian", 0, 10), (1, "Pedestrian", 2, 30), (2, "Car", 0, 50),
            (3, "Person", 0, 70), (-1, "DontCare", -1, 80), (-1, "DontCare", -1, 90),
        )
    )  # fmt: skip


def test_kitti() -> None:
    files = (
        frames("training/image_02/0000", 0)
        | frames("testing/image_02/0000", 0)
        | frames("training/image_03/0000", 0)
        | {"training/label_02/0000.txt": kitti_lines(), "training/calib/0000.txt": "P0: 1"}
    )
    dataset = read_files(files)
    assert dataset.layout == "kitti"
    assert identities(dataset) == {"training-0000/0"}
    left = dataset.understood["left_out"]
    assert left["of other classes (dataset.mot.classes: [1])"] == 12
    assert left["to be ignored (confidence 0 or identity -1)"] == 12
    assert left["hidden (dataset.mot.min_visibility: 0.5)"] == 6
    assert left["calibrations, points and right images"] == 7
    crop = dataset.samples[0].crop
    assert crop is not None
    assert (crop.frame, crop.ltwh) == (1, (10, 5, 8.5, 45))  # corners, pixels from 0
    one, other = sequences(files)
    assert (one.name, one.truth, other.frame_rate) == ("testing-0000", None, 10)
    assert other.truth is not None
    assert other.truth.classes.tolist()[:6] == [1, 1, 4, 2, 0, 0]


def test_kitti_with_detections_of_its_own_and_of_others() -> None:
    files = frames("image_02/0001", 0) | {"label_02/0001.txt": kitti_lines()}
    own = "".join(f"{n} -1 Car -1 -1 -10 5 5 25 25 {REST} {n + 1}.5\n" for n in range(6))
    for more in ({"det_02/0001.txt": own}, {"det/0001.txt": gt(0)}, {"det/0001.txt": gt(1)}):
        found = only(files | more).detections
        assert found is not None
        assert sorted(set(found.frames.tolist())) == [1, 2, 3, 4, 5, 6]
    assert only(files).detections is None


def test_kitti_mots() -> None:
    text = f"0 1005 1 60 100 {rle([65, 20, 5915])}\n"
    files = frames("training/image_02/0002", 0) | {"instances_txt/0002.txt": text}
    one = only(files | {"instances/0002/000000.png": FRAME})
    assert one.truth is not None
    assert (one.class_names[1], one.truth.ltwh.tolist()) == ("car", [[1, 5, 1, 20]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"0 1 Pedestrain 0 0 1 1 2 3 4 {REST}",
            "no type 'Pedestrain'; did you mean 'Pedestrian'?",
        ),
        (f"0 1 Car 0 9 1 1 2 3 4 {REST}", "occluded is 9; expected 0 to 3"),
        (f"0 1 Car 0 0 1 1 2 three 4 {REST}", "right is 'three'; expected a finite number"),
        ("0,1,2,3,4,5,6", "1 fields between spaces; expected 17 or 18"),
        (f"7 1 Car 0 0 1 1 2 30 40 {REST}", "no such frame; a.zip: image_02/0 has 0 to 5"),
    ],
)
def test_a_label_that_is_none_of_kitti_s(line: str, message: str) -> None:
    good = f"0 0 Car 0 0 1 1 2 30 40 {REST}\n"
    files = frames("image_02/0", 0) | {"label_02/0.txt": f"{good}{line}\n"}
    with pytest.raises(SourceError, match=r"label_02/0\.txt, line 2: ") as caught:
        sequences(files)
    assert message in str(caught.value)


# VisDrone


def test_visdrone() -> None:
    rows = "".join(
        f"{frame},{target},{left},0,8,40,{score},{category},0,{occlusion}\n"
        for frame in range(1, 7)
        for target, left, score, category, occlusion in (
            (0, 0, 1, 1, 0), (1, 20, 1, 1, 1), (2, 40, 1, 1, 2), (3, 60, 1, 4, 0), (4, 80, 0, 0, 0),
            (5, 90, 0, 1, 0),
        )
    )  # fmt: skip
    top = "VisDrone2019-MOT-train"
    files = frames(f"{top}/sequences/uav1_v", name="{:07}.png")
    files |= {f"{top}/annotations/uav1_v.txt": rows}
    dataset = read_files(files)
    assert dataset.layout == "visdrone"
    assert identities(dataset) == {"uav1_v/0", "uav1_v/1"}  # 2 hidden, 3 a car, 5 to be ignored
    crop = dataset.samples[0].crop
    assert crop is not None
    assert crop.ltwh == (0, 0, 8, 40)  # pixels from 0
    found = frames("sequences/uav1_v", name="{:07}.png") | {"det/uav1_v.txt": gt()}
    assert only(found).truth is None
    one = only(files | {f"{top}/det/uav1_v.txt": gt()})
    assert (one.class_names[9], one.distractors, one.role) == ("bus", (), "train")
    assert one.detections is not None
    bad = files | {f"{top}/annotations/uav1_v.txt": "1,0,5,5,8,40,1,12,0,0\n"}
    assert "uav1_v.txt, line 1: column 8 is the category; expected 0 to 11" in refused(bad)


# BDD100K


def bdd(labels: list[dict[str, Any]], count: int = 6, *, video: str = "b1c-6f7d") -> str:
    """The labels of frames of a video, as the release of 2020 has them."""
    return json.dumps(
        [
            {"name": f"{video}-{n:07}.jpg", "videoName": video, "frameIndex": n - 1,
             "labels": labels if n > 1 else None}
            for n in range(1, count + 1)
        ]
    )  # fmt: skip


def box_of(identity: str, category: str, left: int, **attributes: bool) -> dict[str, Any]:
    sides = {"x1": left, "y1": 5, "x2": left + 8.5, "y2": 45}
    return {"id": identity, "category": category, "box2d": sides, "attributes": attributes}


LABELS = [
    box_of("00122063", "pedestrian", 10, occluded=True, truncated=False, crowd=False),
    box_of("00122064", "car", 30, occluded=False),
    box_of("00122065", "pedestrian", 50, crowd=True),
    box_of("00122066", "other person", 70),
]


@pytest.mark.parametrize("scalabel", [False, True])
def test_bdd100k(scalabel: bool) -> None:
    text = bdd(LABELS)
    if scalabel:
        text = json.dumps({"frames": json.loads(text), "config": None})
    video = "b1c-6f7d"
    files = frames(f"images/track/train/{video}", name=video + "-{:07}.jpg")
    files |= {f"labels/box_track_20/train/{video}.json": text}
    dataset = read_files(files)
    assert dataset.layout == "bdd100k"
    assert identities(dataset) == {f"{video}/122063"}
    assert [s.crop.frame for s in dataset.samples if s.crop] == [2, 3, 4, 5, 6]
    one = only(files)
    assert one.truth is not None
    assert one.truth.classes.tolist()[:4] == [1, 3, 0, 9]
    assert one.truth.ids.tolist()[:4] == [122063, 122064, -1, 122066]
    twice = files | {f"labels/seg_track_20/train/{video}.json": text}
    assert "label the same video; keep boxes or masks" in refused(twice)


def test_bdd100k_masks() -> None:
    mask = {"id": "a", "category": "car", "rle": {"counts": rle([65, 20, 5915]), "size": [60, 100]}}
    files = frames("v/x", name="x-{:07}.jpg") | {"l/x.json": bdd([mask], video="x")}
    truth = only(files).truth
    assert truth is not None
    assert (truth.ltwh.tolist()[0], truth.ids.tolist()[0]) == ([1, 5, 1, 20], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "l/x.json, line 1: no JSON"),
        ("[" * 100_000, "JSON that cannot be read"),
        ('{"frames": 7}', "frames: expected a list, found 7"),
        ('[{"name": "x-0000009.jpg"}]', "frame 1: 'x-0000009.jpg' is not among the frames"),
        (bdd([LABELS[0] | {"category": "walker"}], video="x"), "frame 2, labels, label 1: no cate"),
        (bdd([LABELS[0] | {"box2d": {"x1": "a"}}], video="x"), "box2d, x1: expected a number"),
        (bdd([LABELS[0] | {"box2d": None}], video="x"), "neither 'box2d' nor 'rle'"),
        (bdd([LABELS[0], LABELS[0]], video="x"), "box 2: a second box of one identity"),
    ],
)
def test_labels_that_are_none_of_bdd100k_s(text: str, message: str) -> None:
    assert message in refused(frames("v/x", name="x-{:07}.jpg") | {"l/x.json": text})


# CVAT


def cvat_xml(size: int = 6, *, body: str | None = None, task: str = "") -> str:
    """An export with two tracks, of which the second is not there all the time."""
    boxes = "".join(
        f'<track id="{track}" label="{label}" source="manual"{task}>'
        + "".join(
            f'<box frame="{frame}" keyframe="1" outside="{int(track == 1 and frame > 3)}" '
            f'occluded="{int(track == 0 and frame == 2)}" xtl="{20 * track}.5" ytl="5" '
            f'xbr="{20 * track + 9}" ybr="45" z_order="0"><attribute name="a">b</attribute></box>'
            for frame in range(6)
        )
        + "</track>"
        for track, label in ((0, "person"), (1, "person"), (2, "car"))
    )
    labels = "".join(
        f"<label><name>{name}</name><attributes><attribute><name>a</name></attribute></attributes>"
        "</label>"
        for name in ("person", "car")
    )
    meta = f"<meta><task><size>{size}</size><start_frame>0</start_frame><labels>{labels}</labels>"
    return (
        "<?xml version='1.0' encoding='utf-8'?>\n<annotations><version>1.1</version>"
        f"{meta}</task></meta>\n{boxes if body is None else body}</annotations>"
    )


def test_cvat_for_video(caplog: pytest.LogCaptureFixture) -> None:
    files = frames("images", 0, name="frame_{:06}.PNG") | {"annotations.xml": cvat_xml()}
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        dataset = read_files(files)
    assert dataset.layout == "cvat"
    assert "cut are classes [1]; annotated are classes 1 person, 2 car" in caplog.text
    assert identities(dataset) == {"sequence/0", "sequence/1"}
    found = [(s.identity[-1], s.crop.frame) for s in dataset.samples if s.crop]
    assert sorted(found) == [("0", n) for n in (1, 2, 4, 5, 6)] + [("1", n) for n in (1, 2, 3, 4)]
    assert dataset.samples[0].crop is not None
    assert dataset.samples[0].crop.ltwh == (0.5, 5, 8.5, 40)


def test_cvat_s_frames_by_the_file_s_own_count() -> None:
    """Files from 1, as ffmpeg names them, and frames from 0, of which nothing is in the first."""
    body = '<track id="3" label="person"><box frame="2" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    for size, frame in ((6, 3), (9, None)):
        files = frames("a/x", 1) | {"a/annotations.xml": cvat_xml(size, body=body)}
        if frame is None:
            assert only(files).truth is not None  # 2 is the second file's number
            continue
        truth = only(files).truth
        assert truth is not None
        assert truth.frames.tolist() == [frame]


def test_several_exports_of_cvat() -> None:
    files: Files = {}
    for name in ("a", "b"):
        files |= frames(f"{name}/images", 0) | {f"{name}/annotations.xml": cvat_xml()}
    files |= frames("c", 0) | {"c.xml": cvat_xml().replace('label="car"', 'label="person"')}
    assert [one.name for one in sequences(files)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "line 1: no XML (no element found)"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "line 1: has a document type"),
        ("<annotation><object/></annotation>", "<annotation> is none of CVAT's exports"),
        (
            cvat_xml(body='<image id="0" name="a.png"/>'),
            "holds single images; export",
        ),
        (cvat_xml(body='<track id="1" label="person"><polygon frame="0"/></track>'), "no boxes"),
        (cvat_xml(body='<track id="1" label="dog"><box frame="0"/></track>'), "label 'dog' is not"),
        (cvat_xml(body='\n<track id="1" label="car"><box frame="0"/></track>'), "line 4: an elem"),
        (cvat_xml(body='<track id="a" label="car"/>'), "the track's id is 'a'; expected a finite"),
        (
            cvat_xml(task=' task_id="1"').replace('task_id="1"', 'task_id="2"', 1),
            "holds 2 tasks; export each task by itself",
        ),
        ("<a>" * 100, "<a> is none of CVAT's"),
        ("<annotations>" * 100, "more than 64 elements within each other"),
    ],
)
def test_an_xml_that_is_no_export_of_tracks(text: str, message: str) -> None:
    line = refused(frames("images", 0) | {"annotations.xml": text})
    assert message in line
    assert "annotations.xml" in line


def test_exports_without_their_frames_say_where_to_put_them() -> None:
    files = frames("a/x", 0) | frames("b/x", 0) | {"annotations.xml": cvat_xml()}
    assert "are in 2 folders; expected them in images" in refused(files)


# Datumaro


def datumaro(*, path: bool = True, labels: tuple[str, ...] = ("person", "car")) -> str:
    """An export of CVAT's as Datumaro 1.0: a person, a car, a shape, and somebody who leaves."""

    def box(track: int | None, left: int, kind: int, **more: bool) -> dict[str, Any]:
        attributes = {"keyframe": True, "occluded": False, **more}
        known = {} if track is None else {"track_id": track}
        return {"id": 0, "type": "bbox", "label_id": kind, "bbox": [left, 5, 8.5, 40],
                "attributes": attributes | known}  # fmt: skip

    items = [
        {
            "id": f"frame_{n:06}",
            "annotations": [
                box(0, 10, 0), box(1, 30, 1), box(None, 50, 0), box(2, 70, 0, outside=n > 2),
                box(3, 80, 0, occluded=True), {"id": 9, "type": "polygon", "label_id": 0},
            ],
            "attr": {"frame": n},
            **({"image": {"path": f"frame_{n:06}.png", "size": [60, 100]}} if path else {}),
        }
        for n in range(6)
    ]  # fmt: skip
    named = [{"name": name, "parent": "", "attributes": []} for name in labels]
    return json.dumps({"info": {}, "categories": {"label": {"labels": named}}, "items": items})


@pytest.mark.parametrize("folder", ["images/default", "images"])
@pytest.mark.parametrize("path", [True, False])
def test_datumaro(folder: str, path: bool, caplog: pytest.LogCaptureFixture) -> None:
    files = frames(folder, 0, name="frame_{:06}.png")
    files |= {"annotations/default.json": datumaro(path=path)}
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        dataset = read_files(files)
    name = folder.rpartition("/")[2]
    assert dataset.layout == "datumaro"
    assert identities(dataset) == {f"{name}/0", f"{name}/2"}
    frames_of_2 = [s.crop.frame for s in dataset.samples if s.identity[-1] == "2" and s.crop]
    assert frames_of_2 == [1, 2, 3]
    assert "annotations that are no boxes of a track are left out: 'default' (12)" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [], "annotations": [], "categories": []}', "is no JSON of Datumaro's"),
        (datumaro(labels=("person",)), "label_id 1; 'categories' lists 1"),
        (
            datumaro().replace("frame_000003", "frame_000009"),
            "the image of 'frame_000009' is not in",
        ),
        (datumaro().replace("8.5, 40", "8.5"), "expected a 'bbox' of left, top, width and height"),
        (datumaro().replace("8.5", "NaN"), "expected a finite number, found nan"),
    ],
)
def test_a_json_that_is_none_of_datumaro_s(text: str, message: str) -> None:
    files = frames("images/default", 0, name="frame_{:06}.png")
    assert message in refused(files | {"annotations/default.json": text})
