"""The training loop: epochs of steps over all ranks, an exact validation after each."""

import inspect
import logging
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid import distributed, model, syncbn
from deepsort_reid.augment import Augmentation, normalise
from deepsort_reid.config import TrainConfig
from deepsort_reid.distributed import Process
from deepsort_reid.errors import PackedError, TrainingError
from deepsort_reid.optimization import lr_at, make_optimizer, scale_lr
from deepsort_reid.packed import Part
from deepsort_reid.progress import Progress
from deepsort_reid.sampling import (
    Indices,
    ReadAhead,
    flatten,
    plan_epoch,
    plan_validation,
    steps_per_epoch,
)

logger = logging.getLogger(__name__)

CHECK_EVERY = 10  # steps between two looks at the losses: each look waits for the GPU
SLOW_DATA = 0.1  # share of the time spent waiting for data from which advice is due


@dataclass(frozen=True)
class EpochResult:
    """What an epoch came to, over all ranks; losses are nats, errors shares of the images."""

    epoch: int  # counted from 1
    lr: float  # of the epoch's last step
    train_loss: float
    train_error: float
    val_loss: float
    val_error: float
    images_per_second: float  # while training, all ranks together
    data_wait: float  # share of this rank's training time spent waiting for images


class Recorder(Protocol):
    """Who keeps what a training yields; rank 0's writes it down, the others' does not."""

    def record(self, history: Sequence[EpochResult], net: nn.Module, *, is_best: bool) -> None:
        """Keep the last epoch of the history, and the network if it is the best so far."""
        ...


