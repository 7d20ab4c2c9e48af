"""What stands behind a backbone: the pooling, the neck and the classifier."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 16.0  # the initial factor of a cosine head's cosines
LEAST = 1e-6  # of a feature map whose powers are taken


class GemPool(nn.Module):
    """Generalised mean over a feature map: between the average (p = 1) and the maximum.

    Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI
    2019; p is learned and begins at 3, as there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W), of which negative values count as 0 -> (B, C, 1, 1)."""
        with torch.autocast(maps.device.type, enabled=False):  # bfloat16 is too coarse for powers
            maps = maps.to(self.p.dtype).clamp(min=LEAST)
            most = maps.detach().amax((2, 3), keepdim=True)  # else small numbers' powers vanish
            powers = (maps / most).pow(self.p)
            return most * powers.mean((2, 3), keepdim=True).pow(1 / self.p)


def bnneck(features: int) -> nn.BatchNorm1d:
    """Batch normalisation without offset between pooling and classifier: (B, features), likewise.

    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW
    2019. Distances are learned on what enters it, identities are told by what leaves it.
    """
    norm = nn.BatchNorm1d(features)
    norm.bias.requires_grad_(False)
    return norm


class CosineClassifier(nn.Module):
    """Logits by direction alone, times a learned scale: the cosine softmax of Deep SORT.

    Wojke and Bewley, "Deep Cosine Metric Learning for Person Re-identification", WACV 2018. It
    learns by what a tracker measures: the cosine of two embeddings.
    """

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features) / features**0.5)
        self.scale = nn.Parameter(torch.tensor(SCALE))  # before softplus, which keeps it above 0

    def forward(self, features: Tensor) -> Tensor:
        """(B, features) -> (B, classes) logits."""
        features = features.to(self.weight.dtype)  # cosines are too coarse in bfloat16
        with torch.autocast(features.device.type, enabled=False):
            cosines = F.linear(F.normalize(features), F.normalize(self.weight))
            return self.multiplier() * cosines

    def multiplier(self) -> Tensor:
        """() the factor of the cosines."""
        return F.softplus(self.scale)
