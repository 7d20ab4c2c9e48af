"""What a network is taught by: classification, and distances between images.

Every loss is a sum over this rank's images: so ranks with unlike shares add up to the mean over the
global batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

NOBODY = -1  # label of a place that holds no image
LEAST_SQUARE = 1e-12  # below it a distance has no gradient that means anything


def classification(
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    angular_margin: float = 0.0,
    scale: Tensor | None = None,
) -> Tensor:
    """Cross-entropy, summed over the batch.

    Labels are smoothed as in Szegedy et al., "Rethinking the Inception Architecture for Computer
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
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if angular_margin:
        if scale is None:
            raise ValueError("an angular margin needs logits that are cosines times a scale")
        logits = with_margin(logits, labels, angular_margin, scale)
    return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)


def with_margin(logits: Tensor, labels: Tensor, margin: float, scale: Tensor) -> Tensor:
    """Add an angle to that between each image and its own class.

    An angle that would pass half a turn stays there: its cosine would rise again.

    Args:
        logits: (B, classes) cosines times the scale.
        labels: (B,) int64.
        margin: radians.
        scale: () float.
    """
    own = labels[:, None]
    cosine = (logits.gather(1, own) / scale).clamp(-1 + 1e-6, 1 - 1e-6)  # acos' ends are vertical
    angle = (cosine.acos() + margin).clamp(max=torch.pi)
    return logits.scatter(1, own, angle.cos() * scale)


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
        labels: (N,) int64; `NOBODY` where there is no image.
        first: where in `everything` the own ones begin.
        margin: by how much other identities shall be farther; None for the soft margin, which
            wants them farther without end.
    """
    distances = euclidean(own, everything)
    same = own_labels[:, None] == labels
    other = ~same & (labels != NOBODY)
    numbers = torch.arange(len(labels), device=labels.device)
    itself = numbers == first + torch.arange(len(own), device=labels.device)[:, None]
    same &= ~itself
    farthest = distances.masked_fill(~same, 0.0).amax(1)
    nearest = distances.masked_fill(~other, torch.inf).amin(1)
    has_both = same.any(1) & other.any(1)
    gap = torch.where(has_both, farthest - nearest, -torch.inf)  # of which both losses make 0
    return (F.softplus(gap) if margin is None else F.relu(gap + margin)).sum()


def euclidean(one: Tensor, other: Tensor) -> Tensor:
    """Distances (A, N) between (A, D) and (N, D), with a gradient of 0 where two are the same."""
    dtype = torch.promote_types(one.dtype, torch.float32)
    with torch.autocast(one.device.type, enabled=False):  # a difference of large numbers
        one, other = one.to(dtype), other.to(dtype)
        squares = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
        return squares.clamp(min=LEAST_SQUARE).sqrt()
