"""A synthetic street: who walks there and how, what stands there, and which camera watches."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.config import SequencesConfig
from deepsort_reid.synthetic.camera_motion import PANORAMA, Window, moments, windows
from deepsort_reid.synthetic.crop import HEADROOM, NEAR
from deepsort_reid.synthetic.crowd import Ground, Walk, walks
from deepsort_reid.synthetic.person.people import Person, Rng, random_person
from deepsort_reid.synthetic.person.pose import Pose, random_pose, stride_length
from deepsort_reid.synthetic.scenery import FOCAL, FRAME, Camera, Moment, camera

STREAM = 4  # of random numbers: synthetic's images have others, so nobody of theirs walks here
CAMERAS = 1000  # the first of the street's cameras: none of those of synthetic's images
FRAME_RATE = 14.0  # frames a second, as MOT16's sequences from moving cameras have it
STANDING = 0.1  # radians of a thigh's swing below which the legs stand still
THINGS = 4  # that stand between the camera and the people, at most


@dataclass(frozen=True)
class Walker:
    """Somebody on the way: at each frame a place, a heading and a pose."""

    person: Person
    walk: Walk
    poses: tuple[Pose, ...]


@dataclass(frozen=True)
class Thing:
    """Something that stands in front: metres to the right and away; `seed` says what it is."""

    across: float
    away: float
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Street:
    """All that a sequence shows."""

    eye: Camera
    size: tuple[int, int]  # of a frame: height and width, in pixels
    windows: list[Window]
    moments: list[Moment]
    walkers: list[Walker]
    things: list[Thing]
    scale: float  # the scene's pixels for one of an image of one person, 128 high
    seed: tuple[int, ...]  # of the frames' noise


@lru_cache(maxsize=2)
def street(config: SequencesConfig, number: int) -> Street:
    """Set the scene of a sequence; `number` counts from 1."""
    seed, people, size = config.seed, config.people, config.image_size
    eye = camera(seed, CAMERAS + number, PANORAMA)
    rng = np.random.default_rng([seed, STREAM, number])
    shown = windows(rng, config.frames, size, FRAME_RATE)
    ground = Ground(eye.distance(NEAR * FRAME[0]), eye.clear, edges(shown))
    crowd = [person_of(seed, number, identity) for identity in range(1, people + 1)]
    cadences = rng.uniform(0.85, 1.05, people)  # strides a second
    speeds = np.array([stride_length(person, person.stride) for person in crowd]) * cadences
    ways = walks(rng, ground, speeds, FRAME_RATE)
    walkers = [
        Walker(person, way, gait(rng, person, way, float(cadence)))
        for person, way, cadence in zip(crowd, ways, cadences, strict=True)
    ]
    # One person in the middle of the ground: what the camera's blur is measured by.
    scale = HEADROOM * 1.7 * FOCAL / (0.5 * (ground.near + ground.far)) / 128
    return Street(
        eye=eye,
        size=size,
        windows=shown,
        moments=moments(rng, shown, FRAME_RATE, scale),
        walkers=walkers,
        things=[
            Thing(float(across), ground.near - 0.15, (seed, STREAM, number, 0, index))
            for index, across in enumerate(in_front(rng, ground))
        ],
        scale=scale,
        seed=(seed, STREAM, number, 1),
    )


def person_of(seed: int, number: int, identity: int) -> Person:
    """The person of an identity in a sequence."""
    return random_person(np.random.default_rng([seed, STREAM, number, 2, identity]))


def edges(shown: list[Window]) -> NDArray[np.float64]:
    """Left and right edge of what is seen, metres for each metre of distance: (F, 2)."""
    columns = [(window.left, window.left + window.width) for window in shown]
    return (np.array(columns) - PANORAMA / 2) / FOCAL


def in_front(rng: Rng, ground: Ground) -> list[float]:
    """Where things stand before the people, apart from each other: metres to the right."""
    count = int(rng.integers(2, THINGS + 1))
    left, right = float(ground.edges[:, 0].min()), float(ground.edges[:, 1].max())
    shares = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
    places: list[float] = (ground.near * (left + shares * (right - left))).tolist()
    return places


def gait(rng: Rng, person: Person, way: Walk, cadence: float) -> tuple[Pose, ...]:
    """The poses of a walk: the legs go as far as the feet are carried, the habits stay.

    Args:
        rng: decides on the habits and on where the head turns.
        person: who walks.
        way: where, and how fast.
        cadence: strides a second.
    """
    habit = random_pose(rng, person)
    full = stride_length(person, np.pi / 2)
    swings = np.arcsin((way.speeds / (cadence * full)).clip(0.0, 0.6))
    strides = np.array([stride_length(person, max(swing, STANDING)) for swing in swings.tolist()])
    phases = habit.phase + np.cumsum(way.speeds / FRAME_RATE / strides)
    period, start = float(rng.uniform(3.0, 7.0)), float(rng.uniform(0.0, 2 * np.pi))
    looks = habit.look + 0.3 * np.sin(
        start + 2 * np.pi * np.arange(len(phases)) / FRAME_RATE / period
    )
    return tuple(
        replace(habit, phase=phase % 1.0, stride=swing, look=look)
        for phase, swing, look in zip(phases.tolist(), swings.tolist(), looks.tolist(), strict=True)
    )
