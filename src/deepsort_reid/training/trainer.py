"""The training loop: epochs of steps over all ranks, an exact validation after each."""

import io
import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.core import signals
from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.errors import PackedError, TrainingError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.augment import Augmentation, normalise
from deepsort_reid.data.loader import Loader, Prefetcher
from deepsort_reid.data.packed import Part
from deepsort_reid.data.sampler import (
    Indices,
    Step,
    flatten,
    plan_epoch,
    plan_validation,
    steps_per_epoch,
)
from deepsort_reid.model import network
from deepsort_reid.model.ema import MovingAverage
from deepsort_reid.training import cuda_graph, ddp, distributed, losses, sync_batchnorm
from deepsort_reid.training.centers import Centers
from deepsort_reid.training.distributed import Process
from deepsort_reid.training.meter import Pass
from deepsort_reid.training.optim import lr_at, make_optimizer, scale_lr
from deepsort_reid.training.resume import States
from deepsort_reid.training.snapshot import copied, random_state, set_random_state

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds between two looks up from the work: each one waits for the GPU
MOST_STEPS = 50  # between two looks, where steps are short
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
        self.train_feed, self.val_feed = (Loader(part, process.device) for part in (train, val))
        self.steps = steps_per_epoch(
            len(train),
            batch_size=config.batch_size,
            accumulate_steps=config.accumulate_steps,
            world_size=process.world_size,
            num_instances=config.num_instances,
        )
        network.freeze(net, config.freeze_layers)
        self.synchronised = config.sync_bn and process.world_size > 1
        net = sync_batchnorm.convert(net) if self.synchronised else net
        self.dtype = next(net.parameters()).dtype
        self.layout = network.layout(process.device)
        self.net = net.to(process.device).to(memory_format=self.layout)
        network.set_training(self.net, config.freeze_layers)
        self.averaged = MovingAverage(self.net, config.ema) if config.ema else None
        self.centers = self.make_centers() if config.center_weight else None
        self.parallel = ddp.in_parallel(network.Taught(self.net), process, train.image_size)
        self.lr = scale_lr(config.lr, config.lr_scale, process.world_size)
        self.optimizer = make_optimizer(
            net.parameters(),
            config.optimizer,
            lr=self.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.augment = Augmentation(
            config.seed, config.flip, config.crop_padding, config.erase, config.color_jitter
        )
        self.learn = self.fast_backward()
        self.read_ahead = Prefetcher(config.num_workers)
        self.advised = False
        torch.manual_seed(config.seed + process.rank)  # dropout's, on every rank another
        self.history: list[EpochResult] = []  # of the epochs that are done
        self.planned: tuple[int, list[Step]] = (0, [])
        self.begin_epoch()

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

    # The loop

    @property
    def epoch(self) -> int:
        """The epoch that is under way or comes next, counted from 1."""
        return len(self.history) + 1

    @property
    def best(self) -> int:
        """The best epoch so far; 0 before the first has ended."""
        epochs = range(1, self.epoch)
        return min(epochs, key=lambda epoch: self.measure(self.history[epoch - 1]), default=0)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are, or patience has ended."""
        done, patience = len(self.history), self.config.patience
        return done == self.config.epochs or 0 < patience <= done - self.best

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and recorded: the weights' average, if there is one."""
        return self.averaged.net if self.averaged else self.net

    def measure(self, result: EpochResult) -> tuple[float, float]:
        """What the best epoch is lowest in; the loss decides between equal errors."""
        return getattr(result, self.config.best_metric), result.val_loss

    def fit(
        self, recorder: Recorder, states: States, stop: signals.Stop | None = None
    ) -> list[EpochResult]:
        """Train from where it stands for all epochs, or until patience ends.

        Args:
            recorder: is given each epoch's result and network.
            states: keep what it takes to go on after an interruption.
            stop: when it has been asked, a last state is saved, and every rank leaves.

        Returns:
            a result for each epoch gone through.

        Raises:
            TrainingError: a loss is not finite, or a rank is gone; on every rank.
            SystemExit: stopped.
        """
        self.states, self.stop = states, stop or signals.Stop()
        with distributed.contact():
            while not self.is_done:
                self.run_epoch()
                is_best = self.best == len(self.history)
                recorder.record(self.history, self.kept, is_best=is_best)
                self.look_up()
            self.states.save(self.state(), best=self.best)
        if len(self.history) < self.config.epochs:
            logger.info("no better epoch in %d: stopped early", self.config.patience)
        return self.history

    def begin_epoch(self) -> None:
        """Set out on the next epoch."""
        self.train_pass = Pass.of(self.steps, self.process.device)
        per_rank = -(-len(self.val) // self.process.world_size)
        self.val_pass = Pass.of(-(-per_rank // self.val_batch_size), self.process.device)

    def run_epoch(self) -> None:
        """Train and validate from where the epoch stands, and add its result to the history."""
        self.train_epoch()
        if self.val_pass.step == 0 and not self.synchronised:
            for net in self.nets:
                ddp.share_statistics(net, self.process.world_size)
        self.validate()
        train, val = self.train_pass, self.val_pass
        train_loss, train_error = train.mean(len(self.train))
        val_loss, val_error = val.mean(len(self.val))
        result = EpochResult(
            epoch=self.epoch,
            lr=self.lr_of(self.epoch * self.steps - 1),
            train_loss=train_loss,
            train_error=train_error,
            val_loss=val_loss,
            val_error=val_error,
            images_per_second=len(self.train) / train.seconds,
            data_wait=train.waited / train.seconds,
        )
        self.history.append(result)
        self.begin_epoch()
        self.advise(result)

    def train_epoch(self) -> None:
        """Go over what the epoch has not yet gone over of the training part."""
        config, work = self.config, self.train_pass
        plan = self.plan_of(self.epoch)
        read = partial(self.read_training_batch, epoch=self.epoch)
        batches = self.read_ahead(read, flatten(plan[work.step :]))
        network.set_training(self.net, config.freeze_layers)

        def take(step: int) -> int:
            size, widths = plan[step].size, plan[step].widths
            before = (self.epoch - 1) * self.steps + step
            self.set_lr(self.lr_of(before))
            for number, width in enumerate(widths):
                wanted, labels, draws = next(batches)
                images = self.train_feed.place(wanted)
                labels, draws = self.train_feed.send(labels), self.train_feed.send(draws)
                with self.reducing_gradients(is_last=number == len(widths) - 1):
                    work.sums[step] += self.learn(
                        images, labels, draws, global_size=size, width=width
                    )
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.centers:
                self.centers.move()
            if self.averaged:
                self.averaged.add(before)
            if step == work.steps - 1 and self.epoch < config.epochs:
                self.plan_of(self.epoch + 1)  # a GPU is still busy with what it was told
            return size

        self.go_over(work, take, "epoch", [step.size for step in plan])

    def plan_of(self, epoch: int) -> list[Step]:
        """What this rank takes in each step of an epoch; the last plan is kept."""
        if self.planned[0] != epoch:
            plan = plan_epoch(
                self.train.labels,
                self.steps,
                seed=self.config.seed,
                epoch=epoch,
                rank=self.process.rank,
                world_size=self.process.world_size,
                accumulate_steps=self.config.accumulate_steps,
                num_instances=self.config.num_instances,
            )
            self.planned = (epoch, plan)
        return self.planned[1]

    def go_over(
        self, work: Pass, take: Callable[[int], int], what: str, sizes: Sequence[int]
    ) -> None:
        """Take a pass's steps that are left, and look up now and then.

        Args:
            work: how far the pass has come.
            take: takes one step, and returns the images in it over all ranks.
            what: the pass's name on the screen.
            sizes: images in each step.
        """
        title = f"{what} {self.epoch}/{self.config.epochs}"
        due = work.step + 1  # one step, to see how long it takes
        with Progress(title, sum(sizes), "images", shown=self.process.is_first) as progress:
            progress.advance(sum(sizes[: work.step]))
            started, waited = time.perf_counter(), self.read_ahead.waited
            for step in range(work.step, work.steps):
                progress.advance(take(step))
                if step + 1 in (due, work.steps):
                    distributed.finish_work(self.process.device)
                    seconds = time.perf_counter() - started
                    work.waited += self.read_ahead.waited - waited
                    started, waited = started + seconds, self.read_ahead.waited
                    due = step + 1 + self.look_up(work, step + 1, seconds)

    def look_up(self, work: Pass | None = None, done: int = 0, seconds: float = 0.0) -> int:
        """Add up what was done, and do together what is due: save a state, stop.

        Ranks agree on it in the collective that adds up: a clock or a signal is one rank's own.

        Args:
            work: the pass under way; None between two epochs.
            done: its steps done.
            seconds: that those since the last look took.

        Returns:
            how many steps to take until the next look.

        Raises:
            TrainingError: a loss is not finite.
            SystemExit: a rank has been asked to stop; the state is saved.
        """
        rows = work.sums[work.step : done] if work else self.train_pass.sums[:0]
        steps = 1.0 if not seconds else LOOK_EVERY * len(rows) / seconds
        is_first = self.process.is_first
        words = [is_first and self.states.is_due(), is_first * steps, self.stop.signal]
        flags = torch.tensor(words, dtype=torch.float64, device=rows.device)
        summed_up = distributed.sum_over_ranks(torch.cat([rows.flatten(), flags]))
        save_is_due, steps, someone_stops = summed_up[-3:].tolist()
        if work:
            rows.copy_(summed_up[:-3].view_as(rows))
            self.check_losses(rows, work.step)
            work.step, work.seconds = done, work.seconds + seconds
        if save_is_due or someone_stops:
            self.states.save(self.state(), best=self.best)
        if someone_stops:
            self.states.wait()
            logger.info("stopped in epoch %d; the same command goes on from here", self.epoch)
            signals.leave(self.stop.signal or signal.SIGTERM)
        return min(max(int(steps), 1), MOST_STEPS)

    def fast_backward(self) -> Callable[..., Tensor]:
        """`backward`, recorded and replayed where one process has a GPU.

        DistributedDataParallel hooks into every pass backward, and gradients that several batches
        add up to have no place of their own in a graph: these run as they are.
        """
        alone = self.process.world_size == 1 and self.config.accumulate_steps == 1
        if self.process.device.type != "cuda" or not alone:
            return self.backward
        learning = [weight for weight in self.net.parameters() if weight.requires_grad]
        return cuda_graph.Replayed(self.backward, learning)

    def backward(
        self, images: Tensor, labels: Tensor, draws: Tensor, *, global_size: int, width: int
    ) -> Tensor:
        """Add one batch's gradients; return its summed loss and number of errors, (2,) float64.

        DistributedDataParallel takes the mean over ranks of what each one adds up, so each adds
        its summed loss × world_size / global_size: the mean over the global batch, whatever the
        sizes of the shares.

        Args:
            images: (B, H, W, 3) uint8, on the device as all others.
            labels: (B,) int64.
            draws: (B, DRAWS) float64, which decide on the augmentation.
            global_size: images of all ranks in this step.
            width: the most images that any rank has in this batch.
        """
        augmented = self.augment(images, draws)
        with self.autocast():
            logits, pooled = self.parallel(self.laid_out(augmented))
        loss = losses.classification(
            logits,
            labels,
            label_smoothing=self.config.label_smoothing,
            angular_margin=self.config.angular_margin,
            scale=network.multiplier(self.net),
        )
        if self.config.triplet_weight:
            loss = loss + self.config.triplet_weight * self.triplet(pooled, labels, width)
        if self.centers:
            loss = loss + self.config.center_weight * self.centers.loss(pooled, labels)
        (loss * (self.process.world_size / global_size)).backward()  # type: ignore[no-untyped-call]
        return summed(loss, logits, labels)

    def make_centers(self) -> Centers:
        """The centers of the training part's identities."""
        return Centers(
            len(self.train.classes),
            cast("network.ReidNet", self.net).feature_size,
            device=self.process.device,
            dtype=torch.promote_types(self.dtype, torch.float32),
        )

    def triplet(self, pooled: Tensor, labels: Tensor, width: int) -> Tensor:
        """The batch-hard triplet loss of this rank's images among those of all ranks.

        Distances are between unit embeddings, since directions are all that a tracker measures;
        the paper takes embeddings as they are.

        Args:
            pooled: (B, D) embeddings before the neck.
            labels: (B,) int64.
            width: the most images that any rank has in this batch.
        """
        missing = width - len(labels)
        unit = F.normalize(pooled.to(at_least_float32(pooled)))
        padded = F.pad(unit, (0, 0, 0, missing))
        everywhere = F.pad(labels, (0, missing), value=losses.NOBODY)
        return losses.batch_hard(
            padded[: len(labels)],
            labels,
            distributed.gather_with_gradient(padded).flatten(0, 1),
            distributed.gather_over_ranks(everywhere).flatten(),
            first=self.process.rank * width,
            margin=self.config.triplet_margin,
        )

    def check_losses(self, rows: Tensor, first: int) -> None:
        """Stop every rank at a non-finite loss.

        Args:
            rows: (n, 2) sums over all ranks, of the steps from `first` on.
            first: counted from 0.

        Raises:
            TrainingError: with the step and the learning rate it was made at.
        """
        finite = torch.isfinite(rows[:, 0])
        if bool(finite.all()):
            return
        step = first + int((~finite).nonzero()[0])
        lr = self.lr_of((self.epoch - 1) * self.steps + step)
        raise TrainingError(
            f"the loss is no longer a finite number: epoch {self.epoch}, step {step + 1} of "
            f"{self.steps}, learning rate {lr:.6g}; lower lr, or raise warmup_epochs"
        )

    @torch.no_grad()
    def validate(self) -> None:
        """Go over what the epoch has not yet gone over of val, every image on exactly one rank."""
        self.kept.eval()
        work, process, size = self.val_pass, self.process, self.val_batch_size
        plan = plan_validation(
            len(self.val), batch_size=size, rank=process.rank, world_size=process.world_size
        )
        batches = Prefetcher(self.config.num_workers)(self.val_feed.read, plan[work.step :])
        everywhere = size * process.world_size
        sizes = [min(everywhere, len(self.val) - n * everywhere) for n in range(work.steps)]

        def take(step: int) -> int:
            if step < len(plan):  # a rank may have one batch fewer than the first
                work.sums[step] += self.judge(*next(batches))
            return sizes[step]

        self.go_over(work, take, "val", sizes)

    def judge(self, wanted: Tensor, labels: Tensor) -> Tensor:
        """Summed plain loss and number of errors of a batch, (2,) float64.

        Args:
            wanted: of the validation's feed, as it was read.
            labels: (B,) int64.
        """
        normalised = self.laid_out(normalise(self.val_feed.place(wanted)))
        with self.autocast():
            # The bare network: the parallel one would wait for ranks that have fewer batches.
            logits = self.kept(normalised)
        target = self.val_feed.send(labels)
        loss = F.cross_entropy(logits.to(at_least_float32(logits)), target, reduction="sum")
        return summed(loss, logits, target)

    def advise(self, result: EpochResult) -> None:
        """Say once what helps when images come too slowly."""
        if result.data_wait > SLOW_DATA and not self.advised and self.process.is_first:
            self.advised = True
            logger.warning(
                "%.0f %% of the time went into waiting for images; raise num_workers (%d), "
                "or put data/split on a faster disk",
                100 * result.data_wait, self.config.num_workers,
            )  # fmt: skip

    # Interruptions

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, as plain data and CPU tensors.

        The weights are the same on every rank; each rank's own are the running statistics, where
        they are not synchronised, and the random generators. Every rank must call this.
        """
        nets = self.nets
        return {
            "history": [asdict(result) for result in self.history],
            "train_pass": self.train_pass.as_plain(),
            "val_pass": self.val_pass.as_plain(),
            "nets": [copied(ddp.all_but_statistics(net)) for net in nets],
            "optimizer": copied(self.optimizer.state_dict()),
            "centers": copied(self.centers.positions) if self.centers else None,
            "statistics": [distributed.gather_on_cpu(ddp.statistics(net)) for net in nets],
            "random": distributed.gather_on_cpu(random_state(self.process.device)),
        }

    def load(self, content: bytes) -> None:
        """Go on from a state; every rank must call this.

        Args:
            content: what rank 0 has read of `States.newest`, empty for a fresh start; what other
                ranks pass does not matter.
        """
        content = distributed.share_from_first(content)
        if not content:
            return
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state"]
        device, rank = self.process.device, self.process.rank
        self.history = [EpochResult(**result) for result in state["history"]]
        self.train_pass = Pass.from_plain(state["train_pass"], device)
        self.val_pass = Pass.from_plain(state["val_pass"], device)
        for net, weights, statistics in zip(
            self.nets, state["nets"], state["statistics"], strict=True
        ):
            net.load_state_dict(weights, strict=False)
            ddp.set_statistics(net, statistics[rank].to(device))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.centers:
            self.centers.positions.copy_(state["centers"])
        set_random_state(state["random"][rank], device)
        step = self.train_pass.step + 1
        logger.info("going on with an interrupted training: epoch %d, step %d", self.epoch, step)

    # Small parts

    @property
    def nets(self) -> list[nn.Module]:
        """The network that is trained, and the average of its weights if there is one."""
        return [self.net, *([self.averaged.net] if self.averaged else [])]

    @property
    def val_batch_size(self) -> int:
        """Images a rank validates at a time: no gradients, so there is room for more."""
        return 4 * self.config.batch_size

    def read_training_batch(self, indices: Indices, *, epoch: int) -> tuple[Tensor, ...]:
        """What the training part's feed reads, and (B, DRAWS) what is drawn for the images."""
        draws = self.augment.draw(indices, epoch)
        return *self.train_feed.read(indices), self.train_feed.sendable(draws)

    def lr_of(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        return lr_at(
            step,
            steps=self.steps * self.config.epochs,
            warmup_steps=math.ceil(self.steps * self.config.warmup_epochs),
            lr=self.lr,
            lrf=self.config.lrf,
            schedule=self.config.schedule,
        )

    def set_lr(self, lr: float) -> None:
        """Set the optimizer's learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the network's type and order in memory."""
        return images.to(self.dtype).contiguous(memory_format=self.layout)

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


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """The dtype to take a loss in: bfloat16's eight bits are too few for a logarithm."""
    return torch.promote_types(tensor.dtype, torch.float32)


def summed(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and number of wrong top-1 answers of a batch, (2,) float64."""
    wrong = (logits.detach().argmax(1) != labels).sum()
    return torch.stack([loss.detach().double(), wrong.double()])
