"""The whole training beside its bare network, and beside a plain training.

Rows: a whole epoch over the work in it at the bare network's speed; the training pass alone over
the bare training step; the whole epoch over that of benchmarks/reference_trainer.py. The whole is
what stage train does between the ends of two epochs: training, validation, states, checkpoint,
files and MLflow. The bare network, on the same ranks, makes steps on a batch that is already there
(forward, loss, backward, optimizer), and passes forward on one for validation; it has its turn
after each epoch. The first epoch of a launch is not counted. On a GPU, whose epochs of the default
data are too short to tell, images are as many as Market-1501's, in batches of 128; the bare step is
replayed as the trainer's is, and there is one launch of each of several networks and sizes.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.data.loading import augment
from deepsort_reid.model import cuda_graph, network
from deepsort_reid.runs import logger
from deepsort_reid.training import fingerprint, parallel
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.checkpointer import open_checkpointer
from deepsort_reid.training.learner import TrainingForward
from deepsort_reid.training.observers import Console, Observer, RunMetrics
from deepsort_reid.training.optim import make_optimizer, set_lr
from deepsort_reid.training.ranks.distributed import Process
from deepsort_reid.training.trainer import Trainer
from speed_items import launch, noise
from speed_items.rows import Row, compared, in_turns

BENCHMARKS = Path(__file__).parents[1]
LAUNCHES = 3  # of each side
EPOCHS = 4  # of a launch; the first is not counted
GPU_EPOCHS = 6
GPU_PLAIN_EPOCHS = 3
GPU_BATCH = 128
GPU_CASES = (("resnet18", (128, 64)), ("resnet18", (256, 128)), ("osnet_x1_0", (256, 128)))
GPU_LEAST = 0.95
BARE_STEPS = 30  # in a turn


@dataclass(frozen=True)
class Epoch:
    """How fast an epoch was, and the bare network after it; images a second, all ranks together."""

    whole: float  # trained and validated, over all the time between the ends of two epochs
    train: float  # trained, over the training pass
    bare_whole: float  # the same images at the bare network's speed
    bare_train: float  # of the bare training step
    compared: float  # trained alone, over all the time: what the plain training tells


def measure(quick: bool) -> Iterator[Row]:
    """Launch ours and the plain training in turn, and compare epochs."""
    if torch.cuda.is_available() and not quick:
        yield from on_gpu()
        return
    ranks, arch, batch = launch.usual_ranks(), noise.config().arch, noise.config().batch_size
    epochs, launches = (2, 1) if quick else (EPOCHS, LAUNCHES)
    sizes = noise.QUICK if quick else noise.Sizes()
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        data = Path(folder)
        noise.write_parts(data, sizes)
        noise.write_files(data, sizes)
        found: dict[str, Any] = in_turns(
            {
                "ours": lambda: launch.on_ranks(
                    ranks, train, data, sizes, arch, batch, epochs, quick
                )[0],
                "plain": lambda: plain(data, sizes, ranks, arch, batch, epochs),
            },
            launches,
        )
    ours = [epoch for of_launch in found["ours"] for epoch in of_launch]
    theirs = [rate for of_launch in found["plain"] for rate in of_launch]
    where = f"{ranks} ranks, {sizes.size[0]}×{sizes.size[1]}, batch {batch} each"
    yield from over_bare(ours, where, arch, sizes, 0.97)
    yield over_plain(ours, theirs, where)


def on_gpu() -> Iterator[Row]:
    """Go through the cases of a GPU, a rank on each."""
    ranks, batch = launch.usual_ranks(), GPU_BATCH
    for arch, size in GPU_CASES:
        sizes = dataclasses.replace(noise.MARKET, size=size)
        where = f"{ranks} ranks, {size[0]}×{size[1]}, batch {batch} each"
        with tempfile.TemporaryDirectory(prefix="speed-") as folder:
            data = Path(folder)
            noise.write_parts(data, sizes)
            options = (data, sizes, arch, batch, GPU_EPOCHS, False)
            ours = launch.on_ranks(ranks, train, *options)[0]
            yield from over_bare(ours, where, arch, sizes, GPU_LEAST)
            if arch == "resnet18" and size == noise.MARKET.size:
                noise.write_files(data, sizes)
                yield over_plain(
                    ours, plain(data, sizes, ranks, arch, batch, GPU_PLAIN_EPOCHS), where
                )


def over_bare(
    ours: Sequence[Epoch], where: str, arch: str, sizes: noise.Sizes, least: float
) -> Iterator[Row]:
    """The epochs over the bare network's."""
    images = sizes.identities * sizes.per_identity
    yield row(
        f"whole epoch over the bare network, {arch}, {where}",
        [epoch.whole for epoch in ours],
        [epoch.bare_whole for epoch in ours],
        f"{images:,} images, {sizes.in_val} of {sizes.per_identity} for validation",
        least,
    )
    yield row(
        f"training pass over the bare step, {arch}, {where}",
        [epoch.train for epoch in ours],
        [epoch.bare_train for epoch in ours],
        "",
        least,
    )


