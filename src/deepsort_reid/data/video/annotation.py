"""What one file says of a sequence's boxes, and how it becomes boxes that can be cut and tracked.

The rules are the same for every format:

**Frames.** The numbers of frames in annotations are those in the names of the frames' files, or
they count from 1, or, where a frame 0 is annotated, from 0. The reading is used in which every
annotated frame exists. Where two readings remain, nobody can tell, and the sequence is refused.

**Boxes without area or wholly outside the frame** are left out and counted, up to a tenth of a
file's boxes (one, at least); where there are more, the columns mean something else.

**Corners.** If every box has a width above its left and a height above its top, and more than a
tenth of the boxes reach far beyond the frame, they are corners and not sizes, and are refused.

**Shares of the frame.** If no box is wider or higher than 1, and not all numbers are whole, boxes
are shares of the frame's size.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.video.sequence import Boxes, Notes

MOST_LEFT_OUT = 10  # one box of so many may lie outside its frame, or have no area
FARTHEST = 1e6  # pixels from the frame's corner
FARTHEST_SHARE = 2.0  # shares of the frame from its corner
FAR_BEYOND = 1.1  # of the frame's size: where boxes end that are no boxes of things in it
SLACK = 0.01  # by which boxes that are shares of the frame may reach beyond it


@dataclass(frozen=True, eq=False)
class Annotation:
    """The boxes of one file as it has them, in the file's order.

    Attributes:
        boxes: with the file's own numbers of frames; pixels from the frame's corner.
        where: the file, in messages.
        lines: (N,) the number of each box's line, from 1.
        origin: what the file calls the first pixel, 0 or 1; subtracted already.
        unit: what `lines` counts.
        class_names: of its classes, where the file shows which format's they are.
    """

    boxes: Boxes
    where: str
    lines: NDArray[np.int64]
    origin: int = 0
    unit: str = "line"
    class_names: Mapping[int, str] = field(default_factory=dict)

    def demand(self, good: NDArray[np.bool_], message: str) -> None:
        """Raise with the line of the first box that is not good."""
        if not good.all():
            raise SourceError(f"{self.where}, {self.line(~good)}: {message}")

    def line(self, which: NDArray[np.bool_]) -> str:
        """Where the first of some boxes stands."""
        return f"{self.unit} {int(self.lines[np.argmax(which)])}"

    def checked(self) -> "Annotation":
        """The annotation itself, if its numbers can be those of boxes.

        Raises:
            SourceError: an identity is negative, a box lies too far away, or a visible share is
                none.
        """
        boxes = self.boxes
        self.demand(boxes.ids >= -1,
                    "a negative identity; expected a number from 0, or -1 for unknown")  # fmt: skip
        self.demand(np.abs(boxes.ltwh).max(1, initial=0) <= FARTHEST,
                    f"a box farther than {FARTHEST:.0f} pixels away; expected pixels")  # fmt: skip
        self.demand((boxes.visibility >= 0) & (boxes.visibility <= 1),
                    "the visible share of the object must be 0 to 1")  # fmt: skip
        return self


def of_rows(rows: Sequence[tuple[float, ...]], where: str, unit: str = "line") -> Annotation:
    """An annotation of rows.

    Args:
        rows: of each box its line, frame, identity, left, top, width, height, confidence, class and
            visible share.
        where: the file, in messages.
        unit: what stands in place of lines.

    Raises:
        SourceError: a number can be none of a box.
    """
    values = np.array(rows, np.float64).reshape(-1, 10)
    boxes = Boxes(
        values[:, 1].astype(np.int64), values[:, 2].astype(np.int64), values[:, 3:7].copy(),
        values[:, 7].copy(), values[:, 8].astype(np.int64), values[:, 9].copy(),
    )  # fmt: skip
    return Annotation(boxes, where, values[:, 0].astype(np.int64), unit=unit).checked()


# Frames


@dataclass(frozen=True)
class Numbering:
    """The frames of a sequence by the numbers that their files bear."""

    first: int  # of the first file; those of the others follow
    count: int
    where: str  # in messages

    def refuse(self, given: Sequence[Annotation], start: int) -> None:
        """Raise for the first box of a frame that does not exist, if there is one.

        Args:
            given: annotations.
            start: what they call the first frame.

        Raises:
            SourceError: there is one.
        """
        for annotation in given:
            numbers = annotation.boxes.frames
            annotation.demand(
                (numbers >= start) & (numbers < start + self.count),
                f"no such frame; {self.where} has {start} to {start + self.count - 1}",
            )


def first_frame(
    annotations: Iterable[Annotation], frames: Numbering, notes: Notes | None = None
) -> int:
    """What the annotations call the first frame, by the rule of this file.

    Args:
        annotations: of one sequence, which count alike.
        frames: the sequence's.
        notes: receives what is unusual.

    Raises:
        SourceError: a frame does not exist, or two readings are possible.
    """
    given = [annotation for annotation in annotations if len(annotation.boxes)]
    if not given:
        return frames.first
    low = min(int(annotation.boxes.frames.min()) for annotation in given)
    high = max(int(annotation.boxes.frames.max()) for annotation in given)
    count = frames.count
    readings = {frames.first, 1} | ({0} if low == 0 else set())
    possible = sorted(start for start in readings if start <= low and high < start + count)
    if len(possible) > 1:
        raise SourceError(
            f"{given[0].where}: frames {low} to {high} may be those of the files, which begin at "
            f"{frames.first}, or count from 1, and nothing tells which; name the files from 000001 "
            "on, and number the frames in the annotations likewise"
        )
    if not possible:
        frames.refuse(given, likeliest(given, frames))
    start = possible[0]
    if notes is not None and start != frames.first:
        what = f"frames count from {start}, and the names of the files from {frames.first}"
        notes.said[what][frames.where] = count
    return start


def likeliest(given: Sequence[Annotation], frames: Numbering) -> int:
    """The first frame by the reading in which the fewest annotated frames do not exist."""
    numbers = np.concatenate([annotation.boxes.frames for annotation in given])
    return max(
        sorted({frames.first, 1}),
        key=lambda start: int(((numbers >= start) & (numbers < start + frames.count)).sum()),
    )


# Boxes


def placed(
    annotation: Annotation,
    first: int,
    size: tuple[int, int] | None,
    *,
    unique: bool,
) -> tuple[Boxes, dict[str, int]]:
    """The boxes of an annotation, with frames from 1 and pixels from the frame's corner.

    Args:
        annotation: as the file has it.
        first: what it calls the first frame; see `first_frame`.
        size: width and height of the frames; None where nobody knows.
        unique: whether an identity has one box in a frame, at most.

    Returns:
        the boxes in the order of their frames; reason -> how many were left out.

    Raises:
        SourceError: too many boxes have no area or lie outside, or an identity has two boxes in a
            frame.
    """
    boxes = annotation.boxes
    flat = boxes.ltwh[:, 2:].min(1, initial=np.inf) <= 0
    refuse_many(annotation, flat, "have no area; expected a width and a height above 0")
    outside = np.zeros(len(boxes), np.bool_)
    if size is not None:
        outside = ~flat & ~touches(boxes.ltwh, size)
        refuse_many(annotation, outside, f"lie outside the frame of {size[0]}×{size[1]} pixels")
        refuse_corners(annotation, size)
    kept = ~(flat | outside)
    if unique:
        again = repeated(boxes.frames, boxes.ids) & kept
        annotation.demand(~again, "a second box of one identity in one frame")
    boxes = replace(boxes, frames=boxes.frames - first + 1).select(kept)
    left_out = {
        "boxes without area": int(flat.sum()),
        "boxes outside the frame": int(outside.sum()),
    }
    return boxes.select(np.argsort(boxes.frames, kind="stable")), left_out


def refuse_many(annotation: Annotation, which: NDArray[np.bool_], fault: str) -> None:
    """Refuse boxes that cannot be meant, if they are more than a tenth of a file.

    Raises:
        SourceError: they are.
    """
    count, total = int(which.sum()), len(which)
    if count > max(1, total // MOST_LEFT_OUT):
        raise SourceError(
            f"{annotation.where}, {annotation.line(which)}: {count:,} of {total:,} boxes, this one "
            f"first, {fault}; up to one of {MOST_LEFT_OUT} is left out"
        )


def refuse_corners(annotation: Annotation, size: tuple[int, int]) -> None:
    """Refuse boxes that end where their size is expected.

    Raises:
        SourceError: they do.
    """
    starts, ends = annotation.boxes.ltwh[:, :2], annotation.boxes.ltwh[:, 2:]
    if len(starts) and (ends > starts).all():
        beyond = (starts + ends > np.array(size) * FAR_BEYOND).max(1)
        refuse_many(annotation, beyond, "reach far beyond the frame; expected left, top, width and "
                    "height, not right and bottom")  # fmt: skip


def touches(ltwh: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes have a part of a frame of a width and height in them: (N,)."""
    inside: NDArray[np.bool_] = (ltwh[:, :2] < np.array(size)) & (ltwh[:, :2] + ltwh[:, 2:] > 0)
    return np.logical_and(inside[:, 0], inside[:, 1])


