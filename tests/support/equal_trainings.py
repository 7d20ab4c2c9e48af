"""Trainings that must come to the same end: on other ranks to rounding, interrupted to the bit."""

import io
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.signals import Stop
from deepsort_reid.training import trainer as training
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.ranks.distributed import Process
from deepsort_reid.training.trainer import Trainer
from tests.support.trainings import SIZE, part, tiny

Build = Callable[[TrainConfig], nn.Module]


def train_in_float64(
    process: Process, recipe: TrainConfig, build: Build, size: tuple[int, int] = SIZE
) -> tuple[Any, Any]:
    """Train and return the curve and the weights, as plain numbers."""
    parts = part(11, 0, size=size), part(3, 1, size=size)
    own = Trainer(build(recipe).double(), *parts, recipe, process)
    history = own.fit()
    curve = [(r.lr, r.train_loss, r.train_error, r.val_loss, r.val_error) for r in history]
    return curve, {name: w.numpy() for name, w in own.learner.net_to_keep.state_dict().items()}


def largest_difference(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    """The largest difference of two results of `train_in_float64`."""
    weights = (abs(one[1][name] - other[1][name]).max() for name in one[1])
    return max(np.abs(np.array(one[0]) - np.array(other[0])).max(), *weights)


class InMemory(Observer):
    """Keeps the newest state in memory, and asks for an end after so many of them."""

    def __init__(self) -> None:
        self.left, self.stop, self.content = 0, Stop(), b""

    def wants_state(self) -> bool:
        return True

    def on_state(self, state: Mapping[str, Any], *, best: int) -> None:
        file = io.BytesIO()
        torch.save({"state": state}, file)
        self.content = file.getvalue()
        self.left -= 1
        if self.left == 0:
            self.stop.signal = signal.SIGTERM


def result(trainer: Trainer) -> tuple[Any, ...]:
    """The curve and the weights, bit by bit."""
    curve = [astuple(epoch)[:6] for epoch in trainer.history]
    weights = [net.state_dict().items() for net in trainer.learner.nets]
    return curve, {
        f"{number} {name}": tensor.clone().numpy()
        for number, items in enumerate(weights)
        for name, tensor in items
    }


def train(
    process: Process,
    recipe: TrainConfig,
    stops: list[int],
    build: Any = tiny,
    more: Sequence[Observer] = (),
    size: tuple[int, int] = SIZE,
) -> tuple[Any, ...]:
    """Train, interrupted after so many states, and again after so many more.

    Rank 0 alone has an observer and is asked to stop, as in a real training.
    """
    memory = InMemory()
    observers = [memory, *more] if process.is_first else []
    # A synchronisation, and a state, after every step.
    with mock.patch.object(training, "SYNC_SECONDS", 0.0):
        for after in [*stops, 0]:
            parts = part(11, 0, size=size), part(5, 1, size=size)
            trainer = Trainer(build(recipe, seed=1), *parts, recipe, process)
            trainer.load(memory.content)
            memory.left, memory.stop = after, Stop()
            if after:
                with pytest.raises(SystemExit) as caught:
                    trainer.fit(observers, memory.stop)
                assert caught.value.code == 128 + signal.SIGTERM
            else:
                trainer.fit(observers, memory.stop)
    return result(trainer)


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two results are the same, bit by bit."""
    return one[0] == other[0] and all((one[1][name] == other[1][name]).all() for name in one[1])
