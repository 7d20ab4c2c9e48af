"""Who the synthetic pedestrians are: build, hair, skin, garments, patterns and belongings."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Colour = tuple[float, float, float]  # RGB in 0..1
Rng = np.random.Generator

COLOURS: dict[str, Colour] = {
    "black": (0.09, 0.09, 0.10),
    "charcoal": (0.22, 0.23, 0.25),
    "grey": (0.50, 0.50, 0.51),
    "pale grey": (0.70, 0.70, 0.69),
    "white": (0.92, 0.92, 0.90),
    "navy": (0.12, 0.15, 0.29),
    "denim": (0.30, 0.40, 0.56),
    "dark denim": (0.18, 0.23, 0.34),
    "blue": (0.17, 0.33, 0.66),
    "light blue": (0.58, 0.72, 0.86),
    "beige": (0.78, 0.70, 0.56),
    "khaki": (0.58, 0.51, 0.37),
    "brown": (0.37, 0.25, 0.17),
    "olive": (0.33, 0.35, 0.20),
    "green": (0.14, 0.46, 0.25),
    "teal": (0.12, 0.45, 0.48),
    "red": (0.74, 0.13, 0.14),
    "burgundy": (0.42, 0.11, 0.17),
    "pink": (0.90, 0.58, 0.64),
    "purple": (0.41, 0.25, 0.53),
    "yellow": (0.90, 0.76, 0.23),
    "orange": (0.88, 0.45, 0.15),
}
# How often each is worn: as in the street, most of it dark, blue, white or grey.
TOPS = {
    "black": 17, "white": 14, "grey": 9, "pale grey": 4, "navy": 10, "charcoal": 8, "blue": 7,
    "light blue": 5, "beige": 4, "red": 6, "burgundy": 3, "green": 3, "olive": 3, "brown": 2,
    "pink": 3, "yellow": 2, "teal": 2, "purple": 2, "orange": 2, "khaki": 2,
}  # fmt: skip
BOTTOMS = {
    "black": 24, "dark denim": 15, "denim": 14, "charcoal": 10, "grey": 7, "beige": 7, "khaki": 6,
    "navy": 6, "white": 4, "brown": 3, "olive": 3, "light blue": 2, "red": 1, "burgundy": 1,
}  # fmt: skip
LEATHER = {
    "black": 30, "brown": 14, "charcoal": 8, "navy": 8, "red": 7, "beige": 6, "grey": 6, "blue": 5,
    "olive": 4, "pink": 4, "yellow": 3, "orange": 3, "teal": 3, "white": 4,
}  # fmt: skip
SHOES = {
    "black": 26, "white": 22, "brown": 12, "grey": 10, "charcoal": 6, "blue": 5, "red": 5,
    "beige": 6, "navy": 4, "pink": 2, "orange": 2,
}  # fmt: skip
SKINS: tuple[Colour, ...] = (
    (0.93, 0.76, 0.66), (0.88, 0.69, 0.57), (0.82, 0.62, 0.48), (0.73, 0.53, 0.39),
    (0.60, 0.42, 0.30), (0.45, 0.30, 0.21), (0.33, 0.22, 0.16),
)  # fmt: skip
HAIRS: dict[Colour, int] = {
    (0.07, 0.06, 0.06): 34, (0.16, 0.11, 0.08): 26, (0.31, 0.20, 0.12): 16,
    (0.50, 0.34, 0.17): 6, (0.72, 0.57, 0.32): 8, (0.48, 0.20, 0.10): 4, (0.62, 0.61, 0.60): 8,
}  # fmt: skip
CARRIERS = {"white": 5, "red": 2, "pale grey": 2, "yellow": 1, "beige": 2, "green": 1}
LININGS = {"white": 6, "grey": 2, "black": 3, "light blue": 2, "red": 1}
SIGNAL = {"yellow": 2, "orange": 1, "navy": 1}

PATTERNS = {
    "plain": 40, "hoops": 11, "stripes": 7, "check": 10, "logo": 12, "print": 8, "block": 9,
    "band": 7, "raglan": 6, "dots": 3,
}  # fmt: skip
FORMAL = {"plain": 70, "check": 16, "stripes": 6, "block": 8}
TROUSERS = {"plain": 80, "band": 9, "check": 3, "stripes": 3, "block": 5}
SKIRTS = {"plain": 74, "check": 6, "stripes": 4, "band": 8, "block": 6, "hoops": 2}


@dataclass(frozen=True)
class Build:
    """A body: height in metres, the rest as multiples of the average."""

    height: float
    girth: float
    shoulders: float
    hips: float
    belly: float
    legs: float


@dataclass(frozen=True)
class Fabric:
    """A cloth: `second` is the pattern's other colour, `period` its repeat in metres."""

    colour: Colour
    second: Colour
    pattern: str
    period: float
    offset: float


