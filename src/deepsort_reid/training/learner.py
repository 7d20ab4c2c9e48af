"""What a batch does to the weights: forward, losses, backward, optimizer step, average."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.data.loading.augment import Augmentation, normalise
from deepsort_reid.data.loading.batches import Batch
from deepsort_reid.model import cuda_graph, network
from deepsort_reid.model.device import random_state, set_random_state
from deepsort_reid.model.ema import MovingAverage
from deepsort_reid.training import parallel
from deepsort_reid.training.bfloat16 import keep_wrong_in_float32
from deepsort_reid.training.losses.precision import at_least_float32
from deepsort_reid.training.losses.teacher import Teacher
from deepsort_reid.training.losses.total import TrainingLoss
from deepsort_reid.training.optim import lr_at, make_optimizer, scale_lr, set_lr
from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process

logger = logging.getLogger(__name__)


class Learner:
    """A network, and everything that changes its weights.

    Attributes:
        net: the network that is trained.
        average: the moving average of its weights; None if the parameters ask for none.
        lr: the highest learning rate, scaled by the number of ranks.
    """

    def __init__(
        self,
        net: nn.Module,
        config: TrainConfig,
        process: Process,
        *,
        classes: int,
        image_size: tuple[int, int],
        steps_per_epoch: int,
        teacher: Teacher | None = None,
        bfloat16: bool = False,
    ):
        """Make everything ready for the first step; every rank must do so at the same time.

        Args:
            net: a network of `network.build`, in any floating dtype; it is trained in place.
            config: the hyperparameters.
            process: this rank and its device.
            classes: number of identities.
            image_size: height and width in pixels.
            steps_per_epoch: optimizer steps.
            teacher: the network whose similarities this one follows; None: none.
            bfloat16: whether a network in float32 computes in bfloat16, as `choose_bfloat16` says.

        Raises:
            ConfigError: a frozen part does not exist.
        """
        self.config, self.process, self.steps_per_epoch = config, process, steps_per_epoch
        self.teacher, self.bfloat16 = teacher, bfloat16
        network.freeze(net, config.freeze_layers)
        self.has_sync_bn = config.sync_bn and process.world_size > 1
        net = parallel.synchronise_batchnorm(net) if self.has_sync_bn else net
        self.dtype = next(net.parameters()).dtype
        self.layout = network.layout(net, process.device, bfloat16=bfloat16)
        self.net = net.to(process.device).to(memory_format=self.layout)
        self.prepare_for_arithmetic(image_size)
        self.begin_training()
        self.average = MovingAverage(self.net, config.ema) if config.ema else None
        self.augment = Augmentation(
            config.flip, config.crop_padding, config.erase, config.color_jitter
        )
        self.loss = TrainingLoss(self.net, config, process, classes=classes)
        self.forward, self.backward = self.passes(image_size)
        self.lr = scale_lr(config.lr, config.lr_scale, process.world_size)
        log_warmup(config)
        decay = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self.optimizer = make_optimizer(self.net.parameters(), config.optimizer, **decay)
        torch.manual_seed(config.seed + process.rank)  # dropout's, different on every rank

    def prepare_for_arithmetic(self, image_size: tuple[int, int]) -> None:
        """Make the networks right in bfloat16 on a CPU, if that is what they compute in."""
        if not self.bfloat16 or self.process.device.type != "cpu":
            return
        keep_wrong_in_float32(self.net, image_size)
        if self.teacher:
            self.teacher.prepare_for_bfloat16()

    def passes(self, image_size: tuple[int, int]) -> tuple[nn.Module, Callable[..., Tensor]]:
        """The forward pass, and `plain_backward` or its recording; every rank must call this."""
        forward = TrainingForward(self.net)
        if not self.is_recorded:
            return parallel.wrap(forward, self.process, image_size), self.plain_backward
        parallel.share_weights(self.net)
        trainable = [weight for weight in self.net.parameters() if weight.requires_grad]
        return forward, cuda_graph.Replayed(self.plain_backward, trainable)

    @property
    def is_recorded(self) -> bool:
        """Whether `plain_backward` is replayed from a CUDA graph.

        What ranks exchange within it cannot be recorded. So DistributedDataParallel does without
        a graph, and where a graph is possible, gradients are exchanged behind it.
        """
        exchanges = self.has_sync_bn or self.loss.is_over_ranks
        return self.process.device.type == "cuda" and not exchanges

    @property
    def net_to_keep(self) -> nn.Module:
        """The network to validate and to save: the moving average, if there is one."""
        return self.average.net if self.average else self.net

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0 over all epochs."""
        return lr_at(
            step,
            steps=self.steps_per_epoch * self.config.epochs,
            warmup_steps=math.ceil(self.steps_per_epoch * self.config.fitted_warmup),
            lr=self.lr,
            lrf=self.config.lrf,
            schedule=self.config.schedule,
        )

    # Training

    def begin_training(self) -> None:
        """Put the network in train mode, and its frozen parts in eval mode."""
        network.set_training(self.net, self.config.freeze_layers)

    def step(self, batches: Iterable[Batch], number: int) -> Tensor:
        """Take one optimizer step.

        Args:
            batches: this rank's.
            number: of the step, counted from 0 over all epochs.

        Returns:
            summed loss and number of errors of this rank's images, (2,) float64.
        """
        sums = reduce(torch.add, map(self.add_gradients, batches))
        if self.is_recorded:
            parallel.average_gradients(self.net, self.process.world_size)
        set_lr(self.optimizer, self.lr_at(number))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.end_step()
        if self.average:
            self.average.add(number)
        return sums

    def add_gradients(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to those of its step.

        Under DistributedDataParallel, ranks exchange them in its last batch.
        """
        with nullcontext() if batch.is_last else self.without_exchange():
            return self.backward(
                batch.images,
                batch.labels,
                batch.draws,
                global_size=batch.global_size,
                width=batch.width,
            )

    def without_exchange(self) -> AbstractContextManager[None]:
        """Keep gradients on this rank."""
        if not isinstance(self.forward, DistributedDataParallel):
            return nullcontext()
        return cast("AbstractContextManager[None]", self.forward.no_sync())

    def plain_backward(
        self, images: Tensor, labels: Tensor, draws: Tensor, *, global_size: int, width: int
    ) -> Tensor:
        """Add one batch's gradients; return its summed loss and number of errors, (2,) float64.

        The gradients of all ranks are averaged. Each rank's are those of its summed
        loss × world_size / global_size, so that the average is the gradient of the mean over the
        global batch, whatever the sizes of the shares.

        Args:
            images: (B, H, W, 3) uint8, on the device as all others.
            labels: (B,) int64.
            draws: (B, DRAWS) float64, the random numbers of the augmentation.
            global_size: images of all ranks in this step.
            width: the largest B among the ranks.
        """
        augmented = self.augment(images, draws)
        with self.autocast():
            logits, pooled, features = self.forward(self.laid_out(augmented))
            taught = self.teacher(augmented) if self.teacher else None
        loss = self.loss(logits, pooled, features, labels, width=width, taught=taught)
        (loss * (self.process.world_size / global_size)).backward()  # type: ignore[no-untyped-call]
        return loss_and_errors(loss, logits, labels)

    # Validation

    def begin_validation(self) -> None:
        """Put the network to validate in eval mode."""
        self.net_to_keep.eval()

    def share_statistics(self) -> None:
        """Average the batch statistics of all ranks, unless they are synchronised already."""
        if not self.has_sync_bn:
            for net in self.nets:
                parallel.share_statistics(net, self.process.world_size)

    @torch.no_grad()
    def validate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Summed cross-entropy and number of errors of a batch, (2,) float64.

        Args:
            images: (B, H, W, 3) uint8, on the device.
            labels: (B,) int64, on the device.
        """
        inputs = self.laid_out(normalise(images))
        with self.autocast():
            # Without the DistributedDataParallel wrapper, which waits for ranks with fewer batches.
            logits = self.net_to_keep(inputs)
        loss = F.cross_entropy(logits.to(at_least_float32(logits)), labels, reduction="sum")
        return loss_and_errors(loss, logits, labels)

    # Both

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the network's dtype and memory format."""
        return images.to(self.dtype).contiguous(memory_format=self.layout)

    def autocast(self) -> torch.autocast:
        """The arithmetic of this training's passes."""
        device = self.process.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.bfloat16)

    # Interruptions

    @property
    def nets(self) -> list[nn.Module]:
        """The network that is trained, and the moving average of its weights if there is one."""
        return [self.net, *([self.average.net] if self.average else [])]

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, as plain data and tensors.

        Weights are the same on every rank. Batch statistics, unless synchronised, and random
        generators are each rank's own, so that all ranks must call this.
        """
        center_loss = self.loss.center_loss
        return {
            "nets": [parallel.all_but_statistics(net) for net in self.nets],
            "optimizer": self.optimizer.state_dict(),
            "centers": center_loss.centers if center_loss else None,
            "statistics": [
                distributed.gather_on_cpu(parallel.statistics(net)) for net in self.nets
            ],
            "random": distributed.gather_on_cpu(random_state(self.process.device)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, read onto the CPU."""
        rank, device = self.process.rank, self.process.device
        for net, weights, statistics in zip(
            self.nets, state["nets"], state["statistics"], strict=True
        ):
            net.load_state_dict(weights, strict=False)
            parallel.set_statistics(net, statistics[rank].to(device))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.loss.center_loss:
            self.loss.center_loss.centers.copy_(state["centers"])
        set_random_state(state["random"][rank], device)


class TrainingForward(nn.Module):
    """The forward pass that all losses share."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> (B, classes) logits, (B, D) embeddings before and behind the neck."""
        net = cast("network.ReidNet", self.net)
        pooled = net.pooled(images)
        features = net.neck(pooled)
        return net.logits(features), pooled, features


def loss_and_errors(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """A batch's summed loss and number of wrong top-1 answers, (2,) float64."""
    wrong = (logits.detach().argmax(1) != labels).sum()
    return torch.stack([loss.detach().double(), wrong.double()])


def log_warmup(config: TrainConfig) -> None:
    """Say so where the warm-up is shorter than the parameters state."""
    if config.fitted_warmup < config.warmup_epochs:
        logger.info(
            "warmup_epochs=%g is more than half of epochs=%d: the warm-up takes %g epochs",
            config.warmup_epochs, config.epochs, config.fitted_warmup,
        )  # fmt: skip
