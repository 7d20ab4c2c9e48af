"""Thresholds and rates by hand, against slow loops, and with intervals that cover the truth."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from deepsort_reid.evaluation import calibration, pairs
from deepsort_reid.evaluation.calibration import calibrate, judge
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.pairs import (
    STEP,
    STEPS,
    PairCounts,
    Sightings,
    count_pairs,
    count_tracks,
)

# Directions whose distance from EAST is 0, 0.2, 0.4, 1, 1.6 and 2.
EAST, NEAR, SLANT, NORTH, BACK, WEST = (1, 0), (4, 3), (3, 4), (0, 1), (-3, 4), (-1, 0)


def sightings(directions, pids, camids=None, moments=None):
    return Sightings(Embedded(torch.tensor(directions).float(), pids, camids), moments)


@pytest.fixture
def by_hand():
    query = sightings([EAST, EAST], [1, 2], [1, 2], [1000, 1000])
    gallery = sightings(
        #           0      1      2      3     4     5     6     7
        directions=[NEAR, SLANT, SLANT, NORTH, EAST, EAST, BACK, WEST],
        pids=[1, 1, 1, 2, 0, -1, 3, 2],
        camids=[1, 1, 2, 2, 1, 1, 1, 1],
        moments=[1100, 1101, 1000, 900, 9, 1000, 9, 1000],
    )
    return query, gallery


# The distances of the pairs above. Image 5 is junk; image 1 is 101 frames from query 0.
BY_HAND = {
    # query 0: image 0 | 4, 6, 7      query 1: image 3 | 2
    "within": {"same": [0.2, 1], "different": [0, 1.6, 2, 0.4]},
    # query 0: image 2 | 3            query 1: image 7 | 0, 1, 4, 6
    "across": {"same": [0.4, 2], "different": [1, 0.2, 0.4, 0, 1.6]},
}


def steps_of(distances):
    """Counts of distances by the first threshold that they are at or below."""
    steps = [math.ceil(round(distance / STEP, 6)) for distance in distances]
    return np.bincount(steps, minlength=STEPS)


def test_pairs_counted_by_hand(by_hand):
    counted = count_pairs(*by_hand, short_range=100)
    assert list(counted) == ["within", "across"]
    for name, sides in BY_HAND.items():
        for side, distances in sides.items():
            found = getattr(counted[name], side)
            np.testing.assert_array_equal(found.sum(axis=0), steps_of(distances), f"{name} {side}")
    within = counted["within"]
    assert within.different.sum(axis=1).tolist() == [3, 1]  # by the query's identity
    assert within.same.sum(axis=1).tolist() == [1, 1]


def test_tracks_counted_by_hand(by_hand):
    # In camera 1 query 0 meets person 1 with image 0 (image 1 is too far in time), 3 with image 6,
    # 2 with image 7; in camera 2 query 1 meets 1 with image 2, 2 with image 3. 4 is a distractor.
    counted = count_tracks(*by_hand, short_range=100)
    np.testing.assert_array_equal(counted.same, [steps_of([0.2]), steps_of([1])])
    np.testing.assert_array_equal(counted.different, [steps_of([1.6, 2]), steps_of([0.4])])
    longer = count_tracks(*by_hand, short_range=101)  # image 1 is no nearer than image 0
    np.testing.assert_array_equal(longer.same, counted.same)
    shorter = count_tracks(*by_hand, short_range=99)
    assert shorter.same.sum() == 0
    np.testing.assert_array_equal(shorter.different, counted.different)


def test_a_track_is_as_near_as_its_nearest_image():
    query = sightings([EAST], [1], [1], [0])
    gallery = sightings([SLANT, NEAR, WEST], [1, 1, 1], [1, 1, 1], [0, 0, 0])
    counted = count_tracks(query, gallery, short_range=1)
    np.testing.assert_array_equal(counted.same, [steps_of([0.2])])


def test_a_camera_in_which_nobody_else_is():
    query = sightings([EAST, EAST], [1, 1], [1, 2], [0, 0])
    gallery = sightings([NEAR, NEAR, EAST], [1, 0, -1], [1, 2, 2], [0, 0, 0])
    counted = count_tracks(query, gallery, short_range=1)
    np.testing.assert_array_equal(counted.same, [steps_of([0.2])])
    assert counted.different.sum() == 0


def test_tracks_without_cameras():
    query = sightings([EAST], [1])
    with pytest.raises(ValueError, match="cameras"):
        count_tracks(query, query, short_range=1)


def test_thresholds_and_rates_by_hand(by_hand):
    found = calibrate(*by_hand, false_match_rate=0.3, short_range=100)
    within, across = found.kinds["within"], found.kinds["across"]
    # Within, two people lie at 0, 0.4, 1.6 and 2: a rate of 1/4 <= 0.3 up to just below 0.4, which
    # is between steps 819 and 820 of 1/2048. One person lies at 0.2 and 1: half match.
    assert within.threshold.value == 819 / 2048
    assert within.rates_at(819 / 2048) == (0.25, 0.5)
    assert within.true_match.value == 0.5
    # There a quarter matches falsely and half is missed; one step on, it is half and half.
    assert within.eer.value == 0.5
    # Across, at 0, 0.2, 0.4, 1 and 1.6: 1/5 up to just below 0.2, between steps 409 and 410.
    assert across.threshold.value == 409 / 2048
    assert across.rates_at(409 / 2048) == (0.2, 0.0)
    assert across.true_match.value == 0.0
    # At 0.4 false matches go from 2/5 to 3/5, misses from 1 to 1/2: they cross at 6/7 of the way.
    assert across.eer.value == pytest.approx(0.4 + 6 / 7 * 0.2)
    assert found.metrics()["max_cosine_distance"] == 819 / 2048
    assert found.summary() == (
        "max_cosine_distance 0.400: 50.0% of 2 pairs of one person match, 25.0% of 4 pairs of two"
    )


@pytest.mark.parametrize(("rate", "step", "true_match"), [(0.5, 3276, 1.0), (0.24, 0, 0.0)])
def test_other_rates_of_the_same_pairs(by_hand, rate, step, true_match):
    kind = calibrate(*by_hand, false_match_rate=rate, short_range=100).kinds["within"]
    assert (kind.threshold.value, kind.true_match.value) == (step / 2048, true_match)
    assert kind.attained is (rate == 0.5)


@pytest.mark.parametrize(("short_range", "pairs"), [(99, 0), (100, 2), (101, 3), (10**6, 3)])
def test_one_person_in_one_camera_counts_at_short_range_only(by_hand, short_range, pairs):
    counted = count_pairs(*by_hand, short_range=short_range)
    assert counted["within"].same.sum() == pairs
    assert counted["within"].different.sum() == 4
    assert counted["across"].same.sum() == 2


def test_without_moments_any_two_images_in_a_camera_count(by_hand):
    query, gallery = (Sightings(side.images, None) for side in by_hand)
    assert count_pairs(query, gallery, short_range=1)["within"].same.sum() == 3
    found = calibrate(query, gallery, false_match_rate=0.3, short_range=1)
    assert "file names tell no frames" in found.doubts[0]


def test_without_cameras_there_is_one_kind(by_hand):
    query, gallery = (
        Sightings(Embedded(side.images.embeddings, side.images.pids), None) for side in by_hand
    )
    found = calibrate(query, gallery, false_match_rate=0.3, short_range=100)
    assert list(found.kinds) == ["all"]
    assert found.kinds["all"].same.sum() == 5  # query 0: images 0, 1, 2; query 1: images 3, 7
    assert found.kinds["all"].different.sum() == 9
    assert {"max_cosine_distance", "threshold_all", "tmr_all", "eer_all"} <= set(found.metrics())
    assert "of 5 pairs of one person match" in found.summary()


def random_case(seed, images=90, cameras=3):
    """Query and gallery of noisy identities, with distractors, junk and moments."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(9, 6))

    def side(count, least):
        pids = rng.integers(least, 8, count)
        embeddings = torch.tensor(centres[pids] + 0.7 * rng.normal(size=(count, 6)))
        moments = rng.integers(1, 300, count)
        return Sightings(Embedded(embeddings, pids, rng.integers(0, cameras, count)), moments)

    return side(40, 1), side(images, -1)


