"""Crops out of annotated videos: each box of a track becomes an image.

A track is an identity: annotators number people within a sequence, so nobody knows who appears in
two sequences. A sequence is a camera. Where annotated sequences lie in folders of two parts or
more, such as `train` and `val`, this division holds.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.dataset_config import MotConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files, suffix
from deepsort_reid.data.layouts.reading import VIDEOS, Reading
from deepsort_reid.data.samples import Crop, Role, Sample
from deepsort_reid.data.video.sequence import Boxes, Found, listed
from deepsort_reid.data.video.sequence import Sequence as Video

logger = logging.getLogger(__name__)


def reading(files: Files, found: Found) -> Reading:
    """Make a sample of every box to cut; cameras and tracks are numbered from 1.

    Raises:
        DatasetError: no sequence has annotations, or no box is left; with the reasons.
    """
    found.notes.log()
    videos = annotated(found.sequences)
    not_cut = Counter(found.notes.left_out)
    chosen = {
        video.name: choose(video.truth, files.boxes, not_cut)
        for video in videos
        if video.truth is not None
    }
    tracks = sorted({(name, int(i)) for name, boxes in chosen.items() for i in set(boxes.ids)})
    if not tracks:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in not_cut.items() if number)
        raise DatasetError(
            f"no box of {listed(list(chosen))} is to be cut: {reasons or 'no box is annotated'}"
            f"{names_of_classes(videos)}"
        )
    pids = {track: pid for pid, track in enumerate(tracks, start=1)}
    roles = roles_of(videos)
    samples = [
        Sample(f"{crop.member}#{track}", f"{video.name}/{track}", pids[video.name, track], camid,
               roles[video.name], crop)
        for camid, video in enumerate(videos, start=1)
        for track, crop in crops(chosen[video.name], video.images)
    ]  # fmt: skip
    if any(video.class_names for video in videos):
        logger.info("cut are classes %s%s", list(files.boxes.classes), names_of_classes(videos))
    return Reading(
        samples,
        f"track ('{samples[0].identity}' of '{samples[0].member}')",
        f"sequence (1 is '{videos[0].name}')",
        used=found.used,
        passed_over={
            **found.passed_over,
            **frames_by_reason(found.sequences, videos),
            "video files beside the frames": [n for n in files.names if suffix(n) in VIDEOS],
        },
        left_out=not_cut,
        in_time=True,
    )


def frames_by_reason(all_of: Sequence[Video], used: Sequence[Video]) -> dict[str, set[str]]:
    """Frames that become no image -> why."""
    names = {video.name for video in used}
    return {
        "frames without a box to cut": {n for v in all_of if v.name in names for n in v.images},
        "frames of sequences that are left out": {
            n for v in all_of if v.name not in names for n in v.images
        },
    }


def annotated(sequences: Sequence[Video]) -> list[Video]:
    """The sequences that have annotations, each once.

    MOT17 has every video three times, with the boxes of three detectors and the same annotations.
    Taken for three videos, the same people would be learned and tested with as different ones.

    Raises:
        DatasetError: no sequence has annotations.
    """
    without = [sequence.name for sequence in sequences if sequence.truth is None]
    if len(without) == len(sequences):
        raise DatasetError(
            f"none of the sequences ({listed(without)}) has annotations; "
            "expected gt/gt.txt beside the folder img1, or another format's file"
        )
    if without:
        logger.warning("left out, since they have no annotations: %s", listed(without))
    found = []
    first: dict[bytes, str] = {}  # digest of annotations -> the first sequence that has them
    for sequence in sequences:
        if sequence.truth is None:
            continue
        other = first.setdefault(digest(sequence.truth), sequence.name)
        if other != sequence.name and len(sequence.truth):
            logger.warning(
                "left out, since '%s' has the same annotations: '%s'", other, sequence.name
            )
            continue
        found.append(sequence)
    return found


def digest(boxes: Boxes) -> bytes:
    """The SHA-256 of frames, identities and places of boxes."""
    arrays = (boxes.frames, boxes.ids, boxes.ltwh)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()


def roles_of(videos: Sequence[Video]) -> dict[str, Role]:
    """The role of each sequence: the part its folder names, where there are two parts or more.

    A `val` of other sequences shows other people: it is tested with, or, beside a `test`, serves to
    choose parameters by.
    """
    named = {video.role for video in videos}
    if len(named) < 2 or "train" not in named or named - {"train", "val", "test"}:
        return dict.fromkeys((video.name for video in videos), "any")
    meaning: dict[Role, Role] = {"val": "tune" if "test" in named else "test"}
    return {video.name: meaning.get(video.role, video.role) for video in videos}


def names_of_classes(videos: Sequence[Video]) -> str:
    """The classes that are annotated, with their names where the format has names."""
    names: dict[int, str] = {}
    for video in videos:
        names |= video.class_names
    known = {
        int(number)
        for video in videos
        if video.truth
        for number in set(video.truth.classes[video.truth.confidences != 0])
    }
    shown = ", ".join(f"{n} {names[n]}" if n in names else str(n) for n in sorted(known))
    return f"; annotated are classes {shown}" if shown else ""


def choose(boxes: Boxes, config: MotConfig, not_cut: Counter[str]) -> Boxes:
    """The boxes to cut.

    Args:
        boxes: all boxes of a sequence.
        config: which to cut.
        not_cut: counts the other boxes, each by the first reason not to cut it.
    """
    left = np.ones(len(boxes), dtype=np.bool_)
    for reason, holds in reasons_against(boxes, config).items():
        not_cut[reason] += int((left & holds).sum())
        left &= ~holds
    return boxes.select(left)


def reasons_against(boxes: Boxes, config: MotConfig) -> Mapping[str, NDArray[np.bool_]]:
    """Each reason not to cut a box -> the boxes that it holds for, (N,)."""
    classes = ", ".join(map(str, config.classes))
    return {
        f"in frames passed over (dataset.mot.every: {config.every})": (
            (boxes.frames - 1) % config.every != 0
        ),
        "to be ignored (confidence 0 or identity -1)": (boxes.confidences == 0) | (boxes.ids < 0),
        f"of other classes (dataset.mot.classes: [{classes}])": ~np.isin(
            boxes.classes, config.classes
        ),
        f"hidden (dataset.mot.min_visibility: {config.min_visibility})": (
            boxes.visibility < config.min_visibility
        ),
        f"too low (dataset.mot.min_height: {config.min_height})": (
            boxes.ltwh[:, 3] < config.min_height
        ),
    }


def crops(boxes: Boxes, images: Sequence[str]) -> Iterator[tuple[int, Crop]]:
    """Yield track and crop of each box."""
    columns: Iterable[tuple[int, int, list[float]]] = zip(
        boxes.frames.tolist(), boxes.ids.tolist(), boxes.ltwh.tolist(), strict=True
    )
    for frame, track, (left, top, width, height) in columns:
        yield track, Crop(images[frame - 1], frame, (left, top, width, height))
