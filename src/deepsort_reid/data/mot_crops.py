"""Annotated videos as a dataset: which boxes of their frames become images, of whom, by whom seen.

Layout `mot`: sequences as `mot` reads them. A track is an identity (an annotator numbers people
within a sequence, so nobody knows who appears in two of them), and a sequence is a camera.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import mot
from deepsort_reid.data.layouts import Crop, Dataset, Layout, Sample, is_image, read_dataset
from deepsort_reid.data.mot import Boxes
from deepsort_reid.sources.archive import Archive

logger = logging.getLogger(__name__)

SHOWN = 20  # names in a line of the log


def open_dataset(
    archive: Archive,
    layout: Literal["auto"] | Layout,
    *,
    every: int,
    classes: Collection[int],
    min_visibility: float,
    min_height: int,
) -> Dataset:
    """Recognise a dataset of any layout; of videos, choose the boxes to cut out.

    Args:
        archive: the dataset.
        layout: one of the layouts, or "auto" to tell by the names.
        every: of so many frames the first one is cut.
        classes: numbers of the classes that are cut.
        min_visibility: least share of the object that is seen, in [0, 1].
        min_height: least height of a box as annotated, in pixels.

    Raises:
        DatasetError: there are no images, not in a known layout, or no box to cut.
        SourceError: the archive or an annotation cannot be read.
    """
    names = archive.names()
    if layout == "mot" or (layout == "auto" and is_footage(names)):
        limits = Limits(every, tuple(classes), min_visibility, min_height)
        return Dataset("mot", read_samples(annotated(mot.read_sequences(archive, names)), limits))
    return read_dataset(names, layout)


def is_footage(names: Collection[str]) -> bool:
    """Whether there are frames in folders img1 that have annotations, or no images but such."""
    frames = [name for name in names if mot.is_frame(name)]
    if len(frames) == sum(map(is_image, names)):
        return bool(frames)
    annotations = {f"{mot.prefix(mot.folder_of(name))}gt/gt.txt" for name in frames}
    return not annotations.isdisjoint(names)


def annotated(sequences: Sequence[mot.Sequence]) -> dict[str, tuple[Sequence[str], Boxes]]:
    """The sequences that have annotations, each once: name -> its frames, its boxes.

    MOT17 has every video three times, with the boxes of three detectors and the same annotations;
    taken for three videos, the same people would be learned and tested with as different ones.

    Raises:
        DatasetError: no sequence has annotations.
    """
    without = [sequence.name for sequence in sequences if sequence.truth is None]
    if len(without) == len(sequences):
        raise DatasetError(
            f"none of the sequences ({listed(without)}) has annotations; "
            "expected gt/gt.txt beside the folder img1"
        )
    if without:
        logger.warning("left out, since they have no gt/gt.txt: %s", listed(without))
    found: dict[str, tuple[Sequence[str], Boxes]] = {}
    first: dict[bytes, str] = {}  # annotations -> who has them
    for sequence in sequences:
        if sequence.truth is None:
            continue
        other = first.setdefault(digest(sequence.truth), sequence.name)
        if other != sequence.name and len(sequence.truth):
            logger.warning("left out, since '%s' has the same gt: '%s'", other, sequence.name)
            continue
        found[sequence.name] = (sequence.images, sequence.truth)
    return found


def digest(boxes: Boxes) -> bytes:
    """A checksum over what is annotated where."""
    arrays = (boxes.frames, boxes.ids, boxes.ltwh)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()


def listed(names: Sequence[str]) -> str:
    """Some names as a text, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


# Choosing


@dataclass(frozen=True)
class Limits:
    """Which boxes are cut; see `open_dataset`."""

    every: int
    classes: Sequence[int]
    min_visibility: float
    min_height: int

    def faults(self, boxes: Boxes) -> Mapping[str, NDArray[np.bool_]]:
        """Each reason not to cut a box -> for which of them it holds, (N,)."""
        classes = ", ".join(map(str, self.classes))
        return {
            f"in frames passed over (dataset.mot.every: {self.every})": (
                (boxes.frames - 1) % self.every != 0
            ),
            "to be ignored (confidence 0 or identity -1)": (
                (boxes.confidences == 0) | (boxes.ids < 0)
            ),
            f"of other classes (dataset.mot.classes: [{classes}])": ~np.isin(
                boxes.classes, self.classes
            ),
            f"hidden (dataset.mot.min_visibility: {self.min_visibility})": (
                boxes.visibility < self.min_visibility
            ),
            f"too low (dataset.mot.min_height: {self.min_height})": (
                boxes.ltwh[:, 3] < self.min_height
            ),
        }

    def choose(self, boxes: Boxes, passed_over: Counter[str]) -> Boxes:
        """The boxes to cut; count those that are not by the first reason."""
        left = np.ones(len(boxes), dtype=np.bool_)
        for reason, holds in self.faults(boxes).items():
            passed_over[reason] += int((left & holds).sum())
            left &= ~holds
        return boxes.select(left)


def read_samples(
    sequences: Mapping[str, tuple[Sequence[str], Boxes]], limits: Limits
) -> list[Sample]:
    """Make a sample of every box to cut, sorted by name; cameras are numbered from 1.

    Raises:
        DatasetError: no box is left; with the reasons.
    """
    passed_over: Counter[str] = Counter()
    chosen = {
        name: limits.choose(boxes, passed_over) for name, (_, boxes) in sorted(sequences.items())
    }
    tracks = sorted({(name, int(i)) for name, boxes in chosen.items() for i in set(boxes.ids)})
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in passed_over.items() if number)
    if not tracks:
        raise DatasetError(
            f"no box of {listed(list(sequences))} is to be cut: {reasons or 'gt.txt is empty'}"
        )
    logger.info(
        "%s boxes of %s tracks in %d sequences to cut%s",
        f"{sum(map(len, chosen.values())):,}",
        f"{len(tracks):,}",
        len(chosen),
        f"; not cut: {reasons}" if reasons else "",
    )
    pids = {track: pid for pid, track in enumerate(tracks, start=1)}
    samples = [
        Sample(f"{crop.member}#{track}", f"{name}/{track}", pids[name, track], camid, "any", crop)
        for camid, (name, boxes) in enumerate(chosen.items(), start=1)
        for track, crop in crops(boxes, sequences[name][0])
    ]
    return sorted(samples, key=lambda sample: sample.name)


def crops(boxes: Boxes, images: Sequence[str]) -> Iterator[tuple[int, Crop]]:
    """Yield track and crop of each box."""
    columns: Iterable[tuple[int, int, list[float]]] = zip(
        boxes.frames.tolist(), boxes.ids.tolist(), boxes.ltwh.tolist(), strict=True
    )
    for frame, track, (left, top, width, height) in columns:
        yield track, Crop(images[frame - 1], frame, (left, top, width, height))
