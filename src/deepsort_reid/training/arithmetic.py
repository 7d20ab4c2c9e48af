"""Float32 or bfloat16: what a training computes in, measured at its start where that is needed.

GPUs that have bfloat16 are faster with it. On a CPU it depends on the network and the size of its
images: the products are faster, but every step converts all weights. So a CPU that has instructions
for bfloat16 is asked to go through a few images in both. The answer is kept in `.arithmetic/` at
the repository's root: a second measurement could come out the other way, and the same data and
parameters would give another checkpoint.
"""

import copy
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from deepsort_reid.core import files
from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.machine import processor
from deepsort_reid.core.project import project_root
from deepsort_reid.model import network
from deepsort_reid.runs import unfinished
from deepsort_reid.training import fingerprint
from deepsort_reid.training.bfloat16 import keep_wrong_in_float32
from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process

logger = logging.getLogger(__name__)

FOLDER = ".arithmetic"
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # as torch names them
LEAST_GAIN = 1.45  # less is not worth coarser numbers, and is within the machine's noise
SECONDS = 6.0  # of passes that are measured, at most, about
ROUNDS = 2  # at least
LONG_ENOUGH = 0.5  # seconds of all rounds, at least: two short passes may both be disturbed


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(instructions())


def instructions() -> list[str]:
    """Those of `INSTRUCTIONS` that this CPU has."""
    tell = getattr(torch.cpu, "get_capabilities", dict)  # torch 2.11 does not tell
    found: Mapping[str, object] = tell()
    return [name for name in INSTRUCTIONS if found.get(name, False)]


def choose_bfloat16(
    net: nn.Module,
    config: TrainConfig,
    process: Process,
    *,
    image_size: tuple[int, int],
    data_digest: str = "",
) -> bool:
    """Choose what a training computes in; every rank must ask, and all get one answer.

    Args:
        net: the network to train, in float32; it stays as it is.
        config: the hyperparameters, of which `amp` allows bfloat16.
        process: this rank and its device.
        image_size: height and width in pixels.
        data_digest: SHA-256 of the split; where it is given, a training that was interrupted goes
            on in what it began with, and another takes what was chosen for such a one before.

    Returns:
        whether it is bfloat16.
    """
    if not config.amp:
        return False
    # A machine that has none decides for all.
    able = distributed.gather_on_cpu(torch.tensor([int(has_bfloat16(process.device))]))
    if not able.all():
        return False
    if process.device.type == "cuda":
        return True
    asked = question(net, config, process, image_size)
    known = b""
    if data_digest and process.is_first:
        known = begun_in(config, process, data_digest) or chosen_before(asked)
    known = distributed.share_from_first(known)
    if known:
        return known == b"bfloat16"
    choice = fingerprint.arithmetic(is_faster(net, config, process, image_size)).encode()
    if data_digest:
        choice = distributed.share_from_first(kept(asked, choice) if process.is_first else b"")
    return choice == b"bfloat16"


def begun_in(config: TrainConfig, process: Process, data_digest: str) -> bytes:
    """The arithmetic of the interrupted training that would go on here; empty if there is none."""
    for choice in (True, False):
        made_of = fingerprint.of_training(config, process, data_digest=data_digest, bfloat16=choice)
        if unfinished.is_there(made_of.key()):
            name = fingerprint.arithmetic(choice)
            logger.info("training in %s, as the interrupted training began", name)
            return name.encode()
    return b""


def question(
    net: nn.Module, config: TrainConfig, process: Process, image_size: tuple[int, int]
) -> dict[str, object]:
    """All that decides how the measurement comes out, as plain data."""
    return {
        "processor": processor(),
        "instructions": instructions(),
        "torch": str(torch.__version__),
        "ranks": process.world_size,
        "network": dict(config.design),
        "weights": sum(weight.numel() for weight in net.parameters()),
        "image_size": list(image_size),
        "batch_size": config.batch_size,
    }


