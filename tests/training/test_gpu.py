"""On a GPU: a recorded step is the step, wherever images lie, and trainings are what a CPU's are.

Where there is none, these are skipped, and nothing else tells what they tell.
"""

import dataclasses
import io
from typing import Any
from unittest import mock

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.data.loading import loader
from deepsort_reid.model import cuda_graph, network
from deepsort_reid.model.device import set_determinism
from deepsort_reid.training import parallel
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.checkpointer import copied
from deepsort_reid.training.learner import Learner
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer
from tests.support.ranks import on_ranks
from tests.support.trainings import EVERYTHING, config, part

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adam", "lr": 0.001},
    "everything": {**EVERYTHING, "batch_size": 16},
    "accumulated": {"accumulate_steps": 2, "batch_size": 4},
    "frozen": {"freeze_layers": ("conv1", "bn1", "layer1")},
}

Weights = dict[str, torch.Tensor]


ON_GPU, ON_CPU = (dataclasses.replace(ALONE, device=torch.device(name)) for name in ("cuda", "cpu"))


def make(
    recipe: TrainConfig, process: Process = ON_GPU, dtype: torch.dtype = torch.float32
) -> Trainer:
    set_determinism(recipe.deterministic)
    net = network.build(network.Design(**recipe.design), 4, seed=recipe.seed).to(dtype)
    bfloat16 = choose_bfloat16(net, recipe, process, image_size=(32, 16))
    return Trainer(net, part(11, 0), part(3, 1), recipe, process, bfloat16=bfloat16)


def trained(trainer: Trainer) -> tuple[list[tuple[float, ...]], Weights]:
    """The curve and the weights after a training."""
    history = trainer.fit()
    curve = [(r.lr, r.train_loss, r.train_error, r.val_loss, r.val_error) for r in history]
    return curve, {name: w.cpu() for name, w in trainer.learner.net_to_keep.state_dict().items()}


def check_same(one: tuple[Any, Weights], other: tuple[Any, Weights]) -> None:
    assert one[0] == other[0]
    assert all(torch.equal(weight, other[1][name]) for name, weight in one[1].items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_recorded_steps_are_the_steps_to_the_bit(recipe: str) -> None:
    chosen = config(epochs=3, **RECIPES[recipe])
    plain = make(chosen)
    plain.learner.backward = plain.learner.plain_backward
    recorded = make(chosen)
    check_same(trained(recorded), trained(plain))
    check_recorded(recorded)


def check_recorded(trainer: Trainer) -> None:
    backward = trainer.learner.backward
    assert isinstance(backward, cuda_graph.Replayed)
    assert any(backward.recordings.values())


@pytest.mark.parametrize("recipe", ["plain", "adam", "accumulated", "frozen"])
def test_ranks_that_share_a_gpu_record_what_distributed_data_parallel_computes(recipe: str) -> None:
    chosen = config(epochs=3, sync_bn=False, **RECIPES[recipe])
    recorded, plain = (on_ranks(2, trained_on_a_rank, chosen, records) for records in (True, False))
    for one, other in zip(recorded, plain, strict=True):
        check_same(one, other)
    check_same(recorded[0], recorded[1])


def trained_on_a_rank(process: Process, recipe: TrainConfig, records: bool) -> Any:
    with mock.patch.object(Learner, "is_recorded", records):
        trainer = make(recipe, process)
        curve, weights = trained(trainer)
        if records:
            check_recorded(trainer)
        else:
            assert isinstance(trainer.learner.forward, DistributedDataParallel)
    return curve, {name: weight.clone() for name, weight in weights.items()}


def test_images_that_do_not_fit_come_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(num_workers=2)
    there = make(chosen)
    assert there.train_batches._loader.stored is not None
    monkeypatch.setattr(loader, "SHARE", 0.0)
    elsewhere = make(chosen)
    assert elsewhere.train_batches._loader.stored is None
    check_same(trained(there), trained(elsewhere))


def test_more_shapes_than_there_are_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(**RECIPES["everything"])
    with_all = trained(make(chosen))
    monkeypatch.setattr(cuda_graph, "MAX_GRAPHS", 1)
    trainer = make(chosen)
    check_same(trained(trainer), with_all)
    assert len(trainer.learner.backward.recordings) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("recipe", ["plain", "everything"])
def test_a_training_goes_on_to_the_same_bits(recipe: str) -> None:
    chosen = config(epochs=4, **RECIPES[recipe])
    whole = trained(make(chosen))
    first, content = make(chosen), io.BytesIO()
    half(first)
    torch.save({"state": copied(first.state_dict())}, content)
    second = make(chosen)
    second.load(content.getvalue())
    check_same(trained(second), whole)


class Enough(Exception):  # noqa: N818
    pass


class Two(Observer):
    """Ends a training after two epochs."""

    def on_epoch_end(self, history: Any, _: Any, **__: Any) -> None:
        if len(history) == 2:
            raise Enough


def half(trainer: Trainer) -> None:
    """Two epochs of four, without an end."""
    with pytest.raises(Enough):
        trainer.fit([Two()])


@pytest.mark.parametrize("recipe", ["plain", "everything", "frozen"])
def test_in_float64_it_is_the_training_of_a_cpu(recipe: str) -> None:
    # Images are float32 in any network, and jitter rounds them by the device's order of sums.
    changes = {"deterministic": False, "color_jitter": 0.0}
    chosen = config(amp=False, **{**RECIPES[recipe], **changes})
    on_gpu, on_cpu = (trained(make(chosen, on, torch.float64)) for on in (ON_GPU, ON_CPU))
    torch.testing.assert_close(torch.tensor(on_gpu[0]), torch.tensor(on_cpu[0]), rtol=0, atol=1e-5)
    for name, weight in on_gpu[1].items():
        torch.testing.assert_close(weight, on_cpu[1][name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("memory", ["contiguous_format", "channels_last"])
def test_our_batch_normalisation_over_ranks_is_that_of_a_cpu(memory: str) -> None:
    # Ranks that share a GPU join over gloo, where batch normalisation over them is ours.
    draw = torch.Generator().manual_seed(0)
    images, weights = torch.randn(2, 6, 5, 4, 3, generator=draw, dtype=torch.float64)

    def gradients(device: str) -> list[torch.Tensor]:
        norm = parallel.SyncBatchNorm(5).to(device, torch.float64)
        own = images.to(device).clone(memory_format=getattr(torch, memory)).requires_grad_()
        (norm(own) * weights.to(device)).sum().backward()
        return [own.grad, norm.weight.grad, norm.bias.grad, norm.running_var]  # type: ignore[list-item]

    for on_gpu, on_cpu in zip(gradients("cuda"), gradients("cpu"), strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-9)


@pytest.mark.parametrize("amp", [False, True])
def test_it_learns(amp: bool) -> None:
    history = make(config(epochs=8, amp=amp, erase=0.0)).fit()
    assert history[-1].val_error < 0.2
