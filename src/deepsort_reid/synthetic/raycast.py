"""Solids cast ray by ray into a picture with depth: lofts, ellipsoids and boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Vector = NDArray[np.float64]  # (3,) metres: x to the right, y up, z towards the viewer
Window = tuple[slice, slice]  # rows and columns
Knot = tuple[float, float, float]  # position in 0..1, half-width across and in depth, in metres
Paint = Callable[[Array, Array], Array]  # two coordinates (N,) of a surface, to (N, 3) in 0..1

SAMPLES = 64  # of a loft's outline along its axis
STEEPEST = 6.0  # slope at which an outline counts as closed: a round end is vertical at its tip


@dataclass(frozen=True)
class Light:
    """What shines on a scene: a sun, and a sky that reaches what the sun does not."""

    direction: tuple[float, float, float]  # towards the sun, unit length, as the viewer sees it
    sun: tuple[float, float, float]  # RGB
    sky: tuple[float, float, float]  # RGB


@dataclass(frozen=True)
class Outline:
    """A loft's half-widths along its axis: (4, SAMPLES), across, in depth, and their slopes."""

    low: float  # where the table starts and ends: metres along the axis
    high: float
    table: Array

    @property
    def step(self) -> float:
        """Metres between two samples."""
        return (self.high - self.low) / (SAMPLES - 1)


@lru_cache(maxsize=4096)
def outline(length: float, knots: tuple[Knot, ...], caps: str) -> Outline:
    """Tabulate a loft's cross-section; round ends reach beyond its axis."""
    position, across, deep = np.array(knots).T
    low = -0.5 * float(across[0] + deep[0]) if caps in ("both", "start") else 0.0
    beyond = 0.5 * float(across[-1] + deep[-1]) if caps in ("both", "end") else 0.0
    places = np.linspace(low, length + beyond, SAMPLES)
    widths = np.stack([np.interp(places / length, position, wide) for wide in (across, deep)], 1)
    widths[1:-1] = (widths[:-2] + 2.0 * widths[1:-1] + widths[2:]) / 4.0  # no sharp edges
    if low < 0:
        widths *= np.sqrt(1.0 - (places / low).clip(0.0, 1.0) ** 2)[:, None]
    if beyond > 0:
        widths *= np.sqrt(1.0 - ((places - length) / beyond).clip(0.0, 1.0) ** 2)[:, None]
    widths = widths.clip(1e-4)
    slopes = np.gradient(widths, places, axis=0).clip(-STEEPEST, STEEPEST)
    table = np.concatenate([widths, slopes], 1).astype(np.float32)
    return Outline(low, length + beyond, np.ascontiguousarray(table.T))


