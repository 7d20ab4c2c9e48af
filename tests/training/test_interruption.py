"""A training that is stopped and gone on with ends in the bits of one that was not."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from unittest import mock

import pytest

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.model import retrieval
from deepsort_reid.training import parallel
from deepsort_reid.training.observers import RetrievalCurve
from deepsort_reid.training.ranks.distributed import ALONE, Process
from tests.support.equal_trainings import same, train
from tests.support.ranks import on_ranks
from tests.support.trainings import EVERYTHING, config, part, real, tiny

RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "dropout": {"arch": "deepsort", "optimizer": "adamw", "lr": 1e-3},
    "everything": EVERYTHING | {"batch_size": 10},
    "accumulated": {"accumulate_steps": 2, "freeze_layers": ("conv1", "bn1")},
}


@cache
def undisturbed(name: str, build: Any = tiny) -> tuple[Any, ...]:
    return train(ALONE, config(**RECIPES[name]), [], build)


# Six steps, one of validation and the epoch's end make eight states an epoch; three make five.
@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("sgd", [1]),
        ("sgd", [6]),
        ("sgd", [7]),
        ("sgd", [8]),
        ("sgd", [2, 1, 3, 6]),
        ("dropout", [3, 7]),
        ("everything", [2, 5]),
        ("accumulated", [2, 4]),
    ],
    ids=str,
)
def test_one_rank(name: str, stops: list[int]) -> None:
    assert same(train(ALONE, config(**RECIPES[name]), stops), undisturbed(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dropout", "everything"])
def test_one_rank_of_a_real_network(name: str) -> None:
    interrupted = train(ALONE, config(**RECIPES[name]), [2, 5], real)
    assert same(interrupted, undisturbed(name, real))


def interrupted_and_not(process: Process, recipe: TrainConfig, build: Any) -> Any:
    return train(process, recipe, [2, 4], build), train(process, recipe, [], build)


@pytest.mark.parametrize(
    ("ranks", "sync_bn", "build"),
    [
        (2, True, tiny),
        (2, False, tiny),
        pytest.param(2, True, real, marks=pytest.mark.slow),
        pytest.param(3, False, real, marks=pytest.mark.slow),
    ],
)
def test_more_ranks(ranks: int, sync_bn: bool, build: Any) -> None:
    options = {"ema": 0.9, "triplet_weight": 0.5, "num_instances": 2, "center_weight": 0.01}
    recipe = config(sync_bn=sync_bn, batch_size=4, neck="bnneck", **options)
    first, *others = on_ranks(ranks, interrupted_and_not, recipe, build)
    assert same(*first)
    assert all(same(*pair) and same(first[0], pair[0]) for pair in others)


class Remember:
    """A run that remembers its curves, as a run's folder does: the first value of each step."""

    def __init__(self) -> None:
        self.curves: dict[tuple[str, int], float] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.curves.setdefault((name, step), value)


@pytest.mark.parametrize("name", ["dropout", "everything"])
def test_the_curve_of_retrieval_changes_nothing_and_goes_on(name: str) -> None:
    curves = []
    for stops in ([], [3, 7]):
        run: Any = Remember()
        chosen = retrieval.sample(
            part(5, 1), part(9, 2), epoch_images=320, mean=MEAN, std=STD, device=ALONE.device
        )
        assert chosen is not None
        recipe = config(**RECIPES[name])
        curve = RetrievalCurve(run, chosen, tiny(recipe, seed=1))
        assert same(train(ALONE, recipe, stops, more=[curve]), undisturbed(name))
        curves.append(run.curves)
    assert curves[0] == curves[1]
    names = ("by_epoch/reid/mAP", "by_epoch/reid/rank-1")
    assert sorted(curves[0]) == [(name, epoch) for name in names for epoch in (0, 1, 2)]


def test_a_difference_would_be_seen() -> None:
    """What the comparison is worth: another seed shows."""
    assert not same(undisturbed("sgd"), train(ALONE, config(seed=1), []))


def forgetful(process: Process, recipe: TrainConfig) -> bool:
    """Whether three ranks notice that buckets are not put in order beforehand."""
    with mock.patch.object(parallel, "settle_buckets", return_value=None):
        return same(train(process, recipe, [], real), train(process, recipe, [2, 3], real))


@pytest.mark.slow
def test_buckets_matter() -> None:
    """Why `settle_buckets` is there; if this fails, it need not be."""
    recipe = config(sync_bn=False, batch_size=4)
    assert not all(on_ranks(3, forgetful, recipe))
