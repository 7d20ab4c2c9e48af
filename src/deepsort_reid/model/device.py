"""The device that computes: which one, with how many cores, and by which kernels."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deepsort_reid.core.machine import cores

logger = logging.getLogger(__name__)


@contextmanager
def computing(
    *, local_rank: int = 0, local_world_size: int = 1, deterministic: bool = True
) -> Iterator[torch.device]:
    """Compute on this process's GPU, or on its share of the cores.

    On a CPU torch uses as many threads as before once the block has ended, and subnormal numbers
    are zero meanwhile; see `flush_subnormals`. Threads that torch starts meanwhile take them for
    zero until the process ends, since torch can tell only its own caller otherwise.

    Args:
        local_rank: this process among those of this machine that compute together.
        local_world_size: how many these are.
        deterministic: use kernels that give the same bits at every run, on a GPU too; an operation
            without such a kernel raises RuntimeError.

    Yields:
        the device.
    """
    set_determinism(deterministic)
    device = choose_device(local_rank, local_world_size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        yield device
        return
    flush_subnormals()
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // local_world_size))
    try:
        yield device
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def flush_subnormals() -> None:
    """Take numbers below 1.2e-38 for zero in this thread and those that it starts from now on.

    A CPU takes ten times as long to compute with them. A decay leaves the weights of unused filters
    there, and Adam's averages of their gradients. Threads that torch has started before keep
    computing with such numbers, so call it before the first computation.
    """
    torch.set_flush_denormal(True)


def choose_device(local_rank: int, local_world_size: int) -> torch.device:
    """One GPU for each process; processes share GPUs if there are too few; the CPU without any."""
    gpus = torch.cuda.device_count()
    if gpus == 0:
        return torch.device("cpu")
    if local_world_size > gpus:
        logger.warning(
            "%d processes share %d GPU(s) over gloo: right, but slow; set nproc_per_node=%d",
            local_world_size, gpus, gpus,
        )  # fmt: skip
    return torch.device("cuda", local_rank % gpus)


def set_determinism(on: bool) -> None:
    """Choose whether kernels give the same bits at every run; call it before a GPU is used."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
    # Not `use_deterministic_algorithms`, which imports torch's compiler in two seconds.
    torch.set_deterministic_debug_mode("error" if on else "default")
    # `on` would also fill new memory, for code that reads what it never wrote: ours does not.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished its queue of work; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_state(device: torch.device) -> Tensor:
    """The state of torch's random generators, (n,) uint8."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def set_random_state(state: Tensor, device: torch.device) -> None:
    """The inverse of `random_state`."""
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())  # a tensor that begins where its memory does
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[size:].clone(), device)
