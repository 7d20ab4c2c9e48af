"""The heads of synthetic pedestrians: face, hair and hat."""

import numpy as np

from deepsort_reid.synthetic.person.cloth import darker, folds, plain
from deepsort_reid.synthetic.person.people import Colour, Head, Person
from deepsort_reid.synthetic.person.pose import Skeleton
from deepsort_reid.synthetic.raycast import Array, Canvas, Paint, Vector, vector

RADII = vector(0.081, 0.122, 0.1)  # of a head: to its left, up and ahead, in metres
FRAMES = (0.1, 0.1, 0.12)  # of glasses


def add_head(canvas: Canvas, person: Person, bones: Skeleton) -> None:
    """Neck, face, hair and hat."""
    size = (person.build.height / 1.75) ** 0.5  # a tall person's head is not much larger
    head, face, radii = bones.head, bones.face, RADII * size
    bare = plain(person.skin, 0.0)
    base = bones.neck - vector(0.0, 0.03, 0.0)
    canvas.loft(base, head, face[0], [(0.0, 0.062, 0.06), (1.0, 0.052, 0.055)], bare)
    canvas.ellipsoid(head, face, radii, face_paint(person))
    nose = head + 0.098 * size * face[2] - 0.015 * face[1]
    canvas.ellipsoid(nose, face, vector(0.014, 0.024, 0.016), bare)
    add_hair(canvas, person.head, head, face, radii)
    hood = darker(person.top.fabric.colour, 0.95)
    add_hat(canvas, person.head, hood, head, face, radii)


def face_paint(person: Person) -> Paint:
    """Skin, brows, eyes, mouth, beard, and hair where it grows close."""
    hair = person.head

    def paint(height: Array, around: Array) -> Array:
        colours = np.tile(np.array(person.skin, np.float32), (len(height), 1))
        beside = np.abs(around)
        colours[(np.abs(height + 0.48) < 0.06) & (beside < 0.38)] *= (0.8, 0.55, 0.55)
        if hair.beard:
            colours[(height < -0.3) & (beside < 1.7)] = hair.colour
        colours[(np.abs(height - 0.08) < 0.085) & (np.abs(beside - 0.45) < 0.2)] *= 0.35
        colours[(np.abs(height - 0.24) < 0.045) & (np.abs(beside - 0.45) < 0.26)] *= 0.5
        if hair.glasses:
            colours[(np.abs(height - 0.08) < 0.11) & (np.abs(beside - 0.46) < 0.34)] = FRAMES
            colours[(np.abs(height - 0.1) < 0.04) & (beside < 1.6)] = FRAMES
        if hair.style != "bald":
            colours[height > hairline(beside)] = hair.colour
        return colours

    return paint


def hairline(beside: Array) -> Array:
    """How high on the head hair begins, in −1..1, at an angle from the face."""
    temple = 0.52 - 0.6 * (beside - 0.5).clip(0.0)
    return np.where(beside < 1.3, temple, -0.38)


def hair_paint(tint: Colour) -> Paint:
    """Hair, with strands."""

    def paint(along: Array, around: Array) -> Array:
        return np.array(tint, np.float32) * folds(0.1 * along, around * 0.4, tint[1], 0.16)

    return paint


def add_hair(canvas: Canvas, hair: Head, head: Vector, face: Vector, radii: Vector) -> None:
    """The hair that stands off the head: it is set back, so that the face stays free."""
    if hair.style in ("bald", "cropped"):
        return
    left, up, ahead = face
    paint = hair_paint(hair.colour)
    if hair.style == "bob":
        canvas.ellipsoid(head + 0.01 * up - 0.035 * ahead, face, radii * (1.28, 1.06, 1.04), paint)
        canvas.ellipsoid(head - 0.06 * up - 0.04 * ahead, face, radii * (1.3, 0.62, 0.85), paint)
    else:
        canvas.ellipsoid(head + 0.022 * up - 0.026 * ahead, face, radii * (1.1, 1.0, 1.02), paint)
    if hair.style == "long":
        fall = [(0.0, 0.09, 0.06), (0.5, 0.105, 0.055), (1.0, 0.085, 0.03)]
        canvas.loft(head - 0.05 * ahead, head - 0.36 * up - 0.1 * ahead, left, fall, paint)
    elif hair.style == "tail":
        tail = [(0.0, 0.03, 0.03), (0.5, 0.045, 0.04), (1.0, 0.02, 0.02)]
        tie = head + 0.04 * up - 0.1 * ahead
        canvas.loft(tie, head - 0.25 * up - 0.15 * ahead, left, tail, paint)
    elif hair.style == "bun":
        canvas.ellipsoid(head + 0.09 * up - 0.085 * ahead, face, np.full(3, 0.05), paint)


def add_hat(
    canvas: Canvas, wearer: Head, hood: Colour, head: Vector, face: Vector, radii: Vector
) -> None:
    """A cap, a woollen hat, a sun hat or the hood."""
    _, up, ahead = face
    paint = plain(wearer.hat_colour)
    if wearer.hat == "cap":
        canvas.ellipsoid(head + 0.052 * up - 0.008 * ahead, face, radii * (1.13, 0.72, 1.1), paint)
        peak = head + 0.06 * up + 0.11 * ahead
        canvas.ellipsoid(peak, face, vector(0.075, 0.014, 0.075), paint)
    elif wearer.hat == "beanie":
        canvas.ellipsoid(head + 0.055 * up - 0.015 * ahead, face, radii * (1.14, 0.82, 1.1), paint)
    elif wearer.hat == "brim":
        canvas.ellipsoid(head + 0.07 * up, face, radii * (1.08, 0.66, 1.05), paint)
        canvas.ellipsoid(head + 0.06 * up, face, vector(0.17, 0.018, 0.18), paint)
    elif wearer.hat == "hood":
        back = head + 0.012 * up - 0.042 * ahead
        canvas.ellipsoid(back, face, radii * (1.4, 1.18, 1.15), plain(hood, 0.08))
