"""What rank 0 does with the progress of a training, while it goes on."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deepsort_reid.model.retrieval import RetrievalSample
from deepsort_reid.runs.logger import RunLogger
from deepsort_reid.training.history import EpochResult

if TYPE_CHECKING:
    from deepsort_reid.training.trainer import Trainer

logger = logging.getLogger(__name__)

SLOW_DATA = 0.1  # share of the time spent waiting for images from which advice is due
LEGEND = "epoch  train loss  val loss  train error  val error  learning rate  images/s"


class Observer:
    """Is told of a training's progress; each kind of observer overrides what concerns it."""

    def on_start(self, history: Sequence[EpochResult], best: int) -> None:
        """The training begins, or goes on.

        Args:
            history: results of the epochs that an interrupted training has done.
            best: the best of these epochs; 0 if there are none.
        """

    def on_epoch_end(
        self, history: Sequence[EpochResult], net: nn.Module, *, is_best: bool
    ) -> None:
        """An epoch is done.

        Args:
            history: the results of all epochs, this one's last.
            net: the network as it was validated; the training goes on to change it.
            is_best: whether it is the best so far.
        """

    def wants_state(self) -> bool:
        """Whether it is time for a resume state; asked between steps."""
        return False

    def on_state(self, state: Mapping[str, Any], *, best: int) -> None:
        """A resume state was made.

        Args:
            state: plain data and tensors, which the training goes on to change.
            best: the best epoch so far, 0 before the first has ended.
        """

    def on_end(self) -> None:
        """The training is over, or was stopped."""


class Console(Observer):
    """Writes what is trained, a line for each epoch, and advice where images come too slowly."""

    def __init__(self, num_workers: int, opening: Sequence[str] = ()):
        """Write nothing yet.

        Args:
            num_workers: threads that read images.
            opening: the lines to begin with, as `opening` gives them.
        """
        self.num_workers, self.opening, self.has_advised = num_workers, opening, False

    def on_start(self, history: Sequence[EpochResult], best: int) -> None:
        """Log the opening, and what the columns of the epochs' lines are."""
        for text in (*self.opening, LEGEND):
            logger.info("%s", text)

    def on_epoch_end(
        self,
        history: Sequence[EpochResult],
        net: nn.Module,
        *,
        is_best: bool,
    ) -> None:
        """Log the epoch's line."""
        self.advise(history[-1])
        logger.info("%s%s", line(history[-1]), "  best" if is_best else "")

    def advise(self, result: EpochResult) -> None:
        """Log once what helps against waiting for images."""
        if result.data_wait > SLOW_DATA and not self.has_advised:
            self.has_advised = True
            logger.warning(
                "%.0f %% of the time went into waiting for images; raise num_workers (%d), "
                "or put data/split on a faster disk",
                100 * result.data_wait, self.num_workers,
            )  # fmt: skip


class RunMetrics(Observer):
    """Records each epoch's numbers in the run, as curves."""

    def __init__(self, run: RunLogger):
        """Record nothing yet."""
        self.run = run

    def on_epoch_end(
        self,
        history: Sequence[EpochResult],
        net: nn.Module,
        *,
        is_best: bool,
    ) -> None:
        """Record the last epoch."""
        log_curves(self.run, history[-1].metrics(), history[-1].epoch)


class RetrievalCurve(Observer):
    """Records how well people are found whom the network has never seen, by epoch.

    The error on val tells of people the network has learned. What it is worth to a tracker shows
    only on others, and may fall while that error still does. The whole test part would cost too
    much and is for the end; see `retrieval.sample`.
    """

    def __init__(self, run: RunLogger, sample: RetrievalSample, net: nn.Module):
        """Record what the network is worth before its first epoch, as epoch 0.

        Args:
            run: the training's.
            sample: what is measured on.
            net: the network with its first weights, also where a training goes on.
        """
        self.run, self.sample = run, sample
        self.record(net, epoch=0)

    def on_epoch_end(
        self,
        history: Sequence[EpochResult],
        net: nn.Module,
        *,
        is_best: bool,
    ) -> None:
        """Record the epoch's network."""
        self.record(net, history[-1].epoch)

    def record(self, net: nn.Module, epoch: int) -> None:
        """Measure a network, which stays as it is."""
        scores = self.sample.scores(net)
        curves = {"reid/mAP": scores.mean_average_precision, "reid/rank-1": scores.rank1}
        log_curves(self.run, curves, epoch)


def log_curves(run: RunLogger, metrics: Mapping[str, float], epoch: int) -> None:
    """Record an epoch's numbers as points of curves, in sections before all others.

    MLflow's pages sort sections by name, and `by_epoch` comes before `calibration`.
    """
    run.log_metrics({f"by_epoch/{name}": value for name, value in metrics.items()}, step=epoch)


def opening(trainer: "Trainer") -> list[str]:
    """What is trained on what, in four lines: data, network, parameters, device and ranks."""
    config, train, process = trainer.config, trainer.train, trainer.process
    height, width = train.image_size
    weights = sum(weight.numel() for weight in trainer.learner.net.parameters())
    steps = trainer.train_batches.steps
    batch = config.batch_size * config.accumulate_steps * process.world_size
    return [
        f"data        {len(train):,} images of {len(train.classes):,} identities, "
        f"{len(trainer.val):,} more of them for val; {height}×{width} pixels",
        f"network     {config.arch}, {weights / 1e6:.1f} million weights, "
        f"{f'starting from {config.weights}' if config.weights else 'random at the start'}"
        f"{f', taught by {config.teacher}' if config.teacher else ''}",
        f"parameters  {config.epochs} epochs of {steps:,} steps, {batch:,} images a step, "
        f"{config.optimizer}, lr {trainer.learner.lr:g}, seed {config.seed}",
        f"device      {device_name(process.device)}, {process.world_size} "
        f"rank{'s' * (process.world_size > 1)}",
    ]


def device_name(device: torch.device) -> str:
    """A GPU's name, or how many threads of the CPU each rank has."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads > 1)}"


def line(result: EpochResult) -> str:
    """An epoch in one line, below `LEGEND`."""
    return (
        f"{result.epoch:5}  {result.train_loss:10.3f}  {result.val_loss:8.3f}  "
        f"{result.train_error:11.1%}  {result.val_error:9.1%}  {result.lr:13.1e}  "
        f"{result.images_per_second:8,.0f}"
    )
