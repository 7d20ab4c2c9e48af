"""What synthetic pedestrians carry: backpacks, handbags, shopping and suitcases."""

from collections.abc import Callable

import numpy as np

from deepsort_reid.synthetic.person.cloth import blend, darker, folds, plain
from deepsort_reid.synthetic.person.people import Bag, Colour, Person
from deepsort_reid.synthetic.person.pose import Skeleton
from deepsort_reid.synthetic.raycast import Array, Canvas, Mask, Vector, cross, turned, unit, vector

METAL = (0.35, 0.35, 0.37)


def add_luggage(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """Everything that somebody carries."""
    for bag in person.bags:
        CARRY[bag.kind](canvas, bag, bones)


def strap(bag: Bag, rise: Array, around: Array) -> Mask:
    """Where a bag's straps lie on the torso (N,); `rise` is 0 at the crotch, 1 at the neck."""
    sideways, front = np.sin(around), np.cos(around) > 0
    if bag.kind == "backpack":
        return front & (np.abs(np.abs(sideways) - 0.56) < 0.13) & (rise > 0.42)
    if bag.kind == "cross":
        slant = bag.side * sideways - 0.85 + 1.94 * (rise - 0.15)
        return (np.abs(slant) < 0.15) & (rise > 0.15)
    return np.zeros(len(rise), np.bool_)


def add_backpack(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """On the back, with a pocket of the second colour; the torso's paint has the straps."""
    left = unit(bones.shoulders[1] - bones.shoulders[0])
    up = unit(bones.neck - bones.crotch)
    back = unit(cross(up, left))
    tall, wide, deep = 0.44 * bag.size, 0.15 * bag.size, 0.09 * bag.size
    top = bones.neck - 0.09 * up + 0.16 * back
    foot = top - (tall - wide) * up + 0.03 * back
    body = [(0.0, 0.85 * wide, 0.75 * deep), (0.4, wide, deep), (1.0, 0.95 * wide, 1.1 * deep)]
    canvas.loft(top, foot, left, body, plain(bag.colour, 0.07))
    low, high = foot + 0.75 * deep * back, foot + 0.12 * up + 0.7 * deep * back
    pocket = [(0.0, 0.7 * wide, 0.5 * deep), (1.0, 0.7 * wide, 0.45 * deep)]
    canvas.loft(low, high, left, pocket, plain(bag.second))


def add_cross(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """At the hip, on a strap across the chest, which the torso's paint has."""
    middle = bones.crotch + vector(bag.side * 0.2, 0.06, 0.01)
    add_satchel(canvas, bag, middle, vector(0.055, 0.11, 0.15), 0.35 * bag.side)


def add_shoulder(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """Under the arm, on straps over the shoulder of its side."""
    shoulder = bones.shoulders[bag.side > 0]
    middle = vector(shoulder[0] + bag.side * 0.07, bones.crotch[1] + 0.2, -0.05)
    add_satchel(canvas, bag, middle, vector(0.05, 0.13, 0.16), 0.1 * bag.side)
    for shift in (-0.08, 0.08):
        high = shoulder + vector(-0.02 * bag.side, 0.05, 0.3 * shift)
        add_rope(canvas, middle + vector(0.0, 0.1, shift), high, bag.colour)


def add_handbag(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """Hanging from the hand."""
    hand = bones.wrists[bag.side > 0] - vector(0.0, 0.09, 0.0)
    middle = hand + vector(bag.side * 0.01, -0.22, 0.0)
    add_satchel(canvas, bag, middle, vector(0.055, 0.12, 0.17), 0.0)
    for shift in (-0.09, 0.09):
        add_rope(canvas, middle + vector(0.0, 0.1, shift), hand, bag.colour)


def add_shopping(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """A carrier bag, thin at the hand and full at the bottom."""
    hand = bones.wrists[bag.side > 0] - vector(0.0, 0.07, 0.0)
    shape = [(0.0, 0.015, 0.02), (0.3, 0.05, 0.09), (0.6, 0.08, 0.14), (1.0, 0.085, 0.13)]

    def paint(along: Array, around: Array) -> Array:
        mark = (np.abs(along - 0.27) < 0.05) & (np.abs(np.sin(around)) > 0.6)
        colours = blend(bag.colour, bag.second, mark.astype(np.float32))
        return colours * folds(along, 0.1 * around, 0.3, 0.1)

    end = hand + vector(bag.side * 0.03, -0.4 * bag.size, 0.0)
    canvas.loft(hand, end, vector(1.0, 0.0, 0.0), shape, paint)


def add_suitcase(canvas: Canvas, bag: Bag, bones: Skeleton) -> None:
    """On wheels, behind and beside."""
    middle = vector(bag.side * 0.33, 0.06 + 0.3 * bag.size, -0.36)
    axes = turned(0.0, 0.3)

    def paint(height: Array, breadth: Array) -> Array:
        ribs = (np.abs((breadth * 3) % 1.0 - 0.5) < 0.13).astype(np.float32)
        return blend(bag.colour, darker(bag.colour, 0.6), ribs) * (1.0 + 0.05 * height[:, None])

    canvas.box(middle, axes, vector(0.19, 0.28, 0.12) * bag.size, paint)
    grip = bones.wrists[bag.side > 0] - vector(0.0, 0.08, 0.0)
    for shift in (-0.07, 0.07):
        add_rope(canvas, middle + 0.27 * axes[1] + shift * axes[0], grip, METAL)


def add_satchel(canvas: Canvas, bag: Bag, middle: Vector, halves: Vector, turn: float) -> None:
    """A box with a flap of the second colour."""

    def paint(height: Array, breadth: Array) -> Array:
        colours = blend(bag.colour, bag.second, (height > 0.25).astype(np.float32))
        return colours * folds(0.1 * height, 0.1 * breadth, bag.colour[1], 0.06)

    canvas.box(middle, turned(turn).T, halves * bag.size, paint)


def add_rope(canvas: Canvas, start: Vector, end: Vector, tint: Colour) -> None:
    """A strap or a handle."""
    paint = plain(darker(tint, 0.8), 0.0)
    thin = [(0.0, 0.014, 0.014), (1.0, 0.014, 0.014)]
    canvas.loft(start, end, vector(0.0, 0.0, 1.0), thin, paint, caps="none")


CARRY: dict[str, Callable[[Canvas, Bag, Skeleton], None]] = {
    "backpack": add_backpack,
    "cross": add_cross,
    "shoulder": add_shoulder,
    "hand": add_handbag,
    "shopping": add_shopping,
    "suitcase": add_suitcase,
}
