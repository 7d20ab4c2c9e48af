"""The numbers of a training: added up during an epoch, kept as a history, written as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from deepsort_reid.core import files

# Speeds differ from run to run. The files of a training depend on data and parameters alone, so
# that speeds go to the run only.
TIMINGS = ("images_per_second", "data_wait")


@dataclass(frozen=True)
class EpochResult:
    """The numbers of one epoch over all ranks: losses in nats, errors as shares of the images."""

    epoch: int  # counted from 1
    lr: float  # of the epoch's last step
    train_loss: float
    train_error: float
    val_loss: float
    val_error: float
    images_per_second: float  # while training, all ranks together
    data_wait: float  # share of this rank's training time spent waiting for images

    def metrics(self) -> dict[str, float]:
        """All numbers but the epoch's, by section and name: `train/loss`."""
        return {
            "train/loss": self.train_loss,
            "train/error": self.train_error,
            "train/lr": self.lr,
            "train/images_per_second": self.images_per_second,
            "train/data_wait": self.data_wait,
            "val/loss": self.val_loss,
            "val/error": self.val_error,
        }


def write_history(path: Path, history: Sequence[EpochResult]) -> None:
    """Write a CSV line for each epoch, without `TIMINGS`."""
    columns = [field.name for field in fields(EpochResult) if field.name not in TIMINGS]
    rows = [[getattr(result, column) for column in columns] for result in history]
    files.write_csv(path, columns, rows)


@dataclass
class Meter:
    """Adds up the loss and the errors of one pass over a part, in steps that all ranks take.

    Each step has a row of its own, and rows are summed at the end, in order. So the sums are the
    same to the last bit, however often ranks were synchronised or the training interrupted.
    """

    sums: Tensor  # (steps, 2) float64: loss and errors, summed over images
    step: int = 0  # steps done
    synced: int = 0  # of these, steps whose rows are sums over all ranks and not this rank's own
    images: int = 0  # in the steps done, of all ranks
    seconds: float = 0.0  # that these steps took
    waited: float = 0.0  # seconds of these spent waiting for images

    @classmethod
    def of(cls, steps: int, device: torch.device) -> Self:
        """A meter at the beginning of a pass."""
        return cls(torch.zeros(steps, 2, dtype=torch.float64, device=device))

    @property
    def steps(self) -> int:
        """Steps of the whole pass."""
        return len(self.sums)

    def add(self, images: int, *sums: Tensor) -> None:
        """Add a step.

        Args:
            images: in it, of all ranks.
            sums: loss and errors of each batch of this rank, (2,) float64.
        """
        for of_batch in sums:
            self.sums[self.step] += of_batch
        self.step += 1
        self.images += images

    def means(self) -> tuple[float, float]:
        """Loss and error of an image, on average."""
        loss, error = (self.sums.sum(0) / self.images).tolist()
        return loss, error

    def state_dict(self) -> dict[str, Any]:
        """All fields."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, read onto the CPU."""
        vars(self).update(state, sums=state["sums"].to(self.sums.device))
