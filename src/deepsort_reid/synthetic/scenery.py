"""Where synthetic pedestrians are seen, and by which camera: scene, lens, light and colours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepsort_reid.synthetic.person.people import Rng, pick
from deepsort_reid.synthetic.props import GARDEN, STREET, Ink, Pen, foliage, lit, some
from deepsort_reid.synthetic.raycast import Array, Bytes, Light

FRAME = (600, 1100)  # height and width of a scene, in pixels
FURNISHED = 0.33  # the share of the ground, from its end on, where things stand
FOCAL = 800.0  # pixels


@dataclass(frozen=True)
class Camera:
    """A camera on its post: what it sees when nobody is there, and what it does to colours."""

    scene: Image.Image  # RGB, as high as FRAME
    clear: float  # nothing stands nearer to the camera than so many metres
    horizon: float  # the row at which the ground ends, if nothing stood before it
    height: float  # of the camera above the ground, in metres
    headings: tuple[float, ...]  # which way people turn here, in radians from towards the camera
    light: Light
    gains: tuple[float, float, float]
    exposure: float
    gamma: float
    contrast: float
    saturation: float
    blur: float  # pixels of an image 128 high
    noise: float  # standard deviation in 0..1
    quality: int  # of JPEG

    def scale(self, row: float) -> float:
        """Pixels per metre for somebody whose feet are on a row."""
        return (row - self.horizon) / self.height

    def row(self, distance: float) -> float:
        """The row of a point of the ground at a distance in metres."""
        return self.horizon + FOCAL * self.height / distance

    def distance(self, row: float) -> float:
        """The distance of the ground on a row, in metres."""
        return FOCAL * self.height / (row - self.horizon)

    def pitch(self, row: float) -> float:
        """From how far above somebody is seen whose feet are on a row, in radians."""
        return float(np.arctan2(row - self.horizon, FOCAL))


@dataclass(frozen=True)
class Moment:
    """How what a camera makes of a picture differs from one moment to another."""

    exposure: float  # times the camera's
    gains: tuple[float, float, float]  # times the camera's
    blur: float  # beside the lens's: pixels of an image 128 high
    smear: float  # by movement across: half its width, in the same pixels


@lru_cache(maxsize=32)
def camera(seed: int, number: int, width: int = FRAME[1]) -> Camera:
    """Put up the camera of a number, from 1: its place, its light and its colours.

    Its scene is `width` pixels wide.
    """
    rng = np.random.default_rng([seed, 1, number])
    horizon = float(rng.uniform(-60.0, 90.0))
    height = float(rng.uniform(2.9, 3.8)) * (FRAME[0] - horizon) / FRAME[0]
    # Opposite hues for neighbours: the golden angle spreads them, whatever their number.
    hue = 2.4 * number + float(rng.uniform(-0.3, 0.3))
    tint = 0.07 * np.cos(hue + np.array([0.0, 2.1, 4.2])) * (1.0, 0.5, 1.0)
    heading = 1.9 * number + float(rng.uniform(-0.4, 0.4))
    elevation, azimuth = rng.uniform(0.6, 1.2), rng.uniform(0.0, 2 * np.pi)
    overcast = float(rng.uniform(0.0, 0.8))
    sun = 0.75 * (1.0 - overcast)
    far = float(rng.uniform(9.0, 16.0))  # metres to what closes the view
    base = horizon + FOCAL * height / far
    lowest = base + FURNISHED * (FRAME[0] - base)
    place = list(GROUNDS)[(number - 1) % len(GROUNDS)]
    return Camera(
        scene=scene(rng, place, (horizon, height), base, (FRAME[0], width)),
        clear=FOCAL * height / (lowest - horizon),
        horizon=horizon,
        height=height,
        headings=(heading, heading + np.pi, heading + float(rng.uniform(0.8, 2.3))),
        light=Light(
            direction=(
                float(np.cos(elevation) * np.sin(azimuth)),
                float(np.sin(elevation)),
                float(np.cos(elevation) * np.cos(azimuth)),
            ),
            sun=(sun, 0.97 * sun, 0.9 * sun),
            sky=(0.98 - 0.7 * sun, 1.0 - 0.7 * sun, 1.04 - 0.7 * sun),
        ),
        gains=(float(1 + tint[0]), float(1 + tint[1]), float(1 + tint[2])),
        exposure=float(np.exp(rng.uniform(0.0, 0.25))),
        gamma=float(np.exp(rng.uniform(-0.15, 0.15))),
        contrast=float(rng.uniform(0.85, 1.12)),
        saturation=float(rng.uniform(0.75, 1.2)),
        blur=float(rng.uniform(0.1, 0.5)),
        noise=float(rng.uniform(0.005, 0.018)),
        quality=int(rng.integers(62, 93)),
    )


def scene(
    rng: Rng, place: str, eye: tuple[float, float], base: float, size: tuple[int, int]
) -> Image.Image:
    """Paint a place without people.

    Args:
        rng: decides on all that is not given.
        place: one of GROUNDS.
        eye: the horizon's row, and the camera's height in metres.
        base: the row at which the ground ends.
        size: height and width, in pixels.
    """
    horizon, height = eye
    picture = Image.fromarray((255 * ground(rng, place, eye, size)).astype(np.uint8))
    backdrop(picture, rng, place, base, (base - horizon) / height)
    things = GARDEN if place == "park" else STREET
    draw = ImageDraw.Draw(picture)
    count = round(13 * size[1] / FRAME[1])
    rows = sorted(rng.uniform(base, base + FURNISHED * (size[0] - base), count).tolist())
    for row in rows:
        scale = (row - horizon) / height
        pick(rng, things)(Pen(draw, (float(rng.uniform(0, size[1])), row), (scale, scale)), rng)
    return picture.filter(ImageFilter.GaussianBlur(0.8))


def ground(rng: Rng, place: str, eye: tuple[float, float], size: tuple[int, int]) -> Array:
    """The ground in perspective: (*size, 3) in 0..1; `eye` as in `scene`."""
    rows, columns = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)
    scale = ((rows - np.float32(eye[0])) / np.float32(eye[1])).clip(4.0)[:, None]
    across = (columns - size[1] / 2) / scale  # metres
    deep = np.broadcast_to(np.float32(FOCAL) / scale, across.shape)
    sine, cosine = np.sin(turn := float(rng.uniform(-0.6, 0.6))), np.cos(turn)
    u = np.float32(cosine) * across - np.float32(sine) * deep
    v = np.float32(sine) * across + np.float32(cosine) * deep
    fine = rng.standard_normal(size, np.float32)
    shade = 0.03 * fine + 0.015 * cloud(rng, 7, size) + 0.03 * cloud(rng, 90, size)
    picture: Array = GROUNDS[place](rng, u, v, shade)
    return picture.clip(0.0, 1.0)


def paving(rng: Rng, u: Array, v: Array, shade: Array) -> Array:
    """Small stones."""
    size = float(rng.uniform(0.3, 0.6))
    stones = ((0.52, 0.50, 0.48), (0.46, 0.47, 0.49), (0.58, 0.48, 0.42))
    laid = tiles(rng, u / size, v / (size * float(rng.choice([0.5, 1.0]))))
    return tinted(stones[int(rng.integers(len(stones)))], shade + laid)


def square(rng: Rng, u: Array, v: Array, shade: Array) -> Array:
    """Small stones with bands of red ones."""
    picture = paving(rng, u, v, shade)
    picture[v % 3.0 < 0.4] *= np.array((0.95, 0.72, 0.66), np.float32)
    return picture


def lawn(rng: Rng, _: Array, v: Array, shade: Array) -> Array:
    """Grass, and a path through it."""
    trodden = np.abs(v - float(np.median(v)) + 0.5 * cloud(rng, 40, shade.shape)) < rng.uniform(
        1.2, 2.2
    )
    grass = tinted((0.30, 0.42, 0.20), 3.6 * shade)
    return np.where(trodden[..., None], tinted((0.62, 0.56, 0.46), shade), grass)


def road(_: Rng, u: Array, v: Array, shade: Array) -> Array:
    """Asphalt with a broken line."""
    picture = tinted((0.36, 0.36, 0.37), shade)
    picture[(v % 3.4 < 0.12) & (u % 4.0 < 2.4)] += np.float32(0.4)
    return picture


def zebra(_: Rng, u: Array, v: Array, shade: Array) -> Array:
    """Asphalt with a crossing's stripes."""
    picture = tinted((0.36, 0.36, 0.37), shade)
    picture[(u % 1.1 < 0.55) & (v % 9.0 < 5.0)] += np.float32(0.38)
    return picture


