"""What the surfaces of synthetic pedestrians look like: dyed, patterned, creased."""

import numpy as np

from deepsort_reid.synthetic.person.people import Colour, Fabric
from deepsort_reid.synthetic.raycast import Array, Paint


def noise() -> Array:
    """A smooth random tile (128, 128), mean 0 and deviation 1, that repeats without a seam."""
    rng = np.random.default_rng(1501)
    tile = np.kron(rng.normal(size=(16, 16)), np.ones((8, 8)))
    tile += np.roll(np.kron(rng.normal(size=(32, 32)), np.ones((4, 4))), 3, (0, 1))
    for axis in (0, 1):
        tile = np.stack([np.roll(tile, shift, axis) for shift in range(-4, 5)]).mean(0)
    smooth: Array = ((tile - tile.mean()) / tile.std()).astype(np.float32)
    return smooth


CREASES = noise()


def folds(along: Array, around: Array, offset: float, depth: float) -> Array:
    """Light and shade of creases, (N, 1) about 1, at places in metres along and around a limb."""
    row = (along * 90 + offset * 977).astype(np.int32) & 127
    column = (around * 150 + offset * 3571).astype(np.int32) & 127
    shades: Array = 1.0 + np.float32(depth) * CREASES.take(row * CREASES.shape[1] + column)
    return shades[:, None]


def dye(fabric: Fabric, along: Array, around: Array) -> Array:
    """A cloth's colours (N, 3) at places in metres along and around a limb."""
    if fabric.pattern not in ("hoops", "stripes", "check", "dots"):
        return np.tile(np.array(fabric.colour, np.float32), (len(along), 1))
    rows = (along / fabric.period + fabric.offset) % 1.0
    columns = (around / fabric.period + fabric.offset) % 1.0
    if fabric.pattern == "hoops":
        share = (rows < 0.48).astype(np.float32)
    elif fabric.pattern == "stripes":
        share = (columns < 0.36).astype(np.float32)
    elif fabric.pattern == "check":
        share = 0.5 * ((rows < 0.45).astype(np.float32) + (columns < 0.45))
    else:
        share = ((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.09).astype(np.float32)
    return blend(fabric.colour, fabric.second, share)


def worn(fabric: Fabric, along: Array, around: Array, depth: float = 0.075) -> Array:
    """A cloth's colours (N, 3), with folds."""
    return dye(fabric, along, around) * folds(along, around, fabric.offset, depth)


def blend(first: Colour, second: Colour, share: Array) -> Array:
    """Colours (N, 3) from the first, where the share (N,) is 0, to the second, where it is 1."""
    base = np.array(first, np.float32)
    return base + share[:, None] * (np.array(second, np.float32) - base)


def plain(tint: Colour, depth: float = 0.05) -> Paint:
    """One colour, with folds."""

    def paint(along: Array, around: Array) -> Array:
        return np.array(tint, np.float32) * folds(along, 0.1 * around, tint[0], depth)

    return paint


def darker(tint: Colour, factor: float) -> Colour:
    """The colour in a part of the light."""
    red, green, blue = tint
    return red * factor, green * factor, blue * factor
