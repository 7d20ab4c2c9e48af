"""Boxes that a table gives in another form than left, top, width and height in pixels."""

from collections.abc import Collection, Mapping, Sequence

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.images import size_of
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


def refuse_corners(
    boxes: Mapping[str, tuple[str, Box]], sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Refuse boxes that reach out of their images, and would not if they held right and bottom.

    Args:
        boxes: as `refuse_other_forms` has them; all could be corners.
        sizes: of some images: width and height in pixels.

    Raises:
        DatasetError: there is one.
    """
    known = [(name, sizes[member], box) for name, (member, box) in boxes.items() if member in sizes]
    if any(reaches_out(right, bottom, size) for _, size, (_, _, right, bottom) in known):
        return
    for name, size, (left, top, width, height) in known:
        if reaches_out(left + width, top + height, size):
            raise DatasetError(
                f"the box of '{name}' reaches out of its image of {size[0]} × {size[1]} "
                "pixels, and all boxes fit as left, top, right, bottom; expected left, top, width, "
                "height: subtract left from right and top from bottom"
            )


def reaches_out(right: float, bottom: float, size: tuple[int, int]) -> bool:
    """Whether right or bottom lie beyond an image, by more than annotators are off."""
    return right > size[0] * BEYOND or bottom > size[1] * BEYOND


def sizes(files: Files, members: Collection[str]) -> dict[str, tuple[int, int]]:
    """Width and height of some images, at equal distances among all, as far as they can be read."""
    step = max(1, len(members) // LOOKED_AT)
    read = ((name, size_of(data)) for name, data in files.archive.read(list(members)[::step]))
    return {name: size for name, size in read if size is not None}
