"""Losses over pairs of images: this rank's, each beside those of all ranks.

Embeddings are of unit length here, since a tracker compares directions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deepsort_reid.training.losses.precision import at_least_float32
from deepsort_reid.training.ranks import distributed

NO_IMAGE = -1  # label of a padded row
MIN_SQUARE = 1e-12  # below it the gradient of a distance means nothing


@dataclass(frozen=True, eq=False)
class Pairs:
    """The A images of this rank, the anchors, beside the N of all ranks, padded rows among them.

    Attributes:
        own: (A, D) of unit length.
        everything: (N, D) of unit length, those of `own` among them.
        same: (A, N) bool, two images of one identity; an image and itself are no pair.
        other: (A, N) bool, images of two identities.
    """

    own: Tensor
    everything: Tensor
    same: Tensor
    other: Tensor

    @property
    def cosines(self) -> Tensor:
        """(A, N) at least float32."""
        with torch.autocast(self.own.device.type, enabled=False):
            return self.own @ self.everything.T

    @property
    def have_both(self) -> Tensor:
        """(A,) bool: anchors with a pair of either kind; the others teach nothing."""
        return self.same.any(1) & self.other.any(1)


def pairs_over_ranks(embeddings: Tensor, labels: Tensor, *, rank: int, width: int) -> Pairs:
    """Gather the images of all ranks; every rank must call it, and run backward through it.

    Args:
        embeddings: (B, D) float, of any length.
        labels: (B,) int64.
        rank: this process's.
        width: the largest B among the ranks; smaller batches are padded to it.
    """
    missing = width - len(labels)
    unit = F.normalize(embeddings.to(at_least_float32(embeddings)))
    padded = F.pad(unit, (0, 0, 0, missing))
    padded_labels = F.pad(labels, (0, missing), value=NO_IMAGE)
    return pairs_among(
        padded[: len(labels)],
        labels,
        distributed.gather_with_gradient(padded).flatten(0, 1),
        distributed.gather_over_ranks(padded_labels).flatten(),
        first=rank * width,
    )


def pairs_among(
    own: Tensor, own_labels: Tensor, everything: Tensor, labels: Tensor, *, first: int
) -> Pairs:
    """Tell which images are of one identity.

    Args:
        own: (A, D) this rank's embeddings, the anchors.
        own_labels: (A,) int64.
        everything: (N, D) the embeddings of all ranks, own ones among them.
        labels: (N,) int64; `NO_IMAGE` in padded rows.
        first: row of `everything` at which the own ones begin.
    """
    alike = own_labels[:, None] == labels
    numbers = torch.arange(len(labels), device=labels.device)
    itself = numbers == first + torch.arange(len(own), device=labels.device)[:, None]
    return Pairs(own, everything, alike & ~itself, ~alike & (labels != NO_IMAGE))


def batch_hard(pairs: Pairs, *, margin: float | None) -> Tensor:
    """Batch-hard triplet loss, summed over the anchors.

    Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017:
    each image against its farthest image of the same identity and its nearest one of another, in
    Euclidean distance, here between unit embeddings. An anchor without either counts 0.

    Args:
        pairs: the anchors, and what they are paired with.
        margin: by how much other identities shall be farther; None for the soft margin, which
            has no such limit.
    """
    distances = euclidean(pairs.own, pairs.everything)
    farthest = distances.masked_fill(~pairs.same, 0.0).amax(1)
    nearest = distances.masked_fill(~pairs.other, torch.inf).amin(1)
    gap = torch.where(pairs.have_both, farthest - nearest, -torch.inf)  # both margins make 0 of it
    return (F.softplus(gap) if margin is None else F.relu(gap + margin)).sum()


def euclidean(one: Tensor, other: Tensor) -> Tensor:
    """Distances (A, N) between (A, D) and (N, D); the gradient between equal rows is 0."""
    dtype = at_least_float32(one)
    with torch.autocast(one.device.type, enabled=False):  # a difference of large numbers
        one, other = one.to(dtype), other.to(dtype)
        squares = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
        return squares.clamp(min=MIN_SQUARE).sqrt()
