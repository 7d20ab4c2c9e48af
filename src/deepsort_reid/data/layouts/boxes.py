"""Boxes that a table gives in another form than left, top, width and height in pixels."""

import io
from collections.abc import Collection, Iterable, Mapping, Sequence

from PIL import Image

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files

Box = tuple[float, float, float, float]

# Columns that together are a box -> what to make of them.
OTHERS = {
    ("x", "y", "w", "h"): "rename them to left, top, width, height",
    ("x", "y", "width", "height"): "rename x and y to left and top",
    ("x1", "y1", "x2", "y2"): "make left, top, width = x2 - x1 and height = y2 - y1 of them",
    ("xmin", "ymin", "xmax", "ymax"): "make left, top, width = xmax - xmin, height = ymax - ymin",
    ("left", "top", "right", "bottom"): "make width = right - left and height = bottom - top",
}
LOOKED_AT = 64  # images whose sizes are compared with their boxes
BEYOND = 1.05  # boxes of annotators reach a little beyond their image


def refuse_other_columns(header: Sequence[str], where: str) -> None:
    """Refuse four columns that are a box under other names, which would be passed over.

    Raises:
        DatasetError: there are such columns, and no box.
    """
    words = {name.lower().replace("_", "").removeprefix("bbox") for name in header}
    for columns, remedy in OTHERS.items():
        if words.issuperset(columns) and "box" not in header:
            raise DatasetError(
                f"{where}: the columns {', '.join(columns)} seem to be a box; {remedy}, or give "
                "them other names"
            )


def refuse_other_forms(boxes: Mapping[str, tuple[str, Box]], files: Files) -> None:
    """Refuse boxes that are shares of the image, and those that hold right and bottom.

    Args:
        boxes: what is unique to a crop -> its image and its box.
        files: the images.

    Raises:
        DatasetError: all boxes are so.
    """
    if not boxes:
        return
    sides = [box for _, box in boxes.values()]
    if all(max(box) <= 1 for box in sides):
        raise DatasetError(
            f"the box of '{next(iter(boxes))}', as all others, has no side above 1; expected "
            "pixels: multiply shares by the image's width and height"
        )
    if all(0 <= box[0] < box[2] and 0 <= box[1] < box[3] for box in sides):
        refuse_corners(boxes, sizes(files, sorted({member for member, _ in boxes.values()})))


def refuse_corners(boxes: Mapping[str, tuple[str, Box]], sizes: Mapping[str, Box]) -> None:
    """Refuse boxes that reach out of their images, and would not if they held right and bottom.

    Args:
        boxes: as `refuse_other_forms` has them; all could be corners.
        sizes: of some images: 0, 0, width and height in pixels.

    Raises:
        DatasetError: there is one.
    """
    known = [(name, sizes[member], box) for name, (member, box) in boxes.items() if member in sizes]
    if any(reaches_out(box, size) for _, size, box in known):
        return
    for name, size, (left, top, width, height) in known:
        if reaches_out((0, 0, left + width, top + height), size):
            raise DatasetError(
                f"the box of '{name}' reaches out of its image of {size[2]:g} × {size[3]:g} "
                "pixels, and all boxes fit as left, top, right, bottom; expected left, top, width, "
                "height: subtract left from right and top from bottom"
            )


def reaches_out(corners: Box, size: Box) -> bool:
    """Whether right or bottom lie beyond an image, by more than annotators are off."""
    return corners[2] > size[2] * BEYOND or corners[3] > size[3] * BEYOND


def sizes(files: Files, members: Collection[str]) -> dict[str, Box]:
    """The sizes of some images, at equal distances among all, as far as they can be read."""
    step = max(1, len(members) // LOOKED_AT)
    return dict(read_sizes(files.archive.read(list(members)[::step])))


def read_sizes(images: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, Box]]:
    """Yield the size of each image that can be read; nothing is decoded."""
    for name, data in images:
        try:
            with Image.open(io.BytesIO(data)) as image:
                yield name, (0, 0, image.width, image.height)
        except Exception:  # noqa: S112 - it is unreadable, which is said when it is decoded
            continue