def reference(query, gallery, short_range):
    """{(kind, side): distances} in plain loops."""
    found: dict[tuple[str, str], list[float]] = {}
    for q in range(len(query.images)):
        tracks: dict[int, list[float]] = {}
        for g in range(len(gallery.images)):
            pid, other = int(query.images.pids[q]), int(gallery.images.pids[g])
            one_camera = bool(query.images.camids[q] == gallery.images.camids[g])
            gap = abs(int(query.moments[q]) - int(gallery.moments[g]))
            if other == -1 or (pid == other and one_camera and gap > short_range):
                continue
            key = ("within" if one_camera else "across", "same" if pid == other else "different")
            a, b = query.images.embeddings[q], gallery.images.embeddings[g]
            distance = 1 - float(a @ b / a.norm() / b.norm())
            found.setdefault(key, []).append(distance)
            if one_camera and other > 0:
                tracks.setdefault(other, []).append(distance)
        for other, distances in tracks.items():
            key = ("track", "same" if other == pid else "different")
            found.setdefault(key, []).append(min(distances))
    return found


def largest_threshold(different, rate):
    """The last step whose share of distances at or below is at most the rate."""
    for step in reversed(range(STEPS)):
        if np.mean(np.asarray(different) <= step * STEP) <= rate:
            return step * STEP
    return None


