"""Frames of a synthetic street, drawn from far to near, and how much of whom each of them shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deepsort_reid.synthetic.camera_motion import PANORAMA
from deepsort_reid.synthetic.crop import HEADROOM, Box, Slip, box_about
from deepsort_reid.synthetic.person.figure import REACH, Layer, View, draw, shadow, slopes
from deepsort_reid.synthetic.person.people import pick
from deepsort_reid.synthetic.props import IN_THE_WAY, Pen, railing
from deepsort_reid.synthetic.raycast import Array, Bytes
from deepsort_reid.synthetic.scenery import FOCAL, develop
from deepsort_reid.synthetic.street import Street, Thing, Walker

SUPERSAMPLING = 2
LEAST = 0.1  # the share of somebody that lies in the frame before they count as seen
WIDEST, TALLEST = 1.2, 6.2  # metres of a thing beside and above its foot
NARROW = {thing: weight for thing, weight in IN_THE_WAY.items() if thing is not railing}

Region = tuple[slice, slice]  # rows and columns of a frame
Spot = tuple[float, float, float]  # row and column in a frame, pixels per metre there


@dataclass(frozen=True)
class Sight:
    """Somebody in a frame."""

    identity: int  # from 1
    row: float  # of the feet, in pixels
    column: float
    height: float  # of the right box
    visible: float  # the share of them that lies in the frame and that nothing hides

    @property
    def box(self) -> Box:
        """The right box: framed as `crops` frames people, beyond the frame's edges if need be.

        It has the height of somebody seen from the side, so there is room above who is seen from
        above: a network that learned from such boxes expects it.
        """
        return box_about(self.row, self.column, self.height, Slip())


@dataclass(frozen=True)
class Cutout:
    """What is laid over a frame."""

    region: Region  # of the frame
    alpha: Array  # (H, W) in 0..1
    total: float  # the sum of alpha, also of what lies beyond the frame


def film(street: Street, index: int) -> tuple[Bytes, list[Sight]]:
    """Draw a frame, from 0.

    Returns:
        (H, W, 3) in 0..255, and who is seen in it, by identity.
    """
    shot = Shot(street, index)
    sights = shot.act()
    rng = np.random.default_rng([*street.seed, index])
    picture = shot.canvas * np.float32(1 / 255)
    return develop(street.eye, picture, street.moments[index], rng, shot.pixel), sights


class Shot:
    """One frame in the making."""

    def __init__(self, street: Street, index: int):
        """Start with the empty scene."""
        self.street, self.index, self.size = street, index, street.size
        window = street.windows[index]
        self.window, self.zoom = window, street.size[0] / window.height
        edges = (window.left, window.top, window.left + window.width, window.top + window.height)
        empty = street.eye.scene.resize(self.size[::-1], Image.Resampling.BILINEAR, box=edges)
        self.canvas: Array = np.array(empty, np.float32)  # (H, W, 3) in 0..255

    @property
    def pixel(self) -> float:
        """How many of the frame's pixels are one of an image of one person, 128 high."""
        return self.street.scale * self.zoom

    def act(self) -> list[Sight]:
        """Draw everybody and everything from far to near; return who is seen, by identity."""
        acts: list[tuple[float, int, Walker | Thing]] = [
            (float(walker.walk.places[self.index, 1]), identity, walker)
            for identity, walker in enumerate(self.street.walkers, 1)
        ]
        acts += [(thing.away, 0, thing) for thing in self.street.things]
        drawn = []
        for _, identity, actor in sorted(acts, key=lambda act: (-act[0], act[1])):
            cutout = self.walk_on(actor) if isinstance(actor, Walker) else self.put_up(actor)
            if cutout is not None:
                drawn.append((identity, cutout))
        return sorted(self.seen(drawn), key=lambda sight: sight.identity)

    def seen(self, drawn: list[tuple[int, Cutout]]) -> Iterator[Sight]:
        """Who of those drawn, from far to near, is seen, and how much of them."""
        bare = np.ones(self.size, np.float32)  # what no nearer one covers
        for identity, cutout in reversed(drawn):
            inside = float(cutout.alpha.sum())
            if identity and inside > LEAST * cutout.total:
                shown = float((cutout.alpha * bare[cutout.region]).sum())
                walker = self.street.walkers[identity - 1]
                row, column, scale = self.spot(*walker.walk.places[self.index].tolist())
                height = HEADROOM * walker.person.build.height * scale
                yield Sight(identity, row, column, height, min(shown / cutout.total, 1.0))
            bare[cutout.region] *= 1 - cutout.alpha

    def spot(self, across: float, away: float) -> Spot:
        """Where a place on the ground falls in the frame."""
        row = (self.street.eye.row(away) - self.window.top) * self.zoom
        column = PANORAMA / 2 + FOCAL * across / away - self.window.left
        return row, column * self.zoom, FOCAL / away * self.zoom

    def walk_on(self, walker: Walker) -> Cutout | None:
        """Draw somebody over what is there, with a shadow."""
        across, away = walker.walk.places[self.index].tolist()
        row, column, scale = self.spot(across, away)
        eye = self.street.eye
        # Who stands to the right is seen from further to their left.
        yaw = float(walker.walk.headings[self.index]) + float(np.arctan2(across, away))
        view = View(yaw, eye.pitch(eye.row(away)), eye.light)
        reach = scale * max(REACH[0] * abs(slopes(view)[0]), 0.0) + REACH[2] * scale
        if column + reach < 0 or column - reach > self.size[1]:
            return None
        fine = SUPERSAMPLING * scale
        foot = (SUPERSAMPLING * row, SUPERSAMPLING * column)
        # The layer's pixels are parts of the frame's, wherever between them the foot falls.
        top, left = np.ceil(foot[0] - REACH[0] * fine), np.ceil(foot[1] - REACH[2] * fine)
        clip = (top - foot[0], left - foot[1], np.inf, np.inf)
        layer = draw(walker.person, walker.poses[self.index], view, (fine, fine), clip)
        if layer is None:
            return None
        self.darken(layer, (row, column), scale, view)
        corner = (round(foot[0] - layer.foot[0]), round(foot[1] - layer.foot[1]))
        return self.lay(layer.picture, *corner)

    def darken(self, layer: Layer, foot: tuple[float, float], scale: float, view: View) -> None:
        """Take from the ground the light that somebody takes."""
        aside, away = slopes(view)
        high, wide = layer.picture.shape[:2]
        above, beside = layer.foot[0] / SUPERSAMPLING, layer.foot[1] / SUPERSAMPLING
        below, beyond = high / SUPERSAMPLING - above, wide / SUPERSAMPLING - beside
        rows = [-above * away, below * away, -0.15 * scale, 0.15 * scale]
        columns = [aside * rise + end for rise in (above, -below) for end in (-beside, beyond)] + [
            -0.4 * scale,
            0.4 * scale,
        ]
        blur = 0.03 * scale
        top, bottom = self.clip(foot[0], rows, 2 * blur, self.size[0])
        left, right = self.clip(foot[1], columns, 2 * blur, self.size[1])
        if top >= bottom or left >= right:
            return
        shade = shadow(
            layer, SUPERSAMPLING, (foot[0] - top, foot[1] - left), scale, view,
            (right - left, bottom - top), blur=blur,
        )  # fmt: skip
        light = 1 - np.asarray(shade, np.float32) * np.float32(1 / 255)
        for channel in range(3):
            self.canvas[top:bottom, left:right, channel] *= light

    @staticmethod
    def clip(foot: float, offsets: list[float], margin: float, size: int) -> tuple[int, int]:
        """The pixels between the least and the greatest offset from a foot, inside the frame."""
        low, high = foot + min(offsets) - margin, foot + max(offsets) + margin
        return max(0, int(np.floor(low))), min(size, int(np.ceil(high)))

    def put_up(self, thing: Thing) -> Cutout | None:
        """Draw a thing over what is there."""
        row, column, scale = (SUPERSAMPLING * n for n in self.spot(thing.across, thing.away))
        left, right = round(column - WIDEST * scale), round(column + WIDEST * scale)
        top, bottom = round(row - TALLEST * scale), round(row + 0.2 * scale)
        left, right = max(left, 0), min(right, SUPERSAMPLING * self.size[1])
        top, bottom = max(top, 0), min(bottom, SUPERSAMPLING * self.size[0])
        if left >= right or top >= bottom:
            return None
        picture = Image.new("RGBA", (right - left, bottom - top))
        pen = Pen(ImageDraw.Draw(picture), (column - left, row - top), (scale, scale))
        rng = np.random.default_rng(thing.seed)
        pick(rng, NARROW)(pen, rng)
        return self.lay(np.asarray(picture), top, left)

    def lay(self, picture: Bytes, top: int, left: int) -> Cutout | None:
        """Lay a picture over the frame.

        Args:
            picture: RGBA (H, W, 4), SUPERSAMPLING times as large; black where alpha is 0.
            top: where its upper left corner falls, in pixels of that size.
            left: the same, across.
        """
        reduced = self.reduce(picture, top % SUPERSAMPLING, left % SUPERSAMPLING)
        top, left = top // SUPERSAMPLING, left // SUPERSAMPLING
        high, wide = reduced.shape[:2]
        rows = slice(max(top, 0), min(top + high, self.size[0]))
        columns = slice(max(left, 0), min(left + wide, self.size[1]))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        own = reduced[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        alpha = own[..., 3] * np.float32(1 / 255)
        bare = 1 - alpha
        for channel in range(3):  # one at a time is faster than together
            canvas = self.canvas[rows, columns, channel]
            canvas *= bare
            canvas += own[..., channel]
        return Cutout((rows, columns), alpha, float(reduced[..., 3].sum()) / 255)

    @staticmethod
    def reduce(picture: Bytes, down: int, right: int) -> Array:
        """A picture at the frame's size, moved down and right by part of the frame's pixels.

        Returns:
            (H, W, 4) in 0..255, the colours times alpha.
        """
        high, wide = (
            -(-(length + offset) // SUPERSAMPLING) * SUPERSAMPLING
            for length, offset in zip(picture.shape[:2], (down, right), strict=True)
        )
        whole = np.zeros((high, wide, 4), np.uint8)
        whole[down : down + picture.shape[0], right : right + picture.shape[1]] = picture
        # Its alpha is 0 or 255 and nothing is behind: the mean colour is that times the mean alpha.
        # So Pillow must not treat alpha as such: the fourth band is an X to it.
        image = Image.frombuffer("RGBX", (wide, high), whole, "raw", "RGBX", 0, 1)
        return np.asarray(image.reduce(SUPERSAMPLING)).astype(np.float32)
