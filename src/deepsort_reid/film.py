"""The frames of a sequence, decoded out of its archive one at a time."""

import io
from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deepsort_reid.archive import Archive
from deepsort_reid.errors import DatasetError, one_line

MAX_PIXELS = 1 << 26  # of a frame: more than 8K has
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")

Frame = NDArray[np.uint8]  # (H, W, 3) RGB


def read(archive: Archive, names: Sequence[str]) -> Generator[tuple[str, Frame], None, None]:
    """Yield each of the named images, decoded, in the archive's order.

    Raises:
        DatasetError: one cannot be decoded.
        SourceError: the archive is damaged.
    """
    with closing(archive.read(names)) as members:
        for name, data in members:
            yield name, decode(data, f"{archive.label}: {name}")


def in_order(archive: Archive, names: Sequence[str]) -> Generator[Frame, None, None]:
    """Yield the named images in the order of `names`, of which there may be one twice.

    A frame that comes too early is kept until it is due; in archives that are sorted none is.

    Raises:
        DatasetError, SourceError: as in `read`.
    """
    early: dict[str, Frame] = {}
    left = {name: names.count(name) for name in names}
    due = 0
    with closing(read(archive, names)) as found:
        for name, frame in found:
            early[name] = frame
            while due < len(names) and names[due] in early:
                yield early[names[due]]
                left[names[due]] -= 1
                if not left[names[due]]:
                    del early[names[due]]
                due += 1


def decode(data: bytes, label: str) -> Frame:
    """Decode one image.

    Args:
        data: its bytes.
        label: what to call it in errors.

    Raises:
        DatasetError: it is no image, damaged, or larger than a frame of a video is.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{label}: {image.width}×{image.height} pixels are too many for a frame; "
                    "take the sequence out or make its frames smaller"
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except DatasetError:
        raise
    except Exception as error:  # a decoder may fail in any way on bytes that are not its own
        why = one_line(f"{type(error).__name__}: {error}").removesuffix(".")
        raise DatasetError(
            f"{label}: not an image that can be read ({why}); replace it or take the sequence out"
        ) from None