def over_plain(ours: Sequence[Epoch], theirs: Sequence[float], where: str) -> Row:
    """The epochs over the plain training's."""
    rounds = min(len(ours), len(theirs))
    return row(
        f"whole epoch over a plain training's, {where}",
        [epoch.compared for epoch in ours][:rounds],
        theirs[:rounds],
        "the same network; PIL, torchvision's transforms, DataLoader with a worker process a rank",
    )


def row(
    what: str,
    ours: Sequence[float],
    other: Sequence[float],
    conditions: str,
    least: float | None = None,
) -> Row:
    """A comparison of two sides that took turns."""
    return compared(what, ours, other, unit="images/s", conditions=conditions, least=least)


# Ours


@dataclass
class Clock(Observer):
    """Measures the seconds of each epoch, and lets the bare network run after it.

    It is every rank's last observer, so that the others' work counts.
    """

    bare: "Bare"
    process: Process
    seconds: list[float] = field(default_factory=list)  # of each epoch
    rates: list[tuple[float, float]] = field(default_factory=list)  # bare training, bare forward
    began: float = 0.0

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """Stop the clock until the bare network has had its turn."""
        self.seconds.append(launch.now(self.process) - self.began)
        self.rates.append(self.bare.turn())
        self.began = launch.now(self.process)


