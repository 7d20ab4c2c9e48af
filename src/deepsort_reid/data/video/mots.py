"""Masks as MOTS has them in text, and the boxes around them.

A line is `frame id class height width rle`, between spaces (Voigtlaender et al., "MOTS:
Multi-Object Tracking and Segmentation", CVPR 2019). Classes are 1 car, 2 pedestrian, 10 a region to
be ignored. The RLE is COCO's compressed one: the lengths of runs of pixels outside and inside, down
the columns, each in groups of five bits, those after the third as differences from the one before
the last.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.video.annotation import Annotation, of_rows
from deepsort_reid.data.video.sequence import REGION
from deepsort_reid.data.video.tables import decoded, whole, whole_lines

CLASSES = {1: "car", 2: "pedestrian"}
IGNORED = 10  # the class of regions that nobody has annotated
NAMES = "frame, id, class, height, width, rle"
MAX_SIDE = 20_000  # pixels
MAX_MASK = 1 << 20  # characters of a line
BITS, MORE, NEGATIVE, LOW = 5, 0x20, 0x10, 0x1F  # of a character, after 48 is subtracted


def are_masks(data: bytes) -> bool:
    """Whether the first line of a table is a mask: six fields between spaces, and no comma."""
    fields = data[: MAX_MASK + 1].partition(b"\n")[0].split()
    return len(fields) == 6 and all(field.isdigit() for field in fields[:5])


def read_masks(data: bytes, where: str) -> Annotation:
    """The boxes around the masks of a table, and regions to be ignored.

    Raises:
        SourceError: a line is no mask.
    """
    text = decoded(data, where)
    rows: list[tuple[float, ...]] = []
    for number, line in whole_lines(text, where, NAMES, MAX_MASK):
        here = f"{where}, line {number}"
        fields = line.split()
        if len(fields) != 6:
            raise SourceError(f"{here}: {len(fields)} fields between spaces; expected 6: {NAMES}")
        frame, identity, kind, height, width = (
            whole(field, what, here)
            for field, what in zip(fields[:5], NAMES.split(", "), strict=False)
        )
        box = box_of(fields[5], height, width, here)
        ignored = kind == IGNORED
        rows.append((number, frame, -1 if ignored else identity, *box, not ignored,
                     REGION if ignored else kind, 1))  # fmt: skip
    return replace(of_rows(rows, where), class_names=CLASSES)


def box_of(rle: str, height: int, width: int, where: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of the box around a mask; no area if it has no pixel.

    Raises:
        SourceError: the mask is none of an image of that size.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise SourceError(f"{where}: a mask of {width}×{height} pixels; expected a frame's size")
    runs = lengths(rle, where)
    if runs.sum() != height * width:
        raise SourceError(f"{where}: the mask has not {width}×{height} pixels; expected COCO's RLE")
    ends = np.cumsum(runs)
    starts, stops = ends[0::2][: len(ends[1::2])], ends[1::2]  # of runs inside
    inside = stops > starts
    if not inside.any():
        return 0.0, 0.0, 0.0, 0.0
    starts, stops = starts[inside], stops[inside] - 1  # the last pixel
    left, right = starts[0] // height, stops[-1] // height
    several = starts // height != stops // height  # columns: the run reaches top and bottom
    top = 0 if several.any() else (starts % height).min()
    bottom = height - 1 if several.any() else (stops % height).max()
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def lengths(rle: str, where: str) -> NDArray[np.int64]:
    """The lengths of a compressed RLE's runs.

    Raises:
        SourceError: it is none.
    """
    found: list[int] = []
    value = shift = 0
    for character in rle:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 8 * BITS:
            raise SourceError(f"{where}: the mask is no RLE as COCO compresses it")
        value |= (code & LOW) << shift
        shift += BITS
        if code & MORE:
            continue
        if code & NEGATIVE:
            value -= 1 << shift
        if len(found) > 2:
            value += found[-2]
        if not 0 <= value <= MAX_SIDE**2:
            raise SourceError(f"{where}: the mask has a run of {value} pixels; expected COCO's RLE")
        found.append(value)
        value = shift = 0
    if shift:
        raise SourceError(f"{where}: the mask ends within a number; expected COCO's RLE")
    return np.array(found, np.int64)
