"""The GPUs of this machine, divided among the trials that run at the same time."""

import os
from collections.abc import Mapping

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
Slot = tuple[str, ...]  # the GPUs of a trial, as CUDA_VISIBLE_DEVICES names them; none: the CPU


def slots(processes: int, environ: Mapping[str, str] = os.environ) -> list[Slot]:
    """A slot for each trial that can run at the same time.

    Args:
        processes: that train together in a trial; each gets a GPU, if there are as many.
        environ: may say which GPUs there are.

    Returns:
        disjoint groups of GPUs; one empty group where there is none: the CPU serves one trial.
    """
    count = torch.cuda.device_count()
    named = environ.get(VISIBLE, "")
    gpus = named.split(",")[:count] if named else [str(number) for number in range(count)]
    size = min(processes, count) or 1
    groups = [tuple(gpus[first : first + size]) for first in range(0, count, size)]
    return [group for group in groups if len(group) == size] or [()]


def environment(slot: Slot) -> dict[str, str]:
    """The variables by which a process uses these GPUs alone."""
    return {VISIBLE: ",".join(slot)} if slot else {}


def named(slot: Slot) -> str:
    """The GPUs in words."""
    return f"GPU {', '.join(slot)}" if slot else "CPU"
