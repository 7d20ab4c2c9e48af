"""Draws a synthetic person in a pose, seen from one side, on a layer; and the person's shadow."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepsort_reid.synthetic.person.bags import add_luggage, strap
from deepsort_reid.synthetic.person.cloth import blend, darker, dye, folds, plain, worn
from deepsort_reid.synthetic.person.head import add_head
from deepsort_reid.synthetic.person.people import Fabric, Person, Top
from deepsort_reid.synthetic.person.pose import SIDES, Pose, Skeleton, skeleton
from deepsort_reid.synthetic.raycast import (
    Array,
    Bytes,
    Canvas,
    Knot,
    Light,
    Paint,
    Vector,
    cross,
    norm,
    turned,
    unit,
    vector,
)

AVERAGE = 1.75  # metres: the height for which the widths below are given
REACH = (2.25, 0.35, 0.95)  # metres drawn above, below and beside the point stood on
TRUNK, HIP, ARM = 0.15, 0.16, 0.05  # metres from the axis at which a cloth's pattern is measured
WAIST = 0.13  # metres above the crotch from which skirts hang
DARK = 110  # of 255: how much light the ground about the feet lacks, even under an overcast sky


@dataclass(frozen=True)
class View:
    """From where somebody is seen: turned by `yaw` from facing the viewer, from `pitch` above."""

    yaw: float  # radians
    pitch: float  # radians
    light: Light


@dataclass(frozen=True)
class Layer:
    """A picture to lay over another: RGBA (H, W, 4), and where the point stood on falls."""

    picture: Bytes
    foot: tuple[float, float]  # row and column, in pixels


def draw(
    person: Person,
    pose: Pose,
    view: View,
    scale: tuple[float, float],
    clip: tuple[float, float, float, float] | None = None,
) -> Layer | None:
    """Draw one person.

    Args:
        person: who.
        pose: doing what.
        view: seen from where, in which light.
        scale: pixels per metre, down and across.
        clip: top, left, bottom and right of what will be seen, in pixels from the point stood on;
            nothing else is drawn.

    Returns:
        A layer with hard edges: draw larger and reduce where they should be smooth. None if there
        is nothing to be seen.
    """
    above, below, beside = REACH
    top, left, bottom, right = clip or (-np.inf, -np.inf, np.inf, np.inf)
    top, bottom = max(top, -above * scale[0]), min(bottom, below * scale[0])
    left, right = max(left, -beside * scale[1]), min(right, beside * scale[1])
    size, origin = (round(bottom - top), round(right - left)), (-top, -left)
    if min(size) < 2:
        return None
    canvas = Canvas(size, origin, scale, turned(view.yaw, view.pitch))
    bones = skeleton(person, pose)
    for add in (add_legs, add_torso, add_skirts, add_arms, add_head, add_luggage):
        add(canvas, person, bones)
    window = canvas.used()
    if window is None:
        return None
    foot = (origin[0] - window[0].start, origin[1] - window[1].start)
    return Layer(canvas.shaded(view.light, window), foot)


@lru_cache(maxsize=1024)
def limb(
    radii: tuple[tuple[float, float], ...], size: float, ease: float, edge: float
) -> tuple[Knot, ...]:
    """Knots of a round limb whose cloth, `ease` thick, ends at `edge`; places are in 0..1."""
    given, wide = np.array(radii).T
    places = np.union1d(given, [edge - 0.01, edge + 0.01] if 0 < edge < 1 else [])
    widths = size * np.interp(places, given, wide) + ease * (places < edge)
    return tuple(zip(places.tolist(), widths.tolist(), widths.tolist(), strict=True))


# Legs


def add_legs(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """Thighs, shins and shoes."""
    bottom = person.bottom
    size = person.build.girth * person.build.height / AVERAGE
    covered = 0.0 if bottom.kind == "skirt" else bottom.length
    ease = bottom.ease if covered else 0.0
    shin: tuple[tuple[float, float], ...] = (
        (0.0, 0.055),
        (0.3, 0.058),
        (0.75, 0.042),
        (1.0, 0.036),
    )
    if covered >= 2 and ease > 0.01:  # a trouser leg falls straight from the knee
        shin = ((0.0, 0.055), (1.0, 0.05))
    hidden = 0.9 * max(-person.top.hem, skirt_drop(person), 0.0)
    haunch = ((0.0, 0.065 if hidden else 0.088), (0.5, 0.065 if hidden else 0.075), (1.0, 0.057))
    thigh = limb(haunch, size, ease, covered)
    calf = limb(shin, size, ease, covered - 0.99)
    for hip, knee, ankle, toe, side in zip(
        bones.hips, bones.knees, bones.ankles, bones.toes, SIDES, strict=True
    ):
        length, out = norm(knee - hip), vector(side, 0.0, 0.0)
        # Under a skirt there is no thigh: it would come through the cloth in a long step.
        if hidden < length:
            start = hip + (knee - hip) * (hidden / length)
            paint = leg_paint(person, side, covered, 0, length)
            canvas.loft(start, knee, out, thigh, paint, caps="end" if hidden else "both")
        canvas.loft(knee, ankle, out, calf, leg_paint(person, side, covered, 1, length))
        add_shoe(canvas, person, ankle, toe)


def leg_paint(person: Person, side: int, covered: float, joints: int, length: float) -> Paint:
    """Cloth as far as it reaches, then skin or boots; `joints` lie between here and the hip."""
    fabric = person.bottom.fabric
    radius = 0.055 if joints else 0.075

    def paint(along: Array, around: Array) -> Array:
        colours = dye(fabric, along + joints * length, around * radius)
        colours *= folds(along, around * radius, fabric.offset + 0.3 * side, 0.09)
        if fabric.pattern == "band":
            colours[np.abs(around - np.pi / 2) < 0.35] = fabric.second
        if fabric.pattern == "block" and joints:
            colours[along > 0.55 * length] = fabric.second
        place = joints + along / length
        colours[place >= covered] = person.skin
        if person.boots:
            colours[place > 1.5] = person.shoes
        return colours

    return paint


def add_shoe(canvas: Canvas, person: Person, ankle: Vector, toe: Vector) -> None:
    """An upper and a sole."""
    up = unit(vector(0.0, 1.0, 0.0) - toe * toe[1])
    axes = np.stack([cross(up, toe), up, toe])
    size = person.build.height / AVERAGE

    def paint(height: Array, _: Array) -> Array:
        return blend(person.shoes, person.soles, (height < -0.5).astype(np.float32))

    middle = ankle + (0.07 * toe - 0.035 * up) * size
    canvas.ellipsoid(middle, axes, vector(0.048, 0.05, 0.145) * size, paint)
    canvas.ellipsoid(ankle - 0.01 * up, axes, vector(0.045, 0.055, 0.055) * size, paint)


# Torso


def add_torso(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """From the crotch to the neck: the top, and what it leaves to see of the bottom."""
    top, size = person.top, person.build.height / AVERAGE
    length = norm(bones.neck - bones.crotch)
    left = unit(bones.shoulders[1] - bones.shoulders[0])
    trunk = torso_shape(person, length)
    canvas.loft(bones.crotch, bones.neck, left, trunk, torso_paint(person, length), caps="start")
    if top.kind == "hoodie" and person.head.hat != "hood":
        hood = plain(darker(top.fabric.colour, 0.85))
        nape = bones.neck - vector(0.0, 0.0, 0.055)
        canvas.ellipsoid(nape, np.eye(3), vector(0.1, 0.06, 0.08) * size, hood)
    if person.scarf:
        throat = bones.neck + vector(0.0, 0.01, 0.012)
        canvas.ellipsoid(
            throat, np.eye(3), vector(0.1, 0.048, 0.1) * size, plain(person.scarf, 0.15)
        )


def torso_shape(person: Person, length: float) -> list[Knot]:
    """A trunk's half-widths, with the top standing off it above the hem."""
    build, top = person.build, person.top
    size = build.girth * build.height / AVERAGE
    belly = 0.06 * build.belly
    knots = [
        (0.0, 0.150 * build.hips, 0.105),
        (0.14, 0.172 * build.hips, 0.118),
        (0.36, 0.142, 0.105 + belly),
        (0.66, 0.165, 0.122 + 0.4 * belly),
        (0.84, 0.176 * build.shoulders, 0.105),
        (0.92, 0.145 * build.shoulders, 0.092),
        (0.97, 0.095, 0.075),
        (1.0, 0.062, 0.06),
    ]
    eases = [top.ease * (place * length > max(top.hem, 0.0)) for place, _, _ in knots]
    return [
        (place, wide * size + ease, deep * size + ease)
        for (place, wide, deep), ease in zip(knots, eases, strict=True)
    ]


