"""A training that is stopped and gone on with ends in the bits of one that was not."""

import io
import signal
from collections.abc import Mapping
from dataclasses import astuple
from functools import cache
from typing import Any

import pytest
import torch

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.signals import Stop
from deepsort_reid.model import network
from deepsort_reid.training import ddp
from deepsort_reid.training import trainer as training
from deepsort_reid.training.distributed import ALONE, Process
from deepsort_reid.training.resume import States
from deepsort_reid.training.trainer import Trainer
from tests.support.networks import narrow
from tests.support.ranks import on_ranks
from tests.training.test_trainer import EVERYTHING, Keep, config, part


class InMemory(States):
    """Keeps the newest state in memory, and asks for an end after so many of them."""

    def __init__(self, after: int):
        super().__init__()
        self.left, self.stop, self.content = after, Stop(), b""

    def newest(self) -> bytes:
        return self.content

    def is_due(self) -> bool:
        return True

    def save(self, state: Mapping[str, Any], *, best: int) -> None:  # noqa: ARG002
        file = io.BytesIO()
        torch.save({"state": state}, file)
        self.content = file.getvalue()
        self.left -= 1
        if self.left == 0:
            self.stop.signal = signal.SIGTERM


def result(trainer: Trainer) -> tuple[Any, ...]:
    """The curve and the weights, bit by bit."""
    curve = [astuple(epoch)[:6] for epoch in trainer.history]
    weights = [net.state_dict().items() for net in trainer.nets]
    return curve, {
        f"{number} {name}": tensor.clone().numpy()
        for number, items in enumerate(weights)
        for name, tensor in items
    }


def train(process: Process, recipe: TrainConfig, stops: list[int]) -> tuple[Any, ...]:
    """Train, interrupted after so many states, and again after so many more."""
    states = InMemory(after=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LOOK_EVERY", 0.0)  # a look, and a state, after every step
        for after in [*stops, 0]:
            net = network.build(classes=4, **recipe.design, seed=1)
            trainer = Trainer(net, part(11, 0), part(5, 1), recipe, process)
            trainer.load(states.newest())
            states.left, states.stop = after, Stop()
            if after:
                with pytest.raises(SystemExit) as caught:
                    trainer.fit(Keep(), states, states.stop)
                assert caught.value.code == 128 + signal.SIGTERM
            else:
                trainer.fit(Keep(), states, states.stop)
    return result(trainer)


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return one[0] == other[0] and all((one[1][name] == other[1][name]).all() for name in one[1])


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "dropout": {"arch": "deepsort", "optimizer": "adamw", "lr": 1e-3},
    "everything": EVERYTHING | {"batch_size": 10},
    "accumulated": {"accumulate_steps": 2, "freeze_layers": ("conv1", "bn1")},
}


@cache
def undisturbed(name: str) -> tuple[Any, ...]:
    return train(ALONE, config(**RECIPES[name]), [])


@cache
def undisturbed_narrow(name: str) -> tuple[Any, ...]:
    with narrow():
        return train(ALONE, config(**RECIPES[name]), [])


# Six steps, one of validation and the epoch's end make eight states an epoch; three make five.
STOPS: list[tuple[str, list[int]]] = [
    ("sgd", [1]),
    ("sgd", [6]),
    ("sgd", [7]),
    ("sgd", [8]),
    ("sgd", [2, 1, 3, 6]),
    ("everything", [2, 5]),
    ("accumulated", [2, 4]),
]


@pytest.mark.parametrize(("name", "stops"), STOPS, ids=str)
def test_one_rank_of_a_narrow_network(name: str, stops: list[int]) -> None:
    with narrow():
        found = train(ALONE, config(**RECIPES[name]), stops)
    assert same(found, undisturbed_narrow(name))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stops"), [*STOPS, ("dropout", [3, 7])], ids=str)
def test_one_rank(name: str, stops: list[int]) -> None:
    assert same(train(ALONE, config(**RECIPES[name]), stops), undisturbed(name))


def interrupted_and_not(process: Process, recipe: TrainConfig, stops: list[int]) -> Any:
    return train(process, recipe, stops), train(process, recipe, [])


def narrow_interrupted_and_not(process: Process, recipe: TrainConfig, stops: list[int]) -> Any:
    with narrow():
        return interrupted_and_not(process, recipe, stops)


OPTIONS = {"ema": 0.9, "triplet_weight": 0.5, "num_instances": 2, "center_weight": 0.01}


def assert_all_ranks_agree(found: list[Any]) -> None:
    first, *others = found
    assert same(*first)
    assert all(same(*pair) and same(first[0], pair[0]) for pair in others)


def test_two_ranks_of_a_narrow_network() -> None:
    recipe = config(sync_bn=True, batch_size=4, neck="bnneck", **OPTIONS)
    assert_all_ranks_agree(on_ranks(2, narrow_interrupted_and_not, recipe, [2, 4]))


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "sync_bn"), [(2, True), (2, False), (3, False)])
def test_more_ranks(ranks: int, sync_bn: bool) -> None:
    recipe = config(sync_bn=sync_bn, batch_size=4, neck="bnneck", **OPTIONS)
    assert_all_ranks_agree(on_ranks(ranks, interrupted_and_not, recipe, [2, 4]))


def test_a_difference_would_be_seen() -> None:
    """What the comparison is worth: another seed shows."""
    with narrow():
        assert not same(undisturbed_narrow("sgd"), train(ALONE, config(seed=1), []))


def forgetful(process: Process, recipe: TrainConfig) -> bool:
    """Whether three ranks notice that buckets are not put in order beforehand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ddp, "settle_buckets", lambda *_: None)
        return same(train(process, recipe, []), train(process, recipe, [2, 3]))


@pytest.mark.slow
def test_buckets_matter() -> None:
    """Why `settle_buckets` is there; if this fails, it need not be."""
    recipe = config(sync_bn=False, batch_size=4)
    assert not all(on_ranks(3, forgetful, recipe))
