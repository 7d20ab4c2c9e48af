"""Copies of what changes during a training, and of the random generators, on the CPU."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def copied(value: Any) -> Any:
    """A copy on the CPU of all tensors in nested dictionaries and lists, laid out as they are.

    The layout matters: a processor's vector instructions round otherwise than its single ones do
    at a row's end, and where a row ends depends on the layout.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def random_state(device: torch.device) -> Tensor:
    """The state of torch's random generators, (n,) uint8; all others here are drawn from seeds."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_random_state(state: Tensor, device: torch.device) -> None:
    """The inverse of `random_state`."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())  # it must begin where its memory does
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)