def crossing(same, different):
    """Where false matches and misses are as many, on straight lines between steps."""
    last = (0.0, 1.0)
    for step in range(STEPS):
        now = tuple(np.mean(np.asarray(d) <= step * STEP) for d in (different, same))
        now = (now[0], 1 - now[1])
        if now[0] >= now[1]:
            gap, next_gap = last[1] - last[0], now[0] - now[1]
            return last[0] + gap / (gap + next_gap) * (now[0] - last[0])
        last = now
    raise AssertionError("the rates do not cross")


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_loops(seed):
    query, gallery = random_case(seed)
    found = calibrate(query, gallery, false_match_rate=0.05, short_range=100)
    expected = reference(query, gallery, 100)
    assert list(found.kinds) == ["within", "track", "across"]
    for name, kind in found.kinds.items():
        same, different = expected[name, "same"], expected[name, "different"]
        assert (kind.same.sum(), kind.different.sum()) == (len(same), len(different))
        threshold = largest_threshold(different, 0.05)
        assert kind.threshold.value == threshold
        assert kind.true_match.value == pytest.approx(np.mean(np.asarray(same) <= threshold))
        assert kind.eer.value == pytest.approx(crossing(same, different))


def same_results(one, other):
    return all(
        np.array_equal(getattr(one[name], side), getattr(other[name], side))
        for name in one
        for side in ("same", "different")
    )


def test_blocks_threads_and_order_do_not_matter():
    query, gallery = random_case(0)
    whole = count_pairs(query, gallery, short_range=100)
    assert same_results(whole, count_pairs(query, gallery, short_range=100, block_bytes=4000))
    order = torch.randperm(len(gallery.images), generator=torch.Generator().manual_seed(0))
    images = gallery.images
    shuffled = Sightings(
        Embedded(images.embeddings[order], images.pids[order], images.camids[order]),
        gallery.moments[order],
    )
    assert same_results(whole, count_pairs(query, shuffled, short_range=100))
    tracks = {"track": count_tracks(query, gallery, short_range=100)}
    for other, block_bytes in [(gallery, 4000), (shuffled, 4000), (shuffled, 1 << 20)]:
        again = count_tracks(query, other, short_range=100, block_bytes=block_bytes)
        assert same_results(tracks, {"track": again})


def test_more_identities_than_groups_share_them(monkeypatch):
    query, gallery = random_case(0)
    alone = count_pairs(query, gallery, short_range=100)["within"].different
    monkeypatch.setattr(pairs, "GROUPS", 3)
    shared = count_pairs(query, gallery, short_range=100)["within"].different
    assert len(shared) == 3
    for group in range(3):
        np.testing.assert_array_equal(shared[group], alone[group::3].sum(axis=0))


def test_a_replicate_is_what_repeated_identities_give():
    counted = count_pairs(*random_case(1), short_range=100)["across"]
    weights = calibration._weights(len(counted.same), 5)
    for draw, weight in enumerate(weights):
        again = np.repeat(np.arange(len(weight)), weight.astype(int))
        repeated = PairCounts(counted.different[again], counted.same[again])
        expected = judge({"across": repeated}, false_match_rate=0.05, replicates=0)
        kind = expected.kinds["across"]
        false, matched = (
            calibration._shares(weights[[draw]], side) for side in (counted.different, counted.same)
        )
        assert calibration._equal_errors(false, matched)[0] == kind.eer.value
        (step,) = calibration._last_steps(false, [0.05])[0]
        assert step * STEP == kind.threshold.value
    assert (weights.sum(axis=1) == len(counted.same)).all()
    assert weights[0].tolist() == [1.0] * len(counted.same)


def population(rng, identities):
    """Distances of pairs whose identities differ in how easily they are told, as counts."""

    def side(mean, pairs):
        easy = rng.normal(mean, 0.08, (identities, 1))
        steps = np.clip((easy + rng.normal(0, 0.05, (identities, pairs))) / STEP, 0, STEPS - 1)
        return np.stack([np.bincount(row.astype(int), minlength=STEPS) for row in steps])

    return PairCounts(
        different=side(0.6, 200).astype(np.int32), same=side(0.3, 10).astype(np.int32)
    )


