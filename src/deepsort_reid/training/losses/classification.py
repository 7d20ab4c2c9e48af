"""Cross-entropy, with smoothed labels or a margin between angles."""

import torch
from torch import Tensor
from torch.nn import functional as F

from deepsort_reid.training.losses.precision import at_least_float32


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
