"""People walk ahead, make way, cross, leave the view and come back as themselves."""

from itertools import pairwise

import numpy as np
import pytest

from deepsort_reid.synthetic.camera_motion import PANORAMA, windows
from deepsort_reid.synthetic.crowd import Ground, Scalars, Walk, walks
from deepsort_reid.synthetic.street import FRAME_RATE, edges

FRAMES, PEOPLE = 300, 10


@pytest.fixture(scope="module")
def ground() -> Ground:
    """What a camera that pans sees."""
    shown = windows(np.random.default_rng(0), FRAMES, (360, 640), FRAME_RATE)
    return Ground(5.0, 8.0, edges(shown))


@pytest.fixture(scope="module")
def ways(ground: Ground) -> list[Walk]:
    return walks(np.random.default_rng(1), ground, np.full(PEOPLE, 1.3), FRAME_RATE)


def in_view(ground: Ground, way: Walk) -> np.ndarray:
    """At which frames somebody is between the view's edges: (F,)."""
    slope = way.places[:, 0] / way.places[:, 1]
    return (slope > ground.edges[:, 0]) & (slope < ground.edges[:, 1])


def test_everybody_stays_on_the_ground(ground: Ground, ways: list[Walk]):
    assert len(ways) == PEOPLE
    for way in ways:
        assert way.places.shape == (FRAMES, 2)
        assert way.places[:, 1].min() >= ground.near
        assert way.places[:, 1].max() <= ground.far


def test_people_walk_ahead_and_nobody_jumps(ground: Ground, ways: list[Walk]):
    for way in ways:
        steps = np.diff(way.places, axis=0)
        assert np.hypot(*steps.T).max() <= 1.4 * 1.3 / FRAME_RATE + 1e-9
        ahead = np.stack([np.sin(way.headings), -np.cos(way.headings)], axis=1)[1:]
        expected = ahead * (way.speeds[1:] / FRAME_RATE)[:, None]
        # Where the ground ends, one goes along its edge.
        np.testing.assert_allclose(steps[:, 0], expected[:, 0], atol=1e-9)
        free = (way.places[1:, 1] > ground.near) & (way.places[1:, 1] < ground.far)
        np.testing.assert_allclose(steps[free, 1], expected[free, 1], atol=1e-9)
        assert np.abs(np.diff(way.headings)).max() <= 3.0 / FRAME_RATE + 1e-9


def absences(seen: np.ndarray) -> list[int]:
    """How many frames each absence lasts that begins and ends within the sequence."""
    places = np.flatnonzero(seen)
    return [int(b - a - 1) for a, b in pairwise(places.tolist()) if b - a > 1]


def test_most_leave_the_view_and_come_back(ground: Ground, ways: list[Walk]):
    gone = [absences(in_view(ground, way)) for way in ways]
    assert sum(bool(lengths) for lengths in gone) > PEOPLE / 2
    assert 10 <= np.median(np.concatenate(gone)) <= 60


def test_about_three_quarters_are_in_view(ground: Ground, ways: list[Walk]):
    present = np.stack([in_view(ground, way) for way in ways]).sum(0)
    assert 0.5 * PEOPLE < present.mean() < 0.9 * PEOPLE


def test_people_cross_in_the_picture(ways: list[Walk]):
    slopes = np.stack([way.places[:, 0] / way.places[:, 1] for way in ways])
    orders = np.sign(slopes[:, None] - slopes[None])
    crossings = (np.diff(orders, axis=2) != 0).sum() / 2
    assert crossings >= 30


def test_some_stop_and_go_on(ways: list[Walk]):
    still = np.stack([way.speeds for way in ways]) < 0.1
    assert 0.02 < still.mean() < 0.5


def test_people_make_way(ways: list[Walk]):
    places = np.stack([way.places for way in ways])
    apart = np.hypot(*np.moveaxis(places[:, None] - places[None], -1, 0))
    others = apart[np.triu_indices(PEOPLE, 1)]
    assert np.mean(others < 0.25) < 0.01


def test_some_walk_side_by_side(ground: Ground):
    def abreast(seed: int) -> float:
        found = walks(np.random.default_rng(seed), ground, np.full(6, 1.3), FRAME_RATE)
        places = np.stack([way.places for way in found])
        apart = np.hypot(*np.moveaxis(places[:, None] - places[None], -1, 0))
        return max(float(np.mean(apart[a, b] < 1.2)) for a in range(6) for b in range(a))

    assert max(abreast(seed) for seed in range(3)) > 0.6


def test_the_same_numbers_make_the_same_ways(ground: Ground, ways: list[Walk]):
    again = walks(np.random.default_rng(1), ground, np.full(PEOPLE, 1.3), FRAME_RATE)
    other = walks(np.random.default_rng(2), ground, np.full(PEOPLE, 1.3), FRAME_RATE)

    def all_places(found: list[Walk]) -> Scalars:
        return np.stack([way.places for way in found])

    assert np.array_equal(all_places(again), all_places(ways))
    assert not np.array_equal(all_places(other), all_places(ways))


def test_one_person_walks_alone(ground: Ground):
    (way,) = walks(np.random.default_rng(0), ground, np.array([1.3]), FRAME_RATE)
    assert np.isfinite(way.places).all()


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (64, 1024), (1024, 64)])
def test_the_camera_never_looks_beyond_the_scene(size: tuple[int, int]):
    for window in windows(np.random.default_rng(0), 400, size, FRAME_RATE):
        assert window.left >= 0
        assert window.left + window.width <= PANORAMA
        assert window.top >= 0
        assert window.top + window.height <= 600
        assert window.width / window.height == pytest.approx(size[1] / size[0])


def test_the_camera_moves_smoothly():
    shown = windows(np.random.default_rng(0), 300, (360, 640), FRAME_RATE)
    lefts = np.array([window.left for window in shown])
    assert lefts.max() - lefts.min() > 100
    assert 0 < np.abs(np.diff(lefts)).max() < 20
