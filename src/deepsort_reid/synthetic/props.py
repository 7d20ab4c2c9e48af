"""What stands in a synthetic street: poles, bins, bicycles, cars, benches and plants."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from deepsort_reid.synthetic.person.people import Rng

Ink = tuple[int, int, int]  # RGB in 0..255
Point = tuple[float, float]  # metres to the right of and above the point stood on


@dataclass(frozen=True)
class Pen:
    """Draws in metres, from a point stood on."""

    draw: ImageDraw.ImageDraw
    foot: tuple[float, float]  # x and y, in pixels
    scale: tuple[float, float]  # pixels per metre, across and up

    def at(self, *points: Point) -> list[tuple[float, float]]:
        """Points in pixels."""
        return [
            (self.foot[0] + x * self.scale[0], self.foot[1] - y * self.scale[1]) for x, y in points
        ]

    def rectangle(self, low: Point, high: Point, ink: Ink) -> None:
        """A filled rectangle between its lower left and upper right corners."""
        (left, bottom), (right, top) = self.at(low, high)
        if right > left and bottom > top:
            self.draw.rectangle((left, top, right, bottom), fill=ink)

    def ellipse(self, centre: Point, radii: Point, ink: Ink) -> None:
        """A filled ellipse."""
        ((x, y),) = self.at(centre)
        across, up = radii[0] * self.scale[0], radii[1] * self.scale[1]
        self.draw.ellipse((x - across, y - up, x + across, y + up), fill=ink)

    def ring(self, centre: Point, radius: float, width: float, ink: Ink) -> None:
        """A circle's line."""
        ((x, y),) = self.at(centre)
        across, up = radius * self.scale[0], radius * self.scale[1]
        self.draw.ellipse(
            (x - across, y - up, x + across, y + up), outline=ink, width=self.thick(width)
        )

    def line(self, points: list[Point], width: float, ink: Ink) -> None:
        """A line through points."""
        self.draw.line(self.at(*points), fill=ink, width=self.thick(width), joint="curve")

    def polygon(self, points: list[Point], ink: Ink) -> None:
        """A filled polygon."""
        self.draw.polygon(self.at(*points), fill=ink)

    def cylinder(self, low: Point, high: Point, ink: Ink) -> None:
        """An upright round thing, lit from the left."""
        width = high[0] - low[0]
        for place in np.arange(0.0, 1.0, 0.125).tolist():
            light = 0.62 + 0.5 * float(np.sin(np.pi * (0.95 - 0.85 * place)))
            left = low[0] + place * width
            self.rectangle((left, low[1]), (left + 0.125 * width, high[1]), lit(ink, light))

    def thick(self, width: float) -> int:
        """A line's width in whole pixels."""
        return max(1, round(width * self.scale[1]))


def lit(ink: Ink, light: float) -> Ink:
    """The colour in more light or less."""
    red, green, blue = (min(255, max(0, round(channel * light))) for channel in ink)
    return red, green, blue


def some(rng: Rng, *inks: Ink) -> Ink:
    """One of the colours, a little lighter or darker."""
    return lit(inks[int(rng.integers(len(inks)))], float(rng.uniform(0.85, 1.15)))


METALS = ((96, 100, 104), (60, 64, 68), (140, 142, 140), (52, 70, 60))
PAINTS = (
    (170, 40, 36),
    (40, 70, 130),
    (210, 210, 208),
    (40, 42, 46),
    (120, 124, 128),
    (196, 160, 50),
)
GREENS = ((52, 84, 40), (70, 98, 48), (44, 70, 42), (86, 104, 56))


def pole(pen: Pen, rng: Rng) -> None:
    """A lamp post or a traffic sign's."""
    radius = float(rng.uniform(0.05, 0.1))
    pen.cylinder((-radius, 0.0), (radius, 6.0), some(rng, *METALS))
    pen.cylinder((-1.5 * radius, 0.0), (1.5 * radius, 0.35), some(rng, *METALS))
    if rng.random() < 0.4:
        pen.ellipse((0.0, 2.3), (0.3, 0.3), some(rng, *PAINTS))
        pen.ellipse((0.0, 2.3), (0.22, 0.22), (226, 226, 222))


