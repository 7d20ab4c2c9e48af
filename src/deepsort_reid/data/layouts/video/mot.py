"""Layout `mot`: annotated videos, of which each box becomes an image.

The sequences are MOTChallenge's, as data/mot.py reads them. A track is an identity: annotators
number people within a sequence, so nobody knows who appears in two sequences. A sequence is a
camera.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.dataset_config import MotConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import mot
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.mot import Boxes
from deepsort_reid.data.samples import Crop, Sample

logger = logging.getLogger(__name__)

SHOWN = 20  # names in a line of the log


def recognises(files: Files) -> bool:
    """Whether some frames in folders img1 have annotations, or all images are such frames."""
    frames = [name for name in files.images if mot.is_frame(name)]
    if len(frames) == len(files.images):
        return True
    annotations = {f"{mot.prefix(mot.folder_of(name))}gt/gt.txt" for name in frames}
    return not annotations.isdisjoint(files.known)


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; cameras and tracks are numbered from 1.

    Raises:
        DatasetError: no sequence has annotations, or no box is left; with the reasons.
        SourceError: the archive or an annotation cannot be read.
    """
    sequences = annotated(mot.read_sequences(files.archive, files.names))
    not_cut: Counter[str] = Counter()
    chosen = {
        name: choose(boxes, files.boxes, not_cut) for name, (_, boxes) in sorted(sequences.items())
    }
    tracks = sorted({(name, int(i)) for name, boxes in chosen.items() for i in set(boxes.ids)})
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in not_cut.items() if number)
    if not tracks:
        raise DatasetError(
            f"no box of {listed(list(sequences))} is to be cut: {reasons or 'gt.txt is empty'}"
        )
    pids = {track: pid for pid, track in enumerate(tracks, start=1)}
    samples = [
        Sample(f"{crop.member}#{track}", f"{name}/{track}", pids[name, track], camid, "any", crop)
        for camid, (name, boxes) in enumerate(chosen.items(), start=1)
        for track, crop in crops(boxes, sequences[name][0])
    ]
    frames = {name for name in files.images if mot.is_frame(name)}
    tables = [name for name in files.names if name.endswith((*mot.TABLES, "seqinfo.ini"))]
    return Reading(
        samples,
        f"track of gt.txt ('{samples[0].identity}' of '{samples[0].member}')",
        f"sequence (1 is '{next(iter(chosen))}')",
        used=tables,
        passed_over={"frames without a box to cut": frames},
        left_out=not_cut,
        in_time=True,
    )


def annotated(sequences: Sequence[mot.Sequence]) -> dict[str, tuple[Sequence[str], Boxes]]:
    """The sequences that have annotations, each once: name -> its frames, its boxes.

    MOT17 has every video three times, with the boxes of three detectors and the same annotations.
    Taken for three videos, the same people would be learned and tested with as different ones.

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
    first: dict[bytes, str] = {}  # digest of annotations -> the first sequence that has them
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
    """The SHA-256 of frames, identities and places of boxes."""
    arrays = (boxes.frames, boxes.ids, boxes.ltwh)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()


def listed(names: Sequence[str]) -> str:
    """Some names as a text, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


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
