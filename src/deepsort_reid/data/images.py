"""One image: from the bytes of a file to upright RGB pixels, and those to the network's size."""

import io
from functools import cache
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from deepsort_reid.core.errors import one_line
from deepsort_reid.data.packed import Images

Values = npt.NDArray[Any]
SUFFIXES = """
    .jpg .jpeg .jpe .jfif .png .apng .gif .bmp .dib .webp .avif .tif .tiff .ppm .pgm .pbm .pnm
    .heic .heif .hif .jp2 .j2k .jpx .qoi .mpo
"""
IMAGE_SUFFIXES = frozenset(SUFFIXES.split())
# Files of these kinds are no images, whatever they begin with; the others are looked into.
OTHERS = """
    .txt .csv .tsv .json .jsonl .xml .yaml .yml .ini .cfg .md .rst .html .htm .pdf .log .mat .npy
    .npz .pkl .pickle .pth .pt .h5 .hdf5 .lmdb .mdb .db .sqlite .py .m .sh .ipynb .mp4 .avi .mov
    .mkv .webm .wmv .m4v .mpg .mpeg .zip .tar .gz .tgz .bz2 .xz .7z .rar
"""
OTHER_SUFFIXES = frozenset(OTHERS.split())
LARGEST_FILE = 64 << 20  # bytes; what is larger is looked into only if its name says it is an image
ORIENTATION, TURNED = 0x0112, range(5, 9)  # EXIF: values by which width and height change places
MAX_PIXELS = 25_000_000  # a crop has thousands, a frame millions; more is damaged or an attack
# No others: of PostScript, which any file may hold whatever its name, Pillow would run the program,
# and formats without a beginning of their own would be seen in any file.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "QOI")
JPEG = b"\xff\xd8\xff"  # how a file begins
# APP1 (EXIF, XMP), APP2 (several pictures), APP13 (Photoshop), APP14 (Adobe's colours)
READ_BY_PILLOW = (b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xee")
HEIF = "HEIF"  # Pillow's name of HEIC, of which a package of its own has the decoder
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}  # Pillow's modes of 16-bit grey
OTHER_ORDER = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B",
               "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "RGBA;16N": "RGBA;16B"}  # fmt: skip
NEARLY_EMPTY = 1 << 12  # values of 65,536; a narrower range would be left with fewer than 16 shades
OUTLIERS = 1000  # one value in so many may lie beyond the range, at either end


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


def is_image_file(path: Path) -> bool:
    """Whether a file is an image: by its suffix, or by its content if that says nothing."""
    if not path.is_file() or is_image(path.name):
        return path.is_file()
    if path.name.startswith(".") or path.suffix.lower() in OTHER_SUFFIXES:
        return False
    return path.stat().st_size <= LARGEST_FILE and is_image_data(path.read_bytes())


def is_image_data(data: bytes) -> bool:
    """Whether bytes begin as one of the `FORMATS` or HEIC does; the image may be damaged."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return True
    except Exception:  # a decoder may fail in any way on bytes that are not its own
        return is_heif(data)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels that an image says it has, upright; None if it is unreadable."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION) in TURNED
    except Exception:  # a decoder may fail in any way; the stage that decodes it names it
        return None
    return (height, width) if turned else (width, height)


def is_heif(data: bytes) -> bool:
    """Whether bytes begin as HEIC does, the images of telephones."""
    size = int.from_bytes(data[:4])  # of the first box, which lists the brands
    brands = data[8 : min(size, 64)]
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS and b"avif" not in brands


@cache
def heif_is_known() -> bool:
    """Whether Pillow can decode HEIC, which it learns from the package pillow-heif."""
    try:
        import pillow_heif
    except ModuleNotFoundError:
        return False
    pillow_heif.register_heif_opener()
    return True


def open_by_pillow(data: bytes) -> Images | str:
    """Decode an image of any of the `FORMATS`, of several the first; see `open_image`."""
    formats: tuple[str, ...] = FORMATS
    if is_heif(data):
        if not heif_is_known():
            return "HEIC needs the package pillow-heif; `uv sync --extra heic` installs it"
        formats = (HEIF,)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width}×{image.height} pixels are too many; {MAX_PIXELS:,} at most"
            check_png(image, data)
            stored = raw_mode(image)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = as_rgb(image)
        if stored in OTHER_ORDER and is_nearly_empty(pixels.astype(np.uint16) << 8):
            return open_deep_colours(data, pixels, OTHER_ORDER[stored])
        if is_cut_to_8_bits(stored) and pixels.max() < NEARLY_EMPTY >> 8:
            return "16 bits of which 8 are left black; convert it to 8 bits"
    except UnidentifiedImageError:
        if formats == (HEIF,):
            return "a damaged HEIC"
        return f"no image of a known format ({', '.join((*FORMATS, 'HEIC'))})"
    except Exception as error:  # a decoder may fail in any way on bytes that are not its own
        return one_line(f"{type(error).__name__}: {error}").removesuffix(".")
    return pixels


def check_png(image: Image.Image, data: bytes) -> None:
    """Compare a PNG with its checksums, which Pillow ignores when it decodes one.

    Raises:
        SyntaxError: a chunk is damaged.
    """
    if image.format == "PNG":
        with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
            again.verify()


def as_rgb(image: Image.Image) -> Images:
    """Turn an image of any mode into 8-bit RGB, (H, W, 3): transparency is dropped.

    Greys of more than 8 bits follow the rule of `shades`.

    Raises:
        ValueError: its greys have 32 bits, and nothing says which one is white.
    """
    if image.mode in SIXTEEN_BITS:  # Pillow would take everything above 255 for white
        image = Image.fromarray(shades(np.asarray(image, dtype=np.uint16)))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(shades(to_sixteen_bits(np.asarray(image))))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How an image that is not decoded yet stores a pixel, as Pillow calls it; '' if unknown."""
    arguments = image.tile[0].args if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def is_cut_to_8_bits(stored: str) -> bool:
    """Whether Pillow keeps 8 bits of values of 16; see `raw_mode`."""
    return stored.endswith((";16B", ";16L", ";16N")) and not stored.startswith("I;")


