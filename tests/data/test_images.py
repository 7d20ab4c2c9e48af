"""One image's bytes become the pixels that Pillow gives, or a reason why they cannot."""

import io
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.data import images
from deepsort_reid.data.packed import Images
from tests.support.datasets import picture


def decoded(data: bytes, size: tuple[int, int]) -> Images | str:
    """An image as stage split packs it."""
    image = images.open_image(data)
    return image if isinstance(image, str) else images.resized(image, size)


def test_images_of_every_kind_become_rgb_of_one_size() -> None:
    for mode, shade in [("L", 77), ("RGBA", (1, 2, 3, 128)), ("P", 3), ("CMYK", (0, 0, 0, 0))]:
        kind = "tiff" if mode == "CMYK" else "png"
        image = decoded(picture(shade, (50, 20), kind, mode=mode), (32, 16))
        assert not isinstance(image, str)
        assert (image.shape, image.dtype) == ((32, 16, 3), np.uint8)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    sideways = Image.new("RGB", (32, 16), "red")
    sideways.paste("blue", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: top is right
    file = io.BytesIO()
    sideways.save(file, "png", exif=exif)
    image = decoded(file.getvalue(), (32, 16))
    assert not isinstance(image, str)
    assert image[0, 0].tolist() == [0, 0, 255]
    assert image[-1, 0].tolist() == [255, 0, 0]


def encoded(image: Any, kind: str, **how: Any) -> bytes:
    """A file of an array or of an image."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **how)
    return file.getvalue()


def deep_png(values: Any) -> bytes:
    """A PNG of 16 bits a value, (H, W, 1 to 4), which Pillow does not write in colour."""
    height, width, channels = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", head), (b"IDAT", compress(rows)), (b"IEND", b""))
    )


def deep_tiff(values: Any, order: str) -> bytes:
    """A TIFF of 16-bit RGB, (H, W, 3), of either order of bytes."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    directory, tags = 8 + len(data), 9
    bits = directory + 2 + 12 * tags + 4
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 4, 1, 1),
               (262, 4, 1, 2), (273, 4, 1, 8), (277, 4, 1, 3), (278, 4, 1, height),
               (279, 4, 1, len(data))]  # fmt: skip
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", directory)
    listed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    rest = struct.pack(f"{order}H", tags) + listed + struct.pack(f"{order}I3H", 0, 16, 16, 16)
    return head + data + rest


def ramp(least: int, greatest: int, *shape: int) -> Any:
    """Values of 16 bits from the least to the greatest."""
    return np.linspace(least, greatest, int(np.prod(shape))).astype(np.uint16).reshape(shape)


def stretched(values: Any, least: int, greatest: int) -> Any:
    """Shades by the rule, in exact fractions."""
    shades = (values.astype(float).clip(least, greatest) - least) * 255 / (greatest - least)
    return np.floor(shades + 0.5)


def as_read(data: bytes) -> Images:
    image = images.open_image(data)
    assert not isinstance(image, str), image
    assert image.dtype == np.uint8
    return image


def test_greys_of_16_bits_keep_their_upper_8() -> None:
    greys = ramp(0, 65535, 32, 16)
    for data in (encoded(greys, "png"), encoded(greys, "tiff"), encoded(greys, "jpeg2000")):
        assert (as_read(data) == (greys >> 8)[..., None]).all()


@pytest.mark.parametrize(
    ("least", "greatest"), [(1800, 4000), (0, 4095), (7000, 8000), (29_000, 31_500), (300, 310)]
)
def test_a_nearly_empty_range_of_16_bits_is_stretched(least: int, greatest: int) -> None:
    greys = ramp(least, greatest, 30, 20)  # of so few pixels, none is an outlier
    expected = stretched(greys, least, greatest)[..., None]
    for data in (encoded(greys, "png"), encoded(greys, "tiff"), deep_png(greys[..., None])):
        assert (as_read(data) == expected).all()
    assert expected.min() == 0
    assert expected.max() == 255


