"""One image's bytes become the pixels that Pillow gives, or a reason why they cannot."""

import io
import random
from collections import Counter
from typing import Any

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


def test_greys_of_16_bits_keep_their_shades() -> None:
    greys = np.linspace(0, 65535, 32 * 16).astype(np.uint16).reshape(32, 16)
    file = io.BytesIO()
    Image.fromarray(greys).save(file, "png")
    image = decoded(file.getvalue(), (32, 16))
    assert not isinstance(image, str)
    assert (image == (greys >> 8)[..., None]).all()


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
