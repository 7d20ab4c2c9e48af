"""The threshold for a tracker: which distance is too far for two images of one person.

A pair of images matches at a threshold if its distance is at or below it, as in Deep SORT. The
false-match rate is the share of pairs of two people that match, the true-match rate that of pairs
of one person. At the equal error rate the false-match rate equals the share of pairs of one person
that do not match. Thresholds are multiples of STEP; see pairs.py for the kinds of pairs.

Pairs of one person are not independent. So the intervals come from resampling the query
identities, each with all its pairs (Bolle, Ratha and Pankanti, "Error analysis of pattern
recognition systems: the subsets bootstrap", Computer Vision and Image Understanding 93(1), 2004).
The gallery stays the same: the intervals do not say how other gallery identities would do.

The recommendation rests on pairs of images. Deep SORT compares a detection with as many images of
a track as nn_budget allows and takes the smallest distance, so more of its comparisons match
falsely than the chosen rate, and more match rightly. The kind *track* shows how many more. Its
tracks have fewer images than real ones, and farther apart in time, so it is shown beside the
recommendation and is not the recommendation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.data.sample_size import LEAST, LEAST_EVENTS, shortage
from deepsort_reid.evaluation.pairs import (
    STEP,
    Counts,
    PairCounts,
    Sightings,
    count_pairs,
    count_tracks,
)

Totals = NDArray[np.int64]
Floats = NDArray[np.float64]

RATES = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}  # false-match rates that papers report
PLACES = {
    "within": "in one camera",
    "track": "in one camera, by track",
    "across": "in two cameras",
    "all": "in any camera",
}
CURVE: Floats = np.logspace(-4, 0, 81)  # false-match rates of the plot
REPLICATES = 1000
SEED = 0
LEVELS = (0.025, 0.975)  # of the 95 % intervals


@dataclass(frozen=True)
class Estimate:
    """A number, and its 95 % interval; None where a single identity cannot give one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Curve:
    """True-match rates by false-match rate, (points,) each, with their intervals."""

    rates: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class MatchRates:
    """The rates and the threshold that the pairs of one kind give.

    Attributes:
        different: (STEPS,) pairs of two people, as in `PairCounts`, over all groups.
        same: (STEPS,) pairs of one person.
        groups: how many independent groups of query identities the intervals come from.
        threshold: the largest distance at which the false-match rate is at most the chosen one;
            0 where there is none.
        attained: whether there is one.
        true_match: the true-match rate at that threshold.
        eer: the equal error rate.
        at: the true-match rates at `RATES`; None where there are too few pairs to tell.
        curve: the same at those of `CURVE` that there are pairs enough for.
    """

    different: Totals
    same: Totals
    groups: int
    threshold: Estimate
    attained: bool
    true_match: Estimate
    eer: Estimate
    at: Mapping[str, Estimate | None]
    curve: Curve

    @property
    def count_same(self) -> int:
        """How many pairs of one person there are."""
        return int(self.same.sum())

    @property
    def count_different(self) -> int:
        """How many pairs of two people there are."""
        return int(self.different.sum())

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """The false-match and the true-match rate at a threshold that is a multiple of STEP."""
        step = round(threshold / STEP) + 1
        false, matched = (side[:step].sum() / side.sum() for side in (self.different, self.same))
        return float(false), float(matched)