@dataclass(frozen=True)
class Top:
    """What is worn above: tee, shirt, tank, hoodie, jacket, coat, suit, dress or vest."""

    kind: str
    fabric: Fabric
    sleeve: float  # 0 none, 1 to the elbow, 2 to the wrist
    hem: float  # where it ends: metres above the crotch, below it where negative
    ease: float  # how far it stands off the body, in metres
    inner: Colour  # what shows at the neck and, if it is open, in front
    open: bool


@dataclass(frozen=True)
class Bottom:
    """What is worn below: trousers, shorts or skirt."""

    kind: str
    fabric: Fabric
    length: float  # 0 none, 1 to the knee, 2 to the ankle
    ease: float  # metres


@dataclass(frozen=True)
class Head:
    """Hair and what is worn over it."""

    style: str  # bald, cropped, short, bob, long, tail, bun
    colour: Colour
    hat: str  # none, cap, beanie, brim, hood
    hat_colour: Colour
    glasses: bool
    beard: bool


@dataclass(frozen=True)
class Bag:
    """A belonging: backpack, cross, shoulder, hand, shopping or suitcase."""

    kind: str
    side: int  # −1 right, +1 left
    colour: Colour
    second: Colour
    size: float

    @property
    def in_hand(self) -> bool:
        """Whether an arm holds it, and so does not swing."""
        return self.kind in ("hand", "shopping", "suitcase")


@dataclass(frozen=True)
class Person:
    """Everything by which someone can be told from another, whatever the pose and the camera."""

    build: Build
    skin: Colour
    head: Head
    top: Top
    bottom: Bottom
    shoes: Colour
    soles: Colour
    boots: bool
    bags: tuple[Bag, ...]
    scarf: Colour | None
    stride: float  # how far the thigh swings, in radians
    bent: float  # how far the elbows are bent, in radians


def random_person(rng: Rng) -> Person:
    """Dress somebody."""
    woman = bool(rng.random() < 0.5)
    top = random_top(rng, woman)
    return Person(
        build=random_build(rng, woman),
        skin=jittered(rng, SKINS[rng.integers(len(SKINS))], 0.02),
        head=random_head(rng, woman, hooded=top.kind == "hoodie"),
        top=top,
        bottom=random_bottom(rng, woman, top),
        shoes=colour(rng, SHOES),
        soles=COLOURS[pick(rng, {"white": 5, "black": 5, "grey": 2})],
        boots=bool(rng.random() < 0.12),
        bags=random_bags(rng, woman),
        scarf=colour(rng, TOPS) if rng.random() < (0.2 if top.sleeve == 2 else 0.03) else None,
        stride=float(rng.uniform(0.34, 0.56)),
        bent=float(rng.uniform(0.1, 0.7)),
    )


def random_build(rng: Rng, woman: bool) -> Build:
    """A body, as they come."""
    return Build(
        height=float(np.clip(rng.normal(1.64 if woman else 1.76, 0.07), 1.45, 1.98)),
        girth=float(np.clip(rng.normal(1.0, 0.11), 0.8, 1.35)),
        shoulders=float(rng.normal(0.92 if woman else 1.06, 0.05)),
        hips=float(rng.normal(1.08 if woman else 0.97, 0.05)),
        belly=float(rng.gamma(2.0, 0.09)),
        legs=float(rng.normal(1.0, 0.03)),
    )


def random_fabric(rng: Rng, palette: Mapping[str, float], patterns: Mapping[str, float]) -> Fabric:
    """A cloth of the palette's colours; its second colour differs visibly from the first."""
    first = pick(rng, palette)
    others = {name: weight for name, weight in TOPS.items() if contrast(name, first) > 0.22}
    return Fabric(
        colour=jittered(rng, COLOURS[first], 0.014),
        second=jittered(rng, COLOURS[pick(rng, others)], 0.014),
        pattern=pick(rng, patterns),
        period=float(rng.uniform(0.08, 0.17)),
        offset=float(rng.random()),
    )


@dataclass(frozen=True)
class Cut:
    """How a kind of top is made, and how often men and women wear it."""

    men: float
    women: float
    sleeves: Mapping[float, float]  # lengths as in Top
    hem: float = 0.04  # as in Top, and how far it varies
    spread: float = 0.014
    ease: float = 0.012
    patterns: Mapping[str, float] = field(default_factory=lambda: PATTERNS)
    palette: Mapping[str, float] = field(default_factory=lambda: TOPS)
    opens: float = 0.0  # how often it is worn open


CUTS = {
    "tee": Cut(26, 26, {0.75: 1}),
    "shirt": Cut(14, 14, {2.0: 5, 0.8: 4, 1.4: 2}),
    "hoodie": Cut(12, 12, {2.0: 1}, ease=0.028),
    "jacket": Cut(14, 14, {2.0: 1}, hem=0.02, ease=0.03, opens=0.5),
    "coat": Cut(8, 10, {2.0: 1}, hem=-0.42, spread=0.1, ease=0.03, patterns=FORMAL, opens=0.5),
    "suit": Cut(5, 2, {2.0: 1}, hem=-0.06, ease=0.02, patterns=FORMAL, opens=1.0),
    "vest": Cut(3, 1, {0.0: 1}, ease=0.02, patterns={"band": 1}, palette=SIGNAL),
    "tank": Cut(3, 6, {0.0: 1}),
    "dress": Cut(0, 16, {0.0: 4, 0.6: 4, 2.0: 2}, hem=-0.42, spread=0.1, ease=0.008),
}