def answer_to(asked: Mapping[str, object]) -> Path:
    """The file that holds a question and the choice."""
    text = json.dumps(asked, sort_keys=True)
    return project_root() / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def chosen_before(asked: Mapping[str, object]) -> bytes:
    """What an earlier training chose; empty where there was none, or its file is damaged."""
    for choice in map(fingerprint.arithmetic, (True, False)):
        if files.holds(answer_to(asked), {**asked, "arithmetic": choice}):
            logger.info("training in %s, as an earlier measurement says (%s/)", choice, FOLDER)
            return choice.encode()
    return b""


def kept(asked: Mapping[str, object], choice: bytes) -> bytes:
    """Keep a choice; return it, or the one that another training has kept meanwhile.

    A disk that is full costs a second measurement, not the training.
    """
    path = answer_to(asked)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if other := chosen_before(asked):
                return other
            files.write_json(path, {**asked, "arithmetic": choice.decode()})
    except OSError as error:
        logger.info("the choice is not kept (%s)", error)
    return choice


def is_faster(
    net: nn.Module, config: TrainConfig, process: Process, image_size: tuple[int, int]
) -> bool:
    """Whether a CPU trains a network clearly faster in bfloat16, by a measurement; see above."""
    with one_thread():
        batch = affordable_batch(net, image_size, config.batch_size)
        sides = [Passes(net, image_size, batch, bfloat16=which) for which in (False, True)]
        seconds = torch.tensor(in_turns(sides), dtype=torch.float64)
    distributed.sum_over_ranks(seconds)
    rates = (batch * process.world_size**2 / seconds).tolist()
    faster: bool = rates[1] >= LEAST_GAIN * rates[0]
    if process.is_first:
        logger.info(
            "training in %s: forward and backward passes of %.0f images/s in float32, of %.0f in "
            "bfloat16, on one core",
            fingerprint.arithmetic(faster), *rates,
        )  # fmt: skip
    return faster


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with this thread alone in a block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def affordable_batch(net: nn.Module, image_size: tuple[int, int], batch_size: int) -> int:
    """How many images of a batch go through the network in the time for measuring."""
    passes = Passes(net, image_size, 2, bfloat16=False)
    passes()
    in_time = SECONDS / (2 * (1 + ROUNDS)) / (passes() / 2)
    return max(2, min(batch_size, int(in_time)))


class Passes:
    """A forward and a backward pass through a copy of a network, as a training does them."""

    def __init__(self, net: nn.Module, image_size: tuple[int, int], batch: int, *, bfloat16: bool):
        """Copy the network.

        Args:
            net: the network.
            image_size: height and width in pixels.
            batch: images, at least 2: batch normalisation needs two values of a channel.
            bfloat16: what the passes compute in.
        """
        layout = network.layout(net, torch.device("cpu"), bfloat16=bfloat16)
        self.bfloat16 = bfloat16
        self.net = copy.deepcopy(net).train().to(memory_format=layout)
        if bfloat16:
            keep_wrong_in_float32(self.net, image_size)
        random = torch.Generator().manual_seed(0)
        images = torch.randn(batch, 3, *image_size, generator=random)
        self.images = images.contiguous(memory_format=layout)

    def __call__(self) -> float:
        """The seconds that they take of this thread, whatever else the machine does."""
        began = time.thread_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            logits = self.net(self.images)
        logits.float().square().mean().backward()
        self.net.zero_grad(set_to_none=True)
        return time.thread_time() - began


def in_turns(sides: Sequence[Passes]) -> list[float]:
    """The least seconds of each side; its first turn does not count."""
    for side in sides:
        side()
    rounds: list[list[float]] = []
    while len(rounds) < ROUNDS or sum(map(sum, rounds)) < LONG_ENOUGH:
        rounds.append([side() for side in sides])
    return [min(seconds) for seconds in zip(*rounds, strict=True)]
