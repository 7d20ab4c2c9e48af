"""The center loss."""

import torch
from torch import Tensor

from deepsort_reid.training.ranks import distributed

CENTER_RATE = 0.5  # alpha of the center loss, as in the paper


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
