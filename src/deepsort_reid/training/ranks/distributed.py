"""Processes that train together: how they find each other, and every collective they use."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from deepsort_reid.core.errors import LostContactError, TrainingError, first_line
from deepsort_reid.core.launch import LOOPBACK, PATIENCE, Launch, read_launch
from deepsort_reid.model.device import computing
from deepsort_reid.training.ranks import interface
from deepsort_reid.training.ranks.heartbeat import Heartbeat
from deepsort_reid.training.ranks.rendezvous import Meeting, meet

TIMEOUT = timedelta(minutes=10)  # a collective that takes longer has lost a rank
PREPARING = timedelta(days=1)  # the same while ranks read all the data before the first step


@dataclass(frozen=True)
class Process:
    """One process of the training, and the device it computes on."""

    rank: int  # among all processes, 0 to world_size - 1
    local_rank: int  # among those of this machine
    world_size: int
    local_world_size: int
    device: torch.device
    hosts: Mapping[str, str] = field(default_factory=dict)  # address -> name, of several machines

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes files and talks to MLflow."""
        return self.rank == 0


ALONE = Process(0, 0, 1, 1, torch.device("cpu"))


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
        TrainingError: the environment is inconsistent, or the others do not come.
    """
    launch = read_launch(os.environ)
    with computing(
        local_rank=launch.local_rank,
        local_world_size=launch.local_world_size,
        deterministic=deterministic,
    ) as device:
        process = Process(
            launch.rank, launch.local_rank, launch.world_size, launch.local_world_size, device
        )
        if launch.world_size == 1:
            yield process
            return
        meeting = connect(launch, device)
        if launch.is_on_one_machine:
            heartbeat: AbstractContextManager[object] = nullcontext()
        else:
            heartbeat = Heartbeat(meeting, launch.rank)
            hosts = {member.address: member.host for member in meeting.members}
            process = replace(process, hosts=hosts)
        with heartbeat, contact(process):
            try:
                yield process
            finally:
                dist.destroy_process_group()


def connect(launch: Launch, device: torch.device) -> Meeting:
    """Meet the other processes, and form the group of all.

    Raises:
        TrainingError: one does not come, or they cannot reach each other.
    """
    backend = backend_of(device, launch.local_world_size)
    meeting = meet(launch, backend)
    own = LOOPBACK if launch.is_on_one_machine else meeting.members[launch.rank].address
    interface.choose(own)
    store = PrefixStore("group", meeting.store)
    store.set_timeout(TIMEOUT)
    try:
        dist.init_process_group(
            backend, store=store, rank=launch.rank, world_size=launch.world_size,
            timeout=TIMEOUT if backend == "nccl" else timedelta(seconds=PATIENCE),
            device_id=device if backend == "nccl" else None,
        )  # fmt: skip
    except RuntimeError as error:
        raise TrainingError(
            f"the ranks have met at {launch.address}:{launch.port}, but cannot reach each other "
            f"({first_line(error)}); {backend.upper()}_SOCKET_IFNAME names the "
            "network interface that they take"
        ) from error
    wait_at_most(TIMEOUT)
    return meeting


def wait_at_most(timeout: timedelta) -> None:
    """Limit how long a collective waits for the others from now on."""
    # Older torch has this for its own use alone.
    getattr(dist, "set_timeout", dist.distributed_c10d._set_pg_timeout)(timeout)


@contextmanager
def patient() -> Iterator[None]:
    """Let the collectives of the block wait for ranks that read all the data first.

    A rank that dies meanwhile is found out nevertheless: by the launcher, or by the heartbeat.
    """
    if not dist.is_initialized():
        yield
        return
    wait_at_most(PREPARING)
    try:
        yield
    finally:
        wait_at_most(TIMEOUT)


@contextmanager
def contact(process: Process) -> Iterator[None]:
    """Report a lost process in one line, instead of the backend's many.

    Args:
        process: this one, which knows the others' machines.

    Raises:
        LostContactError: a collective inside the block failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        # gloo names the peer: `Connection closed by peer [10.0.0.2]:43210`.
        peer = re.search(r"\[([0-9a-fA-F.:]+)\]:\d", str(error))
        on = f" on {process.hosts[peer[1]]}" if peer and peer[1] in process.hosts else ""
        raise LostContactError(
            f"another process of the training{on} is gone; its report is above, or on its machine"
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