def torso_paint(person: Person, length: float) -> Paint:
    """The top's cloth and cut, the bottom's cloth below the hem, and the straps over both."""
    top, bottom = person.top, person.bottom

    def paint(along: Array, around: Array) -> Array:
        colours = dye(top.fabric, along, around * TRUNK)
        ornament(colours, top.fabric, along / length, around)
        colours *= folds(along, around * TRUNK, top.fabric.offset, 0.075)
        cut_out(colours, person, length - along, around)
        if top.hem > 0:
            below = along < top.hem
            colours[below] = worn(bottom.fabric, along[below], around[below] * TRUNK)
            colours[np.abs(along - top.hem) < 0.008] *= 0.6
        for bag in person.bags:
            colours[strap(bag, along / length, around)] = darker(bag.colour, 0.8)
        return colours

    return paint


def ornament(colours: Array, fabric: Fabric, rise: Array, around: Array) -> None:
    """Paint what belongs to the torso alone; `rise` is 0 at the crotch and 1 at the neck."""
    beside, front = np.abs(np.sin(around)), np.cos(around) > 0
    if fabric.pattern == "block":
        colours[rise > 0.45 + 0.35 * fabric.offset] = fabric.second
    elif fabric.pattern == "band":
        colours[np.abs(rise - 0.45 - 0.3 * fabric.offset) < 0.07] = fabric.second
    elif fabric.pattern == "logo":
        colours[front & (beside < 0.45) & (np.abs(rise - 0.66) < 0.1)] = fabric.second
    elif fabric.pattern == "print":
        colours[(beside / 0.72) ** 2 + ((rise - 0.55) / 0.26) ** 2 < 1.0] = fabric.second