def test_dead_pixels_do_not_count_as_range() -> None:
    greys = ramp(1800, 4000, 64, 64)
    greys[5, 5], greys[9, 9] = 0, 65535
    image = as_read(encoded(greys, "png"))
    assert image[5, 5, 0] == 0
    assert image[9, 9, 0] == 255
    assert len(np.unique(image)) == 256


def test_16_bits_that_hold_8_are_as_they_are() -> None:
    greys = ramp(0, 255, 32, 16)
    assert (as_read(encoded(greys, "png")) == greys[..., None]).all()


def test_one_grey_of_16_bits_has_nothing_to_stretch() -> None:
    assert (as_read(encoded(np.full((9, 9), 3000, np.uint16), "png")) == 3000 >> 8).all()


@pytest.mark.parametrize("form", ["png", "png with alpha", "tiff", "tiff of the other order"])
def test_colours_of_16_bits_follow_the_same_rule(form: str) -> None:
    for least, greatest in ((0, 65535), (1800, 4000)):
        values = ramp(least, greatest, 10, 8, 4 if form == "png with alpha" else 3)
        data = deep_tiff(values, "<>"[form != "tiff"]) if "tiff" in form else deep_png(values)
        colours = values[..., :3]
        whole = greatest == 65535
        expected = colours >> 8 if whole else stretched(colours, colours.min(), colours.max())
        assert (as_read(data) == expected).all()


def test_grey_and_alpha_of_16_bits_are_never_left_black() -> None:
    assert (as_read(deep_png(ramp(0, 65535, 9, 9, 2)))[..., 0] < 256).all()
    dark = images.open_image(deep_png(ramp(1800, 4000, 9, 9, 2)))
    assert dark == "16 bits of which 8 are left black; convert it to 8 bits"


def test_greys_of_32_bits_are_read_where_white_is_known() -> None:
    greys = ramp(0, 65535, 32, 16)
    for values in (greys.astype(np.int32), greys.astype(np.float32), greys / np.float32(65535)):
        assert (as_read(encoded(values, "tiff")) == (greys >> 8)[..., None]).all()
    eight = ramp(0, 255, 32, 16)
    assert (as_read(encoded(eight.astype(np.float32), "tiff")) == eight[..., None]).all()


@pytest.mark.parametrize(
    ("least", "greatest"), [(20.5, 37.25), (-1.0, 1.0), (0.0, np.nan), (0.0, 1e6)]
)
def test_greys_of_32_bits_without_a_white_are_refused(least: float, greatest: float) -> None:
    values = np.full((4, 4), least, np.float32)
    values[0, 0] = greatest
    reason = images.open_image(encoded(values, "tiff"))
    assert isinstance(reason, str)
    assert "32-bit greys from " in reason
    assert "expected 0 to 1, or whole numbers up to 65,535" in reason


FIRST_OF_SEVERAL = ("gif", "webp", "png", "tiff", "avif", "mpo")


@pytest.mark.parametrize("kind", FIRST_OF_SEVERAL)
def test_of_several_pictures_the_first_is_read(kind: str) -> None:
    red, blue = (Image.new("RGB", (20, 30), colour) for colour in ("red", "blue"))
    data = encoded(red, kind, save_all=True, append_images=[blue])
    assert abs(as_read(data)[10, 10].astype(int) - [255, 0, 0]).max() < 6


@pytest.mark.parametrize(
    "kind", ["avif", "jpeg2000", "qoi", "ppm", "bmp", "dib", *FIRST_OF_SEVERAL]
)
def test_an_image_is_known_by_its_content(kind: str) -> None:
    data = encoded(Image.new("RGB", (20, 30), "red"), kind.replace("dib", "bmp"))
    assert images.is_image_data(data)
    assert as_read(data).shape == (30, 20, 3)


def test_what_is_no_image_is_none() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file closefile\n"
    for data in (script, b"0 0 1 1\n", b"a,b\n", b"\n\5", b"P1,3", b"\0" * 99, b"(\0\0\0"):
        assert not images.is_image_data(data)
        assert "no image of a known format (JPEG, " in str(images.open_image(data))