def random_top(rng: Rng, woman: bool) -> Top:
    """A garment for the upper body, or a dress."""
    kind = pick(rng, {kind: cut.women if woman else cut.men for kind, cut in CUTS.items()})
    cut = CUTS[kind]
    sleeve = pick(rng, cut.sleeves)
    if 0 < sleeve < 2:
        sleeve += float(rng.normal(0.0, 0.08))
    return Top(
        kind=kind,
        fabric=random_fabric(rng, cut.palette, cut.patterns),
        sleeve=sleeve,
        hem=cut.hem + float(rng.normal(0.0, cut.spread)),
        ease=cut.ease + float(rng.uniform(0.0, 0.015)),
        inner=colour(rng, LININGS),
        open=bool(rng.random() < cut.opens),
    )


def random_bottom(rng: Rng, woman: bool, top: Top) -> Bottom:
    """A garment for the legs; under a dress there are bare legs or tights."""
    kinds = {"trousers": 62, "shorts": 20 if top.sleeve < 2 else 4, "skirt": 18 if woman else 0}
    kind = pick(rng, kinds)
    if top.kind in ("suit", "vest", "dress"):
        kind = "trousers"
    length = {"trousers": 2.0, "shorts": 0.85, "skirt": 1.0}[kind]
    if length < 2:
        length += float(rng.normal(0.0, 0.14))
    if top.kind == "dress":
        length = pick(rng, {0.0: 3, 2.0: 1})
    return Bottom(
        kind=kind,
        fabric=random_fabric(rng, BOTTOMS, TROUSERS if kind == "trousers" else SKIRTS),
        length=length,
        ease=pick(rng, {0.004: 3 if woman else 1, 0.014: 5, 0.03: 2}),
    )


def random_head(rng: Rng, woman: bool, hooded: bool) -> Head:
    """Hair, and sometimes a hat, glasses or a beard."""
    women = {"long": 34, "tail": 22, "bob": 18, "bun": 14, "short": 8}
    men = {"short": 50, "cropped": 26, "bald": 10, "bob": 5, "tail": 3, "long": 2}
    hats = {"none": 76, "cap": 10, "beanie": 6, "brim": 5, "hood": 16 if hooded else 0}
    return Head(
        style=pick(rng, women if woman else men),
        colour=jittered(rng, pick(rng, HAIRS), 0.015),
        hat=pick(rng, hats),
        hat_colour=colour(rng, LEATHER),
        glasses=bool(rng.random() < 0.25),
        beard=bool(not woman and rng.random() < 0.22),
    )


def random_bags(rng: Rng, woman: bool) -> tuple[Bag, ...]:
    """None, one or two things to carry, the second on the other side."""
    kinds = {"none": 30, "backpack": 16 if woman else 30, "cross": 14, "shoulder": 10}
    kinds |= {"hand": 12 if woman else 6, "shopping": 8, "suitcase": 5}
    chosen = [pick(rng, kinds)]
    if rng.random() < 0.12:
        chosen.append(pick(rng, {"hand": 2, "shopping": 3, "suitcase": 2, "cross": 1}))
    side = 1 if rng.random() < 0.5 else -1
    worn = [kind for kind in dict.fromkeys(chosen) if kind != "none"]
    return tuple(
        Bag(
            kind=kind,
            side=side if number == 0 else -side,
            colour=colour(rng, CARRIERS if kind == "shopping" else LEATHER),
            second=colour(rng, LEATHER),
            size=float(rng.uniform(0.85, 1.2)),
        )
        for number, kind in enumerate(worn)
    )


def pick(rng: Rng, weights: Mapping[T, float]) -> T:
    """One of the keys, as often as its weight says."""
    keys, shares = list(weights), list(accumulate(weights.values()))
    return keys[bisect_right(shares, float(rng.random()) * shares[-1])]


def colour(rng: Rng, palette: Mapping[str, float]) -> Colour:
    """A colour of the palette, as it came out of this dyer's vat."""
    return jittered(rng, COLOURS[pick(rng, palette)], 0.014)


def jittered(rng: Rng, base: Colour, spread: float) -> Colour:
    """The colour, a little lighter or darker and a little off its hue."""
    red, green, blue = (
        np.array(base) * rng.normal(1.0, 3 * spread) + rng.normal(0.0, spread, 3)
    ).clip(0.03, 0.97)
    return float(red), float(green), float(blue)


@lru_cache
def contrast(first: str, second: str) -> float:
    """How far two colours are apart in lightness and hue, about 0..1."""
    return float(np.linalg.norm(np.subtract(COLOURS[first], COLOURS[second])) / np.sqrt(3))