def open_deep_colours(data: bytes, upper: Images, order: str) -> Images:
    """Decode colours of 16 bits, of which the upper 8 tell next to nothing.

    Pillow keeps those alone. Told that the bytes stand in the other order, it keeps the lower ones.

    Args:
        data: the file.
        upper: (H, W, 3), what Pillow keeps.
        order: the other order of the bytes, as Pillow calls it.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        tile = image.tile[0]
        arguments = (order, *tile.args[1:]) if isinstance(tile.args, tuple) else order
        image.tile = [tile._replace(args=arguments), *image.tile[1:]]
        ImageOps.exif_transpose(image, in_place=True)
        lower = as_rgb(image)
    return shades((upper.astype(np.uint16) << 8) | lower)


def to_sixteen_bits(greys: Values) -> Values:
    """Greys of 32 bits as 16-bit ones: floats from 0 to 1, or whole numbers that fit as they are.

    Raises:
        ValueError: they are neither.
    """
    least, greatest = greys.min(), greys.max()
    if greys.dtype.kind == "f" and least >= 0 and greatest <= 1:
        return (greys * 65535).round().astype(np.uint16)
    if least >= 0 and greatest <= 65535 and (greys == greys.round()).all():
        return greys.astype(np.uint16)
    raise ValueError(
        f"32-bit greys from {least:g} to {greatest:g}, and nothing says which one is white; "
        "expected 0 to 1, or whole numbers up to 65,535: convert them"
    )


def shades(values: Values) -> Images:
    """Reduce 16 bits to 8, so that something is seen.

    Values of a wide range lose their lower 8 bits. Values that fit into 8 bits are shades already.
    A range of less than a sixteenth of all, as thermal cameras and sensors of 12 bits have it, is
    stretched from black to white, image by image, as such cameras do for a display: an image
    gives the same bytes in whatever company it comes.

    Args:
        values: of uint16, any shape; all channels of an image together.
    """
    if values.max() <= 255:
        return values.astype(np.uint8)
    least, greatest = value_range(values)
    span = greatest - least
    if not 0 < span < NEARLY_EMPTY:
        return (values >> 8).astype(np.uint8)
    above = values.clip(least, greatest).astype(np.int64) - least
    return ((above * 255 + span // 2) // span).astype(np.uint8)


def is_nearly_empty(values: Values) -> bool:
    """Whether so few values are used that 8 bits would be left with fewer than 16 shades."""
    least, greatest = value_range(values)
    return greatest - least <= NEARLY_EMPTY


def value_range(values: Values) -> tuple[int, int]:
    """The least and the greatest value, but for a few: dead pixels of a sensor say nothing."""
    flat = values.reshape(-1)
    few = len(flat) // OUTLIERS
    ordered = np.partition(flat, (few, len(flat) - 1 - few))
    return int(ordered[few]), int(ordered[-1 - few])
