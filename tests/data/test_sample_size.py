"""The least numbers mean what their reasons say, and what is short of them is named."""

import math

import pytest

from deepsort_reid.data.sample_size import LEAST, LEAST_EVENTS, as_tag, shortage, verdict

Z = 1.959964  # of a 95 % interval


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of so many observations."""
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(share * (1 - share) / count + (Z / 2 / count) ** 2)
    return centre - half, centre + half


def poisson(most: int, mean: float) -> float:
    """The probability of at most so many events."""
    return sum(mean**k / math.factorial(k) for k in range(most + 1)) * math.exp(-mean)


@pytest.mark.parametrize(("count", "points"), [(2, 41), (LEAST, 20), (92, 10)])
def test_how_well_a_share_is_known(count: int, points: int) -> None:
    ends = [wilson(found / count, count) for found in range(count + 1)]
    widest = 100 * max(high - low for low, high in ends) / 2
    assert widest == pytest.approx(points, abs=0.6)
    assert wilson(1.0, 2)[0] == pytest.approx(0.34, abs=0.005)  # two queries, both found


def test_how_well_a_rate_is_known() -> None:
    assert poisson(LEAST_EVENTS - 1, LEAST_EVENTS / 2) > 0.96  # so many are too many for half
    assert poisson(LEAST_EVENTS, 2 * LEAST_EVENTS) < 0.025  # and too few for twice


def test_what_is_lacking_is_named() -> None:
    counts = {"queries": (2, 20), "identities": (20, 20), "pairs": (999, 1000)}
    assert shortage(counts) == "queries: 2 (needs 20), pairs: 999 (needs 1,000)"
    assert shortage({"queries": (20, 20)}) == ""


def test_files_and_tags_say_the_same() -> None:
    lacking = {"ranking": "queries: 2 (needs 20)", "threshold": ""}
    assert verdict(lacking) == {"meaningful": False, "too_few": {"ranking": lacking["ranking"]}}
    assert as_tag(lacking) == "ranking: queries: 2 (needs 20)"
    assert verdict({"ranking": ""}) == {"meaningful": True, "too_few": {}}
    assert as_tag({"ranking": ""}) == "no"
