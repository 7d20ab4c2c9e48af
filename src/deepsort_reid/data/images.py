"""One image: from the bytes of a file to upright RGB pixels, and those to the network's size."""

import io
from functools import cache
from pathlib import PurePosixPath
from types import ModuleType
from typing import cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deepsort_reid.core.errors import one_line
from deepsort_reid.data.packed import Images

SUFFIXES = """
    .jpg .jpeg .jpe .jfif .png .apng .gif .bmp .dib .webp .avif .tif .tiff .ppm .pgm .pbm .pnm
    .heic .heif
"""
IMAGE_SUFFIXES = frozenset(SUFFIXES.split())
MAX_PIXELS = 25_000_000  # a crop has thousands, a frame millions; more is damaged or an attack
# No others: of PostScript, which any file may hold whatever its name, Pillow would run the program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
JPEG = b"\xff\xd8\xff"  # how a file begins
# APP1 (EXIF, XMP), APP2 (several pictures), APP13 (Photoshop), APP14 (Adobe's colours)
READ_BY_PILLOW = (b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xee")
SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}  # Pillow's modes of 16-bit grey


def resized(image: Images, image_size: tuple[int, int]) -> Images:
    """Resize an image bilinearly, in training and in use alike.

    Args:
        image: (H, W, 3) uint8; returned as it is if it has the right size.
        image_size: height and width in pixels.
    """
    if image.shape[:2] == image_size:
        return image
    height, width = image_size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def open_image(data: bytes) -> Images | str:
    """Decode one image to RGB, upright, or say in a few words why that is impossible.

    Returns:
        (H, W, 3) uint8, or the reason.
    """
    if not data:
        return "the file is empty"
    image = decode_plain_jpeg(data)
    return open_by_pillow(data) if image is None else image


def decode_plain_jpeg(data: bytes) -> Images | None:
    """Decode a JPEG to the pixels that Pillow makes of it, in half the time.

    Returns:
        (H, W, 3) RGB; None where Pillow must decide: if the data is no JPEG or damaged, has too
        many pixels or other colours, or holds what could turn the image or change its colours.
    """
    if not data.startswith(JPEG) or any(marker in data for marker in READ_BY_PILLOW):
        return None
    simplejpeg = fast_decoder()
    if simplejpeg is None:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        image: Images = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return image


@cache
def fast_decoder() -> ModuleType | None:
    """The package simplejpeg, if it is installed: Pillow gives the same pixels, more slowly."""
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return None
    return cast("ModuleType", simplejpeg)


def is_image(name: str) -> bool:
    """Whether a member of an archive is an image by its name, and not hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def is_image_data(data: bytes) -> bool:
    """Whether bytes begin as an image of one of the `FORMATS` does; it may still be damaged."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return True
    except Exception:  # a decoder may fail in any way on bytes that are not its own
        return False


def open_by_pillow(data: bytes) -> Images | str:
    """Decode an image of any of the `FORMATS`; see `open_image`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width}×{image.height} pixels are too many; {MAX_PIXELS:,} at most"
            check_png(image, data)
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(as_rgb(image))
    except UnidentifiedImageError:
        return f"no image of a known format ({', '.join(FORMATS)})"
    except Exception as error:  # a decoder may fail in any way on bytes that are not its own
        return one_line(f"{type(error).__name__}: {error}").removesuffix(".")


def check_png(image: Image.Image, data: bytes) -> None:
    """Compare a PNG with its checksums, which Pillow ignores when it decodes one.

    Raises:
        SyntaxError: a chunk is damaged.
    """
    if image.format == "PNG":
        with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
            again.verify()


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an image of any mode into 8-bit RGB: transparency is dropped, of 16 bits the lower 8.

    Raises:
        ValueError: its greys have 32 bits, and nothing says which one is white.
    """
    if image.mode in SIXTEEN_BITS:  # Pillow would take everything above 255 for white
        greys = np.asarray(image, dtype=np.uint16) >> 8
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit greys; expected 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")
