"""The loop learns, says what it did exactly, and does on two ranks what it does on one."""

import copy
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.core.config import TrainConfig, load_params
from deepsort_reid.core.errors import ConfigError, PackedError, TrainingError
from deepsort_reid.core.signals import Stop
from deepsort_reid.data.augment import normalise
from deepsort_reid.data.packed import Part
from deepsort_reid.model import network
from deepsort_reid.training import ddp
from deepsort_reid.training.distributed import ALONE, Process
from deepsort_reid.training.meter import Pass
from deepsort_reid.training.resume import States
from deepsort_reid.training.trainer import EpochResult, Trainer
from tests.support.ranks import on_ranks

ROOT = Path(__file__).parents[2]


def config(**changes: Any) -> TrainConfig:
    """A recipe small enough for a test; what a test is about stands in its call."""
    small: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 8,
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

        self.epochs: list[int] = []

    def record(self, history: list[EpochResult], _: nn.Module, *, is_best: bool) -> None:
        self.epochs.append(history[-1].epoch)
        if is_best:
            self.best.append(history[-1].epoch)


def train_in_float64(process: Process, recipe: TrainConfig) -> tuple[Any, Any]:
    """Train and return the curve and the weights, as plain numbers."""
    net = network.build(classes=4, **recipe.design, seed=recipe.seed).double()
    learner = Trainer(net, part(11, 0), part(3, 1), recipe, process)
    history = learner.fit(Keep(), States())
    curve = [(r.lr, r.train_loss, r.train_error, r.val_loss, r.val_error) for r in history]
    return curve, {name: w.numpy() for name, w in learner.kept.state_dict().items()}


