"""Solids meet rays where geometry says, and what is nearer hides what is behind."""

import numpy as np
import pytest

from deepsort_reid.synthetic.raycast import Array, Canvas, Light, Paint, outline, turned, vector

NOON = Light(direction=(0.0, 1.0, 0.0), sun=(1.0, 1.0, 1.0), sky=(0.0, 0.0, 0.0))
UPRIGHT = np.eye(3)


def canvas(yaw: float = 0.0, pitch: float = 0.0) -> Canvas:
    """Two metres square, a hundred pixels a metre, the origin in the middle."""
    return Canvas((200, 200), (100.0, 100.0), (100.0, 100.0), turned(yaw, pitch))


def flat(red: float) -> Paint:
    def paint(along: Array, _: Array) -> Array:
        return np.tile(np.array([red, 0.5, 0.5], np.float32), (len(along), 1))

    return paint


def test_a_ball_is_as_deep_as_its_radius_and_as_large_as_its_disc():
    picture = canvas()
    picture.ellipsoid(vector(0, 0, 0.1), UPRIGHT, np.full(3, 0.5), flat(1.0))
    assert picture.depth[100, 100] == pytest.approx(0.6, abs=1e-3)
    assert np.isfinite(picture.depth).mean() == pytest.approx(np.pi * 0.25 / 4, rel=0.01)


def test_a_balls_surface_looks_away_from_its_middle():
    picture = canvas()
    picture.ellipsoid(vector(0, 0, 0), UPRIGHT, np.full(3, 0.5), flat(1.0))
    assert picture.normal[:, 100, 100] == pytest.approx([0, 0, 1], abs=0.02)
    assert picture.normal[:, 52, 100] == pytest.approx([0, 0.95, 0.31], abs=0.05)


@pytest.mark.parametrize("lean", [0.0, 0.4, 0.8])
def test_a_loft_of_one_width_is_a_cylinder_however_it_leans(lean: float):
    axis = vector(0.0, np.cos(lean), np.sin(lean))
    picture = canvas()
    knots = [(0.0, 0.2, 0.2), (1.0, 0.2, 0.2)]
    picture.loft(-0.5 * axis, 0.5 * axis, vector(1, 0, 0), knots, flat(1.0), caps="none")
    # A ray through the axis meets a cylinder of radius r at r / cos(lean) before it.
    assert picture.depth[100, 100] == pytest.approx(0.2 / np.cos(lean), abs=0.01)
    across = np.isfinite(picture.depth[100]).sum()
    assert across == pytest.approx(40, abs=2)


def test_round_ends_reach_beyond_the_axis_and_flat_ones_do_not():
    heights = {}
    for caps in ("none", "end", "both"):
        picture = canvas()
        knots = [(0.0, 0.2, 0.2), (1.0, 0.2, 0.2)]
        picture.loft(vector(0, -0.3, 0), vector(0, 0.3, 0), vector(1, 0, 0), knots, flat(1), caps)
        heights[caps] = np.isfinite(picture.depth[:, 100]).sum()
    assert heights["none"] == pytest.approx(60, abs=2)
    assert heights["end"] == pytest.approx(80, abs=3)
    assert heights["both"] == pytest.approx(100, abs=4)


def test_a_turned_box_shows_its_edge():
    ahead, turned_box = canvas(), canvas(yaw=np.pi / 4)
    for picture in (ahead, turned_box):
        picture.box(vector(0, 0, 0), UPRIGHT, np.full(3, 0.3), flat(1.0))
    assert ahead.depth[100, 100] == pytest.approx(0.3, abs=1e-3)
    assert turned_box.depth[100, 100] == pytest.approx(0.3 * np.sqrt(2), abs=0.02)
    assert np.isfinite(ahead.depth[100]).sum() == pytest.approx(60, abs=1)
    assert np.isfinite(turned_box.depth[100]).sum() == pytest.approx(60 * np.sqrt(2), abs=2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_is_nearer_hides_what_is_behind_in_any_order(order: tuple[int, int]):
    picture = canvas()
    balls = [(vector(0, 0, 0.5), 1.0), (vector(0, 0, -0.5), 0.0)]
    for number in order:
        centre, red = balls[number]
        picture.ellipsoid(centre, UPRIGHT, np.full(3, 0.3), flat(red))
    assert picture.colour[0, 100, 100] == 1.0


def test_seen_from_above_what_is_ahead_falls_lower():
    picture = canvas(pitch=0.5)
    picture.ellipsoid(vector(0, 0, 0.5), UPRIGHT, np.full(3, 0.05), flat(1.0))
    rows = np.flatnonzero(np.isfinite(picture.depth).any(1))
    assert rows.mean() - 100 == pytest.approx(100 * 0.5 * np.sin(0.5), abs=1.5)


def test_turned_left_what_was_ahead_is_at_the_viewers_right():
    assert turned(np.pi / 2) @ vector(0, 0, 1) == pytest.approx([1, 0, 0])


def test_light_from_above_leaves_the_underside_darker():
    picture = canvas()
    picture.ellipsoid(vector(0, 0, 0), UPRIGHT, np.full(3, 0.5), flat(0.8))
    window = picture.used()
    assert window is not None
    shaded = picture.shaded(NOON, window)
    assert shaded.shape == (100, 100, 4)
    assert set(np.unique(shaded[..., 3])) == {0, 255}
    assert shaded[10, 50, 0] > shaded[50, 50, 0] + 50 > shaded[90, 50, 0] + 50


def test_nothing_is_used_before_anything_is_drawn_or_beside_the_picture():
    picture = canvas()
    assert picture.used() is None
    picture.ellipsoid(vector(5, 0, 0), UPRIGHT, np.full(3, 0.3), flat(1.0))
    assert picture.used() is None


def test_an_outline_follows_its_knots():
    shape = outline(1.0, ((0.0, 0.1, 0.2), (1.0, 0.3, 0.2)), "none")
    assert (shape.low, shape.high) == (0.0, 1.0)
    assert shape.table[:2, 32] == pytest.approx([0.2, 0.2], abs=0.005)
    assert shape.table[2:, 32] == pytest.approx([0.2, 0.0], abs=0.01)
