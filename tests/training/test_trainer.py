"""The loop learns, reports exact numbers, and does on two ranks what it does on one."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.core.errors import ConfigError, PackedError, TrainingError
from deepsort_reid.core.signals import Stop
from deepsort_reid.data.loading.augment import normalise
from deepsort_reid.model import network
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer
from tests.support.equal_trainings import Build, largest_difference, train_in_float64
from tests.support.ranks import on_ranks
from tests.support.trainings import EVERYTHING, Keep, config, part, real, tiny, trainer

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "frozen": {"freeze_layers": ("conv1", "bn1"), "lr": 0.1},
    "everything": EVERYTHING,
}


@pytest.mark.parametrize(
    ("recipe", "build"),
    [
        ("plain", tiny),
        ("frozen", tiny),
        ("everything", tiny),
        pytest.param("everything", real, marks=pytest.mark.slow),
    ],
)
def test_two_ranks_give_what_one_gives(recipe: str, build: Build) -> None:
    """Also where ranks have shares of unlike sizes, and where losses look at all of them."""
    alone = train_in_float64(ALONE, config(batch_size=16, **RECIPES[recipe]), build)
    shared = config(batch_size=8, **RECIPES[recipe])
    first, second = on_ranks(2, train_in_float64, shared, build)
    assert largest_difference(first, second) == 0
    assert largest_difference(alone, first) < 1e-9
    curve = np.array(alone[0])
    assert curve[-1, 1] < curve[0, 1]  # it has learned, so the agreement means something


def test_accumulated_batches_are_one_large_batch() -> None:
    """Without batch statistics, which see one batch at a time, the steps are the same."""
    frozen = ("bn1", "layer1.bn1", "layer1.bn2")
    whole = config(batch_size=16, freeze_layers=frozen)
    parts = config(batch_size=4, accumulate_steps=4, freeze_layers=frozen)
    one, other = (train_in_float64(ALONE, recipe, tiny) for recipe in (whole, parts))
    assert largest_difference(one, other) < 1e-9


def count_reductions(process: Process, accumulate_steps: int) -> tuple[int, int]:
    """How often gradients cross the network in two epochs."""
    own = trainer(process, batch_size=4, accumulate_steps=accumulate_steps, sync_bn=False)
    assert isinstance(own.learner.forward, DistributedDataParallel)
    reductions: list[int] = []

    def hook(_: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        reductions.append(bucket.index())
        return (
            torch.distributed.all_reduce(bucket.buffer(), async_op=True)
            .get_future()
            .then(lambda done: done.value()[0].div_(process.world_size))
        )

    own.learner.forward.register_comm_hook(None, hook)
    own.fit()
    return reductions.count(0), own.train_batches.steps


@pytest.mark.parametrize("accumulate_steps", [1, 3])
def test_gradients_cross_the_network_once_a_step(accumulate_steps: int) -> None:
    for reductions, steps in on_ranks(2, count_reductions, accumulate_steps):
        assert reductions == 2 * steps


@pytest.mark.parametrize("head", network.HEADS)
@pytest.mark.parametrize(
    "arch", ["tiny", *(pytest.param(a, marks=pytest.mark.slow) for a in ("resnet18", "deepsort"))]
)
def test_it_learns_what_can_be_learned(arch: str, head: str) -> None:
    plain = {"flip": 0.0, "crop_padding": 0, "erase": 0.0, "label_smoothing": 0.0}
    own = {"epochs": 15, "lr": 0.1} if arch == "tiny" else {"epochs": 6, "lr": 0.01, "arch": arch}
    recipe = config(head=head, **own, **plain)
    build = tiny if arch == "tiny" else real
    history = Trainer(build(recipe), part(11, 0), part(3, 1), recipe, ALONE).fit()
    assert history[-1].train_loss < 0.9 * history[0].train_loss
    assert history[-1].val_error <= 0.34  # chance is 0.75


def test_the_results_are_exact() -> None:
    own = trainer(epochs=1)
    (result,) = own.fit()
    val, net = part(3, 1), own.learner.net.eval()
    with torch.no_grad():
        logits = net(normalise(torch.from_numpy(val.images)))
    labels = torch.from_numpy(val.labels)
    assert result.val_loss == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert result.val_error == pytest.approx((logits.argmax(1) != labels).double().mean().item())
    assert result.lr == pytest.approx(own.learner.lr * own.config.lrf)
    assert result.images_per_second > 0
    assert 0 <= result.data_wait <= 1


def test_the_average_is_what_is_measured_and_kept() -> None:
    own, kept = trainer(ema=0.9, epochs=1), []

    class Networks(Observer):
        def on_epoch_end(self, _: object, net: nn.Module, **__: object) -> None:
            kept.append(copy.deepcopy(net.state_dict()))

    (result,) = own.fit([Networks()])
    learner = own.learner
    assert not torch.equal(kept[0]["conv1.weight"], learner.net.conv1.weight)
    assert torch.equal(kept[0]["conv1.weight"], learner.net_to_keep.conv1.weight)
    val = part(3, 1)
    with torch.no_grad():
        logits = learner.net_to_keep(normalise(torch.from_numpy(val.images)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels))
    assert result.val_loss == pytest.approx(loss.item(), rel=1e-5)


def test_the_same_recipe_gives_the_same_weights() -> None:
    nets = []
    for _ in range(2):
        own = trainer(num_workers=2, arch="deepsort")  # dropout and threads included
        own.fit()
        nets.append(own.learner.net.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def come_to(monkeypatch: pytest.MonkeyPatch, own: Trainer, results: list[Any]) -> None:
    """Let validations come to these (loss, error) instead of being done."""
    following = iter(results)

    def validate() -> None:
        own.train_meter.images, own.train_meter.seconds = 1, 1.0
        own.val_meter.add(1, torch.tensor(next(following), dtype=torch.float64))

    monkeypatch.setattr(own, "train_epoch", lambda: None)
    monkeypatch.setattr(own, "validate", validate)


def test_patience_ends_training(monkeypatch: pytest.MonkeyPatch) -> None:
    own = trainer(epochs=9, patience=2)
    come_to(monkeypatch, own, [(1.0, error) for error in (0.5, 0.4, 0.4, 0.6, 0.1)])
    keep = Keep()
    own.fit([keep])
    assert (keep.epochs, keep.best) == ([1, 2, 3, 4], [1, 2])


@pytest.mark.parametrize(("metric", "best"), [("val_error", [1, 2]), ("val_loss", [1, 3])])
def test_the_best_epoch_is_by_the_declared_metric(
    monkeypatch: pytest.MonkeyPatch, metric: str, best: list[int]
) -> None:
    own = trainer(epochs=3, best_metric=metric)
    come_to(monkeypatch, own, [(2.0, 0.5), (3.0, 0.3), (1.0, 0.4)])
    keep = Keep()
    own.fit([keep])
    assert keep.best == best


def explode(process: Process) -> str:
    own = trainer(process, lr=1e30, warmup_epochs=0.0, batch_size=4)
    with pytest.raises(TrainingError) as caught:
        own.fit()
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
        trainer(crowd)


def test_train_and_val_of_different_splits() -> None:
    with pytest.raises(PackedError, match="train holds 4 identities, val 5"):
        Trainer(tiny(config()), part(11, 0), part(3, 1, 5), config(), ALONE)


def ranks_apart(process: Process) -> tuple[list[float], list[float]]:
    """Without SyncBN each rank keeps statistics of its own until they are shared."""
    own = trainer(process, epochs=1, sync_bn=False)
    own.observers, own.stop = (), Stop()
    own.train_epoch()
    statistics: torch.Tensor = own.learner.net.bn1.running_mean  # type: ignore[union-attr]
    before = statistics.tolist()
    own.learner.share_statistics()
    return before, statistics.tolist()


def test_unsynchronised_statistics_are_averaged_before_validation() -> None:
    (first, shared), (second, also) = on_ranks(2, ranks_apart)
    assert first != second
    assert shared == also
    assert np.allclose(shared, (np.array(first) + np.array(second)) / 2)
