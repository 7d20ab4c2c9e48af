"""Answers whether the first network is better than each other one, and how sure that is."""

import textwrap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.comparison.measuring import Comparison, Measured, Tracking
from deepsort_reid.data.sample_size import LEAST, shortage
from deepsort_reid.evaluation.calibration import LEVELS, REPLICATES, SEED, Estimate
from deepsort_reid.tracking.report import LEAST_PEOPLE
from deepsort_reid.tracking.score import Scores

WIDTH = 98  # characters of a line on the screen
SPEED_OF = 8  # crops at a time: about as many as a frame has
NOTICED = 1.1  # times as fast, from which on it is worth a word


def difference(
    first: NDArray[np.float64], other: NDArray[np.float64], pids: NDArray[np.int64]
) -> Estimate:
    """How much more mAP the first of two networks has, and its 95 % interval.

    Both have answered the same queries, so each query gives a difference of its own. The queries of
    one identity are alike, so the identities are resampled, each with all its queries, as for the
    calibration's intervals.

    Args:
        first: (Q,) average precisions, NaN where a query has no match.
        other: (Q,) likewise.
        pids: (Q,) the identities of the queries.

    Returns:
        the interval is None where there is a single identity.
    """
    known = ~np.isnan(first)
    gains = (first - other)[known]
    _, groups = np.unique(pids[known], return_inverse=True)
    sums, counts = np.bincount(groups, gains), np.bincount(groups)
    value = float(gains.mean())
    if len(counts) < 2:
        return Estimate(value, None, None)
    draws = np.random.default_rng(SEED).multinomial(
        len(counts), np.full(len(counts), 1 / len(counts)), REPLICATES
    )
    low, high = np.quantile(draws @ sums / (draws @ counts), LEVELS)
    return Estimate(value, float(low), float(high))


def compared(found: Comparison, other: Measured) -> Estimate:
    """The difference of mAP of the first network and another one."""
    rankings = [one.scores.ranking.average_precision for one in (found.networks[0], other)]
    return difference(rankings[0], rankings[1], found.pids)


def verdict(found: Comparison) -> str:
    """For each network but the first: whether the first one is better, in plain English."""
    paragraphs = [
        textwrap.fill(
            " ".join(sentences(found, other)), WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        for other in found.networks[1:]
    ]
    return "\n".join(paragraphs)


def sentences(found: Comparison, other: Measured) -> Iterator[str]:
    """What there is to say of the first network beside another one."""
    mine, ranking = found.networks[0], found.networks[0].scores.ranking
    gain = compared(found, other)
    few = shortage({"identities": (ranking.num_identities, LEAST)})
    yield answer(mine.network.name, other.network.name, gain, few)
    queries = ranking.num_query - ranking.num_unmatched
    interval = (
        "a single identity, so no interval"
        if gain.low is None or gain.high is None
        else f"95 % interval {points(gain.low)} to {points(gain.high)}"
    )
    yield (
        f"mAP {mine.mean_average_precision:.1%} against {other.mean_average_precision:.1%}, "
        f"{points(gain.value)} points ({interval}; {queries:,} queries of "
        f"{ranking.num_identities:,} identities)."
    )
    a, b = (found.tracked(one.network.name) for one in (mine, other))
    if found.tracking and a and b:
        yield in_the_tracker(a, b, gain, found.tracking)
    yield by_the_clock(mine, other)


def answer(mine: str, other: str, gain: Estimate, too_few: str) -> str:
    """The answer by mAP alone; where it rests on too little, what of."""
    if too_few:
        return f"Whether {mine} is better than {other} cannot be told, too few {too_few}:"
    if gain.low is None or gain.high is None or gain.low <= 0 <= gain.high:
        return f"{mine} and {other} cannot be told apart:"
    return f"{mine} is {'better' if gain.value > 0 else 'worse'} than {other}:"


def in_the_tracker(mine: Scores, other: Scores, gain: Estimate, tracking: Tracking) -> str:
    """What the tracker says, and whether it contradicts mAP."""
    contradicts = (mine.hota - other.hota) * gain.value < 0
    few = shortage({"people": (tracking.people, LEAST_PEOPLE)})
    return (
        f"In the tracker{', however' if contradicts else ''}: HOTA {mine.hota:.1%} against "
        f"{other.hota:.1%}, {mine.id_switches:,} identity switches against "
        f"{other.id_switches:,} ({tracking.people:,} people"
        + (f", not meaningful, too few {few})." if few else ", one measurement without interval).")
    )


def by_the_clock(mine: Measured, other: Measured) -> str:
    """Which of the two is faster."""
    a, b = (one.speeds[SPEED_OF] for one in (mine, other))
    told = f"{a:,.0f} against {b:,.0f} crops a second, {SPEED_OF} at a time"
    if 1 / NOTICED < a / b < NOTICED:
        return f"Both are about as fast: {told}."
    return f"{mine.network.name} is {'faster' if a > b else 'slower'}: {told}."


def points(share: float) -> str:
    """A difference of shares in points, with its sign: `+8.5`."""
    return f"{100 * share:+.1f}".replace("-", "−")