class Bare:
    """The network that the Trainer trains, with nothing around it."""

    def __init__(self, trainer: Trainer, steps: int):
        """Make a twin of the trainer's network, and batches for it.

        Args:
            trainer: whose network, optimizer and arithmetic to take.
            steps: in a turn.
        """
        config, device, learner = trainer.config, trainer.process.device, trainer.learner
        self.trainer, self.steps = trainer, steps
        classes, size = len(trainer.train.classes), trainer.train.image_size
        net = network.build(network.Design(**config.design), classes).to(device)
        self.net = net.to(memory_format=learner.layout)
        self.is_recorded = learner.is_recorded
        self.forward: nn.Module = TrainingForward(self.net)
        if not self.is_recorded:
            self.forward = parallel.wrap(self.forward, trainer.process, size)
        self.optimizer = make_optimizer(
            self.net.parameters(), config.optimizer, momentum=config.momentum,
            weight_decay=config.weight_decay,
        )  # fmt: skip
        set_lr(self.optimizer, 1e-3)
        self.images, self.val_images = (
            torch.randn(count, 3, *size, device=device).contiguous(memory_format=learner.layout)
            for count in (config.batch_size, trainer.val_batches.batch_size)
        )
        self.labels = torch.arange(config.batch_size, device=device) % classes
        self.learn = self.backward
        if self.is_recorded:
            self.learn = cuda_graph.Replayed(self.backward, self.net.parameters())

    def turn(self) -> tuple[float, float]:
        """Images a second of all ranks together: trained, and passed forward."""
        process = self.trainer.process
        self.net.train()
        for _ in range(2):
            self.step()
        began = launch.now(process)
        for _ in range(self.steps):
            self.step()
        middle = launch.now(process)
        self.net.eval()
        with torch.no_grad(), self.trainer.learner.autocast():
            for _ in range(self.steps // 4):
                self.net(self.val_images)
        end = launch.now(process)
        trained = self.steps * len(self.images) * process.world_size
        passed = self.steps // 4 * len(self.val_images) * process.world_size
        return trained / (middle - began), passed / (end - middle)

    def step(self) -> None:
        """Forward, loss, backward, optimizer."""
        self.learn(self.images, self.labels)
        if self.is_recorded:
            parallel.average_gradients(self.net, self.trainer.process.world_size)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Forward, loss and backward; the loss."""
        with self.trainer.learner.autocast():
            logits, *_ = self.forward(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        return loss.detach()


def train(
    process: Process,
    data: Path,
    sizes: noise.Sizes,
    arch: str,
    batch: int,
    epochs: int,
    quick: bool,
) -> list[Epoch]:
    """Train as stage train does, with its files, states and MLflow run in the current folder."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path('mlflow.db').resolve()}"
    config = noise.config(
        arch=arch,
        epochs=epochs,
        batch_size=batch,
        warmup_epochs=0.5,
        nproc_per_node=process.world_size,
    )
    train_part, val = noise.open_parts(data)
    net = network.build(network.Design(**config.design), len(train_part.classes))
    bfloat16 = choose_bfloat16(net, config, process, image_size=train_part.image_size)
    trainer = Trainer(net, train_part, val, config, process, bfloat16=bfloat16)
    made_of = fingerprint.of_training(config, process, data_digest="0" * 64, bfloat16=bfloat16)
    clock = Clock(Bare(trainer, 4 if quick else BARE_STEPS), process)
    with ExitStack() as stack:
        observers: list[Observer] = [clock]
        if process.is_first:
            observers = [*rank_0(stack, trainer, made_of), clock]
        clock.began = launch.now(process)
        history = trainer.fit(observers)
    counts = [sizes.count(part) * sizes.identities for part in noise.PARTS]
    return [
        Epoch(
            whole=sum(counts) / seconds,
            train=result.images_per_second,
            bare_whole=sum(counts) / (counts[0] / trained + counts[1] / passed),
            bare_train=trained,
            compared=counts[0] / seconds,
        )
        for result, seconds, (trained, passed) in zip(
            history[1:], clock.seconds[1:], clock.rates[1:], strict=True
        )
    ]


def rank_0(stack: ExitStack, trainer: Trainer, made_of: fingerprint.Fingerprint) -> list[Observer]:
    """What writes the files and the run of stage train, until the stack is left."""
    description = {
        **trainer.config.design,
        "embedding_size": trainer.learner.net.feature_size,
        "image_size": trainer.train.image_size,
        "mean": augment.MEAN,
        "std": augment.STD,
        "classes": trainer.train.classes,
        "data_digest": "0" * 64,
        "identity": made_of.as_plain(),
    }
    checkpointer = stack.enter_context(
        open_checkpointer(
            Path("models/model.pth"), Path("reports/history.csv"), description,
            fingerprint=made_of, every=30,
        )
    )  # fmt: skip
    run = stack.enter_context(logger.open_run(key=checkpointer.run_key, name="speed", tags={}))
    return [checkpointer, RunMetrics(run), Console(trainer.config.num_workers)]


# The plain training


def plain(
    data: Path, sizes: noise.Sizes, ranks: int, arch: str, batch: int, epochs: int
) -> list[float]:
    """Launch the plain training; return its images a second, epoch by epoch but for the first.

    Raises:
        RuntimeError: it has failed.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        "--nproc-per-node", str(ranks), str(BENCHMARKS / "reference_trainer.py"), str(data),
        "--arch", arch, "--epochs", str(epochs), "--batch-size", str(batch),
        "--size", *map(str, sizes.size),
        "--out", str(data / "reference.pth"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"reference_trainer.py failed:\n{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("images/s")]
    return [float(line.split()[1]) for line in lines][1:]