class Canvas:
    """A picture in the making: at each pixel the nearest surface's depth, colour and direction.

    The projection is parallel, as through a long lens: nothing gets smaller with its depth.
    """

    def __init__(
        self,
        size: tuple[int, int],
        origin: tuple[float, float],
        scale: tuple[float, float],
        rotation: Vector,
    ):
        """Start empty.

        Args:
            size: height and width, in pixels.
            origin: where the world's origin falls: row and column, in pixels.
            scale: pixels per metre, down and across.
            rotation: (3, 3), from the world's directions to the viewer's.
        """
        self.rotation = rotation
        self.depth = np.full(size, -np.inf, np.float32)
        self.colour = np.zeros((3, *size), np.float32)
        self.normal = np.zeros((3, *size), np.float32)
        self.y = ((origin[0] - np.arange(size[0]) - 0.5) / scale[0]).astype(np.float32)
        self.x = ((np.arange(size[1]) + 0.5 - origin[1]) / scale[1]).astype(np.float32)

    def loft(
        self,
        start: Vector,
        end: Vector,
        side: Vector,
        knots: Sequence[Knot],
        paint: Paint,
        caps: str = "both",
    ) -> None:
        """Add a tube of elliptical cross-section from `start` to `end`.

        Args:
            start: where the axis begins.
            end: where it ends.
            side: the direction in which the knots' first half-width lies.
            knots: the cross-section along the axis, in order.
            paint: is given metres from the start, and the angle about the axis: 0 in the direction
                of side × axis, positive towards `side`.
            caps: which ends are rounded, beyond the axis: "both", "start", "end" or "none".
        """
        a, b = self.rotation @ start, self.rotation @ end
        length = max(norm(b - a), 1e-6)
        shape = outline(round(length, 4), tuple(knots), caps)
        reach = float(shape.table[:2].max())
        window = self.window(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
        if window is None:
            return
        axis = (b - a) / length
        across = self.rotation @ side
        across = unit(across - axis * float(across @ axis))
        frame = np.stack([across, axis, cross(across, axis)]).astype(np.float32)
        rows, columns = window
        x, y = self.x[columns] - np.float32(a[0]), self.y[rows] - np.float32(a[1])
        down, right = close_rays(x, y, axis, reach)
        flat = frame[:, 0, None] * x.take(right) + frame[:, 1, None] * y.take(down)
        z, sample, inside = tube(flat, frame[:, 2], shape)
        depth = z + np.float32(a[2])
        pixels = (down + rows.start) * len(self.x) + (right + columns.start)
        met = np.flatnonzero(inside & (depth > self.depth.take(pixels)))
        if not len(met):
            return
        z, sample = z.take(met), sample.take(met)
        wide, deep, wide_slope, deep_slope = (row.take(sample) for row in shape.table)
        local = flat.take(met, axis=1) + frame[:, 2, None] * z
        u, v = local[0] / wide, local[2] / deep
        slope = -(u * u * wide_slope / wide + v * v * deep_slope / deep)
        normal = turn((u / wide, slope, v / deep), frame.T)
        self.put(pixels.take(met), depth.take(met), normal, paint(local[1], np.arctan2(u, v)))

    def ellipsoid(self, centre: Vector, axes: Vector, radii: Vector, paint: Paint) -> None:
        """Add an ellipsoid.

        Args:
            centre: its middle.
            axes: (3, 3), its directions as rows.
            radii: (3,), its half-widths along them, in metres.
            paint: is given the place along the second axis in −1..1, and the angle about it: 0 at
                the third axis, positive towards the first.
        """
        middle = self.rotation @ centre
        reach = float(radii.max())
        window = self.window(middle - reach, middle + reach)
        if window is None:
            return
        frame = ((axes @ self.rotation.T) / radii[:, None]).astype(np.float32)
        flat = self.rays(window, middle, frame)
        ray = frame[:, 2]
        a = float(ray @ ray)
        b = ray[0] * flat[0] + ray[1] * flat[1] + ray[2] * flat[2]
        root = b * b - a * ((flat * flat).sum(0) - 1.0)
        z = (np.sqrt(root.clip(0.0)) - b) / a
        pixels = self.nearer(window, root > 0.0, z, middle)
        if not len(pixels):
            return
        z = z.ravel()[pixels]
        local = flat.reshape(3, -1)[:, pixels] + ray[:, None] * z
        colours = paint(local[1], np.arctan2(local[0], local[2]))
        normal = turn((local[0], local[1], local[2]), frame.T)
        self.put(self.whole(window, pixels), z + float(middle[2]), normal, colours)

    def box(self, centre: Vector, axes: Vector, halves: Vector, paint: Paint) -> None:
        """Add a box.

        Args:
            centre: its middle.
            axes: (3, 3), its directions as rows.
            halves: (3,), its half-widths along them, in metres.
            paint: is given the height and the breadth on the face that is seen, each in −1..1.
        """
        middle = self.rotation @ centre
        reach = norm(halves)
        window = self.window(middle - reach, middle + reach)
        if window is None:
            return
        frame = ((axes @ self.rotation.T) / halves[:, None]).astype(np.float32)
        flat = self.rays(window, middle, frame)
        ray = np.where(np.abs(frame[:, 2]) < 1e-6, 1e-6, frame[:, 2])[:, None, None]
        # A ray is inside between the last face it enters and the first it leaves.
        leaving, entering = (np.sign(ray) - flat) / ray, (-np.sign(ray) - flat) / ray
        z, face = leaving.min(0), leaving.argmin(0)
        pixels = self.nearer(window, z > entering.max(0), z, middle)
        if not len(pixels):
            return
        z, face = z.ravel()[pixels], face.ravel()[pixels]
        local = flat.reshape(3, -1)[:, pixels] + ray[:, 0] * z
        outward = np.sign(ray[:, 0]) * frame * halves[:, None].astype(np.float32)
        breadth = np.where(face == 0, local[2], local[0])
        height = np.where(face == 1, local[2], local[1])
        pixels = self.whole(window, pixels)
        self.put(pixels, z + float(middle[2]), outward[face].T, paint(height, breadth))

    def window(self, low: Vector, high: Vector) -> Window | None:
        """The rows and columns between two corners in the viewer's metres; None where outside."""
        top, bottom = np.searchsorted(-self.y, [-high[1], -low[1]]).tolist()
        left, right = np.searchsorted(self.x, [low[0], high[0]]).tolist()
        if top >= bottom or left >= right:
            return None
        return slice(top, bottom), slice(left, right)

    def rays(self, window: Window, origin: Vector, frame: Array) -> Array:
        """Where a window's rays meet the plane of a point, in a frame: (3, H, W)."""
        rows, columns = window
        x = self.x[columns] - np.float32(origin[0])
        y = self.y[rows] - np.float32(origin[1])
        return (
            frame[:, 0, None, None] * x[None, None, :] + frame[:, 1, None, None] * y[None, :, None]
        )

    def nearer(self, window: Window, inside: Mask, depth: Array, origin: Vector) -> Indices:
        """The pixels of a window, counted row by row, where a surface hides what is there."""
        return np.flatnonzero(inside & (depth + np.float32(origin[2]) > self.depth[window]))

    def whole(self, window: Window, pixels: Indices) -> Indices:
        """Pixels of a window, counted row by row, as pixels of the whole picture."""
        rows, columns = window
        down, right = np.divmod(pixels, columns.stop - columns.start)
        whole: Indices = (down + rows.start) * len(self.x) + (right + columns.start)
        return whole

    def put(self, pixels: Indices, depth: Array, normal: Array, colours: Array) -> None:
        """Record what is nearest now: depths (N,), normals (3, N) of any length, colours (N, 3)."""
        normal /= np.sqrt((normal * normal).sum(0)) + np.float32(1e-9)
        self.depth.reshape(-1)[pixels] = depth
        for channel in range(3):
            self.normal[channel].reshape(-1)[pixels] = normal[channel]
            self.colour[channel].reshape(-1)[pixels] = colours[:, channel]

    def used(self) -> Window | None:
        """The rows and columns that hold anything; None if none does."""
        covered = self.depth > -np.inf
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        if not len(rows):
            return None
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    def shaded(self, light: Light, window: Window) -> Bytes:
        """A window of the picture under a light: (H, W, 4) RGBA, alpha 0 or 255."""
        covered = self.depth[window] > -np.inf
        normals = [channel[window] for channel in self.normal]
        x, y, z = light.direction
        # Some light creeps round every edge: cloth and skin are no plaster.
        facing = x * normals[0] + y * normals[1] + z * normals[2]
        facing = (facing + 0.3).clip(0.0) * (1.0 / 1.3)
        upward = 0.65 + 0.35 * normals[1]
        shadow = 1.0 - 0.45 * self.creases(window, covered)
        picture = np.zeros((*covered.shape, 4), np.uint8)
        for channel, (sun, sky) in enumerate(zip(light.sun, light.sky, strict=True)):
            shine = (sun * facing + sky * upward) * shadow * self.colour[channel][window]
            picture[..., channel] = (255.0 * shine).clip(0.0, 255.0)
        picture[..., 3] = 255 * covered
        return picture

    def creases(self, window: Window, covered: Mask, reach: float = 0.06) -> Array:
        """How much of the light what stands before a pixel takes away: (H, W) in 0..1."""
        depth = np.where(covered, self.depth[window], np.inf)
        low = float(depth.min())
        depth = np.where(covered, depth, low)
        spread = float(depth.max()) - low + 1e-3
        levels = (depth - low) * (255.0 / spread)
        around = ImageFilter.BoxBlur(reach / float(self.x[1] - self.x[0]))
        near, weight = (
            np.asarray(Image.fromarray(band.astype(np.uint8)).filter(around), np.float32)
            for band in (levels, 255.0 * covered)
        )
        mean = near * 255.0 / weight.clip(1.0)
        taken: Array = ((mean - levels) * (spread / (255.0 * 0.12))).clip(0.0, 1.0)
        return taken


def close_rays(x: Array, y: Array, axis: Vector, reach: float) -> tuple[Indices, Indices]:
    """Rows and columns of the rays that come within reach of an axis.

    A long window holds little of a slanting tube: the rays that pass it by are left out.
    """
    slant = np.float32(max(float(np.hypot(axis[0], axis[1])), 1e-6))
    aside = np.float32(axis[1]) * x - (np.float32(axis[0]) * y)[:, None]
    rows, columns = np.nonzero(np.abs(aside) < reach * slant + 1e-3)
    return rows, columns


def tube(flat: Array, ray: Array, shape: Outline) -> tuple[Array, Indices, Mask]:
    """Meet rays with a loft.

    Args:
        flat: (3, N), a point of each in the loft's own frame (across, along, in depth).
        ray: (3,), their direction in that frame.
        shape: the outline.

    Returns:
        How far from that point the surface is met (N,), the outline's sample there, and whether
        there is a surface at all.
    """
    per_metre, low = np.float32(1.0 / shape.step), np.float32(shape.low)
    # The point of the axis nearest to the ray; the surface met there tells the place better.
    along = flat[1] / np.float32(max(1.0 - float(ray[1]) ** 2, 0.05))
    # Where u² + v² = 1 on the ray: z is the larger root of a z² + 2 b z + c, with c = u² + v² - 1.
    thin = 1.0 / shape.table[:2]
    steps = ray[0] * thin[0], ray[2] * thin[1]
    squares = steps[0] * steps[0] + steps[1] * steps[1] + np.float32(1e-9)
    slant = abs(float(ray[1]))
    for _ in range(1 if slant < 0.03 else 2 if slant < 0.4 else 4):
        sample = ((along - low) * per_metre + np.float32(0.5)).clip(0, SAMPLES - 1).astype(np.intp)
        u, v, a = thin[0].take(sample), thin[1].take(sample), squares.take(sample)
        u *= flat[0]
        v *= flat[2]
        b = u * steps[0].take(sample) + v * steps[1].take(sample)
        c = u * u + v * v - np.float32(1.0)
        root = b * b - a * c
        z = (np.sqrt(root.clip(0.0)) - b) / a
        along = flat[1] + ray[1] * z
    return z, sample, (root > 0.0) & (along >= low) & (along <= np.float32(shape.high))


def turn(points: tuple[Array, Array, Array], frame: Array) -> Array:
    """Points, three times (N,), in a frame (3, 3): (3, N).

    Not by `@`, whose last digits depend on the number of cores.
    """
    x, y, z = points
    turned = np.empty((3, len(x)), np.float32)
    for row, (a, b, c) in enumerate(frame.tolist()):
        turned[row] = a * x + b * y + c * z
    return turned


def vector(x: float, y: float, z: float) -> Vector:
    """A point or a direction."""
    return np.array([x, y, z])


def norm(vector: Vector) -> float:
    """A vector's length."""
    x, y, z = vector.tolist()
    return float((x * x + y * y + z * z) ** 0.5)


def unit(vector: Vector) -> Vector:
    """The vector at length 1."""
    return vector / norm(vector)


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product of two vectors; numpy's own is made for arrays of them."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def turned(yaw: float, pitch: float = 0.0) -> Vector:
    """The rotation (3, 3) of what is turned left by `yaw`, seen from `pitch` above, in radians."""
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    rotation: Vector = tilt @ turn
    return rotation
