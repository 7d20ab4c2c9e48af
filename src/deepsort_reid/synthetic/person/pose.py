"""Where a synthetic pedestrian's joints are, at any moment of a stride."""

from dataclasses import dataclass

import numpy as np

from deepsort_reid.synthetic.person.people import Person, Rng
from deepsort_reid.synthetic.raycast import Vector, turned, unit, vector

SIDES = (-1, 1)  # right and left: x points to the person's left, y up, z ahead
# Parts of the body as shares of its height.
LEG, FOOT, SHOULDER, UPPER_ARM, FOREARM = 0.235, 0.045, 0.097, 0.175, 0.15


@dataclass(frozen=True)
class Pose:
    """What somebody is doing.

    `phase` runs through a stride of two steps in 0..1; `stride` is the thigh's swing, about 0 when
    standing; `look` turns the head to the left, `nod` and `lean` tilt head and body forward, all
    in radians. `arms`, right and left, are each "swing", "phone" or "pocket".
    """

    phase: float
    stride: float
    arms: tuple[str, str]
    lean: float
    look: float
    nod: float


@dataclass(frozen=True)
class Skeleton:
    """Where the joints are, in metres from the point stood on; pairs are right and left."""

    hips: tuple[Vector, Vector]
    knees: tuple[Vector, Vector]
    ankles: tuple[Vector, Vector]
    toes: tuple[Vector, Vector]  # directions
    shoulders: tuple[Vector, Vector]
    elbows: tuple[Vector, Vector]
    wrists: tuple[Vector, Vector]
    crotch: Vector
    neck: Vector
    head: Vector
    face: Vector  # (3, 3): the directions to the head's left, up and ahead


def random_pose(rng: Rng, person: Person) -> Pose:
    """Walking mostly, sometimes standing, sometimes with a phone or a hand in a pocket."""
    standing = rng.random() < 0.12
    stride = 0.05 if standing else person.stride * float(rng.uniform(0.75, 1.1))
    arms = ["swing", "swing"]
    habit = rng.random()
    if habit < 0.28:
        arms[int(rng.integers(2))] = "phone" if habit < 0.16 else "pocket"
    return Pose(
        phase=float(rng.random()),
        stride=stride,
        arms=(arms[0], arms[1]),
        lean=float(rng.uniform(0.0, 0.09)),
        look=float(rng.normal(0.0, 0.3)),
        nod=float(rng.uniform(-0.05, 0.2)) + (0.3 if "phone" in arms else 0.0),
    )


def stride_length(person: Person, swing: float) -> float:
    """How far a stride of two steps leads, in metres; `swing` is the thigh's, in radians."""
    leg = 2 * LEG * person.build.legs * person.build.height
    return float(4 * leg * np.sin(swing))


def skeleton(person: Person, pose: Pose) -> Skeleton:
    """Put the joints where the pose has them, with the lower foot on the ground."""
    tall = person.build.height
    hip = (2 * LEG * person.build.legs + FOOT) * tall
    (right_leg, left_leg) = (leg_joints(person, pose, side, hip) for side in SIDES)
    # Standing on a bent leg, or between two spread ones, brings the whole body down.
    lift = vector(0.0, FOOT * tall - min(right_leg[2][1], left_leg[2][1]), 0.0)
    lean = vector(0.0, np.cos(pose.lean), np.sin(pose.lean))
    crotch = vector(0.0, hip - 0.035 * tall, 0.0)
    neck = crotch + lean * (0.825 * tall - crotch[1])
    (right_arm, left_arm) = (arm_joints(person, pose, side, neck, lean) for side in SIDES)
    return Skeleton(
        hips=(right_leg[0] + lift, left_leg[0] + lift),
        knees=(right_leg[1] + lift, left_leg[1] + lift),
        ankles=(right_leg[2] + lift, left_leg[2] + lift),
        toes=(right_leg[3], left_leg[3]),
        shoulders=(right_arm[0] + lift, left_arm[0] + lift),
        elbows=(right_arm[1] + lift, left_arm[1] + lift),
        wrists=(right_arm[2] + lift, left_arm[2] + lift),
        crotch=crotch + lift,
        neck=neck + lift,
        head=neck + lift + 0.1 * tall * lean + vector(0.0, 0.0, 0.008 * tall),
        face=(turned(pose.look) @ turned(0.0, pose.nod)).T,
    )


def step(pose: Pose, side: int) -> float:
    """How far a leg is in its cycle, in radians: the two are half a cycle apart."""
    return 2 * np.pi * pose.phase + (np.pi if side > 0 else 0.0)


def leg_joints(
    person: Person, pose: Pose, side: int, height: float
) -> tuple[Vector, Vector, Vector, Vector]:
    """Hip, knee, ankle and the toes' direction: the leg that swings forward bends."""
    tall = person.build.height
    leg = LEG * person.build.legs * tall
    thigh = pose.stride * np.sin(step(pose, side)) + 0.04
    shin = thigh - 0.08 - 2.0 * pose.stride * max(0.0, np.cos(step(pose, side) + 0.35)) ** 1.5
    hip = vector(side * 0.052 * tall * person.build.hips, height, 0.0)
    knee = hip + leg * vector(0.0, -np.cos(thigh), np.sin(thigh))
    ankle = knee + leg * vector(-side * 0.03, -np.cos(shin), np.sin(shin))
    dip = np.clip(-1.1 * shin - 0.1, -0.3, 0.9)
    return hip, knee, ankle, unit(vector(side * 0.15, -np.sin(dip), np.cos(dip)))


def arm_joints(
    person: Person, pose: Pose, side: int, neck: Vector, lean: Vector
) -> tuple[Vector, Vector, Vector]:
    """Shoulder, elbow and wrist: the arm swings against the leg of its side, if it is free to."""
    tall, swing = person.build.height, np.sin(step(pose, side))
    width = SHOULDER * tall * person.build.shoulders
    twist = -0.35 * min(pose.stride, 0.5) * swing
    shoulder = neck + vector(side * width, -0.054 * tall, width * twist) - 0.1 * width * lean
    lift, bend, out, turn = -0.9 * pose.stride * swing, person.bent, 0.1, 0.0
    habit = pose.arms[side > 0]
    if any(bag.side == side and bag.in_hand for bag in person.bags):
        lift, bend = 0.3 * lift, 0.06
    elif habit == "phone":
        lift, bend, turn = 0.35, 1.9, -0.45
    elif habit == "pocket":
        lift, bend, out, turn = -0.35, 0.75, 0.28, -0.3
    out += 0.06 * max(0.0, person.build.girth - 0.9)
    upper = unit(vector(side * out, -np.cos(lift), np.sin(lift)))
    lower = unit(vector(side * (0.3 * out + turn), -np.cos(lift + bend), np.sin(lift + bend)))
    elbow = shoulder + UPPER_ARM * tall * upper
    return shoulder, elbow, elbow + FOREARM * tall * lower
