"""How many people and crops a look takes: enough for an alarm, and of all tracks equally many."""

import numpy as np

from deepsort_reid.core.errors import DatasetError, TooLittleError
from deepsort_reid.monitoring.footage import CROPS, MOST, Footage
from deepsort_reid.monitoring.two_sample import combined, least_p

LEAST = 5  # people on each side, and tracks of a camera
KEPT = 0.75  # the share of the people of each side that must not be left out
DRAWS = 5  # of a track of each person, where somebody has several


def crops_each(old: Footage, new: Footage, level: float) -> int:
    """How many crops each track counts with: all with equally many, so that they can change sides.

    It is the largest number, up to `CROPS`, that at least `KEPT` of the people on each side have in
    a track, and enough people for an alarm. Who has no such track is left out.

    Raises:
        TooLittleError: there are too few new people for any number of crops.
        DatasetError: there are too few old ones.
    """
    check_enough(old, new, level)
    return next(
        each
        for each in range(CROPS, 0, -1)
        if all(side.with_crops(each) >= max(LEAST, KEPT * side.count) for side in (old, new))
        and reachable_p(old.with_crops(each), new.with_crops(each), draws_of(old, new)) <= level
    )


def check_enough(old: Footage, new: Footage, level: float) -> None:
    """Refuse footage with so few people that a look says nothing.

    Raises:
        TooLittleError: the new footage has fewer than `LEAST`, or no alarm is possible.
        DatasetError: the old footage has fewer than `LEAST`.
    """
    for side, kind in ((old, DatasetError), (new, TooLittleError)):
        if side.count < LEAST:
            raise kind(
                f"{side.label}: {side.size_in_words}; expected at least {LEAST}, "
                "and better 20 or more: a folder for each person, or a longer video"
            )
    draws = draws_of(old, new)
    if (least := reachable_p(old.count, new.count, draws)) > level:
        sizes = range(new.count, MOST + 1)
        enough = next((n for n in sizes if reachable_p(old.count, n, draws) <= level), MOST)
        raise TooLittleError(
            f"{new.label}: {new.size_in_words}, beside {old.count} allow no alarm at "
            f"{level:g}: p is {least:.2g} at least; expected {enough} or more"
        )


def reachable_p(old: int, new: int, draws: int) -> float:
    """The least p of so many people after some draws, see `combined`."""
    return float(combined(np.full(draws, least_p(old, new))))


def draws_of(old: Footage, new: Footage) -> int:
    """How often a track of each person is drawn."""
    return DRAWS if old.needs_draws or new.needs_draws else 1
