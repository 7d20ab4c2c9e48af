"""Who is where on the ground, frame by frame: people who cross, stop, leave the view and return."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.synthetic.person.people import Rng

Points = NDArray[np.float64]  # (..., 2) metres: to the right of the camera's axis, and away from it
Scalars = NDArray[np.float64]

SETTLING = 60  # frames walked before the first: by then groups have formed
ROOM = 0.8  # metres within which people make way for each other
ABREAST = 0.6  # metres between two who walk together, to the side
BEHIND = 0.6  # and along the way: seen from the side, neither hides the other for long
TURN = 3.0  # radians a second that somebody turns at most
TOGETHER = 0.25  # the share of people who walk with the one before them
LEAVES = 0.7  # how often somebody in the view next walks out of it


@dataclass(frozen=True, eq=False)
class Ground:
    """Where there is to walk, and what of it is seen at each frame."""

    near: float  # metres from the camera
    far: float
    edges: Points  # (F, 2): left and right edge of the view, metres for each metre of distance

    def border(self, frame: int, side: int, distance: float) -> float:
        """How far to the right the view ends on a side (0 left, 1 right), at a distance."""
        return float(self.edges[frame, side]) * distance


@dataclass(frozen=True, eq=False)
class Walk:
    """One person's way."""

    places: Points  # (F, 2)
    headings: Scalars  # (F,) radians: 0 towards the camera, positive to its right
    speeds: Scalars  # (F,) metres a second


@dataclass
class Errand:
    """What somebody does next: walk to a point in the view, or out of the view on one side."""

    side: int | None  # 0 left, 1 right, None for a point in the view
    point: tuple[float, float]  # across and away; where it leads out, across is beyond the border
    pause: int  # frames of standing there

    def target(self, ground: Ground, frame: int) -> Points:
        """Where it leads, as the view lies now."""
        across, away = self.point
        if self.side is not None:
            across = ground.border(frame, self.side, away) + (across if self.side else -across)
        return np.array([across, away])


def walks(rng: Rng, ground: Ground, speeds: Scalars, frame_rate: float) -> list[Walk]:
    """Let people walk about.

    They cross the view, or stop in it, walk out of it and after a while come back; some walk side
    by side. Nobody runs through anybody: they make way.

    Args:
        rng: decides on everything else.
        ground: where, and for how many frames.
        speeds: (P,), at which each of them likes to walk, in metres a second.
        frame_rate: frames a second.
    """
    crowd = Crowd(rng, ground, speeds, 1.0 / frame_rate)
    for _ in range(SETTLING):
        crowd.step(0)
    taken = []
    for frame in range(len(ground.edges)):
        crowd.step(frame)
        taken.append((crowd.places.copy(), crowd.headings.copy(), crowd.speeds.copy()))
    places, headings, now = (np.stack(column, axis=1) for column in zip(*taken, strict=True))
    return [Walk(*way) for way in zip(places, headings, now, strict=True)]


