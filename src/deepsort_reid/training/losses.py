"""What a network learns from: the losses, and the sum of those that the parameters ask for.

A new loss is a function here and a term in `TrainingLoss.__call__`; its weight is a parameter in
core/config.py. Every loss is a sum over this rank's images, so that ranks with shares of different
sizes add up to the mean over the global batch.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.model.network import ReidNet, multiplier
from deepsort_reid.training import distributed
from deepsort_reid.training.distributed import Process

NO_IMAGE = -1  # label of a padded row
MIN_SQUARE = 1e-12  # below it the gradient of a distance means nothing
CENTER_RATE = 0.5  # alpha of the center loss, as in the paper


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
                cast("ReidNet", net).feature_size,
                device=weight.device,
                dtype=at_least_float32(weight),
            )
            if config.center_weight
            else None
        )

    def __call__(self, logits: Tensor, pooled: Tensor, labels: Tensor, *, width: int) -> Tensor:
        """The loss of one batch, () float, summed over this rank's images.

        Args:
            logits: (B, classes).
            pooled: (B, D) embeddings before the neck.
            labels: (B,) int64.
            width: the largest B among the ranks.
        """
        config = self.config
        loss = classification(
            logits,
            labels,
            label_smoothing=config.label_smoothing,
            angular_margin=config.angular_margin,
            scale=multiplier(self.net),
        )
        if config.triplet_weight:
            loss = loss + config.triplet_weight * triplet(
                pooled, labels, margin=config.triplet_margin, rank=self.process.rank, width=width
            )
        if self.center_loss:
            loss = loss + config.center_weight * self.center_loss(pooled, labels)
        return loss

    def end_step(self) -> None:
        """Update what the losses themselves learn; every rank must call it after each step."""
        if self.center_loss:
            self.center_loss.move_centers()


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """The dtype to compute a loss in: bfloat16's eight bits are too few for a logarithm."""
    return torch.promote_types(tensor.dtype, torch.float32)


# Classification


def classification(
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    angular_margin: float = 0.0,
    scale: Tensor | None = None,
) -> Tensor:
    """Cross-entropy, summed over the batch.

    Label smoothing is that of Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", CVPR 2016. The margin is that of Deng et al., "ArcFace: Additive Angular Margin Loss
    for Deep Face Recognition", CVPR 2019.

    Args:
        logits: (B, classes) float.
        labels: (B,) int64.
        label_smoothing: share of each label that is spread over all classes.
        angular_margin: radians added to the angle between an image and its own class.
        scale: () what the logits are cosines times; needed for a margin.

    Raises:
        ValueError: there is a margin and no scale.
    """
    logits = logits.to(at_least_float32(logits))
    if angular_margin:
        if scale is None:
            raise ValueError("an angular margin needs logits that are cosines times a scale")
        logits = with_margin(logits, labels, angular_margin, scale)
    return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)


def with_margin(logits: Tensor, labels: Tensor, margin: float, scale: Tensor) -> Tensor:
    """Add an angle to that between each image and its own class.

    The sum is at most pi: beyond it the cosine would rise again.

    Args:
        logits: (B, classes) cosines times the scale.
        labels: (B,) int64.
        margin: radians.
        scale: () float.
    """
    own = labels[:, None]
    # The gradient of acos is infinite at -1 and 1.
    cosine = (logits.gather(1, own) / scale).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = (cosine.acos() + margin).clamp(max=torch.pi)
    return logits.scatter(1, own, angle.cos() * scale)


# Triplets


