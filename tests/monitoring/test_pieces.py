"""Tracks that may be pieces of one person's: which are joined, and the test's rate without them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from deepsort_reid.core.errors import TooLittleError
from deepsort_reid.monitoring.footage import Footage
from deepsort_reid.monitoring.pieces import distance_within_tracks, joined, means_of
from deepsort_reid.monitoring.watch import (
    Embedded,
    compare_draw,
    evened,
    with_pieces_joined,
)

CROPS = 4
Floats = NDArray[np.float64]


def at(*degrees: float) -> Floats:
    """Embeddings in a plane."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_mean_distance_within_tracks_by_hand() -> None:
    tracks = np.array([0, 1, 1, 2, 2, 2])
    embeddings = at(0, 10, 40, 0, 60, 120)
    within = [1 - np.cos(np.deg2rad(30)), 1 - (0.5 + 0.5 - 0.5) / 3]
    assert distance_within_tracks(embeddings, tracks) == pytest.approx(np.quantile(within, 0.8))
    assert distance_within_tracks(embeddings[:2], tracks[:2]) is None  # a crop each
    assert means_of(embeddings, tracks)[1] == pytest.approx(at(10, 40).mean(axis=0))


def test_near_tracks_and_those_of_one_person_are_joined() -> None:
    tracks, alone = np.arange(6), np.arange(6)
    embeddings = at(0, 8, 16, 90, 100, 180)
    limit = 1 - np.cos(np.deg2rad(9))
    assert joined(embeddings, tracks, alone, limit).tolist() == [0, 0, 0, 3, 4, 5]  # by a chain
    assert joined(embeddings, tracks, alone, 0.0).tolist() == [0, 1, 2, 3, 4, 5]
    known = np.array([5, 1, 2, 1, 4, 5])
    assert same(joined(embeddings, tracks, known, 0.0), [0, 1, 2, 1, 3, 0])
    assert same(joined(embeddings, tracks, known, limit), [0, 0, 0, 0, 1, 0])
    assert len(set(joined(at(7, 7, 7), np.arange(3), np.arange(3), 0.0).tolist())) == 1


def same(found: NDArray[np.int64], wanted: list[int]) -> bool:
    """Whether the same are joined, whatever their numbers."""
    numbers = np.array(wanted)
    return bool(((found[:, None] == found) == (numbers[:, None] == numbers)).all())


def test_who_is_seen_at_the_same_time_is_not_joined() -> None:
    embeddings, tracks, limit = at(0, 3, 7, 12), np.arange(4), 1 - np.cos(np.deg2rad(20))
    spans = np.array([[1, 10], [10, 20], [21, 30], [22, 25]])
    # 0 was seen with 1, and 2 with 3. Of the others, 1 and 2 are the nearest; 0 and 3 are left.
    assert joined(embeddings, tracks, tracks, limit, spans).tolist() == [0, 1, 1, 0]
    apart = np.array([[1, 9], [10, 20], [21, 30], [31, 35]])
    assert len(set(joined(embeddings, tracks, tracks, limit, apart).tolist())) == 1
    together = np.array([[1, 9]] * 4)
    assert joined(embeddings, tracks, tracks, limit, together).tolist() == [0, 1, 2, 3]


def side(
    rng: np.random.Generator, people: int, *, pieces: int = 1, is_tracked: bool = False
) -> Embedded:
    """People whose crops lie close together, each track in so many pieces of equally many crops."""
    centres = np.repeat(rng.standard_normal((people, 24)), CROPS, axis=0)
    embeddings = centres + 0.2 * rng.standard_normal(centres.shape)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    count = people * pieces
    footage = Footage(
        "street", np.zeros((len(embeddings), 1, 1, 3), np.uint8),
        np.repeat(np.arange(count), CROPS // pieces), np.arange(count), np.full(count, -1),
        is_tracked=is_tracked,
    )  # fmt: skip
    return Embedded(footage, embeddings, np.zeros((len(embeddings), 1)))


def alarms(pieces: int, *, is_tracked: bool, looks: int = 150) -> float:
    """The share of looks at people of the same world that alarm at 0.05."""
    found = []
    for seed in range(looks):
        rng = np.random.default_rng(seed)
        sides = side(rng, 24), side(rng, 16, pieces=pieces, is_tracked=is_tracked)
        old, new = evened(*with_pieces_joined(*sides), 0.05)
        p_values = [compare_draw(old, new, draw, 99).p_value for draw in range(5)]
        found.append(min(1, 2 * float(np.median(p_values))) <= 0.05)
    return float(np.mean(found))


def test_broken_tracks_alarm_falsely_unless_they_are_joined() -> None:
    assert alarms(1, is_tracked=True) <= 0.1
    assert alarms(2, is_tracked=True) <= 0.2
    assert alarms(2, is_tracked=False) >= 0.5


def test_people_are_joined_only_where_a_tracker_has_made_tracks() -> None:
    rng = np.random.default_rng(0)
    old, new = side(rng, 24), side(rng, 24, pieces=2)
    assert with_pieces_joined(old, new) == (old, new)
    first, second = with_pieces_joined(old, tracked(new))
    assert first is old
    assert 22 <= second.footage.count <= 32  # of 48
    first, second = with_pieces_joined(tracked(new), old)
    assert 22 <= first.footage.count <= 32
    assert second is old
    single = side(rng, 24, pieces=CROPS)
    assert with_pieces_joined(single, tracked(single))[1].footage.count == 4 * 24  # no measure


def tracked(one: Embedded) -> Embedded:
    return replace(one, footage=replace(one.footage, is_tracked=True))


def test_too_few_people_in_many_tracks() -> None:
    rng = np.random.default_rng(0)
    new = side(rng, 24, pieces=2)
    same = replace(new, embeddings=np.tile(new.embeddings[:1], (len(new.embeddings), 1)))
    sides = with_pieces_joined(side(rng, 24), tracked(same))
    text = "street: 48 tracks, 1 once pieces that look like one person's are joined; expected at"
    with pytest.raises(TooLittleError, match=text):
        evened(*sides, 0.01)
