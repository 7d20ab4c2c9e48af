"""The training loop: epochs of steps over all ranks, and an exact validation after each."""

import io
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid.core import signals
from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.errors import PackedError, TrainingError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.loading.batches import TrainBatches, ValBatches
from deepsort_reid.data.packed import Part
from deepsort_reid.model.device import synchronize
from deepsort_reid.training.history import EpochResult, Meter
from deepsort_reid.training.learner import Learner
from deepsort_reid.training.losses.teacher import Teacher
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process

logger = logging.getLogger(__name__)

SYNC_SECONDS = 0.5  # between two synchronisations of the ranks: each one waits for the GPU
MAX_STEPS = 50  # between two synchronisations


class Trainer:
    """Trains a network on packed parts, together with the other ranks.

    Attributes:
        learner: the network, and what a step does to it.
        history: the results of the epochs that are done.
        observers: rank 0's, while it trains.
        stop: a signal has set it if training is to end.
    """

    observers: Sequence[Observer] = ()

    def __init__(
        self,
        net: nn.Module,
        train: Part,
        val: Part,
        config: TrainConfig,
        process: Process,
        *,
        teacher: Teacher | None = None,
        bfloat16: bool = False,
    ):
        """Make everything ready for the first step; every rank must do so at the same time.

        Args:
            net: a network of `network.build`, in any floating dtype; it is trained in place.
            train: the images to learn from.
            val: other images of the same identities.
            config: the hyperparameters.
            process: this rank and its device.
            teacher: the network whose similarities this one follows; None: none.
            bfloat16: see `Learner`.

        Raises:
            ConfigError: there are more ranks than images, or a frozen part does not exist.
            PackedError: train and val hold different identities.
        """
        if train.classes != val.classes:
            raise PackedError(
                f"train holds {len(train.classes)} identities, val {len(val.classes)}; both must "
                "hold the same: dvc repro -f split"
            )
        self.config, self.process, self.train, self.val = config, process, train, val
        own: dict[str, Any] = {
            "device": process.device, "rank": process.rank, "world_size": process.world_size
        }  # fmt: skip
        self.train_batches = TrainBatches(train, config, **own)
        self.val_batches = ValBatches(val, config, **own)
        self.learner = Learner(
            net,
            config,
            process,
            classes=len(train.classes),
            image_size=train.image_size,
            steps_per_epoch=self.train_batches.steps,
            teacher=teacher,
            bfloat16=bfloat16,
        )
        self.history: list[EpochResult] = []
        self.stop = signals.Stop()
        self.begin_epoch()

    # The loop

    @property
    def epoch(self) -> int:
        """The epoch that is under way or comes next, counted from 1."""
        return len(self.history) + 1

    @property
    def best(self) -> int:
        """The best epoch so far, by the loss between equal errors; 0 before the first has ended."""
        metric = self.config.best_metric
        best = min(self.history, key=lambda r: (getattr(r, metric), r.val_loss), default=None)
        return best.epoch if best else 0

    @property
    def is_done(self) -> bool:
        """Whether all epochs are done, or the last `patience` of them were not the best."""
        done, patience = len(self.history), self.config.patience
        return done == self.config.epochs or 0 < patience <= done - self.best

    def fit(
        self, observers: Sequence[Observer] = (), stop: signals.Stop | None = None
    ) -> list[EpochResult]:
        """Train for all epochs or until patience ends, from the beginning or a loaded state.

        Args:
            observers: rank 0's; the other ranks have none.
            stop: when a signal has set it, a last state is saved and every rank leaves.

        Returns:
            a result for each epoch, those before a loaded state included.

        Raises:
            TrainingError: a loss is not finite, or a rank is gone; on every rank.
            SystemExit: stopped.
        """
        self.observers, self.stop = observers, stop or signals.Stop()
        with distributed.contact(self.process):
            for observer in observers:
                observer.on_start(self.history, self.best)
            while not self.is_done:
                self.train_epoch()
                self.validate()
                self.end_epoch()
            self.save_state()
        for observer in observers:
            observer.on_end()
        if len(self.history) < self.config.epochs:
            logger.info("no better epoch in %d: stopped early", self.config.patience)
        return self.history

    def begin_epoch(self) -> None:
        """Set the meters of both passes to zero."""
        self.train_meter = Meter.of(self.train_batches.steps, self.process.device)
        self.val_meter = Meter.of(self.val_batches.steps, self.process.device)

    def train_epoch(self) -> None:
        """Take the training steps of the epoch, from where it was interrupted."""
        meter, before = self.train_meter, (self.epoch - 1) * self.train_batches.steps
        self.learner.begin_training()
        with self.counting(meter, "epoch", self.train) as count:
            for images, batches in self.train_batches.of_epoch(self.epoch, meter.step):
                count(images, self.learner.step(batches, before + meter.step))

    def validate(self) -> None:
        """Validate on the whole validation part, from where it was interrupted."""
        meter = self.val_meter
        if meter.step == 0:
            self.learner.share_statistics()
        self.learner.begin_validation()
        with self.counting(meter, "val", self.val) as count:
            for images, batches in self.val_batches(meter.step):
                count(images, *(self.learner.validate(*batch) for batch in batches))

    def end_epoch(self) -> None:
        """Add the epoch's result to the history, and tell the observers."""
        train, val = self.train_meter, self.val_meter
        train_loss, train_error = train.means()
        val_loss, val_error = val.means()
        result = EpochResult(
            epoch=self.epoch,
            lr=self.learner.lr_at(self.epoch * self.train_batches.steps - 1),
            train_loss=train_loss,
            train_error=train_error,
            val_loss=val_loss,
            val_error=val_error,
            images_per_second=train.images / train.seconds,
            data_wait=train.waited / train.seconds,
        )
        self.history.append(result)
        self.begin_epoch()
        is_best = self.best == result.epoch
        for observer in self.observers:
            observer.on_epoch_end(self.history, self.learner.net_to_keep, is_best=is_best)
        self.sync_ranks(self.train_meter)

    # The ranks together

    @contextmanager
    def counting(self, meter: Meter, title: str, part: Part) -> Iterator[Callable[..., None]]:
        """Show the progress of a pass over a part, and synchronise the ranks now and then.

        Yields:
            a function to call after each step, with its images over all ranks, and the summed
            loss and number of errors of each of this rank's batches.
        """
        sync_at = meter.step + 1  # after one step, to see how long it takes
        began, waited = time.perf_counter(), self.train_batches.waited

        def count(images: int, *sums: Tensor) -> None:
            nonlocal sync_at, began, waited
            meter.add(images, *sums)
            progress.advance(images)
            if meter.step in (sync_at, meter.steps):
                synchronize(self.process.device)
                seconds = time.perf_counter() - began
                meter.seconds += seconds
                meter.waited += self.train_batches.waited - waited
                began, waited = began + seconds, self.train_batches.waited
                sync_at = meter.step + self.sync_ranks(meter, seconds)

        what = f"{title} {self.epoch}/{self.config.epochs}"
        with Progress(what, len(part), "images", shown=self.process.is_first) as progress:
            progress.advance(meter.images)
            yield count

    def sync_ranks(self, meter: Meter, seconds: float = 0.0) -> int:
        """Add up a meter's new steps over all ranks; save a state or stop, if that is due.

        Ranks agree on what is due in the collective that adds up, since a clock and a signal are
        one rank's own.

        Args:
            meter: of the pass that is under way or comes next.
            seconds: that the steps since the last synchronisation took.

        Returns:
            the number of steps until the next synchronisation.

        Raises:
            TrainingError: a loss is not finite.
            SystemExit: a rank was asked to stop; the state is saved.
        """
        first, rows = meter.synced, meter.sums[meter.synced : meter.step]
        wants_state = any(observer.wants_state() for observer in self.observers)
        steps = SYNC_SECONDS * len(rows) / seconds if seconds else 1.0
        words = [wants_state, self.process.is_first * steps, self.stop.signal]
        flags = torch.tensor(words, dtype=torch.float64, device=rows.device)
        total = distributed.sum_over_ranks(torch.cat([rows.flatten(), flags]))
        rows.copy_(total[:-3].view_as(rows))
        meter.synced = meter.step
        self.check_losses(rows, first)
        state_is_due, steps, signals_sum = total[-3:].tolist()
        if state_is_due or signals_sum:
            self.save_state()
        if signals_sum:
            for observer in self.observers:
                observer.on_end()
            logger.info("stopped in epoch %d; the same command goes on from here", self.epoch)
            signals.leave(self.stop.signal or signal.SIGTERM)
        return min(max(int(steps), 1), MAX_STEPS)

    def check_losses(self, rows: Tensor, first: int) -> None:
        """Stop every rank at a non-finite loss.

        Args:
            rows: (n, 2) sums over all ranks, of the steps from `first` on.
            first: counted from 0.

        Raises:
            TrainingError: with the step and its learning rate.
        """
        finite = torch.isfinite(rows[:, 0])
        if bool(finite.all()):
            return
        step, steps = first + int((~finite).nonzero()[0]), self.train_batches.steps
        lr = self.learner.lr_at((self.epoch - 1) * steps + step)
        raise TrainingError(
            f"the loss is no longer a finite number: epoch {self.epoch}, step {step + 1} of "
            f"{steps}, learning rate {lr:.6g}; lower lr, or raise warmup_epochs"
        )

    # Interruptions

    def save_state(self) -> None:
        """Give the observers a resume state; every rank must call this."""
        state, best = self.state_dict(), self.best
        for observer in self.observers:
            observer.on_state(state, best=best)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on; every rank must call this."""
        return {
            "history": [asdict(result) for result in self.history],
            "train_meter": self.train_meter.state_dict(),
            "val_meter": self.val_meter.state_dict(),
            "learner": self.learner.state_dict(),
        }

    def load(self, content: bytes) -> None:
        """Go on from a resume state; every rank must call this.

        Args:
            content: a file of `{"state": state_dict}` on rank 0, empty for a fresh start; ignored
                on other ranks.
        """
        content = distributed.share_from_first(content)
        if not content:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state"]
        self.history = [EpochResult(**result) for result in state["history"]]
        self.train_meter.load_state_dict(state["train_meter"])
        self.val_meter.load_state_dict(state["val_meter"])
        self.learner.load_state_dict(state["learner"])
        step = self.train_meter.step + 1
        logger.info("going on with an interrupted training: epoch %d, step %d", self.epoch, step)