@dataclass(frozen=True, eq=False)
class Calibration:
    """The recommended threshold, and what it rests on.

    Attributes:
        false_match_rate: the chosen rate.
        kinds: of "within", "track" and "across", or of "all", those that have pairs. The
            recommendation rests on the first.
        doubts: what to know before trusting the numbers, a sentence each.
        untold: the rates for which there are too few pairs, a sentence each.
    """

    false_match_rate: float
    kinds: Mapping[str, MatchRates]
    doubts: Sequence[str]
    untold: Sequence[str]

    @property
    def recommended(self) -> MatchRates | None:
        """The kind nearest to what a tracker compares; None where no kind has pairs."""
        return next(iter(self.kinds.values()), None)

    def metrics(self) -> dict[str, float]:
        """The numbers for reports/evaluation.json, without those that too few pairs give."""
        found = {}
        if self.recommended is not None:
            found["max_cosine_distance"] = self.recommended.threshold.value
            found["pairs_of_one_person"] = self.recommended.count_same
            found["pairs_of_two_people"] = self.recommended.count_different
        for name, kind in self.kinds.items():
            found[f"threshold_{name}"] = kind.threshold.value
            found[f"tmr_{name}"] = kind.true_match.value
            found[f"eer_{name}"] = kind.eer.value
            for rate, estimate in kind.at.items():
                if estimate is not None:
                    found[f"tmr_{name}_{rate}"] = estimate.value
        return found

    @property
    def too_few(self) -> str:
        """What the recommendation has too little of; see `sample_size.shortage`."""
        kind = self.recommended
        identities, same, different = (
            (kind.groups, kind.count_same, kind.count_different) if kind else (0, 0, 0)
        )
        return shortage(
            {
                "identities": (identities, LEAST),
                "pairs of one person": (same, LEAST),
                "pairs of two people": (
                    different,
                    math.ceil(LEAST_EVENTS / self.false_match_rate),
                ),
            }
        )

    def summary(self) -> str:
        """The recommendation and the rates at it, or why there is none, in a line."""
        kind = self.recommended
        if kind is None:
            return (
                "no max_cosine_distance: the test part lacks pairs of one person, or of two people"
            )
        threshold = kind.threshold.value
        false, matched = kind.rates_at(threshold)
        return (
            f"max_cosine_distance {threshold:.3f}: {matched:.1%} of {kind.count_same:,} pairs of "
            f"one person match, {false:.1%} of {kind.count_different:,} pairs of two"
        )


def calibrate(
    query: Sightings,
    gallery: Sightings,
    *,
    false_match_rate: float,
    short_range: int,
    pairs: Mapping[str, PairCounts] | None = None,
) -> Calibration:
    """Find the thresholds, the rates and their intervals, of all pairs of query and gallery.

    Args:
        query: the query images.
        gallery: the images that they are compared with; none of them is a query.
        false_match_rate: share of pairs of two people that may match at the threshold, in (0, 1).
        short_range: frames between two images of a person in one camera, at most; where file
            names tell no frames, any two count.
        pairs: as `PairCounter` counts them, if that is done already.

    Raises:
        ValueError: as in `ranking.search`.
    """
    pairs = pairs or count_pairs(query, gallery, short_range=short_range)
    if "within" in pairs and pairs["within"].same.any():
        tracks = count_tracks(query, gallery, short_range=short_range)
        pairs = {"within": pairs["within"], "track": tracks, "across": pairs["across"]}
    found = judge(pairs, false_match_rate=false_match_rate)
    if "within" in found.kinds and (query.moments is None or gallery.moments is None):
        note = "within: file names tell no frames, so any two images of a person in a camera count"
        return replace(found, doubts=[note, *found.doubts])
    return found


def judge(
    pairs: Mapping[str, PairCounts], *, false_match_rate: float, replicates: int = REPLICATES
) -> Calibration:
    """Find the thresholds, the rates and their intervals.

    Args:
        pairs: as `count_pairs` gives them.
        false_match_rate: as in `calibrate`.
        replicates: resamplings of the query identities; seeded.
    """
    kinds: dict[str, MatchRates] = {}
    doubts: list[str] = []
    untold: list[str] = []
    for name, counted in pairs.items():
        lacking = [
            who
            for side, who in [(counted.same, "one person"), (counted.different, "two people")]
            if not side.any()
        ]
        if lacking:
            # Where nobody is seen by two cameras, that kind is not to be expected.
            notes = untold if name == "across" and kinds else doubts
            notes.append(f"{name}: left out, no pair of {lacking[0]} {PLACES[name]}")
            continue
        kinds[name] = _rates(counted, false_match_rate, replicates)
        doubts += _doubts(name, kinds[name], false_match_rate)
        few = [rate for rate, estimate in kinds[name].at.items() if estimate is None]
        if few:
            count = kinds[name].count_different
            untold.append(f"{name}: {count:,} pairs of two people tell nothing at {', '.join(few)}")
    return Calibration(false_match_rate, kinds, doubts, untold)


