"""Equally many crops of each track, and enough people for an alarm."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError, TooLittleError
from deepsort_reid.monitoring import watch
from deepsort_reid.monitoring.enough import LEAST, check_enough, crops_each
from deepsort_reid.monitoring.footage import CROPS, Footage


def footage(*counts: int, people: Sequence[int] | None = None) -> Footage:
    """Tracks with so many crops each, of one person each unless people are named."""
    total = sum(counts)
    return Footage(
        "street", np.arange(total, dtype=np.uint8).reshape(total, 1, 1, 1),
        np.repeat(np.arange(len(counts)), counts),
        np.arange(len(counts)) if people is None else np.array(people),
        np.full(len(counts), -1), np.arange(total),
    )  # fmt: skip


def test_all_tracks_give_equally_many_crops() -> None:
    found = footage(4, 1, 3, 2)
    assert found.evenly(1).tolist() == [2, 4, 6, 9]
    assert found.evenly(3).tolist() == [0, 2, 3, 5, 6, 7]
    kept = found.only(found.evenly(3))
    assert kept.crops.ravel().tolist() == [0, 2, 3, 5, 6, 7]
    assert kept.tracks.tolist() == [0, 0, 0, 1, 1, 1]
    assert kept.people.tolist() == [0, 2]
    assert kept.heights is not None
    assert kept.heights.tolist() == [0, 2, 3, 5, 6, 7]
    equal = footage(*[CROPS] * 3)
    assert equal.evenly(CROPS).tolist() == list(range(3 * CROPS))


@pytest.mark.parametrize(
    ("old", "new", "each"),
    [
        ([4] * 20, [4] * 20, 4),
        ([4] * 20, [1] * 20, 1),
        ([2] * 20, [4] * 20, 2),
        ([4] * 20, [1] * 5 + [4] * 15, 4),  # a quarter is left out
        ([4] * 20, [1] * 6 + [4] * 14, 1),
        ([4] * 20, [1] * 1 + [4] * 4, 1),  # four would be too few people
        ([4] * 5, [1] + [3] * 5, 3),
    ],
)
def test_crops_with_which_a_track_counts(old: list[int], new: list[int], each: int) -> None:
    assert crops_each(footage(*old), footage(*new), 0.01) == each


def test_who_has_one_long_track_stays() -> None:
    new = footage(1, 4, *[4] * 9, people=[0, 0, *range(1, 10)])
    assert crops_each(footage(*[4] * 20), new, 0.01) == 4


def test_few_people_are_refused_with_the_number_that_it_takes() -> None:
    check_enough(footage(*[1] * 5), footage(*[1] * 5), 0.01)  # 2 of 252 ways: 0.008
    twice = footage(*[1] * 6, people=[0, 0, 1, 2, 3, 4])  # p is doubled
    text = "5 people or tracks, beside 5 allow no alarm at 0.01: p is 0.016 at least; expected 6 or"
    with pytest.raises(TooLittleError, match=re.escape(text)):
        check_enough(twice, footage(*[1] * 5), 0.01)
    check_enough(twice, footage(*[1] * 6), 0.01)
    # Two of six and seven people have short tracks: with them, and one crop each, there is enough.
    some = footage(1, *[4] * 5, 4, people=[0, 1, 2, 3, 4, 5, 5])
    assert crops_each(some, footage(1, *[4] * 5), 0.01) == 1


def test_too_little_new_footage_is_told_from_a_poor_reference() -> None:
    few, many = footage(*[4] * (LEAST - 1)), footage(*[4] * 20)
    with pytest.raises(TooLittleError, match="4 people or tracks; expected at least 5"):
        check_enough(many, few, 0.01)
    with pytest.raises(DatasetError) as poor:
        check_enough(few, many, 0.01)
    assert type(poor.value) is DatasetError


class Pixels:
    """A network whose embeddings are the pixels."""

    image_size = (2, 2)

    def __call__(self, crops: NDArray[np.uint8], *, order: str) -> NDArray[np.float32]:
        return crops.reshape(len(crops), -1).astype(np.float32)


def seen(rng: np.random.Generator, counts: Sequence[int]) -> Footage:
    """Tracks of people of one and the same kind, whose crops differ more than they do."""
    found = footage(*counts)
    people = rng.standard_normal((len(counts), 2, 2, 3))[found.tracks]
    crops = 128 + 5 * people + 25 * rng.standard_normal(people.shape)
    return replace(found, crops=crops.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("new", [[1] * 16, [1, 1, 1, 4] * 4], ids=["one", "mixed"])
def test_unequal_numbers_of_crops_alarm_no_more_often(
    new: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "compare_draw", partial(watch.compare_draw, permutations=99))
    rng = np.random.default_rng(0)
    network: Any = Pixels()
    sides = [(seen(rng, [4] * 60), seen(rng, new)) for _ in range(60)]
    alarms = [watch.look(network, *pair, level=0.05).alarm for pair in sides]
    assert np.mean(alarms) <= 0.134  # 0.05, and its 99.7 % interval of 60 looks
