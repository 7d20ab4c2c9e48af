"""The network's training step on a tensor that is already there, in every variant.

Rows: the variant that the Trainer uses over the best of the others; its arithmetic over that of a
plain product of matrices (2 × 2048³ operations, of the same dtype and threads; those of a step as
torch.utils.flop_counter counts them); the same without and with torch.compile; the buckets of
DistributedDataParallel. A step is: forward, cross-entropy, backward, optimizer. On a GPU, what is
"replayed" is a CUDA graph of all but the optimizer.
"""

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from deepsort_reid.core.machine import cores
from deepsort_reid.model import cuda_graph, network
from deepsort_reid.model.device import synchronize
from deepsort_reid.training import parallel
from deepsort_reid.training.learner import TrainingForward
from deepsort_reid.training.ranks.distributed import Process
from speed_items import launch
from speed_items.rows import ROUNDS, Row, compared, in_turns, shown, spread

CLASSES = 192
SIZES = (((64, 32), 16), ((128, 64), 32))  # height and width in pixels, batch
GPU_SIZES = (((128, 64), 128),)
QUICK = (((32, 16), 4),)
OPTIMIZERS: dict[str, dict[str, bool]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
TURN = 1.0  # seconds; a GPU has made thousands of calls by then
GPU_TURN = 0.3
SIDE = 2048  # of the matrices
GPU_SIDE = 8192


@dataclass(frozen=True)
class Case:
    """What is held fixed while variants are compared."""

    image_size: tuple[int, int]
    batch: int
    threads: int
    dtype: torch.dtype
    device: torch.device

    def __str__(self) -> str:
        height, width = self.image_size
        where = "" if self.on_gpu else f", threads {self.threads}"
        return f"{height}×{width}, batch {self.batch}{where}, {str(self.dtype)[6:]}"

    @property
    def chosen(self) -> str:
        """The variant that a Trainer uses."""
        layout = network.layout(network.build(network.Design(), 1), self.device)
        name = next(name for name, order in FORMATS.items() if order == layout)
        return f"{name}, fused" + (", replayed" if self.on_gpu else "")

    @property
    def variants(self) -> list[str]:
        """The variants' names: order in memory, optimizer, and whether a graph is replayed."""
        kinds = ["foreach", "fused", "fused, replayed"] if self.on_gpu else list(OPTIMIZERS)
        return [f"{layout}, {kind}" for layout, kind in itertools.product(FORMATS, kinds)]

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def turn(self) -> float:
        """Seconds that a side computes before the next one's turn."""
        return GPU_TURN if self.on_gpu else TURN

    def autocast(self) -> torch.autocast:
        """The arithmetic of the dtype."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16
        )


class Step:
    """A network, its optimizer and a batch that is already there."""

    def __init__(
        self,
        case: Case,
        variant: str,
        wrap: Callable[[nn.Module], nn.Module] = lambda net: net,
    ):
        """Make everything ready.

        Args:
            case: sizes, dtype and device.
            variant: of `Case.variants`.
            wrap: compiles the network, or makes it one of several ranks'.
        """
        self.case = case
        layout, kind, *replayed = variant.split(", ")
        memory_format = FORMATS[layout]
        net = network.build(network.Design(), CLASSES).train().to(case.device)
        net = net.to(memory_format=memory_format)
        self.optimizer = torch.optim.Adam(net.parameters(), 1e-3, **OPTIMIZERS[kind])
        self.net = wrap(TrainingForward(net))
        images = torch.randn(case.batch, 3, *case.image_size, device=case.device)
        self.images = images.contiguous(memory_format=memory_format)
        self.labels = torch.arange(case.batch, device=case.device) % CLASSES
        self.learn: Callable[..., Tensor] = self.backward
        if replayed:
            self.learn = cuda_graph.Replayed(self.backward, net.parameters())

    def __call__(self) -> None:
        """Take one step."""
        self.learn(self.images, self.labels)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Forward, loss and backward; the loss."""
        with self.case.autocast():
            logits, *_ = self.net(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def flop(self) -> int:
        """Floating-point operations of forward and backward, a multiply-add counting as two."""
        with FlopCounterMode(display=False) as counter:
            self.backward(self.images, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())


def measure(quick: bool) -> Iterator[Row]:
    """Go through all sizes, threads and dtypes."""
    before = torch.get_num_threads()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        for case in cases(device, quick):
            torch.set_num_threads(case.threads)
            yield from compare_variants(case, quick)
            yield matrix_rate(case, quick)
        torch.set_num_threads(cores())
        if not quick:
            yield compiled(next(c for c in cases(device, quick) if c.threads == cores()))
    finally:
        torch.set_num_threads(before)
    if launch.usual_ranks() > 1:
        yield buckets(quick)


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    """Yield every combination that the device has arithmetic for."""
    on_gpu = device.type == "cuda"
    threads = [cores()] if on_gpu else [1] if quick else sorted({1, cores()})
    dtypes = [torch.float32]
    if on_gpu:
        dtypes.append(torch.bfloat16)
    for (size, batch), count, dtype in itertools.product(
        QUICK if quick else GPU_SIZES if on_gpu else SIZES, threads, dtypes
    ):
        yield Case(size, batch, count, dtype, device)


def compare_variants(case: Case, quick: bool) -> Iterator[Row]:
    """Print every variant's images a second; yield the chosen one against the best other one."""
    steps = {variant: Step(case, variant) for variant in case.variants}
    rates = in_turns(
        {name: turn(step, case, quick) for name, step in steps.items()}, 1 if quick else ROUNDS
    )
    print(f"\n  {case}")
    for name, values in rates.items():
        mark = "  (the Trainer's)" if name == case.chosen else ""
        print(f"    {name:<24} {spread(values, 'images/s')}{mark}", flush=True)
    ours = rates.pop(case.chosen)
    best = max(rates, key=lambda name: sorted(rates[name])[len(rates[name]) // 2])
    yield compared(
        f"the Trainer's variant over the best other one, {case}",
        ours,
        rates[best],
        unit="images/s",
        conditions=f"resnet18; ours: {case.chosen}; the best other one: {best}",
        least=0.97,
    )


def turn(step: Callable[[], object], case: Case, quick: bool) -> Callable[[], float]:
    """What computes for a while, and returns images a second."""
    for _ in range(3):
        step()
    seconds = per_call(step, 1, case.device)
    calls = 2 if quick else max(2, math.ceil(case.turn / seconds))
    return lambda: case.batch / per_call(step, calls, case.device)


def per_call(call: Callable[[], object], calls: int, device: torch.device) -> float:
    """Seconds of a call, one of several in a row."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        call()
    synchronize(device)
    return (time.perf_counter() - started) / calls


def matrix_rate(case: Case, quick: bool) -> Row:
    """The chosen variant's arithmetic a second against that of a multiplication of matrices."""
    step = chosen_step(case)
    side = 256 if quick else GPU_SIDE if case.on_gpu else SIDE
    one, other = (torch.randn(side, side, device=case.device, dtype=case.dtype) for _ in range(2))
    images = turn(step, case, quick)
    product: Callable[[], Tensor] = partial(torch.mm, one, other, out=torch.empty_like(one))
    per_call(product, 2, case.device)
    calls = 2 if quick else max(2, math.ceil(case.turn / per_call(product, 1, case.device)))
    flop = step.flop() / case.batch
    rates = in_turns(
        {
            "step": lambda: flop * images() / 1e9,
            "matrices": lambda: 2 * side**3 / per_call(product, calls, case.device) / 1e9,
        },
        1 if quick else ROUNDS,
    )
    return compared(
        f"arithmetic over that of a matrix product, {case}",
        rates["step"],
        rates["matrices"],
        unit="GFLOP/s",
        conditions=f"resnet18, {flop / 1e9:.2f} GFLOP an image; {case.chosen}; product of {side}³",
    )


def chosen_step(case: Case, wrap: Callable[[nn.Module], nn.Module] = lambda net: net) -> Step:
    """The step in the variant that a Trainer uses."""
    return Step(case, case.chosen, wrap)


def compiled(case: Case) -> Row:
    """The step as it is against torch.compile's, whose compilation is measured apart, cold."""
    with (
        tempfile.TemporaryDirectory(prefix="speed-") as folder,
        mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": folder}),
    ):
        plain = chosen_step(case)
        step = chosen_step(case, lambda net: torch.compile(net))
        to_compile = per_call(step, 1, case.device)
        rates = in_turns({"plain": turn(plain, case, False), "compiled": turn(step, case, False)})
    to_compile -= case.batch / max(rates["compiled"])
    return compared(
        f"as it is over torch.compile, {case}",
        rates["plain"],
        rates["compiled"],
        unit="images/s",
        conditions=f"resnet18, {case.chosen}; compiling takes {shown(to_compile)} s, without cache",
    )


# The buckets in which gradients travel

BUCKETS: dict[str, dict[str, Any]] = {
    "25 MB": {},
    "1 MB": {"bucket_cap_mb": 1},
    "100 MB": {"bucket_cap_mb": 100},
    "25 MB, static graph": {"static_graph": True},
}


def buckets(quick: bool) -> Row:
    """DistributedDataParallel's buckets as the Trainer has them against the best other ones."""
    ranks = launch.usual_ranks()
    rates = launch.on_ranks(ranks, rates_by_buckets, quick)[0]
    shares = ", ".join(f"{name}: {spread(values, 'images/s')}" for name, values in rates.items())
    ours = rates.pop("25 MB")
    best = max(rates, key=lambda name: sorted(rates[name])[len(rates[name]) // 2])
    (height, width), batch = (QUICK if quick else SIZES)[0]
    return compared(
        f"buckets of 25 MB over the best others, {ranks} ranks, {height}×{width}, "
        f"batch {batch} each",
        ours,
        rates[best],
        unit="images/s",
        conditions=f"resnet18, DistributedDataParallel; {shares}",
    )


def rates_by_buckets(process: Process, quick: bool) -> dict[str, list[float]]:
    """Images a second of all ranks together, for each kind of buckets."""
    size, batch = (QUICK if quick else SIZES)[0]
    case = Case(size, batch, torch.get_num_threads(), torch.float32, process.device)
    steps = {
        name: chosen_step(case, partial(in_buckets, process, options, size))
        for name, options in BUCKETS.items()
    }
    calls = 2 if quick else 10

    def rate(step: Step) -> float:
        started = launch.now(process)
        for _ in range(calls):
            step()
        return calls * batch * process.world_size / (launch.now(process) - started)

    for step in steps.values():
        rate(step)
    return in_turns(
        {name: partial(rate, step) for name, step in steps.items()}, 1 if quick else 2 * ROUNDS
    )


def in_buckets(
    process: Process, options: Mapping[str, Any], size: tuple[int, int], net: nn.Module
) -> nn.Module:
    """The network as one of several ranks', made as the Trainer makes it but for the options."""
    kind = partial(DistributedDataParallel, **options)
    with mock.patch.object(parallel, "DistributedDataParallel", kind):
        return parallel.wrap(net, process, size)
