"""Which distance is too far: thresholds for a tracker, from pairs of the same and different people.

Pairs of a query and a gallery image are of two kinds. *Within* one camera is what a tracker
compares: images of one person a few frames apart, and whoever else that camera sees. *Across*
cameras is what the ranking asks. Where nobody knows the cameras there is one kind, *all*.

A pair matches at a threshold if its distance is at or below it, as in Deep SORT. The false-match
rate is the share of pairs of two people that match, the true-match rate that of pairs of one
person; at the equal error rate the first is as high as the second's rest. Thresholds are multiples
of STEP, and distances are counted no finer.

Pairs of one person are not independent, so the intervals come from resampling the people who are
asked for, each with all their pairs (Bolle, Ratha and Pankanti, "Error analysis of pattern
recognition systems: the subsets bootstrap", Computer Vision and Image Understanding 93(1), 2004).
The people of the gallery stay the same: the intervals say nothing about other ones.

The recommendation rests on pairs of images. Deep SORT compares a detection with as many images of
a *track* as nn_budget allows and takes the smallest distance, so more than the chosen rate of its
comparisons match falsely, and more match rightly. A third kind shows how much that is: all images
of one person in one camera stand for a track. They are fewer, and farther apart in time, than
those of a real one; so it is shown beside the recommendation, and is not it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepsort_reid.data.samples import DISTRACTOR
from deepsort_reid.evaluation import ranking
from deepsort_reid.evaluation.ranking import BLOCK_BYTES, Embedded, Tile

Counts = NDArray[np.int32]
Totals = NDArray[np.int64]
Floats = NDArray[np.float64]

STEP_BITS = 21  # of a distance's 32 fractional bits, not resolved
STEP = 2.0**STEP_BITS / ranking.TICKS  # between two thresholds, 1/2048
STEPS = int(2 / STEP) + 1  # thresholds from 0 to 2
GROUPS = 1024  # of query identities, at most, that are resampled; bounds the memory

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


class Sightings:
    """Images with the moment each was taken.

    Attributes:
        images: where they lie, who they show, who saw them.
        moments: (N,) int64 tensor of frames, or None where nobody knows; see
            `datasets.read_moment`.
    """

    def __init__(self, images: Embedded, moments: ArrayLike | Tensor | None):
        """Check that there is a moment for each image.

        Raises:
            ValueError: there is not.
        """
        self.images = images
        self.moments = None
        if moments is not None:
            values = torch.as_tensor(moments, dtype=torch.int64)
            if values.shape != images.pids.shape:
                raise ValueError(f"{len(images)} images have moments {tuple(values.shape)}")
            self.moments = values.to(images.pids.device)

    def __getitem__(self, index: Tensor) -> "Sightings":
        """Some of them, by positions (n,) int64."""
        images = self.images
        camids = None if images.camids is None else images.camids[index]
        moments = None if self.moments is None else self.moments[index]
        return Sightings(Embedded(images.embeddings[index], images.pids[index], camids), moments)


@dataclass(frozen=True, eq=False)
class Pairs:
    """How many pairs of a kind lie how far apart, for each group of query identities.

    Attributes:
        different: (groups, STEPS) counts of pairs of two people; column k holds those farther
            apart than (k - 1) * STEP, and at most k * STEP.
        same: likewise, of pairs of one person.
    """

    different: Counts
    same: Counts


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
class Kind:
    """What the pairs of one kind say.

    Attributes:
        different: (STEPS,) pairs of two people, as in `Pairs`, over all groups.
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

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """The false-match and the true-match rate at a threshold that is a multiple of STEP."""
        step = round(threshold / STEP) + 1
        false, matched = (side[:step].sum() / side.sum() for side in (self.different, self.same))
        return float(false), float(matched)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Everything that is known about thresholds.

    Attributes:
        false_match_rate: the chosen one.
        kinds: of "within", "track" and "across", or of "all", those that have pairs, the first of
            them what the recommendation rests on.
        doubts: what to know before trusting them, a sentence each.
        untold: which rates there are too few pairs for, a sentence each.
    """

    false_match_rate: float
    kinds: Mapping[str, Kind]
    doubts: Sequence[str]
    untold: Sequence[str]

    @property
    def recommended(self) -> Kind | None:
        """The kind that is nearest to what a tracker compares; None where no kind has pairs."""
        return next(iter(self.kinds.values()), None)

    def metrics(self) -> dict[str, float]:
        """The numbers for reports/metrics.json; what cannot be told is left out."""
        found = {}
        if self.recommended is not None:
            found["max_cosine_distance"] = self.recommended.threshold.value
        for name, kind in self.kinds.items():
            found[f"threshold_{name}"] = kind.threshold.value
            found[f"tmr_{name}"] = kind.true_match.value
            found[f"eer_{name}"] = kind.eer.value
            for rate, estimate in kind.at.items():
                if estimate is not None:
                    found[f"tmr_{name}_{rate}"] = estimate.value
        return found

    def summary(self) -> str:
        """The recommendation, and how many pairs keep it, in two lines, or why there is none."""
        kind = self.recommended
        if kind is None:
            return (
                "no max_cosine_distance: the test part has no pairs both of one person and of two\n"
                "people to find it by; hold out more people, or more images of each"
            )
        threshold = kind.threshold.value
        false, matched = kind.rates_at(threshold)
        text = (
            f"max_cosine_distance {threshold:.3f}: so near lie {false:.1%} of the pairs "
            f"of two people {PLACES[next(iter(self.kinds))]},\n"
            f"and {matched:.1%} of those of one person"
        )
        if "track" in self.kinds:
            false, matched = self.kinds["track"].rates_at(threshold)
            text += f"; by the nearest image of a track {false:.1%} and {matched:.1%}"
        return text


def calibrate(
    query: Sightings, gallery: Sightings, *, false_match_rate: float, short_range: int
) -> Calibration:
    """Find the thresholds, the rates and their intervals, of all pairs of query and gallery.

    Args:
        query: the images asked for.
        gallery: the images they are compared with; none of them is a query.
        false_match_rate: share of pairs of two people that may match at the threshold, in (0, 1).
        short_range: frames between two images of a person in one camera, at most; where file
            names tell no frames, any two count.

    Raises:
        ValueError: as in `metrics.ranking`.
    """
    pairs = count_pairs(query, gallery, short_range=short_range)
    if "within" in pairs and pairs["within"].same.any():
        tracks = count_tracks(query, gallery, short_range=short_range)
        pairs = {"within": pairs["within"], "track": tracks, "across": pairs["across"]}
    found = judge(pairs, false_match_rate=false_match_rate)
    if "within" in found.kinds and (query.moments is None or gallery.moments is None):
        note = "within: file names tell no frames, so any two images of a person in a camera count"
        return replace(found, doubts=[note, *found.doubts])
    return found


def count_pairs(
    query: Sightings, gallery: Sightings, *, short_range: int, block_bytes: int = BLOCK_BYTES
) -> dict[str, Pairs]:
    """Count all pairs of a query and a gallery image without junk, by kind and distance.

    Left out are pairs of one person in one camera more than `short_range` frames apart, and of two
    distractors, who may be anybody.

    Args:
        query: the images asked for.
        gallery: the images they are compared with; none of them is a query.
        short_range: in frames; used where the moments of both sides are known.
        block_bytes: bounds the memory beyond arguments and result. The result, at most 64 MB a
            kind, does not depend on it.

    Returns:
        "within" and "across", or "all", each with as many groups.

    Raises:
        ValueError: as in `metrics.ranking`.
    """
    names = ("all",) if query.images.camids is None else ("within", "across")
    group, groups = _groups(query)
    table = group.new_zeros(len(names) * 2 * groups * STEPS + 1, dtype=torch.int32)
    for tile in ranking.distances(
        "calibrate", query.images, gallery.images, block_bytes=block_bytes
    ):
        _count(_cells(tile, query, gallery, group, groups, short_range), table)
    counts = table[:-1].view(len(names), 2, groups, STEPS).cpu().numpy()
    return {name: Pairs(*sides) for name, sides in zip(names, counts, strict=True)}


def count_tracks(
    query: Sightings, gallery: Sightings, *, short_range: int, block_bytes: int = BLOCK_BYTES
) -> Pairs:
    """Count the pairs of a query and a track in its camera, by the smallest distance.

    A track is the gallery's images of one person in one camera; of the query's own only those at
    most `short_range` frames away. Distractors make none.

    Args:
        query: the images asked for; their cameras are known.
        gallery: the images of the tracks.
        short_range: as in `count_pairs`.
        block_bytes: bounds the memory beyond arguments and result, but for 2 bytes for each query
            and track of a camera.

    Raises:
        ValueError: as in `metrics.ranking`, or the cameras are not known.
    """
    if query.images.camids is None or gallery.images.camids is None:
        raise ValueError("tracks take cameras")
    group, groups = _groups(query)
    table = group.new_zeros(2 * groups * (STEPS + 1), dtype=torch.int32)
    for camera in torch.unique(query.images.camids):
        rows = (query.images.camids == camera).nonzero().flatten()
        seen = (gallery.images.camids == camera) & (gallery.images.pids > DISTRACTOR)
        asked, offered = query[rows], gallery[seen.nonzero().flatten()]
        tracks, steps = _nearest(asked, offered, short_range, block_bytes)
        side = group[rows, None] + groups * (asked.images.pids[:, None] == tracks)
        _count(side * (STEPS + 1) + steps, table)
    return Pairs(*table.view(2, groups, STEPS + 1)[..., :STEPS].cpu().numpy())


def _nearest(
    query: Sightings, gallery: Sightings, short_range: int, block_bytes: int
) -> tuple[Tensor, Tensor]:
    """How near each query of a camera is to each track in it.

    Returns:
        (tracks,) int64 the identity of each track, and (queries, tracks) int16 the step of the
        smallest distance; STEPS where no image of a track is at short range.
    """
    pids, track = torch.unique(gallery.images.pids, return_inverse=True)
    nearest = pids.new_full((len(query.images), len(pids)), STEPS, dtype=torch.int16)
    for tile in ranking.distances(
        "calibrate tracks", query.images, gallery.images, block_bytes=block_bytes
    ):
        steps = _steps(tile).short()
        same = query.images.pids[tile.rows, None] == gallery.images.pids[tile.columns]
        row, column = _far(tile, query, gallery, same, short_range)
        steps[row, column] = STEPS
        columns = track[tile.columns].expand_as(steps)
        nearest[tile.rows] = nearest[tile.rows].scatter_reduce(1, columns, steps, "amin")
    return pids, nearest


def _count(cells: Tensor, table: Tensor) -> None:
    """Add 1 to the table's cells, as often as each occurs."""
    places = cells.flatten()
    table.scatter_add_(0, places, table.new_ones(1).expand_as(places))