def largest_difference(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    weights = (abs(one[1][name] - other[1][name]).max() for name in one[1])
    return max(np.abs(np.array(one[0]) - np.array(other[0])).max(), *weights)


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
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "frozen": {"freeze_layers": ("conv1", "bn1", "layer1")},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_give_what_one_gives(recipe: str) -> None:
    """Also where ranks have shares of unlike sizes, and where losses look at all of them."""
    alone = train_in_float64(ALONE, config(batch_size=16, **RECIPES[recipe]))
    first, second = on_ranks(2, train_in_float64, config(batch_size=8, **RECIPES[recipe]))
    assert largest_difference(first, second) == 0
    assert largest_difference(alone, first) < 1e-9
    curve = np.array(alone[0])
    assert curve[-1, 1] < curve[0, 1]  # it has learned, so the agreement means something


def test_accumulated_batches_are_one_large_batch() -> None:
    """Without batch statistics, which see one batch at a time, the steps are the same."""
    frozen = tuple(name for name, _ in network.build("resnet18", 4).named_modules() if "bn" in name)
    frozen += ("layer2.0.downsample.1", "layer3.0.downsample.1", "layer4.0.downsample.1")
    whole = train_in_float64(ALONE, config(batch_size=16, freeze_layers=frozen))
    parts = train_in_float64(ALONE, config(batch_size=4, accumulate_steps=4, freeze_layers=frozen))
    assert largest_difference(whole, parts) < 1e-9


def count_reductions(process: Process, accumulate_steps: int) -> tuple[int, int]:
    """How often gradients cross the network in two epochs."""
    recipe = config(batch_size=4, accumulate_steps=accumulate_steps, sync_bn=False)
    trainer = Trainer(network.build("resnet18", 4), part(11, 0), part(3, 1), recipe, process)
    assert isinstance(trainer.parallel, DistributedDataParallel)
    reductions: list[int] = []

    def hook(_: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        reductions.append(bucket.index())
        return (
            torch.distributed.all_reduce(bucket.buffer(), async_op=True)
            .get_future()
            .then(lambda done: done.value()[0].div_(process.world_size))
        )

    trainer.parallel.register_comm_hook(None, hook)
    trainer.fit(Keep(), States())
    return reductions.count(0), trainer.steps


@pytest.mark.parametrize("accumulate_steps", [1, 3])
def test_gradients_cross_the_network_once_a_step(accumulate_steps: int) -> None:
    for reductions, steps in on_ranks(2, count_reductions, accumulate_steps):
        assert reductions == 2 * steps


def trainer(**changes: Any) -> Trainer:
    recipe = config(**changes)
    net = network.build(classes=4, **recipe.design)
    return Trainer(net, part(11, 0), part(3, 1), recipe, ALONE)


@pytest.mark.parametrize("arch", ["resnet18", "deepsort"])
@pytest.mark.parametrize("head", network.HEADS)
def test_it_learns_what_can_be_learned(arch: str, head: str) -> None:
    plain = {"flip": 0.0, "crop_padding": 0, "erase": 0.0, "label_smoothing": 0.0}
    history = trainer(arch=arch, head=head, epochs=6, lr=0.01, **plain).fit(Keep(), States())
    assert history[-1].train_loss < 0.9 * history[0].train_loss
    assert history[-1].val_error <= 0.34  # chance is 0.75


def test_the_results_are_exact() -> None:
    learner = trainer(epochs=1)
    (result,) = learner.fit(Keep(), States())
    val, net = part(3, 1), learner.net.eval()
    with torch.no_grad():
        logits = net(normalise(torch.from_numpy(val.images)))
    labels = torch.from_numpy(val.labels)
    assert result.val_loss == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert result.val_error == pytest.approx((logits.argmax(1) != labels).double().mean().item())
    assert result.lr == pytest.approx(learner.lr * learner.config.lrf)
    assert result.images_per_second > 0
    assert 0 <= result.data_wait <= 1


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_labels_spread_over_all_identities(smoothing: float) -> None:
    learner = trainer(label_smoothing=smoothing, flip=0.0, crop_padding=0, erase=0.0)
    train = part(11, 0)
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    with torch.no_grad():  # in train mode, as the step is taken
        logits = copy.deepcopy(learner.net)(normalise(images).to(learner.dtype))
    size = len(train)
    draws = torch.from_numpy(learner.augment.draw(np.arange(size), 1))
    loss, _ = learner.backward(images, labels, draws, global_size=size, width=size).tolist()
    logs = logits.log_softmax(1).double()
    right = logs[torch.arange(len(train)), labels]
    expected = -((1 - smoothing) * right + smoothing * logs.mean(1)).sum()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_triplet_loss_is_added_with_its_weight() -> None:
    losses = []
    for weight in (0.0, 1.0, 3.0):
        learner = trainer(triplet_weight=weight, num_instances=4, batch_size=16)
        train = part(11, 0)
        images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
        size = len(train)
        draws = torch.from_numpy(learner.augment.draw(np.arange(size), 1))
        loss, _ = learner.backward(images, labels, draws, global_size=size, width=size).tolist()
        losses.append(loss)
    without, once, thrice = losses
    assert once > without
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


def test_the_average_is_what_is_measured_and_kept() -> None:
    learner, kept = trainer(ema=0.9, epochs=1), []

    class Networks:
        def record(self, _: object, net: nn.Module, **__: object) -> None:
            kept.append(copy.deepcopy(net.state_dict()))

    (result,) = learner.fit(Networks(), States())
    assert not torch.equal(kept[0]["conv1.weight"], learner.net.conv1.weight)
    assert torch.equal(kept[0]["conv1.weight"], learner.kept.conv1.weight)
    val = part(3, 1)
    with torch.no_grad():
        logits = learner.kept(normalise(torch.from_numpy(val.images)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels))
    assert result.val_loss == pytest.approx(loss.item(), rel=1e-5)


def test_the_same_recipe_gives_the_same_weights() -> None:
    nets = []
    for _ in range(2):
        learner = trainer(num_workers=2, arch="deepsort")  # dropout and threads included
        learner.fit(Keep(), States())
        nets.append(learner.net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def come_to(monkeypatch: pytest.MonkeyPatch, learner: Trainer, results: list[Any]) -> None:
    """Let validations come to these (loss, error) instead of being done."""
    following = iter(results)

    def validate() -> None:
        learner.train_pass.seconds = 1.0
        sums = torch.tensor([next(following)], dtype=torch.float64) * len(learner.val)
        learner.val_pass = Pass(sums)

    monkeypatch.setattr(learner, "train_epoch", lambda: None)
    monkeypatch.setattr(learner, "validate", validate)


def test_patience_ends_training(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = trainer(epochs=9, patience=2)
    come_to(monkeypatch, learner, [(1.0, error) for error in (0.5, 0.4, 0.4, 0.6, 0.1)])
    keep = Keep()
    learner.fit(keep, States())
    assert (keep.epochs, keep.best) == ([1, 2, 3, 4], [1, 2])


@pytest.mark.parametrize(("metric", "best"), [("val_error", [1, 2]), ("val_loss", [1, 3])])
def test_the_best_epoch_is_by_the_declared_metric(
    monkeypatch: pytest.MonkeyPatch, metric: str, best: list[int]
) -> None:
    learner = trainer(epochs=3, best_metric=metric)
    come_to(monkeypatch, learner, [(2.0, 0.5), (3.0, 0.3), (1.0, 0.4)])
    keep = Keep()
    learner.fit(keep, States())
    assert keep.best == best


def explode(process: Process) -> str:
    recipe = config(lr=1e30, warmup_epochs=0.0, batch_size=4)
    with pytest.raises(TrainingError) as caught:
        Trainer(network.build("resnet18", 4), part(11, 0), part(3, 1), recipe, process).fit(
            Keep(), States()
        )
    return str(caught.value)


def test_a_loss_that_is_no_number_stops_every_rank_alike() -> None:
    first, second = on_ranks(2, explode)
    assert first == second
    assert re.match(
        r"the loss is no longer a finite number: epoch 1, step [2-6] of 6, learning rate 9?.*e\+",
        first,
    )


def test_more_ranks_than_images() -> None:
    crowd = Process(0, 0, 64, 64, torch.device("cpu"))
    with pytest.raises(ConfigError, match="the training part has 44 images"):
        Trainer(network.build("resnet18", 4), part(11, 0), part(3, 1), config(), crowd)


def test_train_and_val_of_different_splits() -> None:
    with pytest.raises(PackedError, match="train holds 4 identities, val 5"):
        Trainer(network.build("resnet18", 4), part(11, 0), part(3, 1, 5), config(), ALONE)


def test_slow_data_is_advised_on_once(caplog: pytest.LogCaptureFixture) -> None:
    learner = trainer(num_workers=3)
    slow = EpochResult(1, 0.1, 1.0, 1.0, 1.0, 1.0, images_per_second=5.0, data_wait=0.42)
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        learner.advise(slow)
        learner.advise(slow)
    assert [record.getMessage() for record in caplog.records] == [
        "42 % of the time went into waiting for images; raise num_workers (3), "
        "or put data/split on a faster disk"
    ]


def ranks_apart(process: Process) -> tuple[list[float], list[float]]:
    """Without SyncBN each rank keeps statistics of its own until they are shared."""
    recipe = config(epochs=1, sync_bn=False)
    learner = Trainer(network.build("resnet18", 4), part(11, 0), part(3, 1), recipe, process)
    learner.states, learner.stop = States(), Stop()
    learner.train_epoch()
    before = learner.net.bn1.running_mean.tolist()  # type: ignore[union-attr]
    ddp.share_statistics(learner.net, process.world_size)
    return before, learner.net.bn1.running_mean.tolist()  # type: ignore[union-attr]


def test_unsynchronised_statistics_are_averaged_before_validation() -> None:
    (first, shared), (second, also) = on_ranks(2, ranks_apart)
    assert first != second
    assert shared == also
    assert np.allclose(shared, (np.array(first) + np.array(second)) / 2)
