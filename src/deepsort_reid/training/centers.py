"""The center loss: draws each identity's embeddings together.

Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016.
"""

import torch
from torch import Tensor

from deepsort_reid.training import distributed

RATE = 0.5  # of the way that a center goes towards its identity's images in a step, as in the paper


class Centers:
    """Where each identity's embeddings lie; the same on every rank.

    They move once a step, by what all ranks have seen in it, however many batches that was.
    """

    def __init__(self, classes: int, size: int, *, device: torch.device, dtype: torch.dtype):
        """Begin at the origin.

        Args:
            classes: identities.
            size: D, components of an embedding.
            device: of the embeddings.
            dtype: of the centers, float32 or float64.
        """
        self.positions = torch.zeros(classes, size, device=device, dtype=dtype)
        self._seen = torch.zeros(classes, size + 1, device=device, dtype=dtype)

    def loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Half the squared distance of each embedding from its center, summed over the batch.

        Args:
            embeddings: (B, D) as they are, not of unit length; those of this step.
            labels: (B,) int64.
        """
        ways = embeddings.to(self.positions.dtype) - self.positions[labels]
        one = ways.new_ones(len(labels), 1)
        self._seen.index_add_(0, labels, torch.cat([ways.detach(), one], dim=1))
        return ways.square().sum() / 2

    def move(self) -> None:
        """Move the centers towards what all ranks have seen since the last time; all must call it.

        The way is the sum of an identity's over one more than its images: a rare one moves less.
        """
        seen = distributed.sum_over_ranks(self._seen)
        self.positions += RATE * seen[:, :-1] / (1 + seen[:, -1:])
        self._seen.zero_()
