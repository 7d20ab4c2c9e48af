"""A training that takes a fraction of a second: its recipe, images, network and observer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deepsort_reid.core.config import TrainConfig, load_params
from deepsort_reid.data.packed import Part
from deepsort_reid.model import network
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.backbones.resnet import BasicBlock
from deepsort_reid.model.heads import CosineClassifier, GemPool
from deepsort_reid.training.history import EpochResult
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
CHANNELS = 8
SIZE = (32, 16)

EVERYTHING: dict[str, Any] = {
    "last_stride": 1,
    "pooling": "gem",
    "neck": "bnneck",
    "head": "cosine",
    "angular_margin": 0.1,
    "triplet_weight": 1.0,
    "center_weight": 0.01,
    "num_instances": 4,
    "ema": 0.9,
    "color_jitter": 0.2,
    "lr": 0.003,
}


def config(**changes: Any) -> TrainConfig:
    """A recipe small enough for a test; what a test is about stands in its call."""
    small: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 8,
        "accumulate_steps": 1,
        "warmup_epochs": 0.5,
        "optimizer": "sgd",
        "lr": 0.02,
        "lr_scale": "none",
        "num_workers": 0,
        "sync_bn": True,
        "erase": 0.5,
        "label_smoothing": 0.1,
    }
    stated = load_params(ROOT / "params.yaml").train.model_dump()
    return TrainConfig(**(stated | small | changes))


def part(per_identity: int, seed: int, identities: int = 4, size: tuple[int, int] = SIZE) -> Part:
    """Images of noise over a colour that tells the identity."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(1, identities + 1), per_identity)
    colours = np.random.default_rng(99).integers(40, 216, (identities, 3))[pids - 1]
    noise = rng.integers(-40, 40, (len(pids), *size, 3))
    images = (colours[:, None, None] + noise).clip(0, 255).astype(np.uint8)
    names = [f"{i}.jpg" for i in range(len(pids))]
    return Part(images, pids, np.full(len(pids), -1), [f"p{pid}" for pid in pids], names)


class TinyNet(ReidNet):
    """A network of eight channels with all that a recipe can ask for."""

    classifier_name, feature_size = "fc", CHANNELS

    def __init__(self, recipe: TrainConfig, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.layer1 = BasicBlock(CHANNELS, CHANNELS)
        gem = recipe.pooling == "gem"
        self.avgpool = GemPool() if gem else nn.AdaptiveAvgPool2d(1)
        self.neck = nn.BatchNorm1d(CHANNELS) if recipe.neck == "bnneck" else nn.Identity()
        self.fc: nn.Module = nn.Linear(CHANNELS, classes)
        if recipe.head == "cosine":
            self.fc = CosineClassifier(CHANNELS, classes)
        if recipe.arch == "deepsort":
            self.fc = nn.Sequential(nn.Dropout(), self.fc)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        return self.avgpool(self.layer1(self.bn1(self.conv1(images)).relu())).flatten(1)


def tiny(recipe: TrainConfig, classes: int = 4, seed: int = 0) -> nn.Module:
    """A tiny network whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyNet(recipe, classes)


def real(recipe: TrainConfig, classes: int = 4, seed: int = 0) -> nn.Module:
    """The network of a real training."""
    return network.build(network.Design(**recipe.design), classes, seed=seed)


def trainer(process: Process = ALONE, **changes: Any) -> Trainer:
    """A trainer of a tiny network."""
    recipe = config(**changes)
    return Trainer(tiny(recipe), part(11, 0), part(3, 1), recipe, process)


class Keep(Observer):
    """Remembers the epochs, and which were the best so far."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.best: list[int] = []

    def on_epoch_end(self, history: Sequence[EpochResult], _: nn.Module, *, is_best: bool) -> None:
        self.epochs.append(history[-1].epoch)
        if is_best:
            self.best.append(history[-1].epoch)