def test_the_intervals_cover_the_truth():
    truth = judge(
        {"all": population(np.random.default_rng(0), 3000)}, false_match_rate=0.1, replicates=1
    ).kinds["all"]
    covered = {"threshold": 0, "true_match": 0, "eer": 0}
    for seed in range(1, 61):
        pairs = population(np.random.default_rng(seed), 40)
        kind = judge({"all": pairs}, false_match_rate=0.1, replicates=200).kinds["all"]
        for name in covered:
            estimate = getattr(kind, name)
            covered[name] += estimate.low <= getattr(truth, name).value <= estimate.high
    # Of 60 intervals of 95 %, 57 are expected; 60 pairs a query are far from independent.
    assert all(count >= 50 for count in covered.values()), covered
    assert sum(covered.values()) < 180, "intervals that always cover are too wide"


def test_intervals_are_the_same_every_time():
    pairs = count_pairs(*random_case(0), short_range=100)
    first, second = (judge(pairs, false_match_rate=0.01).kinds["within"] for _ in range(2))
    assert (first.eer, first.threshold, first.at) == (second.eer, second.threshold, second.at)
    assert first.eer.low < first.eer.value < first.eer.high


def test_too_few_pairs_for_a_rate(by_hand):
    found = calibrate(*by_hand, false_match_rate=0.01, short_range=100)
    assert "within: 4 pairs of two people are too few for the false-match rate 0.01" in str(
        found.doubts
    )
    assert "which takes 100" in str(found.doubts)
    assert found.untold[0] == "within: 4 pairs of two people tell nothing at 1e-2, 1e-3, 1e-4"
    assert found.too_few == (
        "identities: 2 (needs 20), pairs of one person: 2 (needs 20), "
        "pairs of two people: 4 (needs 1,000)"
    )
    assert set(found.kinds["within"].at.values()) == {None}
    assert not [name for name in found.metrics() if name.startswith("tmr_within_")]


def test_a_rate_counts_from_its_first_pair_on():
    for count, told in [(99, False), (100, True)]:
        pairs = PairCounts(counts({1000: count}), counts({500: 5}))
        at = judge({"all": pairs}, false_match_rate=0.01).kinds["all"].at
        assert (at["1e-2"] is not None) is told
        assert at["1e-3"] is None


def counts(steps: dict[int, int], groups: int = 1) -> Any:
    row = np.zeros((groups, STEPS), np.int32)
    for step, count in steps.items():
        row[:, step] = count
    return row


def test_a_single_identity_gives_no_intervals():
    found = judge({"all": PairCounts(counts({1000: 100}), counts({500: 5}))}, false_match_rate=0.01)
    eer = found.kinds["all"].eer
    assert (eer.value, eer.low, eer.high) == (0.0, None, None)
    assert "no intervals" in str(found.doubts)


@pytest.mark.parametrize(
    ("different", "same", "missing"),
    [({}, {500: 5}, "no pair of two people"), ({500: 5}, {}, "no pair of one person")],
)
def test_a_kind_without_pairs_is_left_out_and_named(different, same, missing):
    whole = PairCounts(counts({1000: 100}), counts({500: 5}))
    lacking = PairCounts(counts(different), counts(same))
    found = judge({"within": lacking, "across": whole}, false_match_rate=0.01)
    assert list(found.kinds) == ["across"]
    assert f"within: left out, {missing} in one camera" in str(found.doubts)
    assert found.metrics()["max_cosine_distance"] == 999 * STEP
    alone = judge({"all": lacking}, false_match_rate=0.01)
    assert alone.metrics() == {}
    assert "no max_cosine_distance" in alone.summary()
    assert alone.too_few.startswith("identities: 0 (needs 20), ")


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_embeddings_that_are_all_alike_have_no_threshold(value):
    pids = np.arange(60) % 6 + 1
    query = Sightings(Embedded(torch.full((6, 4), value), np.arange(1, 7)), None)
    gallery = Sightings(Embedded(torch.full((60, 4), value), pids), None)
    found = calibrate(query, gallery, false_match_rate=0.01, short_range=100)
    kind = found.kinds["all"]
    assert kind.eer.value == pytest.approx(0.5)
    if value:  # all at distance 0
        assert not kind.attained
        assert (kind.threshold.value, kind.true_match.value) == (0.0, 0.0)
        assert kind.rates_at(0.0) == (1.0, 1.0)
        assert "100.0% of the pairs of two people lie at distance 0" in found.doubts[0]
    else:  # without a direction, all at distance 1
        assert kind.threshold.value == 1 - STEP
        assert kind.true_match.value == 0.0


def test_opposite_and_equal_directions_lie_at_the_ends():
    query = sightings([EAST], [1])
    pairs = count_pairs(query, sightings([EAST, WEST], [1, 2]), short_range=1)["all"]
    assert (pairs.same[0, 0], pairs.different[0, -1]) == (1, 1)


def test_moments_that_do_not_belong():
    with pytest.raises(ValueError, match=r"2 images have moments \(3,\)"):
        sightings([EAST, WEST], [1, 2], moments=[1, 2, 3])
