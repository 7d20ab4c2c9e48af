"""The sum of the losses that the parameters ask for."""

from typing import cast

from torch import Tensor, nn

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.model import network
from deepsort_reid.training.losses import pairs as over_pairs
from deepsort_reid.training.losses import teacher as taught_by
from deepsort_reid.training.losses.center import CenterLoss
from deepsort_reid.training.losses.classification import classification
from deepsort_reid.training.losses.precision import at_least_float32
from deepsort_reid.training.ranks.distributed import Process


class TrainingLoss:
    """The sum of the losses that the parameters ask for."""

    def __init__(self, net: nn.Module, config: TrainConfig, process: Process, *, classes: int):
        """Prepare the losses.

        Args:
            net: a network of `network.build` on its device.
            config: weights and margins of the losses.
            process: this rank.
            classes: number of identities.
        """
        self.net, self.config, self.process = net, config, process
        weight = next(net.parameters())
        self.center_loss = (
            CenterLoss(
                classes,
                cast("network.ReidNet", net).feature_size,
                device=weight.device,
                dtype=at_least_float32(weight),
            )
            if config.center_weight
            else None
        )

    def __call__(
        self,
        logits: Tensor,
        pooled: Tensor,
        features: Tensor,
        labels: Tensor,
        *,
        width: int,
        taught: Tensor | None = None,
    ) -> Tensor:
        """The loss of one batch, () float, summed over this rank's images.

        Args:
            logits: (B, classes).
            pooled: (B, D) embeddings before the neck.
            features: (B, D) embeddings behind the neck.
            labels: (B,) int64.
            width: the largest B among the ranks.
            taught: (B, D') the teacher's embeddings of the same images, if there is one.
        """
        config = self.config
        loss = classification(
            logits,
            labels,
            label_smoothing=config.label_smoothing,
            angular_margin=config.angular_margin,
            scale=network.multiplier(self.net),
        )
        if config.triplet_weight:
            pairs = self.pairs(pooled, labels, width)
            loss = loss + config.triplet_weight * over_pairs.batch_hard(
                pairs, margin=config.triplet_margin
            )
        if self.center_loss:
            loss = loss + config.center_weight * self.center_loss(pooled, labels)
        if taught is not None:
            student, teacher = (self.pairs(one, labels, width) for one in (features, taught))
            loss = loss + config.teacher_weight * taught_by.similarity_preserving(student, teacher)
        return loss

    @property
    def is_over_ranks(self) -> bool:
        """Whether a batch's loss compares its images with those of other ranks."""
        compares = self.config.triplet_weight > 0 or self.config.teacher is not None
        return compares and self.process.world_size > 1

    def pairs(self, embeddings: Tensor, labels: Tensor, width: int) -> over_pairs.Pairs:
        """This rank's images beside those of all ranks."""
        return over_pairs.pairs_over_ranks(embeddings, labels, rank=self.process.rank, width=width)

    def end_step(self) -> None:
        """Update what the losses themselves learn; every rank must call it after each step."""
        if self.center_loss:
            self.center_loss.move_centers()
