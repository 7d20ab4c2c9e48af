"""Processes that train together: how they find each other, and every collective they use."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from deepsort_reid.core.errors import LostContactError, TrainingError
from deepsort_reid.model.device import computing

TIMEOUT = timedelta(minutes=10)  # a collective that takes longer has lost a rank


@dataclass(frozen=True)
class Process:
    """One process of the training, and the device it computes on."""

    rank: int  # among all processes, 0 to world_size - 1
    local_rank: int  # among those of this machine
    world_size: int
    local_world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes files and talks to MLflow."""
        return self.rank == 0


ALONE = Process(0, 0, 1, 1, torch.device("cpu"))


def read_environment(environ: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Read rank, local rank, world size and local world size.

    Understands the variables of torchrun and those of SLURM's `srun`; without either the process
    is alone.

    Raises:
        TrainingError: only some of the variables are set, or one is no number.
    """
    names = {
        "RANK": ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        "SLURM_PROCID": (
            "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE",
        ),
    }  # fmt: skip
    # Inside `sbatch`, but not `srun`, SLURM_PROCID is set too: then it is one process of one.
    for first, variables in names.items():
        if first not in environ or (first == "SLURM_PROCID" and "SLURM_STEP_ID" not in environ):
            continue
        try:
            rank, local_rank, world_size = (int(environ[name]) for name in variables[:3])
            local_world_size = int(environ.get(variables[3], world_size))
        except (KeyError, ValueError) as error:
            raise TrainingError(
                f"the environment has {first}={environ[first]}, but {', '.join(variables[:3])} "
                f"must all be whole numbers ({error}); start with torchrun, srun or plain python"
            ) from None
        return rank, local_rank, world_size, local_world_size
    return 0, 0, 1, 1


def set_rendezvous_from_slurm(environ: dict[str, str]) -> None:
    """Fill in MASTER_ADDR and MASTER_PORT, which `srun` does not set.

    Every process derives the same ones: the job's first host, and a port from the job's number.
    """
    if "SLURM_STEP_ID" in environ and "MASTER_ADDR" not in environ:
        environ["MASTER_ADDR"] = first_host(environ.get("SLURM_JOB_NODELIST", "localhost"))
    if "SLURM_STEP_ID" in environ and "MASTER_PORT" not in environ:
        environ["MASTER_PORT"] = str(20_000 + int(environ.get("SLURM_JOB_ID", "0")) % 20_000)


def first_host(nodes: str) -> str:
    """The first host of SLURM's list: `gpu[03-05,9],cpu1` begins with `gpu03`."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+))?", nodes)
    return "".join(part for part in match.groups() if part) if match else nodes


def backend_of(device: torch.device, local_world_size: int) -> str:
    """The backend that joins the ranks: NCCL, which needs a GPU for each rank, or gloo."""
    has_own_gpu = device.type == "cuda" and local_world_size <= torch.cuda.device_count()
    return "nccl" if has_own_gpu else "gloo"


@contextmanager
def joined(*, deterministic: bool = True) -> Iterator[Process]:
    """Join the other processes, if there are any, and leave them at the end of the block.

    Args:
        deterministic: see `device.computing`.

    Yields:
        this process, with the device that it computes on.

    Raises:
        TrainingError: the environment is inconsistent.
    """
    rank, local_rank, world_size, local_world_size = read_environment(os.environ)
    with computing(
        local_rank=local_rank, local_world_size=local_world_size, deterministic=deterministic
    ) as device:
        process = Process(rank, local_rank, world_size, local_world_size, device)
        if world_size == 1:
            yield process
            return
        set_rendezvous_from_slurm(os.environ)  # type: ignore[arg-type]
        backend = backend_of(device, local_world_size)
        dist.init_process_group(
            backend, rank=rank, world_size=world_size, timeout=TIMEOUT,
            device_id=device if backend == "nccl" else None,
        )  # fmt: skip
        try:
            with contact():
                yield process
        finally:
            dist.destroy_process_group()


@contextmanager
def contact() -> Iterator[None]:
    """Report a lost process in one line, instead of the backend's many.

    Raises:
        LostContactError: a collective inside the block failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise LostContactError(
            "another process of the training is gone; its report is above, or on its machine"
        ) from error


def uses_nccl() -> bool:
    """Whether the processes are joined by NCCL."""
    return dist.is_initialized() and dist.get_backend() == "nccl"


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def gather_over_ranks(values: Tensor) -> Tensor:
    """Stack each process's tensor, in the order of ranks: `(...)` becomes `(world_size, ...)`."""
    if not dist.is_initialized():
        return values.unsqueeze(0)
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values.contiguous())
    return torch.stack(gathered)


class _Gather(torch.autograd.Function):
    """`gather_over_ranks` whose gradients return to the rank that each row came from."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return gather_over_ranks(values)

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        rank = dist.get_rank() if dist.is_initialized() else 0
        return sum_over_ranks(grad.clone(memory_format=torch.contiguous_format))[rank]


def gather_with_gradient(values: Tensor) -> Tensor:
    """`gather_over_ranks` with a gradient: the sum of all ranks' gradients of this rank's values.

    Every rank must run backward through it, or none.
    """
    return cast("Tensor", _Gather.apply(values))


def gather_on_cpu(values: Tensor) -> Tensor:
    """`gather_over_ranks` for a tensor on the CPU, with any backend."""
    device = "cuda" if uses_nccl() else "cpu"
    return gather_over_ranks(values.to(device)).cpu()


def share_from_first(content: bytes) -> bytes:
    """Send rank 0's bytes to every process; the other processes' own bytes are ignored."""
    if not dist.is_initialized():
        return content
    device = "cuda" if uses_nccl() else "cpu"
    size = int(broadcast_from_first(torch.tensor([len(content)], device=device)))
    own = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)
    is_source = dist.get_rank() == 0
    data = own.to(device) if is_source else torch.empty(size, dtype=torch.uint8, device=device)
    return broadcast_from_first(data).cpu().numpy().tobytes() if size else b""


def broadcast_from_first(values: Tensor) -> Tensor:
    """Overwrite a tensor, in place, with rank 0's, and return it."""
    if dist.is_initialized():
        dist.broadcast(values, src=0)
    return values
