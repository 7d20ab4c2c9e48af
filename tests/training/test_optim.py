"""The learning rate rises, falls as a cosine, and ends where it was told to."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from deepsort_reid.training.optim import lr_at, make_optimizer, scale_lr, set_lr


def test_warmup_then_cosine_to_lrf() -> None:
    lrs = [lr_at(s, steps=100, warmup_steps=10, lr=0.4, lrf=0.01) for s in range(100)]
    assert lrs[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert lrs[9] == 0.4
    assert lrs[-1] == pytest.approx(0.004, rel=1e-12)
    assert all(later < earlier for earlier, later in pairwise(lrs[9:]))
    middle = lr_at(54, steps=100, warmup_steps=10, lr=0.4, lrf=0.01)  # halfway from 9 to 99
    assert middle == pytest.approx(0.4 * (0.01 + 0.99 * 0.5))


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert lr_at(0, steps=10, warmup_steps=0, lr=0.1, lrf=0.5) == 0.1
    assert lr_at(9, steps=10, warmup_steps=0, lr=0.1, lrf=0.5) == pytest.approx(0.05)
    assert lr_at(0, steps=1, warmup_steps=0, lr=0.1, lrf=0.5) == 0.1


def test_flat_first_then_cosine() -> None:
    lrs = [
        lr_at(s, steps=101, warmup_steps=10, lr=0.4, lrf=0.01, schedule="flat_cosine")
        for s in range(101)
    ]
    assert lrs[9:51] == [0.4] * 42
    assert lrs[75] == pytest.approx(0.4 * (0.01 + 0.99 * 0.5))
    assert lrs[-1] == pytest.approx(0.004, rel=1e-12)
    assert all(later < earlier for earlier, later in pairwise(lrs[50:]))


def test_two_steps_down() -> None:
    lrs = [
        lr_at(s, steps=100, warmup_steps=10, lr=0.4, lrf=0.01, schedule="step") for s in range(100)
    ]
    assert lrs[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    assert lrs[10:50] == [0.4] * 40
    assert lrs[50:75] == pytest.approx([0.04] * 25)
    assert lrs[75:] == pytest.approx([0.004] * 25)


@pytest.mark.parametrize("schedule", ["cosine", "flat_cosine", "step"])
@pytest.mark.parametrize("warmup_steps", [0, 3, 9])
def test_every_schedule_ends_where_it_was_told_to(schedule: str, warmup_steps: int) -> None:
    lrs = [
        lr_at(s, steps=10, warmup_steps=warmup_steps, lr=0.1, lrf=0.5, schedule=schedule)
        for s in range(10)
    ]
    assert lrs[-1] == pytest.approx(0.05)
    assert max(lrs) == pytest.approx(0.1)


@pytest.mark.parametrize(("rule", "factor"), [("linear", 4), ("sqrt", 2), ("none", 1)])
def test_scaling_by_world_size(rule: str, factor: float) -> None:
    assert scale_lr(0.1, rule, 4) == pytest.approx(0.1 * factor)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_leave_frozen_parameters_alone(name: str) -> None:
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    before = net.weight.clone()
    optimizer = make_optimizer(net.parameters(), name, momentum=0.9, weight_decay=0.1)
    set_lr(optimizer, 0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
    assert not torch.equal(net.weight, before)


def test_one_step_of_sgd_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer([weight], "sgd", momentum=0.9, weight_decay=0.5)
    set_lr(optimizer, 0.1)
    weight.grad = torch.tensor([2.0])
    optimizer.step()  # 1 - 0.1 * (2 + 0.5 * 1)
    assert math.isclose(weight.item(), 0.75, rel_tol=1e-6)
