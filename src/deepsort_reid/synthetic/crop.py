"""What a detector cuts out of a synthetic camera's frame: somebody, among others, in a box."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deepsort_reid.synthetic.person.figure import Layer, View, draw, shadow
from deepsort_reid.synthetic.person.people import Person, Rng, pick, random_person
from deepsort_reid.synthetic.person.pose import random_pose
from deepsort_reid.synthetic.props import IN_THE_WAY, Pen
from deepsort_reid.synthetic.raycast import Array
from deepsort_reid.synthetic.scenery import FRAME, Camera

SUPERSAMPLING = 2
ASPECT = 0.44  # a box's width over its height
HEADROOM = 1.07  # a box's height over the person's
NEAR, FAR = 0.97, 0.62  # where people walk: rows of the frame, as shares of its height


@dataclass(frozen=True)
class Box:
    """A detector's box in a picture, in pixels."""

    left: float
    top: float
    width: float
    height: float

    def inside(self, size: tuple[int, int] = FRAME) -> "Box":
        """The part of the box that lies in a picture of that height and width."""
        left, top = max(self.left, 0.0), max(self.top, 0.0)
        right, bottom = min(self.left + self.width, size[1]), min(self.top + self.height, size[0])
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class Slip:
    """By how much a box misses somebody: shares of the right one's height, and factors."""

    across: float = 0.0
    down: float = 0.0
    size: float = 1.0
    breadth: float = 1.0  # beside the size


def box_about(row: float, column: float, height: float, slip: Slip) -> Box:
    """The box about somebody whose feet are at a row and a column; `height` is the right one's."""
    wide = ASPECT * height * slip.size * slip.breadth
    left = column + slip.across * height - wide / 2
    top = row - 0.465 * height + slip.down * height - height * slip.size / 2
    return Box(left, top, wide, height * slip.size)


@dataclass(frozen=True)
class Place:
    """Where somebody stands: metres from the camera, and a column of the frame."""

    distance: float
    column: float


def compose(
    rng: Rng, eye: Camera, person: Person | None, size: tuple[int, int], *, spoilt: bool
) -> Array:
    """Draw what lies in a detector's box about somebody, or about nobody.

    Args:
        rng: decides on everything but the person and the camera.
        eye: the camera.
        person: whom the box is about; None for a box about nothing.
        size: height and width of the result, in pixels.
        spoilt: whether the box is too badly placed to be of use.

    Returns:
        (*size, 3) in 0..1, as it is before the camera's optics and electronics.
    """
    near, far = eye.distance(NEAR * FRAME[0]), eye.distance(FAR * FRAME[0])
    place = Place(float(rng.uniform(near, far)), float(rng.uniform(0.15, 0.85)) * FRAME[1])
    tall = person.build.height if person else 1.7
    stage = Stage(eye, detect(rng, eye, place, tall, spoilt=spoilt), size)
    for _ in range(int(rng.choice(3, p=[0.6, 0.3, 0.1]))):
        behind = beside(rng, eye, place, closer=-float(rng.uniform(0.7, 3.5)), least=0.3)
        stage.walk_on(rng, random_person(rng), behind)
    if person:
        stage.walk_on(rng, person, place)
    hindrance = rng.random()
    if hindrance < 0.07:
        stage.walk_on(rng, random_person(rng), beside(rng, eye, place, closer=0.5, least=0.38))
    elif hindrance < 0.22:
        closer = float(rng.uniform(0.3, 0.8))
        stage.put_up(rng, beside(rng, eye, place, closer=closer, least=0.0))
    return stage.picture()


def beside(rng: Rng, eye: Camera, place: Place, *, closer: float, least: float) -> Place:
    """A place to the left or the right of another, so many metres closer to the camera."""
    aside = float(rng.choice([-1.0, 1.0]) * rng.uniform(least, least + 0.6))
    scale = eye.scale(eye.row(place.distance))
    return Place(place.distance - closer, place.column + aside * scale)