def cut_out(colours: Array, person: Person, drop: Array, around: Array) -> None:
    """Paint what the top leaves to see, in front and at the neck, `drop` metres below it."""
    top, beside, front = person.top, np.abs(np.sin(around)), np.cos(around) > 0
    if top.kind == "suit":
        gap = front & (beside < 0.75 * (0.3 - drop))
        colours[gap] = top.inner
        colours[gap & (beside < 0.07)] = top.fabric.second  # a tie
    elif top.open:
        colours[front & (beside < 0.22)] = top.inner
    elif top.kind in ("jacket", "coat", "hoodie", "vest"):
        colours[front & (beside < 0.05)] *= 0.55  # a zip
    collar, bare = collar_of(top), top.kind in ("tank", "dress", "tee")
    colours[front & (drop < collar - 0.3 * beside)] = person.skin if bare else top.inner
    if top.kind == "tank":
        colours[(drop < 0.17) & (beside > 0.72)] = person.skin
        colours[(drop < 0.10) & ~front & (beside < 0.4)] = person.skin


def collar_of(top: Top) -> float:
    """How far below the neck the top begins in front, in metres."""
    return {"tank": 0.16, "dress": 0.12, "tee": 0.07}.get(top.kind, 0.05)


def add_skirts(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """What hangs below the waist: a skirt, or a dress's or a coat's lower part."""
    top, bottom = person.top, person.bottom
    if top.hem < -0.05:
        hang(canvas, person, bones, top.fabric, -top.hem, top.ease + 0.01, parted=top.open)
    if bottom.kind == "skirt":
        hang(canvas, person, bones, bottom.fabric, skirt_drop(person), 0.006, parted=False)


def skirt_drop(person: Person) -> float:
    """How far below the crotch a skirt reaches, in metres; 0 without one."""
    bottom = person.bottom
    return bottom.length * 0.22 * person.build.height if bottom.kind == "skirt" else 0.0


def hang(
    canvas: Canvas,
    person: Person,
    bones: Skeleton,
    fabric: Fabric,
    drop: float,
    ease: float,
    *,
    parted: bool,
) -> None:
    """Cloth from the waist to `drop` metres below the crotch, wide enough for the step."""
    size = person.build.girth * person.build.height / AVERAGE
    wide = 0.172 * person.build.hips * size
    knees = [float(knee[2]) for knee in bones.knees]
    reached = min(drop / float(bones.crotch[1] - bones.knees[0][1]), 1.2)
    deep = max(0.12 * size, 0.5 * reached * (max(knees) - min(knees)) + 0.085 * size)
    waist = bones.crotch + vector(0.0, WAIST, 0.0)
    end = bones.crotch + vector(0.0, -drop, 0.5 * reached * sum(knees))
    shape = [
        (0.0, 0.95 * wide + ease, 0.112 * size + ease),
        (0.35, wide + ease, 0.12 * size + ease),
        (0.7, wide * (1.0 + 0.08 * fabric.offset) + ease, max(0.12 * size, 0.75 * deep) + ease),
        (1.0, wide * (1.0 + 0.16 * fabric.offset) + ease, deep + ease),
    ]
    paint = skirt_paint(person, fabric, drop + WAIST, parted=parted)
    canvas.loft(waist, end, vector(-1.0, 0.0, 0.0), shape, paint, caps="none")


def skirt_paint(person: Person, fabric: Fabric, length: float, *, parted: bool) -> Paint:
    """Cloth in pleats; a coat that is `parted` shows what is worn below it."""

    def paint(along: Array, around: Array) -> Array:
        colours = worn(fabric, along - WAIST, around * HIP, 0.06)
        pleats = 1.0 + 0.07 * np.sin(around * 9 + 5 * fabric.offset) * (along / length)
        colours *= pleats[:, None]
        if fabric.pattern == "band":
            colours[along > 0.8 * length] = fabric.second
        if parted:
            gap = np.abs(np.sin(around)) < 0.05 + 0.25 * along / length
            colours[gap & (np.cos(around) > 0)] = darker(person.bottom.fabric.colour, 0.8)
        return colours

    return paint


# Arms


def add_arms(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """Upper arms, forearms and hands."""
    top, build = person.top, person.build
    size = build.height / AVERAGE
    thick, ease = size * (0.5 + 0.5 * build.girth), 0.8 * top.ease
    upper = limb(((0.0, 0.05), (0.3, 0.052), (1.0, 0.042)), thick, ease, top.sleeve)
    fore = limb(((0.0, 0.042), (0.25, 0.042), (1.0, 0.028)), thick, ease, top.sleeve - 0.99)
    for shoulder, elbow, wrist, side in zip(
        bones.shoulders, bones.elbows, bones.wrists, SIDES, strict=True
    ):
        length, out = norm(elbow - shoulder), vector(side, 0.0, 0.0)
        canvas.loft(shoulder, elbow, out, upper, sleeve_paint(person, 0, length))
        canvas.loft(elbow, wrist, out, fore, sleeve_paint(person, 1, length))
        along = unit(wrist - elbow)
        across = unit(cross(along, vector(1.0, 0.0, 0.0)))
        axes = np.stack([cross(along, across), along, across])
        palm = wrist + 0.06 * size * along
        canvas.ellipsoid(palm, axes, vector(0.026, 0.085, 0.045) * size, plain(person.skin, 0.02))


def sleeve_paint(person: Person, joints: int, length: float) -> Paint:
    """Cloth as far as the sleeve reaches, then skin; `joints` lie between here and the shoulder."""
    fabric, sleeve = person.top.fabric, person.top.sleeve

    def paint(along: Array, around: Array) -> Array:
        colours = dye(fabric, along + joints * length, around * ARM)
        if fabric.pattern == "raglan":
            colours[:] = fabric.second
        if fabric.pattern == "band" and not joints:
            colours[np.abs(along - 0.17) < 0.04] = fabric.second
        colours *= folds(along, around * ARM, fabric.offset + 0.17, 0.09)
        colours[joints + along / length >= sleeve] = person.skin
        return colours

    return paint


# Shadows


def slopes(view: View) -> tuple[float, float]:
    """Where the shadow of a point 1 above the feet falls: to the right of them and down."""
    x, y, z = view.light.direction
    away = float(z / y * np.sin(view.pitch))
    return -x / y, max(abs(away), 0.08) * (1.0 if away >= 0 else -1.0)  # never thinner than a line


def shadow(
    layer: Layer,
    zoom: float,
    foot: tuple[float, float],
    scale: float,
    view: View,
    size: tuple[int, int],
    *,
    blur: float,
) -> Image.Image:
    """How much light a person takes from the ground, 255 for all of it.

    Args:
        layer: the person.
        zoom: pixels of the layer for one of the shadow.
        foot: row and column of the point that the person stands on, in the shadow's picture.
        scale: pixels per metre across, in the shadow's picture.
        view: from where the layer was drawn, and in which light.
        size: width and height of the shadow's picture.
        blur: its softness, in pixels.
    """
    row, column = foot
    aside, away = slopes(view)
    # The person is laid down: an affine map from the ground back to its layer.
    matrix = (
        *(zoom, zoom * aside / away, layer.foot[1] - zoom * (column + aside / away * row)),
        *(0.0, zoom / away, layer.foot[0] - zoom * row / away),
    )
    strength = 0.8 * view.light.sun[0]
    alpha = Image.fromarray(layer.picture[..., 3])
    cast = alpha.transform(size, Image.Transform.AFFINE, matrix)
    shade = cast.point([round(n * strength) for n in range(256)])
    reach = 0.26 * scale
    edges = (column - reach, row - 0.3 * reach, column + reach, row + 0.3 * reach)
    ImageDraw.Draw(shade).ellipse(edges, fill=DARK)
    return shade.filter(ImageFilter.BoxBlur(blur))