def slabs(rng: Rng, u: Array, v: Array, shade: Array) -> Array:
    """Large plates of concrete."""
    return tinted((0.48, 0.48, 0.49), shade + tiles(rng, u / 1.5, v / 1.5))


def tinted(tint: tuple[float, float, float], shade: Array) -> Array:
    """A colour, lighter or darker by a shade (H, W): (H, W, 3)."""
    return np.array(tint, np.float32) + shade[..., None]


Ground = Callable[[Rng, Array, Array, Array], Array]  # of metres u and v (H, W), and a shade
GROUNDS: dict[str, Ground] = {
    "plaza": square,
    "street": road,
    "shops": paving,
    "park": lawn,
    "crossing": zebra,
    "wall": slabs,
}


def tiles(rng: Rng, u: Array, v: Array) -> Array:
    """Tiles of edge 1: each its own shade, dark joints between them; (H, W)."""
    row: Array = np.floor(v)
    shifted: Array = u + np.float32(0.5) * (row % 2)
    shades = rng.normal(0.0, 0.03, 4096).astype(np.float32)
    index = (np.floor(shifted).astype(np.int32) * 73 + row.astype(np.int32) * 1009) & 4095
    joint = (shifted % 1.0 < 0.06) | (v % 1.0 < 0.08)
    tiled: Array = shades[index] - np.float32(0.12) * joint
    return tiled


