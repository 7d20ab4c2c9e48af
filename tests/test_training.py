"""The loop learns, says what it did exactly, and does on two ranks what it does on one."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deepsort_reid import model
from deepsort_reid.config import TrainConfig, load_params
from deepsort_reid.distributed import ALONE, Process
from deepsort_reid.errors import ConfigError, TrainingError
from deepsort_reid.packed import Part
from deepsort_reid.training import EpochResult, Trainer
from tests.ranks import on_ranks

ROOT = Path(__file__).parents[1]


def config(**changes: Any) -> TrainConfig:
    """A recipe small enough for a test; what a test is about stands in its call."""
    small = {
        "epochs": 3,
        "batch_size": 8,
        "warmup_epochs": 1.0,
        "lr": 0.02,
        "lr_scale": "none",
        "num_workers": 0,
    }
    return dataclasses.replace(load_params(ROOT / "params.yaml").train, **(small | changes))


def part(per_identity: int, seed: int, identities: int = 4) -> Part:
    """Images of 32×16 noise over a colour that tells the identity."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(1, identities + 1), per_identity)
    colours = np.random.default_rng(99).integers(40, 216, (identities, 3))[pids - 1]
    noise = rng.integers(-40, 40, (len(pids), 32, 16, 3))
    images = (colours[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    names = [f"{i}.jpg" for i in range(len(pids))]
    return Part(images, pids, np.full(len(pids), -1), [f"p{pid}" for pid in pids], names)


class Keep:
    """A recorder that keeps everything, as tests want it."""

    def __init__(self) -> None:
        self.best: list[int] = []

    def record(self, history: list[EpochResult], net: nn.Module, *, is_best: bool) -> None:
        if is_best:
            self.best.append(history[-1].epoch)


def train_in_float64(process: Process, recipe: TrainConfig) -> tuple[Any, Any]:
    """Train and return the curve and the weights, as plain numbers."""
    net = model.build("resnet18", 4, seed=recipe.seed).double()
    history = Trainer(net, part(11, 0), part(3, 1), recipe, process).fit(Keep())
    curve = [(r.lr, r.train_loss, r.train_error, r.val_loss, r.val_error) for r in history]
    return curve, {name: w.numpy() for name, w in net.state_dict().items()}


def largest_difference(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    weights = (abs(one[1][name] - other[1][name]).max() for name in one[1])
    return max(np.abs(np.array(one[0]) - np.array(other[0])).max(), *weights)


@pytest.mark.parametrize("frozen", [(), ("conv1", "bn1", "layer1")], ids=["all", "frozen"])
def test_two_ranks_give_what_one_gives(frozen: tuple[str, ...]) -> None:
    alone = train_in_float64(ALONE, config(batch_size=16, freeze_layers=frozen))
    first, second = on_ranks(2, train_in_float64, config(batch_size=8, freeze_layers=frozen))
    assert largest_difference(first, second) == 0
    assert largest_difference(alone, first) < 1e-9
    curve = np.array(alone[0])
    assert curve[-1, 1] < curve[0, 1]  # it has learned, so the agreement means something
