"""What a detector would find in the frames of a synthetic street: shaky boxes, misses, mistakes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.boxes import intersections_over_unions
from deepsort_reid.synthetic.crop import ASPECT, Box, Slip, box_about
from deepsort_reid.synthetic.frame import Sight
from deepsort_reid.synthetic.person.people import Rng

Floats = NDArray[np.float64]

SMALLEST = 8.0  # pixels of a box inside the frame
CALM = 0.8  # how much of a box's error stays from one frame to the next
LASTING = 0.85  # the same of what decides whether somebody is missed: misses come in runs
SAME = 0.6  # overlap of two boxes above which the less sure one is dropped
FALSE = 0.12  # mistakes that begin in a frame, on average
FALSE_FRAMES = 2.5  # how long each lasts, on average


@dataclass(frozen=True)
class Detection:
    """A box in a frame, and how sure the detector is that somebody is in it."""

    frame: int  # from 0
    box: Box
    confidence: float


def detect(
    rng: Rng, seen: Sequence[Sequence[Sight]], size: tuple[int, int], missed: float
) -> list[Detection]:
    """Find people as a detector does: not all, not exactly, and some that are not there.

    A box is framed as `crops` frames people, and misses them by more the less of them is visible.
    Who is largely hidden is mostly missed; misses come in runs of frames. Of two boxes that nearly
    coincide only the surer one stays, as non-maximum suppression leaves it.

    Args:
        rng: decides on all of it.
        seen: who is seen in each frame.
        size: height and width of the frames, in pixels.
        missed: the share of those seen who are not found, before boxes that nearly coincide become
            one. Nobody of whom nothing is visible is found, whatever it says.

    Returns:
        The boxes inside the frames, by frame; without order in a frame.
    """
    sights = [(frame, sight) for frame, present in enumerate(seen) for sight in present]
    chances = miss_chances(np.array([sight.visible for _, sight in sights]), missed)
    found = []
    for identity in sorted({sight.identity for _, sight in sights}):
        luck = smooth_noise(rng, len(seen), LASTING)
        errors = np.stack([smooth_noise(rng, len(seen), CALM) for _ in range(4)], axis=1)
        for (frame, sight), chance in zip(sights, chances.tolist(), strict=True):
            if sight.identity == identity and NormalDist().cdf(float(luck[frame])) >= chance:
                slip = blunder(errors[frame], sight.visible)
                box = box_about(sight.row, sight.column, sight.height, slip).inside(size)
                found.append(Detection(frame, box, confidence(rng, sight.visible)))
    found += false_alarms(rng, len(seen), [sight for _, sight in sights], size)
    usable = [d for d in found if min(d.box.width, d.box.height) >= SMALLEST]
    # A detector's boxes come in the order of its confidence, which says nothing of who is who.
    ordered = sorted(usable, key=lambda d: (d.frame, -d.confidence, d.box.left))
    return [kept for _, group in groupby(ordered, lambda d: d.frame) for kept in suppressed(group)]


def suppressed(detections: Iterable[Detection]) -> list[Detection]:
    """Of a frame's detections, the surest first, those that no surer one nearly coincides with."""
    found = list(detections)
    ltwh = np.array([(d.box.left, d.box.top, d.box.width, d.box.height) for d in found])
    overlaps = intersections_over_unions(ltwh, ltwh)
    kept: list[int] = []
    for number in range(len(found)):
        if (overlaps[number, kept] <= SAME).all():
            kept.append(number)
    return [found[number] for number in kept]


def miss_chances(visible: Floats, missed: float) -> Floats:
    """How likely each of those seen is missed, `missed` on average.

    Args:
        visible: (N,), the share of each that is visible.
        missed: the average; where more are wholly hidden, it is their share.
    """
    powers = 4.0 * visible**2
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if float(np.sum(middle**powers)) < missed * len(visible):
            low = middle
        else:
            high = middle
    chances: Floats = np.where(visible > 0.0, low**powers, 1.0)
    return chances


def smooth_noise(rng: Rng, frames: int, lasting: float) -> Floats:
    """Noise of standard deviation 1 whose neighbours correlate by `lasting`: (F,)."""
    noise = rng.standard_normal(frames)
    for frame in range(1, frames):
        noise[frame] = lasting * noise[frame - 1] + (1 - lasting**2) ** 0.5 * noise[frame]
    return noise


def blunder(errors: Floats, visible: float) -> Slip:
    """By how much a box misses somebody: as in `crops`, and more where they are hidden.

    Args:
        errors: (4,), of standard deviation 1.
        visible: the share of them that is visible.
    """
    across, down, size, breadth = (errors * (1.0 + 1.6 * (1.0 - visible))).clip(-4, 4).tolist()
    return Slip(
        0.022 * across,
        0.022 * down,
        float(np.exp(0.02 + 0.05 * size)),
        float(np.exp(0.06 * breadth)),
    )


def confidence(rng: Rng, visible: float) -> float:
    """How sure the detector is of somebody: in 0..1."""
    return float(np.clip(0.93 - 0.55 * (1.0 - visible) + rng.normal(0.0, 0.07), 0.05, 0.999))


def false_alarms(
    rng: Rng, frames: int, sights: Sequence[Sight], size: tuple[int, int]
) -> list[Detection]:
    """Boxes as large as people's about things that are none, each for some frames."""
    found: list[Detection] = []
    for start in range(frames):
        for _ in range(int(rng.poisson(FALSE))):
            height = sights[int(rng.integers(len(sights)))].height if sights else size[0] / 3
            left, top = rng.uniform(0.0, size[1]), rng.uniform(0.1, 0.8) * size[0]
            sure = float(rng.uniform(0.15, 0.6))
            for frame in range(start, min(start + int(rng.geometric(1 / FALSE_FRAMES)), frames)):
                shake = 0.02 * height * rng.standard_normal(2)
                box = Box(left + shake[0], top + shake[1], ASPECT * height, height).inside(size)
                sureness = float(np.clip(sure + rng.normal(0.0, 0.04), 0.05, 0.95))
                found.append(Detection(frame, box, sureness))
    return found
