"""Sequences put together of frames and annotations, by the rules that all formats share."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.images import size_of
from deepsort_reid.data.samples import Role
from deepsort_reid.data.video.annotation import (
    Annotation,
    Numbering,
    are_shares,
    first_frame,
    in_pixels,
    placed,
)
from deepsort_reid.data.video.mot_table import (
    is_without_confidence,
    read_boxes,
    with_confidence,
)
from deepsort_reid.data.video.sequence import (
    FRAME_RATE,
    Boxes,
    Frames,
    Notes,
    Sequence,
)
from deepsort_reid.data.video.tables import check_total
from deepsort_reid.sources.archive import Archive

DETECTIONS = "det"  # the folder with a file of detections for each sequence, MOTChallenge's apart
SURE = "all detections have one and the same confidence, which counts as 1"
SCALED = "boxes are shares of the frame, and were scaled to its pixels"


@dataclass(frozen=True, eq=False)
class Material:
    """What a format tells of a sequence."""

    name: str
    frames: Frames
    truth: Annotation | None = None
    detections: Annotation | None = None
    frame_rate: float = FRAME_RATE
    class_names: Mapping[int, str] = field(default_factory=dict)
    distractors: tuple[int, ...] = ()  # see Sequence
    role: Role = "any"
    first: int | None = None  # what the truth calls the first frame, where the format says it
    apart: bool = False  # whether the detections count frames in a way of their own


def assemble(archive: Archive, materials: Iterable[Material], notes: Notes) -> list[Sequence]:
    """The sequences, sorted by name.

    Args:
        archive: holds the frames, of which the first of each sequence is looked at for its size.
        materials: what is known of each.
        notes: receives what was left out or is unusual.

    Raises:
        SourceError: an annotation does not fit its sequence.
    """
    found = sorted(materials, key=lambda material: material.name)
    firsts = {m.frames.images[0] for m in found if m.truth or m.detections}
    with closing(archive.read(firsts)) as members:
        sizes = {name: size_of(data) for name, data in members}
    return [sequence(m, sizes.get(m.frames.images[0]), notes) for m in found]


def sequence(material: Material, size: tuple[int, int] | None, notes: Notes) -> Sequence:
    """One sequence, with frames counted from 1 and boxes in pixels."""
    frames, truth, detections = material.frames, material.truth, material.detections
    together = [a for a in (truth, None if material.apart else detections) if a is not None]
    numbering = Numbering(frames.first, len(frames.images), frames.where)
    start = material.first
    if start is None:
        start = first_frame(together, numbering, notes)
    else:
        numbering.refuse(together, start)
    boxes = found = None
    if truth is not None:
        boxes, left_out = settled(truth, material.name, start, size, notes, unique=True)
        notes.left_out.update({f"{what} in annotations": n for what, n in left_out.items()})
    if detections is not None:
        if material.apart:
            start = first_frame([detections], numbering, notes)
        found, left_out = settled(detections, material.name, start, size, notes, unique=False)
        for what, number in left_out.items():
            if number:
                notes.said[f"{what} among detections, left out"][material.name] = number
        if is_without_confidence(found):
            if found.confidences[0] != 1:
                notes.said[SURE][material.name] = len(found)
            found = with_confidence(found)
    return Sequence(
        material.name, frames.images, material.frame_rate, found, boxes,
        material.class_names, material.distractors, material.role,
    )  # fmt: skip


def settled(
    annotation: Annotation,
    name: str,
    start: int,
    size: tuple[int, int] | None,
    notes: Notes,
    *,
    unique: bool,
) -> tuple[Boxes, dict[str, int]]:
    """The boxes of an annotation; see `placed`. Shares of the frame become pixels."""
    if are_shares(annotation):
        annotation = in_pixels(annotation, size)
        notes.said[SCALED][name] = len(annotation.boxes)
    return placed(annotation, start, size, unique=unique)


# Files


def read_texts(archive: Archive, names: Collection[str]) -> dict[str, bytes]:
    """The contents of annotations, in one pass.

    Raises:
        SourceError: they are larger than any should be, or the archive is damaged.
    """
    texts: dict[str, bytes] = {}
    total = 0
    with closing(archive.read(names)) as members:
        for name, data in members:
            total += len(data)
            check_total(total, archive.label)
            texts[name] = data
    return texts


def detections_of(names: Iterable[str], sequences: Collection[str]) -> dict[str, str]:
    """The file of detections of each sequence that has one, `det/<sequence>.txt` -> its name."""
    known = set(sequences)
    paths = (PurePosixPath(name) for name in names)
    return {
        str(path): path.stem
        for path in paths
        if path.parent.name == DETECTIONS and path.suffix == ".txt" and path.stem in known
    }


def with_detections(
    archive: Archive, names: Iterable[str], sequences: Collection[str]
) -> tuple[dict[str, Annotation], Collection[str]]:
    """The detections beside annotations of any format: tables as MOTChallenge has them.

    Returns:
        sequence -> its detections; the members that were read.

    Raises:
        SourceError: a sequence has two files, or one is no such table.
    """
    files = detections_of(names, sequences)
    found: dict[str, Annotation] = {}
    for name, data in read_texts(archive, files.keys()).items():
        where = f"{archive.label}: {name}"
        if files[name] in found:
            raise SourceError(f"{where}: a second file of detections of '{files[name]}'; keep one")
        found[files[name]] = read_boxes(data, where, truth=False)
    return found, set(files)
