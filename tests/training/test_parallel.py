"""Batch normalisation over ranks gives what one rank with all images gives, both ways."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.model import cuda_graph
from deepsort_reid.training import parallel
from deepsort_reid.training.learner import Learner
from deepsort_reid.training.ranks.distributed import Process
from tests.support.ranks import on_ranks
from tests.support.trainings import trainer


def averaged_on_a_rank(process: Process, memory: str) -> list[Any]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2), nn.Linear(2, 2))
    net.to(memory_format=getattr(torch, memory))
    net[1].bias.requires_grad_(requires_grad=False)
    for number, weight in enumerate(net.parameters()):
        if weight.requires_grad:
            whole = torch.arange(weight.numel()).view_as(weight) + 10.0 * number
            weight.grad = torch.empty_like(weight).copy_(whole * (1 + process.rank))
    parallel.average_gradients(net, process.world_size)
    return [None if w.grad is None else w.grad.numpy() / 1.5 for w in net.parameters()]


@pytest.mark.parametrize("memory", ["contiguous_format", "channels_last"])
def test_gradients_are_averaged_in_one_exchange(memory: str) -> None:
    for found in on_ranks(2, averaged_on_a_rank, memory):
        for number, gradient in enumerate(found):
            assert (gradient is None) == (number == 3)
            if gradient is not None:
                expected = np.arange(gradient.size).reshape(gradient.shape) + 10.0 * number
                np.testing.assert_array_equal(gradient, expected)


def trained_on_a_rank(process: Process, changes: Any, is_recorded: bool) -> Any:
    with (
        mock.patch.object(Learner, "is_recorded", is_recorded),
        mock.patch.object(cuda_graph, "Replayed", lambda function, _: function),
    ):
        made = trainer(process, sync_bn=False, batch_size=4, **changes)
        assert isinstance(made.learner.forward, DistributedDataParallel) != is_recorded
        history = made.fit()
    weights = made.learner.net_to_keep.state_dict()
    return [r.val_loss for r in history], {name: w.numpy() for name, w in weights.items()}


@pytest.mark.parametrize("changes", [{}, {"accumulate_steps": 2}, {"freeze_layers": ("conv1",)}])
def test_an_exchange_behind_the_pass_is_that_of_distributed_data_parallel(changes: Any) -> None:
    recorded, plain = (on_ranks(2, trained_on_a_rank, changes, one) for one in (True, False))
    for (losses, weights), (expected, other) in zip(recorded, plain, strict=True):
        assert losses == expected
        for name, weight in weights.items():
            np.testing.assert_array_equal(weight, other[name])


def batch(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3


def outcome(norm: nn.Module, images: torch.Tensor, weight: torch.Tensor) -> dict[str, Any]:
    images.requires_grad_()
    output = norm(images)
    (output * weight).sum().backward()
    return {
        "output": output.detach(),
        "images": images.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


def make(cls: type[nn.Module], channels: int) -> nn.Module:
    norm = cls(channels).double()
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
    return norm


def on_one_of_two(process: Process, shape: tuple[int, ...], cut: int, format_: str) -> Any:
    own = slice(0, cut) if process.rank == 0 else slice(cut, None)
    memory = getattr(torch, format_)
    images = batch(shape)[own].contiguous(memory_format=memory)
    norm = make(parallel.SyncBatchNorm, shape[1])
    return {k: v.numpy() for k, v in outcome(norm, images, batch(shape)[own] ** 2).items()}


@pytest.mark.parametrize(
    ("shape", "cut", "memory"),
    [
        ((6, 5, 4, 3), 3, "contiguous_format"),
        ((7, 5, 4, 3), 2, "channels_last"),
        ((6, 5), 1, "contiguous_format"),
    ],
)
def test_two_ranks_are_one(shape: tuple[int, ...], cut: int, memory: str) -> None:
    plain = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    whole = outcome(make(plain, shape[1]), batch(shape), batch(shape) ** 2)
    first, second = on_ranks(2, on_one_of_two, shape, cut, memory)
    for key in ("output", "images"):
        joined = torch.cat([torch.from_numpy(first[key]), torch.from_numpy(second[key])])
        torch.testing.assert_close(joined, whole[key], rtol=1e-12, atol=1e-12)
    for key in ("weight", "bias"):
        torch.testing.assert_close(
            torch.from_numpy(first[key] + second[key]), whole[key], rtol=1e-12, atol=1e-12
        )
    for key in ("mean", "var"):
        assert (first[key] == second[key]).all()
        torch.testing.assert_close(torch.from_numpy(first[key]), whole[key], rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_derivative() -> None:
    norm = make(parallel.SyncBatchNorm, 3)
    images = batch((4, 3, 2, 2)).requires_grad_()
    apply = parallel._SyncBatchNorm.apply
    inputs = (images, norm.weight, norm.bias)
    assert torch.autograd.gradcheck(lambda x, w, b: apply(x, w, b, 1e-5)[0], inputs)


def test_large_offsets_do_not_lose_the_variance() -> None:
    images = batch((64, 2, 4, 4)).float() * 1e-2 + 1000
    _, variance, count = parallel.global_statistics(images)
    expected = images.double().transpose(0, 1).flatten(1).var(1, correction=0)
    torch.testing.assert_close(variance.double(), expected, rtol=1e-2, atol=0)
    assert count == 64 * 16


def test_conversion_keeps_weights_names_and_mode() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    names, weight = list(net.state_dict()), net[1][0].weight
    net[1].eval()
    converted = parallel.synchronise_batchnorm(net)
    assert isinstance(converted[1][0], parallel.SyncBatchNorm)
    assert converted[1][0].weight is weight
    assert not converted[1][0].training
    assert list(converted.state_dict()) == names


@pytest.mark.parametrize("nccl", [False, True])
def test_conversion_keeps_what_a_normalisation_of_timm_has_inside(
    nccl: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timm.layers.norm_act import BatchNormAct2d

    monkeypatch.setattr(parallel.distributed, "uses_nccl", lambda: nccl)
    norm = BatchNormAct2d(3, act_layer=nn.PReLU, inplace=False)
    nn.init.normal_(norm.bias)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), norm)
    images, names = torch.randn(4, 3, 2, 2), list(net.state_dict())
    expected = {mode: net.train(mode)(images) for mode in (True, False)}  # eval mode last
    converted = parallel.synchronise_batchnorm(net)
    assert isinstance(converted[1], nn.SyncBatchNorm if nccl else parallel.SyncBatchNorm)
    assert list(converted.state_dict()) == names
    torch.testing.assert_close(converted.eval()(images), expected[False])
    if not nccl:  # which takes GPUs' tensors alone
        torch.testing.assert_close(converted.train()(images), expected[True])


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_conversion_of_a_normalisation_without_weights_or_statistics(
    options: dict[str, Any],
) -> None:
    norm = nn.BatchNorm2d(3, **options)
    twin = parallel.synchronise_batchnorm(nn.BatchNorm2d(3, **options))
    assert list(twin.state_dict()) == list(norm.state_dict())
    images = [torch.randn(4, 3, 2, 2).requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    for one, own in zip((norm, twin), images, strict=True):
        one(own).square().sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad, atol=1e-5, rtol=1e-4)


def test_statistics_are_those_of_batches_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True))
    net.register_buffer("angles", torch.full((5,), 0.1))
    assert len(parallel.statistics(net)) == 8
    assert "angles" in parallel.all_but_statistics(net)
    parallel.set_statistics(net, torch.arange(8.0))
    assert net[1].running_var.tolist() == [4, 5, 6, 7]
    assert net.angles.tolist() == torch.full((5,), 0.1).tolist()


def test_without_momentum_statistics_are_the_average_of_all_batches() -> None:
    plain, own = nn.BatchNorm2d(3, momentum=None), parallel.SyncBatchNorm(3, momentum=None)
    for _ in range(3):
        images = torch.randn(4, 3, 2, 2)
        plain(images)
        own(images)
    torch.testing.assert_close(own.running_mean, plain.running_mean)
    torch.testing.assert_close(own.running_var, plain.running_var)


def test_eval_mode_uses_what_was_learned() -> None:
    plain, own = nn.BatchNorm2d(3), parallel.SyncBatchNorm(3)
    images = torch.randn(4, 3, 2, 2)
    for norm in (plain, own):
        norm(images)
        norm.eval()
    torch.testing.assert_close(own(images), plain(images))
    torch.testing.assert_close(own.running_var, plain.running_var)
