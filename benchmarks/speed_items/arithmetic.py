"""A training step on a CPU in bfloat16 over the same one in float32, through the real Learner.

A step is all that a training does with a batch: augmentation, forward, loss, backward, optimizer.
The conditions say what stage train would choose. Only a CPU with instructions for bfloat16 is
measured; a GPU that has them is always faster with them (item `bare`).
"""

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from deepsort_reid.core.machine import cores
from deepsort_reid.data.loading.batches import TrainBatches
from deepsort_reid.data.packed import Part
from deepsort_reid.model import network
from deepsort_reid.model.device import flush_subnormals
from deepsort_reid.training.arithmetic import choose_bfloat16, has_bfloat16
from deepsort_reid.training.learner import Learner
from deepsort_reid.training.ranks.distributed import ALONE
from speed_items import noise
from speed_items.rows import Row, compared, in_turns

ARCHS = ("resnet10d", "resnet18", "resnet18d", "osnet_x1_0")
SIZES = ((64, 32), (128, 64))
BATCH, CLASSES = 32, 192
ROUNDS, SECONDS = 5, 0.7
LEAST = 1.8


def measure(quick: bool) -> Iterator[Row]:
    """Let float32 and bfloat16 take turns, for each network, size and number of threads."""
    if not has_bfloat16(torch.device("cpu")):
        print("  this processor has no instructions for bfloat16")
        return
    flush_subnormals()
    before = torch.get_num_threads()
    sizes = ((32, 16),) if quick else SIZES
    try:
        for arch, size, threads in itertools.product(
            ARCHS[:1] if quick else ARCHS, sizes, sorted({1, cores()})
        ):
            torch.set_num_threads(threads)
            yield row(arch, size, threads, quick)
    finally:
        torch.set_num_threads(before)


def row(arch: str, size: tuple[int, int], threads: int, quick: bool) -> Row:
    """One comparison."""
    found = in_turns(
        {name: steps(arch, size, name == "bfloat16", quick) for name in ("bfloat16", "float32")},
        1 if quick else ROUNDS,
    )
    net = network.build(network.Design(arch), CLASSES, image_size=size)
    chosen = choose_bfloat16(net, noise.config(batch_size=BATCH), ALONE, image_size=size)
    return compared(
        f"training step in bfloat16 over float32, {arch}, {size[0]}×{size[1]}, batch {BATCH}, "
        f"threads {threads}",
        found["bfloat16"],
        found["float32"],
        unit="images/s",
        conditions=f"stage train chooses {'bfloat16' if chosen else 'float32'}",
        least=LEAST,
    )


def steps(arch: str, size: tuple[int, int], bfloat16: bool, quick: bool) -> Callable[[], float]:
    """What takes steps for a while, and returns images a second."""
    recipe = noise.config(batch_size=BATCH)
    count = 4 * BATCH
    images = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    pids = np.arange(count) % CLASSES
    part = Part(images, pids, pids * 0, [str(n) for n in range(CLASSES)], [f"{n}" for n in pids])
    batches = TrainBatches(part, recipe, device=ALONE.device, rank=0, world_size=1)
    learner = Learner(
        network.build(network.Design(arch), CLASSES, image_size=size), recipe, ALONE,
        classes=CLASSES, image_size=size, steps_per_epoch=batches.steps, bfloat16=bfloat16,
    )  # fmt: skip
    ready = [list(taken) for _, taken in batches.of_epoch(1, 0)]
    for number in range(2):
        learner.step(ready[number], number)

    def rate() -> float:
        began, done = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < (0.1 if quick else SECONDS):
            learner.step(ready[done % len(ready)], 2).tolist()
            done += 1
        return done * BATCH / spent

    return rate