class Trainer:
    """Trains a network on packed parts, together with the other ranks."""

    def __init__(
        self, net: nn.Module, train: Part, val: Part, config: TrainConfig, process: Process
    ):
        """Make everything ready for the first step.

        Args:
            net: a network of `model.build`, in any floating dtype; it is trained in place.
            train: what it learns from.
            val: other images of the same identities.
            config: the hyperparameters.
            process: this rank and its device.

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
        self.steps = steps_per_epoch(
            len(train),
            batch_size=config.batch_size,
            accumulate_steps=config.accumulate_steps,
            world_size=process.world_size,
        )
        model.freeze(net, config.freeze_layers)
        self.synchronised = config.sync_bn and process.world_size > 1
        net = syncbn.convert(net) if self.synchronised else net
        self.net = net.to(process.device).to(memory_format=torch.channels_last)
        self.parallel = in_parallel(self.net, process)
        self.dtype = next(net.parameters()).dtype
        self.lr = scale_lr(config.lr, config.lr_scale, process.world_size)
        self.optimizer = make_optimizer(
            net.parameters(),
            config.optimizer,
            lr=self.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.augment = Augmentation(config.seed, config.flip, config.crop_padding, config.erase)
        self.read_ahead = ReadAhead(config.num_workers)
        self.advised = False
        torch.manual_seed(config.seed + process.rank)  # dropout's, on every rank another

    def derived(self) -> dict[str, object]:
        """What follows from the parameters and the machine, for the record."""
        shares = self.process.world_size * self.config.accumulate_steps
        return {
            "world_size": self.process.world_size,
            "global_batch_size": self.config.batch_size * shares,
            "steps_per_epoch": self.steps,
            "scaled_lr": self.lr,
            "device": self.process.device.type,
        }

    def fit(self, recorder: Recorder) -> list[EpochResult]:
        """Train for all epochs, or until patience ends.

        Returns:
            a result for each epoch gone through.

        Raises:
            TrainingError: a loss is not finite; on every rank.
        """
        history: list[EpochResult] = []
        best = 0
        for epoch in range(1, self.config.epochs + 1):
            history.append(self.run_epoch(epoch))
            is_best = best == 0 or self.measure(history[-1]) < self.measure(history[best - 1])
            best = epoch if is_best else best
            recorder.record(history, self.net, is_best=is_best)
            if self.config.patience and epoch - best >= self.config.patience:
                logger.info("no better epoch in %d: stopping early", self.config.patience)
                break
        return history

    def measure(self, result: EpochResult) -> tuple[float, float]:
        """What the best epoch is lowest in; the loss decides between equal errors."""
        return getattr(result, self.config.best_metric), result.val_loss

    def run_epoch(self, epoch: int) -> EpochResult:
        """Train for one epoch and validate."""
        started, waited = time.perf_counter(), self.read_ahead.waited
        train_loss, train_error = self.train_epoch(epoch)
        seconds = time.perf_counter() - started
        self.share_running_statistics()
        val_loss, val_error = self.validate()
        result = EpochResult(
            epoch=epoch,
            lr=self.lr_of(epoch * self.steps - 1),
            train_loss=train_loss,
            train_error=train_error,
            val_loss=val_loss,
            val_error=val_error,
            images_per_second=len(self.train) / seconds,
            data_wait=(self.read_ahead.waited - waited) / seconds,
        )
        self.advise(result)
        return result

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Go over the training part once; return loss and error, means over its images."""
        config, process = self.config, self.process
        plan = plan_epoch(
            len(self.train),
            self.steps,
            seed=config.seed,
            epoch=epoch,
            rank=process.rank,
            world_size=process.world_size,
            accumulate_steps=config.accumulate_steps,
        )
        batches = self.read_ahead(self.read_training_batch, flatten(plan))
        # Loss and errors of each step, summed over its images; checked and reduced in chunks.
        sums = torch.zeros(self.steps, 2, dtype=torch.float64, device=process.device)
        model.set_training(self.net, config.freeze_layers)
        with Progress(
            f"epoch {epoch}/{config.epochs}", len(self.train), "images", shown=process.is_first
        ) as progress:
            for step, (global_size, shares) in enumerate(plan):
                self.set_lr(self.lr_of((epoch - 1) * self.steps + step))
                for number in range(len(shares)):
                    with self.reducing_gradients(is_last=number == len(shares) - 1):
                        sums[step] += self.backward(*next(batches), epoch, global_size)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                if (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps:
                    self.check_losses(sums, step - step % CHECK_EVERY, step + 1, epoch)
                progress.advance(global_size)
        loss, error = (sums.sum(0) / len(self.train)).tolist()
        return loss, error

    def backward(
        self, images: Tensor, labels: Tensor, indices: Indices, epoch: int, global_size: int
    ) -> Tensor:
        """Add one batch's gradients; return its summed loss and number of errors, (2,) float64.

        DistributedDataParallel takes the mean over ranks of what each one adds up, so each adds
        its summed loss × world_size / global_size: the mean over the global batch, whatever the
        sizes of the shares.
        """
        augmented = self.augment(self.to_device(images), indices, epoch).to(self.dtype)
        labels = self.to_device(labels)
        with self.autocast():
            logits = self.parallel(augmented)
        loss = F.cross_entropy(logits.to(at_least_float32(logits)), labels, reduction="sum")
        (loss * (self.process.world_size / global_size)).backward()  # type: ignore[no-untyped-call]
        return summed(loss, logits, labels)

    def check_losses(self, sums: Tensor, first: int, last: int, epoch: int) -> None:
        """Reduce the steps `first` to `last` over ranks, and stop them all at a non-finite loss.

        Raises:
            TrainingError: with the step and the learning rate it was made at.
        """
        sums[first:last] = distributed.sum_over_ranks(sums[first:last].clone())
        finite = torch.isfinite(sums[first:last, 0])
        if bool(finite.all()):
            return
        step = first + int((~finite).nonzero()[0])
        lr = self.lr_of((epoch - 1) * self.steps + step)
        raise TrainingError(
            f"the loss is no longer a finite number: epoch {epoch}, step {step + 1} of "
            f"{self.steps}, learning rate {lr:.6g}; lower lr, or raise warmup_epochs"
        )

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """Go over val once, every image on exactly one rank; return mean loss and error."""
        self.net.eval()
        plan = plan_validation(
            len(self.val),
            batch_size=4 * self.config.batch_size,
            rank=self.process.rank,
            world_size=self.process.world_size,
        )
        sums = torch.zeros(2, dtype=torch.float64, device=self.process.device)
        for images, labels in ReadAhead(self.config.num_workers)(self.read_val_batch, plan):
            with self.autocast():
                # The bare network: the parallel one would wait for ranks that have fewer batches.
                logits = self.net(normalise(self.to_device(images)).to(self.dtype))
            target = self.to_device(labels)
            loss = F.cross_entropy(logits.to(at_least_float32(logits)), target, reduction="sum")
            sums += summed(loss, logits, target)
        loss, error = (distributed.sum_over_ranks(sums) / len(self.val)).tolist()
        return loss, error

    def share_running_statistics(self) -> None:
        """Average the batch statistics that ranks have kept apart, so that all validate one net."""
        if self.synchronised or self.process.world_size == 1:
            return
        for buffer in self.net.buffers():
            if buffer.is_floating_point():
                distributed.sum_over_ranks(buffer).div_(self.process.world_size)

    def advise(self, result: EpochResult) -> None:
        """Say once what helps when images come too slowly."""
        if result.data_wait > SLOW_DATA and not self.advised and self.process.is_first:
            self.advised = True
            logger.warning(
                "%.0f %% of the time went into waiting for images; raise num_workers (%d), "
                "or put data/split on a faster disk",
                100 * result.data_wait, self.config.num_workers,
            )  # fmt: skip

    # Small parts

    def read_training_batch(self, indices: Indices) -> tuple[Tensor, Tensor, Indices]:
        """Copy a batch from the mapped training part: (B, H, W, 3) uint8, (B,) labels."""
        images, labels = self.read(self.train, indices)
        return images, labels, indices

    def read_val_batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Copy a batch from the mapped val part."""
        return self.read(self.val, indices)

    def read(self, part: Part, indices: Indices) -> tuple[Tensor, Tensor]:
        """Copy images and labels, into pinned memory where a GPU will fetch them."""
        images = torch.from_numpy(np.ascontiguousarray(part.images[indices]))
        labels = torch.from_numpy(part.labels[indices])
        if self.process.device.type == "cuda":
            return images.pin_memory(), labels.pin_memory()
        return images, labels

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy to this rank's device without waiting."""
        return tensor.to(self.process.device, non_blocking=True)

    def lr_of(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        return lr_at(
            step,
            steps=self.steps * self.config.epochs,
            warmup_steps=math.ceil(self.steps * self.config.warmup_epochs),
            lr=self.lr,
            lrf=self.config.lrf,
        )

    def set_lr(self, lr: float) -> None:
        """Set the optimizer's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def autocast(self) -> torch.autocast:
        """bfloat16 arithmetic where it is wanted and the GPU has it."""
        cuda = self.process.device.type == "cuda"
        wanted = self.config.amp and cuda and self.dtype == torch.float32
        return torch.autocast(
            self.process.device.type,
            dtype=torch.bfloat16,
            enabled=wanted and torch.cuda.is_bf16_supported(),
        )

    def reducing_gradients(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Let gradients cross the network in a step's last batch alone."""
        if is_last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return cast("AbstractContextManager[None]", self.parallel.no_sync())


def in_parallel(net: nn.Module, process: Process) -> nn.Module:
    """Wrap a network so that gradients are averaged over ranks; the first weights are rank 0's."""
    if process.world_size == 1:
        return net
    # share_running_statistics says what becomes of the buffers. Newer torch has renamed the option.
    options = inspect.signature(DistributedDataParallel).parameters
    new, old = "forward_sync_buffers", "broadcast_buffers"
    no_broadcast: dict[str, Any] = {new if new in options else old: False}
    return DistributedDataParallel(
        net,
        device_ids=[process.device] if process.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **no_broadcast,
    )


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """The dtype to take a loss in: bfloat16's eight bits are too few for a logarithm."""
    return torch.promote_types(tensor.dtype, torch.float32)


def summed(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and number of wrong top-1 answers of a batch, (2,) float64."""
    wrong = (logits.detach().argmax(1) != labels).sum()
    return torch.stack([loss.detach().double(), wrong.double()])