def bollard(pen: Pen, rng: Rng) -> None:
    """A low post with a bright band."""
    pen.cylinder((-0.07, 0.0), (0.07, 0.85), some(rng, *METALS))
    pen.cylinder((-0.075, 0.66), (0.075, 0.75), some(rng, (220, 60, 40), (226, 226, 220)))


def bin_(pen: Pen, rng: Rng) -> None:
    """A litter bin."""
    ink = some(rng, (44, 92, 60), (60, 64, 70), (46, 76, 130), (120, 96, 60))
    pen.cylinder((-0.27, 0.05), (0.27, 0.85), ink)
    pen.cylinder((-0.3, 0.82), (0.3, 0.92), lit(ink, 0.7))
    pen.rectangle((-0.14, 0.62), (0.14, 0.74), (22, 22, 24))


def bicycle(pen: Pen, rng: Rng) -> None:
    """A bicycle from the side."""
    ink, black = some(rng, *PAINTS), (26, 26, 28)
    facing = 1 if rng.random() < 0.5 else -1
    back, front, crank, seat, head = (
        (facing * x, y)
        for x, y in ((-0.52, 0.34), (0.52, 0.34), (-0.08, 0.3), (-0.2, 0.82), (0.36, 0.86))
    )
    for wheel in (back, front):
        pen.ring(wheel, 0.34, 0.035, black)
        for spoke in np.linspace(0, np.pi, 5)[:-1]:
            dx, dy = 0.32 * float(np.cos(spoke)), 0.32 * float(np.sin(spoke))
            pen.line(
                [(wheel[0] - dx, wheel[1] - dy), (wheel[0] + dx, wheel[1] + dy)],
                0.006,
                (120, 120, 122),
            )
    pen.line([back, crank, head, seat, crank], 0.04, ink)
    pen.line([back, seat], 0.03, ink)
    pen.line([front, head, (head[0] - 0.04 * facing, 1.0)], 0.04, ink)
    pen.line([(head[0] - 0.15 * facing, 1.02), (head[0] + 0.06 * facing, 1.0)], 0.035, black)
    pen.line([(seat[0] - 0.12, 0.9), (seat[0] + 0.12, 0.9)], 0.06, black)
    if rng.random() < 0.5:
        pen.rectangle(
            (head[0] + 0.05 * facing - 0.14, 0.72),
            (head[0] + 0.05 * facing + 0.14, 0.95),
            (150, 150, 150),
        )


def car(pen: Pen, rng: Rng) -> None:
    """A parked car from the side."""
    ink, glass = some(rng, *PAINTS), (44, 52, 62)
    long = float(rng.uniform(1.9, 2.3))
    pen.ellipse((0.0, 0.12), (long * 1.02, 0.1), (40, 40, 42))
    pen.polygon(
        [(-long, 0.3), (-long, 0.78), (-0.62 * long, 0.92), (-0.4 * long, 1.42), (0.3 * long, 1.45),
         (0.58 * long, 0.95), (0.97 * long, 0.8), (long, 0.3)], ink,
    )  # fmt: skip
    pen.polygon([(-long, 0.3), (-long, 0.5), (long, 0.5), (long, 0.3)], lit(ink, 0.7))
    pen.polygon(
        [(-0.55 * long, 0.93), (-0.37 * long, 1.36), (-0.06 * long, 1.38), (-0.06 * long, 0.95)],
        glass,
    )
    pen.polygon(
        [(0.0, 0.95), (0.0, 1.38), (0.27 * long, 1.38), (0.48 * long, 0.97)], lit(glass, 1.2)
    )
    for wheel in (-0.6 * long, 0.6 * long):
        pen.ellipse((wheel, 0.32), (0.33, 0.33), (28, 28, 30))
        pen.ellipse((wheel, 0.32), (0.18, 0.18), (140, 142, 146))


