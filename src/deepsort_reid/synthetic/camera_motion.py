"""How the camera of a synthetic street moves: it pans, zooms and shakes; its exposure drifts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.synthetic.person.people import Rng
from deepsort_reid.synthetic.scenery import FRAME, Moment

Way = NDArray[np.float64]

PANORAMA = 2 * FRAME[1]  # pixels: how wide the scene is over which the camera pans
LARGEST = (570, 1500)  # height and width of what is seen of it at a time, in pixels, at most
SHUTTER = 0.3  # the share of the time between two frames that light is gathered


@dataclass(frozen=True)
class Window:
    """What a frame shows of the scene, in the scene's pixels."""

    left: float
    top: float
    width: float
    height: float


def wander(rng: Rng, frames: int, frame_rate: float, seconds: tuple[float, float]) -> Way:
    """A smooth way within ±1, (F,), of waves that last between so and so many seconds."""
    times = np.arange(frames) / frame_rate
    shortest, longest = seconds
    periods = shortest * (longest / shortest) ** rng.random(3)
    phases, sizes = rng.uniform(0.0, 2 * np.pi, 3), np.array([0.5, 0.3, 0.2])
    waves = np.sin(times[:, None] * (2 * np.pi / periods) + phases) * sizes
    way: Way = waves.sum(1)
    return way


def windows(rng: Rng, frames: int, size: tuple[int, int], frame_rate: float) -> list[Window]:
    """Pan over the scene, zoom a little, and never hold quite still.

    Args:
        rng: decides how.
        frames: how many.
        size: height and width of a frame in pixels, of which the shape matters.
        frame_rate: frames a second.
    """
    shape = size[1] / size[0]
    largest = min(LARGEST[0], LARGEST[1] / shape)
    heights = largest * (0.95 + 0.05 * wander(rng, frames, frame_rate, (12.0, 30.0)))
    widths = heights * shape
    across = wander(rng, frames, frame_rate, (14.0, 30.0)) * 0.6 * (PANORAMA - LARGEST[1]) / 2
    down = wander(rng, frames, frame_rate, (8.0, 20.0)) * 6.0
    for way, share in ((across, 1.0), (down, 0.7)):
        way += share * 3.0 * wander(rng, frames, frame_rate, (1.0, 3.0))
        way += share * 0.8 * wander(rng, frames, frame_rate, (0.15, 0.5))
    lefts = PANORAMA / 2 + across - widths / 2
    tops = (FRAME[0] - 12.0 - heights + down).clip(0.0, FRAME[0] - heights)
    columns = (lefts.tolist(), tops.tolist(), widths.tolist(), heights.tolist())
    return [Window(*window) for window in zip(*columns, strict=True)]


def moments(rng: Rng, shown: list[Window], frame_rate: float, scale: float) -> list[Moment]:
    """What follows each other differs little: exposure and colours drift, panning smears.

    Args:
        rng: decides how they drift.
        shown: the window of each frame.
        frame_rate: frames a second.
        scale: how many of a scene's pixels are one of an image of one person, 128 high.
    """
    exposures = np.exp(0.08 * wander(rng, len(shown), frame_rate, (5.0, 15.0)))
    gains = np.stack(
        [np.exp(0.02 * wander(rng, len(shown), frame_rate, (8.0, 20.0))) for _ in range(3)], axis=1
    )
    blurs = 0.1 + 0.1 * wander(rng, len(shown), frame_rate, (2.0, 8.0))
    lefts = np.array([window.left for window in shown])
    smears = 0.5 * SHUTTER * np.abs(np.gradient(lefts)) / scale
    return [
        Moment(exposure, (red, green, blue), blur, smear)
        for exposure, (red, green, blue), blur, smear in zip(
            exposures.tolist(), gains.tolist(), blurs.tolist(), smears.tolist(), strict=True
        )
    ]
