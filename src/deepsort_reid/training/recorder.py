"""What a training leaves behind: checkpoint, history, curves, and the same in MLflow."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from deepsort_reid.core import files
from deepsort_reid.model import checkpoint
from deepsort_reid.model.network import Embedder
from deepsort_reid.runs.logger import RunLogger
from deepsort_reid.runs.provenance import checkpoint_tags
from deepsort_reid.training import plots
from deepsort_reid.training.resume import States
from deepsort_reid.training.snapshot import copied
from deepsort_reid.training.trainer import EpochResult

logger = logging.getLogger(__name__)

# Speeds differ from run to run: they go to MLflow, while files are a function of data and params.
TIMINGS = ("images_per_second", "data_wait")


@dataclass(frozen=True)
class FileRecorder:
    """Rank 0's recorder: files on the disk, and the same numbers in MLflow."""

    checkpoint_path: Path
    reports: Path  # folder
    tracker: RunLogger
    states: States
    network: Mapping[str, object]  # what a checkpoint.Description says besides epoch and accuracy

    def record(self, history: Sequence[EpochResult], net: nn.Module, *, is_best: bool) -> None:
        """Write the history anew, the checkpoint if it is the best, and a line on the screen."""
        last = history[-1]
        if is_best:
            write = partial(self.write_best, copied(net.state_dict()), list(history))
            self.states.keep_best(write, self.checkpoint_path, last.epoch)
        else:
            self.states.wait()  # a history tells of no epoch whose checkpoint could not be written
            self.write_history(history)
        numbers = {f.name: getattr(last, f.name) for f in fields(last) if f.name != "epoch"}
        self.tracker.log_metrics(numbers, step=last.epoch)
        logger.info("%s%s", line(last), "  best" if is_best else "")

    def write_best(self, state: Mapping[str, Tensor], history: Sequence[EpochResult]) -> None:
        """Write the last epoch's checkpoint, and then the history, while the training goes on.

        Args:
            state: the network's, which nobody changes any more.
            history: likewise.
        """
        checkpoint.save(self.checkpoint_path, state, self.describe(history[-1]))
        self.write_history(history)

    def write_history(self, history: Sequence[EpochResult]) -> None:
        """Write reports/history.csv anew."""
        write_history(self.reports / "history.csv", history)

    def go_on(self, history: Sequence[EpochResult], best: int) -> None:
        """Put back what an interrupted training had written.

        Args:
            history: of the epochs that are done.
            best: the best of them.
        """
        if history:
            self.states.bring_back_best(self.checkpoint_path, best)
            self.write_history(history)

    def finish(self, history: Sequence[EpochResult]) -> None:
        """Write the curves and the best epoch's numbers, and record curves and model in MLflow."""
        self.states.wait()
        net, description = checkpoint.load(self.checkpoint_path)
        best = history[description.epoch - 1]
        names = ("epoch", "train_loss", "train_error", "val_loss", "val_error")
        results = {name: getattr(best, name) for name in names}
        plots.training_curves(self.reports / "train.jpg", history, best_epoch=best.epoch)
        files.write_json(
            self.reports / "train.json", {f"best_{name}": value for name, value in results.items()}
        )
        files.write_json(self.reports / "identity.json", description.identity)
        # MLflow's pages show what stands before a slash as a section of its own.
        self.tracker.log_metrics({f"best/{name}": value for name, value in results.items()})
        for name in ("train.jpg", "history.csv", "identity.json"):
            self.tracker.log_artifact(self.reports / name)
        self.tracker.log_artifact(self.checkpoint_path, "checkpoint")
        self.tracker.set_tags(checkpoint_tags(self.checkpoint_path))
        height, width = description.image_size
        self.tracker.log_model(
            Embedder(net, description.mean, description.std),
            np.linspace(0, 1, 2 * 3 * height * width, dtype=np.float32).reshape(
                2, 3, height, width
            ),
            metadata={**self.network, "epoch": best.epoch},
        )
        # Last, since by now the store has had time to name the run.
        files.write_json(
            self.reports / "run.json",
            {
                "key": self.states.run_key,
                "run_id": self.tracker.run_id,
                "run_name": self.tracker.run_name,
            },
        )

    def describe(self, result: EpochResult) -> checkpoint.Description:
        """The checkpoint's description of one epoch's network."""
        return checkpoint.Description(
            epoch=result.epoch,
            acc=100 * (1 - result.val_error),
            **self.network,  # type: ignore[arg-type]
        )


class NullRecorder:
    """The recorder of every other rank: it keeps nothing."""

    def record(self, history: Sequence[EpochResult], net: nn.Module, *, is_best: bool) -> None:
        """Keep nothing."""

    def go_on(self, history: Sequence[EpochResult], best: int) -> None:
        """Put nothing back."""

    def finish(self, history: Sequence[EpochResult]) -> None:
        """Write nothing."""


def line(result: EpochResult) -> str:
    """An epoch in one line, train before val."""
    return (
        f"epoch {result.epoch:3}   loss {result.train_loss:.3f} / {result.val_loss:.3f}   "
        f"error {result.train_error:.1%} / {result.val_error:.1%}   lr {result.lr:.1e}   "
        f"{result.images_per_second:,.0f} images/s"
    )


def write_history(path: Path, history: Sequence[EpochResult]) -> None:
    """Write a CSV line for each epoch, without what differs from run to run."""
    columns = [field.name for field in fields(EpochResult) if field.name not in TIMINGS]
    rows = [[getattr(result, column) for column in columns] for result in history]
    files.write_csv(path, columns, rows)
