"""MOTChallenge's tables of boxes, gt.txt and det.txt, whoever wrote them.

A line is a box: frame, identity, left, top, width, height and confidence, then in gt.txt the class
and the visible share where the file has 8 or 9 columns (Milan et al., "MOT16: A Benchmark for
Multi-Object Tracking", arXiv:1603.00831). What columns 8 to 10 of a gt.txt are where it has ten:

- MOT15's world coordinates, which are not used, where all are -1 or not all are whole numbers;
- VisDrone's category, truncation and occlusion, where these are whole numbers from 0 to 11, 0 to 1
  and 0 to 2, and category 0 (an ignored region) has the score 0;
- otherwise nobody can tell, and the file is refused. So it is where column 8 has whole numbers
  only, and column 9 shares: these may be a class and the visible share.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.video.annotation import Annotation
from deepsort_reid.data.video.sequence import PEDESTRIAN, Boxes
from deepsort_reid.data.video.tables import Columns, Table, numbers

COLUMNS = Columns(7, 10, "frame, identity, left, top, width, height, confidence")
UNSURE = -1.0  # what detectors without a confidence write
VISDRONE = Columns(
    10, 10, "frame, target, left, top, width, height, score, category, truncation, occlusion"
)
VISDRONE_NAMES = dict(
    enumerate(
        (
            "ignored region", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle",
            "awning-tricycle", "bus", "motor", "others",
        )
    )
)  # fmt: skip
# What is seen of an object, the middle of what VisDrone calls partly (1 to 50 %) and heavily (50 to
# 100 %) occluded
SEEN = np.array([1.0, 0.75, 0.25])


def read_boxes(data: bytes, where: str, *, truth: bool) -> Annotation:
    """Read a table of boxes.

    The file counts pixels from 1 (a box at the frame's corner has left and top 1), `Boxes` from 0.
    A class or a visible share of -1 means, as a missing column does, that it is unknown: the object
    counts as a pedestrian, and as seen whole.

    Args:
        data: the file's content; Windows' line ends, a byte order mark, spaces around numbers and
            blank lines at the end do no harm.
        where: the file's name in errors.
        truth: whether the file is gt.txt, with classes and visible shares.

    Raises:
        SourceError: it is no such table; the message has the number of the first wrong line.
    """
    table = numbers(data, where, COLUMNS)
    columns = table.values.shape[1] if truth else 0
    classes = np.full(len(table.values), PEDESTRIAN)
    visibility = np.ones(len(table.values))
    if columns in (8, 9):
        classes = table.whole(7, "class")
        classes[classes == -1] = PEDESTRIAN
    if columns == 9:
        visibility = np.where(table.values[:, 8] == -1, 1, table.values[:, 8])
        table.demand((visibility >= 0) & (visibility <= 1),
                     "column 9 is the visible share of the object; expected 0 to 1")  # fmt: skip
    names: dict[int, str] = {}
    if columns == 10 and are_visdrone(table):
        classes, visibility = visdrone_columns(table)
        names = VISDRONE_NAMES
    return replace(annotation(table, classes, visibility, origin=1), class_names=names)


def annotation(
    table: Table, classes: NDArray[np.int64], visibility: NDArray[np.float64], *, origin: int
) -> Annotation:
    """The boxes of a table whose first seven columns are MOTChallenge's."""
    ltwh = table.values[:, 2:6].copy()
    ltwh[:, :2] -= origin
    boxes = Boxes(
        table.whole(0, "frame"), table.whole(1, "identity"), ltwh, table.values[:, 6].copy(),
        classes, visibility,
    )  # fmt: skip
    lines = np.arange(1, len(boxes) + 1)
    return Annotation(boxes, table.where, lines, origin).checked()


def are_visdrone(table: Table) -> bool:
    """Whether columns 8 to 10 are VisDrone's; False if they are world coordinates.

    Raises:
        SourceError: nobody can tell; see the rule of this file.
    """
    three = table.values[:, 7:10]
    is_whole = three == np.rint(three)
    if (three == -1).all():
        return False
    if not is_whole.all():
        like_class = is_whole[:, 0].all() and ((three[:, 1] >= 0) & (three[:, 1] <= 1)).all()
        if not like_class:
            return False
    elif (
        (three >= 0).all()
        and (three <= (11, 1, 2)).all()
        and ((three[:, 0] > 0) | (table.values[:, 6] == 0)).all()
    ):
        return True
    raise SourceError(
        f"{table.where}, line 1: columns 8 to 10 are neither MOT15's world coordinates (-1, or not "
        "all whole numbers) nor VisDrone's category, truncation and occlusion; write nine columns, "
        "with the class (dataset.mot.classes) as the eighth and the visible share as the ninth"
    )


def visdrone_columns(table: Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Category and visible share by columns 8 and 10 of a table of VisDrone's.

    Raises:
        SourceError: a category or an occlusion is none.
    """
    classes, occlusion = table.whole(7, "category"), table.whole(9, "occlusion")
    table.demand((classes >= 0) & (classes <= 11), "column 8 is the category; expected 0 to 11")
    table.demand((occlusion >= 0) & (occlusion <= 2),
                 "column 10 is the occlusion; expected 0, 1 or 2")  # fmt: skip
    return classes, SEEN[occlusion]


# Detections


def is_without_confidence(boxes: Boxes) -> bool:
    """Whether all detections have one confidence, which then says nothing of any of them."""
    if not len(boxes):
        return False
    first = boxes.confidences[0]
    return bool((boxes.confidences == first).all() and (first == UNSURE or len(boxes) > 1))


def with_confidence(boxes: Boxes) -> Boxes:
    """Detections whose confidence is unknown, as if they were sure."""
    return replace(boxes, confidences=np.ones(len(boxes)))