def _groups(query: Sightings) -> tuple[Tensor, int]:
    """The group of each query, (N,) int64, and how many there are: identities, `GROUPS` at most."""
    identities, group = torch.unique(query.images.pids, return_inverse=True)
    return group % GROUPS, min(len(identities), GROUPS)


def _steps(tile: Tile) -> Tensor:
    """The first step that each distance is at or below, (R, C) int64; overwrites the tile's."""
    return tile.ticks.add_((1 << STEP_BITS) - 1).bitwise_right_shift_(STEP_BITS)


def _far(
    tile: Tile, query: Sightings, gallery: Sightings, asked: Tensor, short_range: int
) -> tuple[Tensor, Tensor]:
    """Rows and columns, among the pairs asked for, (R, C) bool, of those not at short range."""
    row, column = asked.nonzero().unbind(1)
    if query.moments is None or gallery.moments is None:
        return row[:0], column[:0]
    apart = query.moments[tile.rows[row]] - gallery.moments[tile.columns[column]]
    far = apart.abs() > short_range
    return row[far], column[far]


def _cells(
    tile: Tile, query: Sightings, gallery: Sightings, group: Tensor, groups: int, short_range: int
) -> Tensor:
    """Where each pair of a tile is counted: (R, C) int64 places in the table.

    The table is (kinds, 2, groups, STEPS), different before same, and one place behind all that
    for pairs that are left out.
    """
    rows, columns = tile.rows[:, None], tile.columns
    pids = query.images.pids[rows]
    same = pids == gallery.images.pids[columns]
    left_out = same & (pids <= DISTRACTOR)
    cells = _steps(tile).add_(group[rows] * STEPS)
    cells.add_(same, alpha=groups * STEPS)
    kinds = 1
    if query.images.camids is not None and gallery.images.camids is not None:
        kinds = 2
        across = query.images.camids[rows] != gallery.images.camids[columns]
        cells.add_(across, alpha=2 * groups * STEPS)
        row, column = _far(tile, query, gallery, same & ~across, short_range)
        left_out[row, column] = True
    return cells.masked_fill_(left_out, kinds * 2 * groups * STEPS)