def cloud(rng: Rng, size: int, shape: tuple[int, ...]) -> Array:
    """Soft blotches of about `size` pixels, about ±1: (H, W) of that shape."""
    high, wide = shape
    small = rng.normal(0.0, 1.0, (high // size + 2, wide // size + 2)).astype(np.float32)
    grown = Image.fromarray(small).resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(grown)


def backdrop(picture: Image.Image, rng: Rng, place: str, base: float, scale: float) -> None:
    """Close the view above a row: house fronts, shop windows, a wall, or trees under the sky."""
    draw = ImageDraw.Draw(picture)
    width = picture.width / scale  # metres
    pen = Pen(draw, (0.0, base), (scale, scale))
    if place == "park":
        pen.rectangle((0.0, 0.0), (width, 30.0), (206, 214, 222))
        for x in np.arange(0.0, width, 0.9).tolist():
            foliage(pen, rng, (x, float(rng.uniform(0.8, 4.5))), (1.6, 1.5), 50)
        foliage_row(pen, rng, width)
    elif place == "wall":
        wall(pen, rng, width)
    else:
        houses(pen, rng, width, shops=place in ("shops", "plaza"))
    pen.rectangle((0.0, -0.12), (width, 0.05), some(rng, (128, 126, 122), (100, 100, 98)))


def foliage_row(pen: Pen, rng: Rng, width: float) -> None:
    """A hedge."""
    for x in np.arange(0.0, width, 0.6).tolist():
        foliage(pen, rng, (x, 0.45), (0.6, 0.5), 40)


def wall(pen: Pen, rng: Rng, width: float) -> None:
    """A long wall with panels, a door or two, and posters."""
    ink = some(rng, (150, 146, 140), (134, 96, 80), (120, 126, 132))
    pen.rectangle((0.0, 0.0), (width, 30.0), ink)
    for y in np.arange(0.0, 6.0, 0.3).tolist():
        pen.rectangle((0.0, y), (width, y + 0.02), lit(ink, 0.86))
    for x in np.arange(float(rng.uniform(0.0, 2.0)), width, 2.4).tolist():
        pen.rectangle((x, 0.0), (x + 0.04, 30.0), lit(ink, 0.75))
        if rng.random() < 0.5:
            poster = some(
                rng, (196, 60, 50), (60, 96, 150), (220, 200, 120), (230, 230, 224), (70, 110, 80)
            )
            pen.rectangle((x + 0.5, 1.0), (x + 1.6, 2.5), poster)
            pen.rectangle(
                (x + 0.65, 1.5),
                (x + 1.45, 2.3),
                some(rng, (240, 236, 220), (40, 40, 44), (200, 120, 60)),
            )
        elif rng.random() < 0.4:
            pen.rectangle((x + 0.6, 0.0), (x + 1.6, 2.1), some(rng, (70, 60, 52), (60, 70, 76)))


def houses(pen: Pen, rng: Rng, width: float, *, shops: bool) -> None:
    """House fronts side by side, with shop windows or with windows and doors."""
    x = -float(rng.uniform(0.0, 3.0))
    while x < width:
        wide = float(rng.uniform(3.5, 6.5))
        ink = some(
            rng, (170, 156, 136), (146, 108, 90), (186, 184, 178), (120, 122, 126), (160, 140, 110)
        )
        pen.rectangle((x, 0.0), (x + wide, 30.0), ink)
        for window in np.arange(x + 0.5, x + wide - 1.0, 1.7).tolist():
            for floor in (3.6, 6.4):
                pane(pen, rng, (window, floor), (window + 1.0, floor + 1.5), lit(ink, 0.7))
        if shops:
            board: Ink = some(
                rng, (150, 40, 40), (40, 70, 110), (46, 90, 66), (60, 56, 54), (196, 150, 60)
            )
            pen.rectangle((x + 0.2, 0.0), (x + wide - 0.2, 2.6), (38, 40, 44))
            shelves(pen, rng, x + 0.3, x + wide - 0.3)
            pen.rectangle((x + 0.1, 2.55), (x + wide - 0.1, 3.2), board)
            pen.rectangle((x + 0.8, 2.75), (x + 0.55 * wide, 3.0), (232, 228, 214))
        else:
            pen.rectangle(
                (x + 0.6, 0.0), (x + 1.6, 2.2), some(rng, (70, 50, 40), (40, 56, 70), (60, 70, 60))
            )
            pane(pen, rng, (x + 2.2, 0.9), (x + wide - 0.5, 2.2), lit(ink, 0.7))
        pen.rectangle((x + wide - 0.06, 0.0), (x + wide, 30.0), lit(ink, 0.6))
        x += wide


def pane(
    pen: Pen, rng: Rng, low: tuple[float, float], high: tuple[float, float], frame: Ink
) -> None:
    """A window that reflects a little sky."""
    pen.rectangle((low[0] - 0.08, low[1] - 0.08), (high[0] + 0.08, high[1] + 0.08), frame)
    glass = some(rng, (62, 74, 86), (50, 56, 64), (110, 124, 136))
    pen.rectangle(low, high, glass)
    pen.polygon([(low[0], high[1]), (low[0], low[1]), (high[0], high[1])], lit(glass, 1.25))


def shelves(pen: Pen, rng: Rng, left: float, right: float) -> None:
    """What a shop window shows."""
    for x in np.arange(left, right - 0.3, 0.45).tolist():
        if rng.random() < 0.75:
            goods = some(
                rng, (200, 180, 140), (170, 60, 50), (90, 110, 140), (220, 214, 200), (80, 76, 70)
            )
            pen.rectangle((x, 0.5), (x + 0.35, float(rng.uniform(0.8, 2.2))), goods)


def random_moment(rng: Rng) -> Moment:
    """A moment that has nothing to do with any other."""
    exposure = float(np.exp(rng.normal(0.0, 0.07)))
    red, green, blue = np.exp(rng.normal(0.0, 0.02, 3)).tolist()
    blur = float(rng.exponential(0.15))
    smear = float(rng.uniform(0.4, 1.4)) if rng.random() < 0.12 else 0.0
    return Moment(exposure, (red, green, blue), blur, smear)


def develop(
    camera: Camera, picture: Array, moment: Moment, rng: Rng, scale: float | None = None
) -> Bytes:
    """What the camera makes of what it sees.

    Args:
        camera: whose lens, sensor and settings to use.
        picture: (H, W, 3) in 0..1.
        moment: how it differs from others in exposure and movement.
        rng: decides on the noise.
        scale: how many of its pixels are one of an image of one person, 128 high; such an image
            itself if None.

    Returns:
        (H, W, 3), 0 to 255.
    """
    exposure = camera.exposure * moment.exposure
    gains = np.array(camera.gains) * np.array(moment.gains)
    pixel = picture.shape[0] / 128 if scale is None else scale
    seen = soften(picture, (camera.blur + moment.blur) * pixel, moment.smear * pixel)
    # The curves are computed for the 256 levels there are, and looked up for each pixel.
    levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    curves = (levels * (exposure * gains).astype(np.float32)) ** np.float32(camera.gamma)
    # A channel at a time, in place: three times as fast as all of them.
    values = [curves[:, channel].take(seen[..., channel]) for channel in range(3)]
    grey = (values[0] + values[1] + values[2]) / np.float32(3)
    noise = rng.standard_normal(picture.shape, np.float32)
    noise *= np.float32(camera.noise)
    developed = np.empty(picture.shape, np.uint8)
    for channel, value in enumerate(values):
        value -= grey
        value *= np.float32(camera.saturation)
        value += grey
        value -= np.float32(0.45)
        value *= np.float32(camera.contrast)
        value += np.float32(0.45)
        value += noise[..., channel]
        developed[..., channel] = to_bytes(value)
    return developed


def soften(picture: Array, radius: float, smear: float) -> Bytes:
    """Blur by lens and by movement across, both in pixels; 0 to 255."""
    blurred = Image.fromarray((255 * picture + 0.5).astype(np.uint8))
    blurred = blurred.filter(ImageFilter.GaussianBlur(radius))
    if smear > 0:
        blurred = blurred.filter(ImageFilter.BoxBlur((smear, 0)))
    return np.asarray(blurred)


def to_bytes(values: Array) -> Bytes:
    """Values in 0..1 as 0 to 255, rounded; what lies beyond is cut off. Changes the values."""
    np.clip(values, 0.0, 1.0, out=values)
    values *= np.float32(255)
    values += np.float32(0.5)
    return values.astype(np.uint8)