def triplet(
    pooled: Tensor, labels: Tensor, *, margin: float | None, rank: int, width: int
) -> Tensor:
    """Batch-hard triplet loss of this rank's images among those of all ranks.

    Distances are between unit embeddings, since a tracker compares directions; the paper compares
    the embeddings themselves.

    Args:
        pooled: (B, D) embeddings before the neck.
        labels: (B,) int64.
        margin: see `batch_hard`.
        rank: this process's.
        width: the largest B among the ranks; smaller batches are padded to it.
    """
    missing = width - len(labels)
    unit = F.normalize(pooled.to(at_least_float32(pooled)))
    padded = F.pad(unit, (0, 0, 0, missing))
    padded_labels = F.pad(labels, (0, missing), value=NO_IMAGE)
    return batch_hard(
        padded[: len(labels)],
        labels,
        distributed.gather_with_gradient(padded).flatten(0, 1),
        distributed.gather_over_ranks(padded_labels).flatten(),
        first=rank * width,
        margin=margin,
    )


def batch_hard(
    own: Tensor,
    own_labels: Tensor,
    everything: Tensor,
    labels: Tensor,
    *,
    first: int,
    margin: float | None,
) -> Tensor:
    """Batch-hard triplet loss, summed over the anchors.

    Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017:
    each image against its farthest image of the same identity and its nearest one of another, in
    Euclidean distance. An anchor without either counts 0.

    Args:
        own: (A, D) this rank's embeddings, the anchors.
        own_labels: (A,) int64.
        everything: (N, D) the embeddings of all ranks, own ones among them.
        labels: (N,) int64; `NO_IMAGE` in padded rows.
        first: row of `everything` at which the own ones begin.
        margin: by how much other identities shall be farther; None for the soft margin, which
            has no such limit.
    """
    distances = euclidean(own, everything)
    same = own_labels[:, None] == labels
    other = ~same & (labels != NO_IMAGE)
    numbers = torch.arange(len(labels), device=labels.device)
    itself = numbers == first + torch.arange(len(own), device=labels.device)[:, None]
    same &= ~itself
    farthest = distances.masked_fill(~same, 0.0).amax(1)
    nearest = distances.masked_fill(~other, torch.inf).amin(1)
    has_both = same.any(1) & other.any(1)
    gap = torch.where(has_both, farthest - nearest, -torch.inf)  # both margins make 0 of -inf
    return (F.softplus(gap) if margin is None else F.relu(gap + margin)).sum()


def euclidean(one: Tensor, other: Tensor) -> Tensor:
    """Distances (A, N) between (A, D) and (N, D); the gradient between equal rows is 0."""
    dtype = at_least_float32(one)
    with torch.autocast(one.device.type, enabled=False):  # a difference of large numbers
        one, other = one.to(dtype), other.to(dtype)
        squares = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
        return squares.clamp(min=MIN_SQUARE).sqrt()


# Centers


class CenterLoss:
    """Draws each identity's embeddings towards their center, which is the same on every rank.

    Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016.
    Centers move once a step, by the images of all ranks and batches in it.
    """

    def __init__(self, classes: int, size: int, *, device: torch.device, dtype: torch.dtype):
        """Begin with all centers at the origin.

        Args:
            classes: number of identities.
            size: D, components of an embedding.
            device: of the embeddings.
            dtype: of the centers, float32 or float64.
        """
        self.centers = torch.zeros(classes, size, device=device, dtype=dtype)
        self._sums = torch.zeros(classes, size + 1, device=device, dtype=dtype)

    def __call__(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Half the squared distance of each embedding from its center, summed over the batch.

        Args:
            embeddings: (B, D), not of unit length.
            labels: (B,) int64.
        """
        offsets = embeddings.to(self.centers.dtype) - self.centers[labels]
        one = offsets.new_ones(len(labels), 1)
        self._sums.index_add_(0, labels, torch.cat([offsets.detach(), one], dim=1))
        return offsets.square().sum() / 2

    def move_centers(self) -> None:
        """Move the centers by the offsets since the last call; every rank must call it.

        A center moves by its identity's summed offsets over one more than its images, so that a
        rare identity's center moves less.
        """
        sums = distributed.sum_over_ranks(self._sums)
        self.centers += CENTER_RATE * sums[:, :-1] / (1 + sums[:, -1:])
        self._sums.zero_()
