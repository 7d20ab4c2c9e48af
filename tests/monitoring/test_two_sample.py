"""The test of two groups of tracks: known values, whole tracks, and its rate of false alarms."""

from itertools import combinations

import numpy as np
import pytest

from deepsort_reid.monitoring.two_sample import (
    combined,
    compare,
    effect,
    energy,
    least_p,
    share_as_large,
    track_distances,
    whitened,
)

NOTHING = np.zeros((40, 1))
IS_NEW = np.arange(40) >= 20


def people(rng, count, *, shift=0.0, crops=3, size=12):
    """Tracks whose crops lie close together: embeddings, and whose each is."""
    centres = rng.standard_normal((count, size))
    centres[:, -1] = 0.2 * centres[:, -1] + shift  # the direction in which people hardly differ
    tracks = np.repeat(np.arange(count), crops)
    return centres[tracks] + 0.1 * rng.standard_normal((count * crops, size)), tracks


def p_value(rng, *, shift=0.0, pieces=1, white=True):
    old, _ = people(rng, 20)
    new, _ = people(rng, 20, shift=shift)
    vectors = np.concatenate([old, new])
    tracks = np.arange(len(vectors)) * pieces // 3
    count = tracks[-1] + 1
    distances = track_distances(whitened(vectors) if white else vectors, tracks)
    is_new = np.arange(count) >= count / 2
    return compare(distances, is_new, np.zeros((count, 1)), draws=199).p_value


def test_the_energy_distance_of_points_on_a_line():
    points = np.array([[0.0], [1.0], [4.0], [6.0]])
    distances = track_distances(points, np.arange(4))
    # between: (4 + 6 + 3 + 5) / 4; within: 1 and 2
    assert energy(distances, np.array([[False, False, True, True]]))[0] == pytest.approx(9 - 1 - 2)


def test_tracks_count_once():
    points = np.array([[0.0], [2.0], [2.0], [5.0]])
    distances = track_distances(points, np.array([0, 0, 1, 2]))
    assert distances == pytest.approx(np.array([[0, 1, 4], [1, 0, 3], [4, 3, 0]]))


def test_p_is_the_share_of_all_ways_to_choose():
    points = np.array([[0.0], [0.3], [0.9], [2.0], [2.2], [2.9], [3.5]])
    distances = track_distances(points, np.arange(7))
    is_new = np.arange(7) >= 4
    every = np.array([[n in way for n in range(7)] for way in combinations(range(7), 3)])
    exact = float(np.mean(energy(distances, every) >= energy(distances, is_new[None]) - 1e-9))
    found = compare(distances, is_new, np.zeros((7, 1)), draws=20_000).p_value
    assert found == pytest.approx(exact, abs=0.01)
    assert 0.02 < exact < 0.5


def test_whitening_makes_all_directions_alike():
    rng = np.random.default_rng(0)
    spread = np.array([10.0, 1.0, 1.0])
    for count in (200, 3):  # more and fewer embeddings than directions
        embeddings = rng.standard_normal((count, 3)) * spread
        variances = np.linalg.eigvalsh(np.cov(whitened(embeddings), rowvar=False, bias=True))
        assert variances[-1] < 1.01
    assert np.isfinite(whitened(np.ones((4, 3)))).all()


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(0)
    found = np.array([p_value(rng) for _ in range(200)])
    assert 0.01 <= np.mean(found <= 0.05) <= 0.10  # 0.05, and its 99.7 % interval of 200 draws
    assert 0.4 < found.mean() < 0.6


def test_crops_that_change_sides_alone_alarm_at_nothing():
    rng = np.random.default_rng(0)
    assert np.mean([p_value(rng, pieces=3) <= 0.05 for _ in range(40)]) > 0.5


def test_a_shift_where_people_hardly_differ_is_seen():
    rng = np.random.default_rng(0)
    seen, missed = (
        np.mean([p_value(rng, shift=0.8, white=white) <= 0.05 for _ in range(20)])
        for white in (True, False)
    )
    assert seen > 0.8
    assert missed < 0.6


def test_what_has_moved_is_told_with_one_rate_of_false_alarms_for_all():
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((40, 3))
    numbers[IS_NEW, 1] += 3
    moved = compare(np.zeros((40, 40)), IS_NEW, numbers, draws=999).moved
    assert moved.p_values[1] == pytest.approx(0.001)
    assert moved.p_values[[0, 2]].min() > 0.05
    assert moved.new[1] - moved.old[1] > 2
    alarms = [
        compare(NOTHING @ NOTHING.T, IS_NEW, rng.standard_normal((40, 3)), draws=99).moved.p_values
        for _ in range(100)
    ]
    assert np.mean([p.min() <= 0.05 for p in alarms]) <= 0.12


def test_the_least_p_of_few_tracks():
    assert least_p(5, 5) == pytest.approx(2 / 252)  # of 10 tracks 5 are new, or the 5 others
    assert least_p(5, 6) == pytest.approx(1 / 462)
    assert least_p(100, 200) == pytest.approx(1e-4)
    distances = track_distances(np.r_[np.zeros(5), np.ones(5)][:, None] * 9, np.arange(10))
    found = compare(distances, np.arange(10) >= 5, np.zeros((10, 1)))
    assert found.p_value == pytest.approx(least_p(5, 5), rel=0.4)


def test_tracks_that_coincide_have_no_effect():
    assert effect(np.zeros((8, 8)), np.arange(8) >= 4) == 0


def test_p_values_of_draws_are_combined():
    assert combined(np.array([0.03])) == 0.03
    assert combined(np.array([0.01, 0.03, 0.9])) == pytest.approx(0.06)
    assert combined(np.array([0.7, 0.8])) == 1
    assert share_as_large(np.zeros(99), np.float64(1)) == pytest.approx(0.01)