def detect(rng: Rng, eye: Camera, place: Place, tall: float, *, spoilt: bool) -> Box:
    """Draw a box about somebody: mostly well, at times badly, uselessly if spoilt."""
    row = eye.row(place.distance)
    height = HEADROOM * tall * eye.scale(row)
    careless = 1.0 if rng.random() < 0.8 else 2.6
    across, down = rng.normal(0.0, 0.022 * careless, 2).tolist()
    size = float(np.exp(rng.normal(0.02, 0.05 * careless)))
    if spoilt:
        across, down = (rng.choice([-1, 1], 2) * rng.uniform([0.12, 0.2], [0.3, 0.5])).tolist()
        size *= float(rng.choice([0.5, 0.75, 1.5]))
    slip = Slip(across, down, size, breadth=float(np.exp(rng.normal(0.0, 0.06))))
    return box_about(row, place.column, height, slip).inside()


class Stage:
    """The inside of a box, drawn larger than it will be: a scene, and whoever walks on."""

    def __init__(self, eye: Camera, box: Box, size: tuple[int, int]):
        """Start with the empty scene."""
        self.eye, self.box = eye, box
        height, width = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
        self.zoom = (height / box.height, width / box.width)
        edges = (box.left, box.top, box.left + box.width, box.top + box.height)
        self.canvas = eye.scene.resize((width, height), Image.Resampling.BILINEAR, box=edges)

    def locate(self, place: Place) -> tuple[tuple[float, float], tuple[float, float]]:
        """Row and column of a place on the canvas, and pixels per metre there, down and across."""
        row = self.eye.row(place.distance)
        scale = self.eye.scale(row)
        foot = ((row - self.box.top) * self.zoom[0], (place.column - self.box.left) * self.zoom[1])
        return foot, (scale * self.zoom[0], scale * self.zoom[1])

    def walk_on(self, rng: Rng, person: Person, place: Place) -> None:
        """Draw somebody over what is there, with a shadow."""
        foot, scale = self.locate(place)
        yaw = float(rng.choice(self.eye.headings)) + float(rng.normal(0.0, 0.3))
        view = View(yaw, self.eye.pitch(self.eye.row(place.distance)), self.eye.light)
        width, height = self.canvas.size
        clip = (-foot[0], -foot[1], height - foot[0], width - foot[1])
        layer = draw(person, random_pose(rng, person), view, scale, clip)
        if layer is None:
            return
        self.canvas.paste((0, 0, 0), (0, 0), self.shadow(layer, foot, scale, view))
        picture = Image.fromarray(layer.picture)
        corner = (round(foot[1] - layer.foot[1]), round(foot[0] - layer.foot[0]))
        self.canvas.paste(picture, corner, picture.getchannel("A"))

    def shadow(
        self, layer: Layer, foot: tuple[float, float], scale: tuple[float, float], view: View
    ) -> Image.Image:
        """How much light somebody takes from the ground: the canvas's size, 255 for all of it.

        It is soft, so it is drawn at half the size.
        """
        width, height = self.canvas.size
        half, middle = (width // 2, height // 2), (foot[0] / 2, foot[1] / 2)
        soft = shadow(layer, 2.0, middle, scale[1] / 2, view, half, blur=0.016 * height / 2)
        return soft.resize((width, height), Image.Resampling.BILINEAR)

    def put_up(self, rng: Rng, place: Place) -> None:
        """Put a thing in the way."""
        (row, column), (down, across) = self.locate(place)
        pen = Pen(ImageDraw.Draw(self.canvas), (column, row), (across, down))
        pick(rng, IN_THE_WAY)(pen, rng)

    def picture(self) -> Array:
        """The canvas at its final size, in 0..1."""
        return np.asarray(self.canvas.reduce(SUPERSAMPLING), np.float32) / np.float32(255)