def test_files_are_known_by_suffix_else_by_content(tmp_path: Path) -> None:
    data = picture(9)
    for name in ("a.jpg", "b", "c.photo", ".d", "e.txt"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "f.photo").write_bytes(b"a text")
    (tmp_path / "g.jpg").mkdir()
    found = [path.name for path in sorted(tmp_path.iterdir()) if images.is_image_file(path)]
    assert found == ["a.jpg", "b", "c.photo"]


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "heif_is_known", lambda: False)
    assert images.is_image_data(HEIC)
    assert images.open_image(HEIC) == (
        "HEIC needs the package pillow-heif; `uv sync --extra heic` installs it"
    )


def test_heic_is_read_with_the_package() -> None:
    package = pytest.importorskip("pillow_heif")
    package.register_heif_opener()
    image = as_read(encoded(Image.new("RGB", (64, 48), "red"), "heif"))
    assert image.shape == (48, 64, 3)
    assert abs(image[10, 10].astype(int) - [255, 0, 0]).max() < 6
    assert images.open_image(HEIC) == "a damaged HEIC"


def test_a_png_is_read_against_its_checksums() -> None:
    data = bytearray(picture(100))
    data[data.index(b"IDAT") + 12] ^= 1
    assert isinstance(decoded(bytes(data), (32, 16)), str)


def photograph(width: int, height: int, mode: str = "RGB", **how: Any) -> bytes:
    """A JPEG of smooth noise."""
    draw = np.random.default_rng(width * height)
    coarse = draw.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert(mode).save(file, "jpeg", **how)
    return file.getvalue()


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PLAIN = {
    "crop": photograph(64, 128),
    "one pixel": photograph(1, 1),
    "odd size": photograph(37, 83, quality=95),
    "grey": photograph(64, 128, "L"),
    "progressive": photograph(40, 90, progressive=True),
    "full colour": photograph(33, 65, subsampling=0, optimize=True),
    "half colour": photograph(47, 70, subsampling=1, comment=b"of noise"),
    "restarts": photograph(64, 64, restart_marker_rows=1),
    "bad quality": photograph(64, 128, quality=3),
}
FOR_PILLOW = {
    "four colours": photograph(64, 128, "CMYK"),
    "not YCbCr": photograph(64, 128, keep_rgb=True, subsampling=0),
    "turned by EXIF": photograph(64, 128, exif=sideways()),
    "turned by XMP": photograph(64, 128, xmp=b'<x tiff:Orientation="6"/>'),
    "profile": photograph(64, 128, icc_profile=b"of colours"),
    "cut short": PLAIN["crop"][:-40],
    "PNG": picture(5),
}


def same(one: Any, other: Any) -> bool:
    """Whether two images, or what is said of them, are alike."""
    return type(one) is type(other) and np.array_equal(one, other)


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_jpeg_has_the_pixels_that_pillow_gives(case: str) -> None:
    image = images.decode_plain_jpeg(PLAIN[case])
    assert image is not None
    assert same(image, images.open_by_pillow(PLAIN[case]))


@pytest.mark.parametrize("case", FOR_PILLOW)
def test_what_is_no_plain_jpeg_is_left_to_pillow(case: str) -> None:
    assert images.decode_plain_jpeg(FOR_PILLOW[case]) is None
    assert same(images.open_image(FOR_PILLOW[case]), images.open_by_pillow(FOR_PILLOW[case]))


def test_a_plain_jpeg_of_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    assert images.open_image(PLAIN["crop"]) == "64×128 pixels are too many; 100 at most"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_a_damaged_jpeg_is_what_pillow_makes_of_it() -> None:
    chance, seen = random.Random(0), Counter[bool]()
    whole = [*PLAIN.values(), *(data for case, data in FOR_PILLOW.items() if case != "PNG")]
    for number in range(1500):
        data = bytearray(whole[number % len(whole)])
        if number % 4 == 0:
            del data[chance.randrange(2, len(data)) :]
        else:
            reach = len(data) if number % 4 == 1 else min(len(data), 640)  # the header, mostly
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(reach)] = chance.randrange(256)
        image = images.decode_plain_jpeg(bytes(data))
        seen[image is not None] += 1
        assert image is None or same(image, images.open_by_pillow(bytes(data))), number
    assert min(seen.values()) > 200