class Crowd:
    """Everybody, as they are at one frame."""

    def __init__(self, rng: Rng, ground: Ground, speeds: Scalars, seconds: float):
        """Spread them over the view and a little beyond.

        Args:
            rng: decides where.
            ground: where there is to walk.
            speeds: (P,) metres a second.
            seconds: from one frame to the next.
        """
        self.rng, self.ground, self.seconds = rng, ground, seconds
        count = len(speeds)
        away = rng.uniform(ground.near, ground.far, count)
        share = rng.uniform(-0.1, 1.1, count)
        left, right = ground.edges[0]
        self.places = np.stack([(left + share * (right - left)) * away, away], axis=1)
        self.headings = rng.uniform(-np.pi, np.pi, count)
        self.liked = speeds
        self.speeds = 0.7 * speeds
        self.leaders = self.pair_up(count)
        self.errands = [self.errand(0, None) for _ in range(count)]
        self.waiting = np.zeros(count, np.int64)

    def pair_up(self, count: int) -> list[int | None]:
        """Whom each of them walks with: the one before, who then walks alone otherwise."""
        leaders: list[int | None] = [None] * count
        for person in range(1, count):
            if leaders[person - 1] is None and self.rng.random() < TOGETHER:
                leaders[person] = person - 1
        return leaders

    def errand(self, frame: int, side: int | None) -> Errand:
        """Think of somewhere to go; `side` is where somebody stands out of the view, if so."""
        rng = self.rng
        away = float(rng.uniform(self.ground.near, self.ground.far))
        if rng.random() < LEAVES:
            out = int(rng.integers(2)) if side is None else 1 - side
            return Errand(out, (float(rng.uniform(0.5, 1.3)), away), int(rng.integers(0, 12)))
        share = float(rng.uniform(0.2, 0.8))
        left, right = (self.ground.border(frame, edge, away) for edge in (0, 1))
        pause = int(rng.integers(10, 40)) if rng.random() < 0.6 else 0
        return Errand(None, (left + share * (right - left), away), pause)

    def step(self, frame: int) -> None:
        """Go on by one frame."""
        wishes = np.stack([self.wish(person, frame) for person in range(len(self.places))])
        wishes += self.making_way()
        wanted = np.hypot(wishes[:, 0], wishes[:, 1])
        aims = np.where(wanted > 0.15, np.arctan2(wishes[:, 0], -wishes[:, 1]), self.headings)
        off = (aims - self.headings + np.pi) % (2 * np.pi) - np.pi
        self.headings = self.headings + off.clip(-TURN * self.seconds, TURN * self.seconds)
        # One walks ahead, never sideways: slowly while one turns.
        goal = np.minimum(wanted, 1.4 * self.liked) * np.cos(off).clip(0.0)
        self.speeds = self.speeds + (goal - self.speeds) * min(1.0, 4.0 * self.seconds)
        ahead = np.stack([np.sin(self.headings), -np.cos(self.headings)], axis=1)
        self.places = self.places + ahead * (self.speeds * self.seconds)[:, None]
        self.places[:, 1] = self.places[:, 1].clip(self.ground.near, self.ground.far)

    def wish(self, person: int, frame: int) -> Points:
        """The velocity somebody would walk at, were they alone."""
        leader = self.leaders[person]
        if leader is not None:
            return self.keep_up(person, leader)
        errand = self.errands[person]
        way = errand.target(self.ground, frame) - self.places[person]
        left = float(np.hypot(*way))
        if left < 0.3 or self.waiting[person]:
            self.waiting[person] += 1
            if self.waiting[person] > errand.pause:
                self.waiting[person] = 0
                self.errands[person] = self.errand(frame, errand.side)
            return np.zeros(2)
        velocity: Points = way / left * float(self.liked[person])
        return velocity

    def keep_up(self, person: int, leader: int) -> Points:
        """The velocity that keeps somebody at the leader's side, a little behind."""
        heading = self.headings[leader]
        ahead = np.array([np.sin(heading), -np.cos(heading)])
        # At that side on which there is ground to walk on.
        middle = 0.5 * (self.ground.near + self.ground.far)
        side = np.array([-ahead[1], ahead[0]])
        if side[1] * (middle - self.places[leader, 1]) < 0:
            side = -side
        beside = self.places[leader] + ABREAST * side - BEHIND * ahead
        velocity: Points = ahead * self.speeds[leader] + beside - self.places[person]
        return velocity

    def making_way(self) -> Points:
        """What being too close to others adds to everybody's velocity: (P, 2)."""
        apart = self.places[:, None] - self.places[None]
        distance = np.hypot(apart[..., 0], apart[..., 1]) + np.eye(len(self.places))
        for person, leader in enumerate(self.leaders):
            if leader is not None:
                distance[person, leader] = distance[leader, person] = ROOM
        push = (1.0 - distance / ROOM).clip(0.0) * 1.2 / distance
        np.fill_diagonal(push, 0.0)
        added: Points = (apart * push[..., None]).sum(1)
        return added