def are_shares(annotation: Annotation) -> bool:
    """Whether boxes are shares of the frame's size and no pixels.

    Raises:
        SourceError: they are, and more of them reach beyond the frame than boxes do whose left and
            top are given: these may be centres.
    """
    sides = annotation.boxes.ltwh.copy()
    sides[:, :2] += annotation.origin  # as written
    if not len(sides) or sides[:, 2:].max() > 1 + SLACK or np.abs(sides).max() > FARTHEST_SHARE:
        return False
    if (sides == np.rint(sides)).all():
        return False
    beyond = (sides[:, :2] + sides[:, 2:]).max(1) > 1 + SLACK
    refuse_many(annotation, beyond, "are shares of the frame and reach beyond it; expected left, "
                "top, width and height, not a centre")  # fmt: skip
    return True


def in_pixels(annotation: Annotation, size: tuple[int, int] | None) -> Annotation:
    """An annotation whose boxes are shares of the frame, in pixels.

    Raises:
        SourceError: nobody knows the frame's size.
    """
    if size is None:
        raise SourceError(
            f"{annotation.where}: boxes are shares of a frame whose size is not known; write them "
            "in pixels"
        )
    shares = annotation.boxes.ltwh.copy()
    shares[:, :2] += annotation.origin
    return replace(annotation, boxes=replace(annotation.boxes, ltwh=shares * np.array(size * 2)))


def repeated(frames: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether an earlier box has the same frame and the same known identity, (N,)."""
    order = np.lexsort((ids, frames))  # stable: of two the later line is the second
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    result = np.zeros(len(frames), dtype=np.bool_)
    result[order[1:]] = same
    return result & (ids >= 0)