def judge(
    pairs: Mapping[str, Pairs], *, false_match_rate: float, replicates: int = REPLICATES
) -> Calibration:
    """Find the thresholds, the rates and their intervals.

    Args:
        pairs: as `count_pairs` gives them.
        false_match_rate: as in `calibrate`.
        replicates: resamplings of the query identities; seeded.
    """
    kinds, doubts, untold = {}, [], []
    for name, counted in pairs.items():
        lacking = [
            who
            for side, who in [(counted.same, "one person"), (counted.different, "two people")]
            if not side.any()
        ]
        if lacking:
            doubts.append(f"{name}: left out, no pair of {lacking[0]} {PLACES[name]}")
            continue
        kinds[name] = _kind(counted, false_match_rate, replicates)
        doubts += _doubts(name, kinds[name], false_match_rate)
        few = [rate for rate, estimate in kinds[name].at.items() if estimate is None]
        if few:
            count = int(kinds[name].different.sum())
            untold.append(f"{name}: {count:,} pairs of two people tell nothing at {', '.join(few)}")
    return Calibration(false_match_rate, kinds, doubts, untold)


def _kind(pairs: Pairs, false_match_rate: float, replicates: int) -> Kind:
    """Find one kind's rates, in all replicates at once."""
    used = pairs.different.any(axis=1) | pairs.same.any(axis=1)
    different, same = pairs.different[used], pairs.same[used]
    weights = _weights(len(same), replicates)
    false, matched = _shares(weights, different), _shares(weights, same)
    drawn = np.isfinite(false[:, -1] + matched[:, -1])  # not those without any pair of a sort
    false, matched = false[drawn], matched[drawn]
    chosen = _last_steps(false, [false_match_rate])
    count = int(different.sum(dtype=np.int64))

    return Kind(
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
    """How often each replicate draws each group: (1 + replicates, groups), the first all once.

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
    """The true-match rates at those of `CURVE` that so many pairs of two people can tell."""
    rates = CURVE[CURVE * count >= 1]
    values = _at(matched, _last_steps(false, rates))
    low, high = np.quantile(values[1:] if len(values) > 1 else values, LEVELS, axis=0)
    return Curve(rates, values[0], low, high)


def _doubts(name: str, kind: Kind, false_match_rate: float) -> list[str]:
    """What to know before trusting a kind's numbers."""
    count = int(kind.different.sum())
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
