"""People are drawn whole, from any side, and as themselves."""

from dataclasses import replace

import numpy as np
import pytest

from deepsort_reid.synthetic.person.figure import Layer, View, draw
from deepsort_reid.synthetic.person.people import Bag, Person, random_person
from deepsort_reid.synthetic.person.pose import FOOT, Pose, random_pose, skeleton
from deepsort_reid.synthetic.raycast import Light

LIGHT = Light(direction=(0.3, 0.8, 0.52), sun=(0.5, 0.5, 0.5), sky=(0.6, 0.6, 0.6))
STANDING = Pose(phase=0.0, stride=0.0, arms=("swing", "swing"), lean=0.0, look=0.0, nod=0.0)
SCALE = (100.0, 100.0)


def somebody(seed: int = 0) -> Person:
    return random_person(np.random.default_rng(seed))


def plain(seed: int = 0) -> Person:
    """Somebody with nothing on the head and nothing to carry."""
    person = somebody(seed)
    head = replace(person.head, style="cropped", hat="none")
    return replace(person, head=head, bags=(), scarf=None)


def seen(person: Person, yaw: float = 0.0, pose: Pose = STANDING) -> Layer:
    layer = draw(person, pose, View(yaw, 0.0, LIGHT), SCALE)
    assert layer is not None
    return layer


def test_the_same_numbers_make_the_same_person():
    assert somebody(3) == somebody(3) != somebody(4)


def test_people_share_their_colours():
    tops = [somebody(seed).top.fabric.colour for seed in range(200)]
    dark_or_dull = [max(top) - min(top) < 0.2 for top in tops]
    assert 0.4 < np.mean(dark_or_dull) < 0.8


@pytest.mark.parametrize("seed", range(8))
def test_a_person_is_as_tall_as_their_build_and_stands_on_the_ground(seed: int):
    person = plain(seed)
    layer = seen(person)
    rows = np.flatnonzero(layer.picture[..., 3].any(1))
    assert layer.foot[0] - rows[0] == pytest.approx(100 * person.build.height, rel=0.05)
    assert abs(rows[-1] - layer.foot[0]) < 5


@pytest.mark.parametrize("phase", np.linspace(0, 1, 9))
def test_one_foot_is_on_the_ground_at_any_moment(phase: float):
    person = somebody()
    bones = skeleton(person, replace(STANDING, phase=float(phase), stride=0.5))
    lowest = min(ankle[1] for ankle in bones.ankles)
    assert lowest == pytest.approx(FOOT * person.build.height)


def test_legs_swing_against_each_other_and_arms_against_legs():
    pose = replace(STANDING, phase=0.25, stride=0.5)
    bones = skeleton(plain(), pose)
    assert bones.knees[0][2] > 0 > bones.knees[1][2]
    assert bones.elbows[0][2] < bones.shoulders[0][2]
    assert bones.elbows[1][2] > bones.shoulders[1][2]


def test_a_walker_is_wider_from_the_side_than_one_who_stands():
    pose = replace(STANDING, phase=0.25, stride=0.5)
    standing, walking = seen(plain(), np.pi / 2), seen(plain(), np.pi / 2, pose)
    assert walking.picture.shape[1] > 1.5 * standing.picture.shape[1]


def test_the_face_is_in_front():
    person = replace(plain(), skin=(0.9, 0.6, 0.5))
    person = replace(person, head=replace(person.head, colour=(0.05, 0.05, 0.05), beard=False))
    reds = []
    for yaw in (0.0, np.pi):
        head = seen(person, yaw).picture[:18].astype(int)
        reds.append(int(((head[..., 0] - head[..., 2] > 40) & (head[..., 3] > 0)).sum()))
    assert reds[0] > 60
    assert reds[0] > 3 * reds[1]  # the neck is seen from behind as well


def test_a_backpack_is_seen_from_behind_and_its_straps_from_the_front():
    green = (0.1, 0.8, 0.1)
    bag = Bag("backpack", side=1, colour=green, second=green, size=1.0)
    top = replace(
        plain().top, fabric=replace(plain().top.fabric, colour=(0.5, 0.5, 0.5), pattern="plain")
    )
    person = replace(plain(), bags=(bag,), top=top)

    def greens(yaw: float) -> int:
        picture = seen(person, yaw).picture.astype(int)
        return int((picture[..., 1] - picture[..., 0] > 50).sum())

    assert greens(np.pi) > 800 > greens(0.0) > 50


@pytest.mark.parametrize("kind", ["backpack", "cross", "shoulder", "hand", "shopping", "suitcase"])
def test_everything_that_can_be_carried_is_drawn(kind: str):
    magenta = (0.9, 0.05, 0.9)
    bag = Bag(kind, side=-1, colour=magenta, second=magenta, size=1.0)
    counts = []
    for yaw in (0.8, 0.8 + np.pi):
        picture = seen(replace(plain(), bags=(bag,)), yaw).picture.astype(int)
        counts.append(int((picture[..., 0] - picture[..., 1] > 60).sum()))
    assert max(counts) > 300


def test_a_clipped_figure_is_a_part_of_the_whole():
    person, pose, view = somebody(5), STANDING, View(0.4, 0.1, LIGHT)
    whole = draw(person, pose, view, SCALE)
    part = draw(person, pose, view, SCALE, clip=(-150.0, -20.0, -60.0, 30.0))
    assert whole is not None
    assert part is not None
    top, left = (round(whole.foot[axis] - part.foot[axis]) for axis in (0, 1))
    height, width = part.picture.shape[:2]
    same = whole.picture[top : top + height, left : left + width, 3] == part.picture[..., 3]
    assert same.mean() > 0.99
    assert (height, width) <= (90, 50)


def test_nothing_is_drawn_of_somebody_out_of_sight():
    view = View(0.0, 0.0, LIGHT)
    assert draw(somebody(), STANDING, view, SCALE, clip=(-150.0, 300.0, 0.0, 400.0)) is None
    assert draw(somebody(), STANDING, view, SCALE, clip=(-150.0, 85.0, -140.0, 90.0)) is None


@pytest.mark.parametrize("seed", range(40))
def test_anybody_can_be_drawn_in_any_pose_from_any_side(seed: int):
    rng = np.random.default_rng(seed)
    person = random_person(rng)
    layer = draw(person, random_pose(rng, person), View(seed, 0.2, LIGHT), (40.0, 35.0))
    assert layer is not None
    assert (layer.picture[..., 3] > 0).mean() > 0.15