def _rates(pairs: PairCounts, false_match_rate: float, replicates: int) -> MatchRates:
    """Find one kind's rates, in all replicates at once."""
    used = pairs.different.any(axis=1) | pairs.same.any(axis=1)
    different, same = pairs.different[used], pairs.same[used]
    weights = _weights(len(same), replicates)
    false, matched = _shares(weights, different), _shares(weights, same)
    drawn = np.isfinite(false[:, -1] + matched[:, -1])  # not those without any pair of a sort
    false, matched = false[drawn], matched[drawn]
    chosen = _last_steps(false, [false_match_rate])
    count = int(different.sum(dtype=np.int64))

    return MatchRates(
        different=different.sum(axis=0, dtype=np.int64),
        same=same.sum(axis=0, dtype=np.int64),
        groups=len(same),
        threshold=_estimate(np.maximum(chosen[:, 0], 0) * STEP),
        attained=bool(chosen[0, 0] >= 0),
        true_match=_estimate(_at(matched, chosen)[:, 0]),
        eer=_estimate(_equal_errors(false, matched)),
        at={
            name: _estimate(_at(matched, _last_steps(false, [rate]))[:, 0])
            if count * rate >= 1
            else None
            for name, rate in RATES.items()
        },
        curve=_curve(false, matched, count),
    )


def _weights(groups: int, replicates: int) -> Floats:
    """How often each replicate draws each group, (1 + replicates, groups); the first is all once.

    A single group cannot be resampled, and has no replicates. Whole numbers in float64, so that
    sums of counts are exact in whatever order a matrix product adds them.
    """
    rng = np.random.default_rng(SEED)
    draws = rng.integers(groups, size=(replicates if groups > 1 else 0, groups))
    counts = [np.bincount(draw, minlength=groups) for draw in draws]
    return np.array([np.ones(groups), *counts], dtype=np.float64)


def _shares(weights: Floats, counts: Counts) -> Floats:
    """(replicates, STEPS) share of the pairs at or below each step; NaN where there are none."""
    matched = (weights @ counts.astype(np.float64)).cumsum(axis=1)
    total = matched[:, -1:].copy()
    with np.errstate(invalid="ignore"):
        matched /= total
    return matched


def _last_steps(false: Floats, rates: Sequence[float] | Floats) -> Totals:
    """(replicates, rates) last step whose false-match rate is at most each rate; -1: none."""
    return np.stack([np.searchsorted(row, rates, side="right") for row in false]) - 1


def _at(matched: Floats, steps: Totals) -> Floats:
    """(replicates, rates) true-match rates at steps; before the first one nothing matches."""
    found = np.take_along_axis(matched, np.maximum(steps, 0), axis=1)
    return np.where(steps >= 0, found, 0.0)


def _equal_errors(false: Floats, matched: Floats) -> Floats:
    """(replicates,) where false-match and false-non-match rate cross, between two steps.

    Both are taken as straight from one step to the next; before the first one, nothing matches.
    """
    ahead = false - (1 - matched)  # ascending from -1, ends at 1
    step = (ahead >= 0).argmax(axis=1)
    row = np.arange(len(false))
    after, rate = ahead[row, step], false[row, step]
    before = np.where(step > 0, ahead[row, step - 1], -1.0)
    rate_before = np.where(step > 0, false[row, step - 1], 0.0)
    crossing: Floats = rate_before + before / (before - after) * (rate - rate_before)
    return crossing


def _estimate(values: Floats) -> Estimate:
    """The first value, with the interval of the others."""
    if len(values) == 1:
        return Estimate(float(values[0]), None, None)
    return Estimate(float(values[0]), *np.quantile(values[1:], LEVELS).tolist())


def _curve(false: Floats, matched: Floats, count: int) -> Curve:
    """The true-match rates at those rates of `CURVE` for which there are enough pairs."""
    rates = CURVE[CURVE * count >= 1]
    values = _at(matched, _last_steps(false, rates))
    low, high = np.quantile(values[1:] if len(values) > 1 else values, LEVELS, axis=0)
    return Curve(rates, values[0], low, high)


def _doubts(name: str, kind: MatchRates, false_match_rate: float) -> list[str]:
    """What to know before trusting a kind's numbers."""
    count = kind.count_different
    doubts = []
    if not kind.attained:
        doubts.append(
            f"{name}: {kind.rates_at(0.0)[0]:.1%} of the pairs of two people lie at distance 0, "
            f"more than the rate {false_match_rate:g}: no threshold keeps them apart, train again"
        )
    if count * false_match_rate < 1:
        doubts.append(
            f"{name}: {count:,} pairs of two people are too few for the false-match rate "
            f"{false_match_rate:g}, which takes {math.ceil(1 / false_match_rate):,}; the threshold "
            "lies below all of them"
        )
    if kind.groups == 1:
        doubts.append(f"{name}: a single query identity gives no intervals")
    return doubts
