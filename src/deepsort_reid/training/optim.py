"""Optimizers, and the learning rate at each step."""

import math
from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    name: str,
    *,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Make an optimizer over the parameters that are not frozen; its step is one fused kernel.

    The learning rate is left to `set_lr`, before every step.

    Args:
        parameters: of the network.
        name: `sgd`, `adam` or `adamw`.
        momentum: SGD's, or beta 1 of Adam (Kingma & Ba, ICLR 2015) and AdamW (Loshchilov &
            Hutter, ICLR 2019).
        weight_decay: a share of the weights added to the gradient (AdamW: taken off the weights).
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if name == "sgd":
        return torch.optim.SGD(trainable, momentum=momentum, weight_decay=weight_decay, fused=True)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(trainable, betas=(momentum, 0.999), weight_decay=weight_decay, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def scale_lr(lr: float, rule: str, world_size: int) -> float:
    """The learning rate of `world_size` processes, each with its own batch.

    Args:
        lr: for one process.
        rule: `linear` (Goyal et al., "Accurate, Large Minibatch SGD", 2017), `sqrt` or `none`.
        world_size: number of processes.
    """
    return lr * {"linear": world_size, "sqrt": math.sqrt(world_size), "none": 1.0}[rule]


def lr_at(
    step: int, *, steps: int, warmup_steps: int, lr: float, lrf: float, schedule: str = "cosine"
) -> float:
    """The learning rate of one step: a linear rise, then a fall to exactly `lr * lrf`.

    The last step of the warm-up has `lr`, the last of all `lr * lrf`.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        warmup_steps: of the rise, fewer than `steps`.
        lr: the highest learning rate.
        lrf: the last learning rate as a share of it.
        schedule: how it falls: `cosine`, half a cosine (Loshchilov & Hutter, "SGDR", ICLR 2017);
            `flat_cosine`, the same after half of the steps (He et al., "FastReID", 2020); `step`,
            by the same factor after half and after three quarters of the steps (He et al., "Deep
            Residual Learning for Image Recognition", CVPR 2016).
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if schedule == "step":
        falls = (step >= steps / 2) + (step >= 3 * steps / 4)
        return lr * math.pow(lrf, falls / 2)
    start = max(warmup_steps - 1, steps // 2 if schedule == "flat_cosine" else 0)
    done = max(step - start, 0) / max(steps - 1 - start, 1)
    return lr * (lrf + (1 - lrf) * (1 + math.cos(math.pi * done)) / 2)