def bench(pen: Pen, rng: Rng) -> None:
    """A wooden bench."""
    wood, legs = some(rng, (122, 84, 52), (96, 66, 44), (140, 104, 66)), (50, 52, 54)
    for x in (-0.7, 0.7):
        pen.rectangle((x - 0.03, 0.0), (x + 0.03, 0.85), legs)
    for y in (0.42, 0.56, 0.7, 0.82):
        pen.rectangle((-0.85, y - 0.045), (0.85, y + 0.04), lit(wood, 0.8 + 0.4 * y))


def planter(pen: Pen, rng: Rng) -> None:
    """A box with a shrub."""
    stone = some(rng, (150, 146, 138), (120, 116, 110), (110, 76, 56))
    foliage(pen, rng, (0.0, 0.85), (0.5, 0.42), 70)
    pen.rectangle((-0.5, 0.0), (0.5, 0.5), stone)
    pen.rectangle((-0.53, 0.44), (0.53, 0.52), lit(stone, 1.12))
    pen.rectangle((0.25, 0.0), (0.5, 0.44), lit(stone, 0.85))


def tree(pen: Pen, rng: Rng) -> None:
    """A trunk with a crown."""
    trunk = float(rng.uniform(0.1, 0.17))
    foliage(pen, rng, (0.0, 4.2), (1.9, 1.7), 260)
    pen.cylinder((-trunk, 0.0), (trunk, 3.2), some(rng, (92, 76, 60), (74, 64, 54)))


def foliage(pen: Pen, rng: Rng, centre: Point, radii: Point, leaves: int) -> None:
    """A cloud of leaves, lighter towards its top."""
    green = some(rng, *GREENS)
    places = rng.normal(0.0, 0.45, (leaves, 2)).clip(-1.0, 1.0)
    for x, y in places[np.argsort(places[:, 1])].tolist():
        size = 0.16 * max(radii)
        light = 0.75 + 0.35 * y + float(rng.uniform(-0.2, 0.2))
        pen.ellipse(
            (centre[0] + x * radii[0], centre[1] + y * radii[1]),
            (size, 0.8 * size),
            lit(green, light),
        )


def sign(pen: Pen, rng: Rng) -> None:
    """A board on the pavement."""
    frame = some(rng, *PAINTS)
    pen.polygon([(-0.33, 0.0), (-0.28, 1.05), (0.28, 1.05), (0.33, 0.0)], frame)
    pen.polygon(
        [(-0.27, 0.12), (-0.23, 0.98), (0.23, 0.98), (0.27, 0.12)],
        some(rng, (226, 224, 214), (40, 44, 42)),
    )
    for y in np.arange(0.3, 0.9, 0.13).tolist():
        pen.rectangle((-0.17, y), (float(rng.uniform(0.0, 0.18)), y + 0.045), some(rng, *PAINTS))


def railing(pen: Pen, rng: Rng) -> None:
    """A metal fence, wider than a picture."""
    ink = some(rng, *METALS)
    for x in np.arange(-2.0, 2.01, 0.13).tolist():
        pen.rectangle((x - 0.012, 0.05), (x + 0.012, 1.0), ink)
    for y in (0.12, 1.0):
        pen.rectangle((-2.0, y - 0.03), (2.0, y + 0.03), lit(ink, 1.15))


Thing = Callable[[Pen, Rng], None]
STREET: dict[Thing, float] = {
    bicycle: 6,
    car: 3,
    bin_: 2,
    pole: 4,
    bench: 1,
    planter: 2,
    sign: 2,
    bollard: 3,
}
GARDEN: dict[Thing, float] = {tree: 5, bench: 3, bin_: 2, pole: 1, bicycle: 3, planter: 1}
IN_THE_WAY: dict[Thing, float] = {
    pole: 5, bin_: 4, bicycle: 6, planter: 4, sign: 3, bollard: 2, railing: 3, bench: 2,
}  # fmt: skip
