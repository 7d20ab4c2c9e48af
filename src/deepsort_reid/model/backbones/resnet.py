"""ResNets, which are torchvision's, and their variants with instance normalisation, IBN-a."""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from deepsort_reid.model.backbones.base import ReidNet, stride_one

BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
IBN = "_ibn_a"  # the end of a name


class ReidResNet(resnet.ResNet, ReidNet):
    """torchvision's ResNet with all four layers, under torchvision's names.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The classifier is `fc`.
    """

    classifier_name: ClassVar[str] = "fc"

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: list[int], classes: int):
        """Make a network with random weights.

        Args:
            block: what layers consist of.
            depths: blocks of each of the four layers.
            classes: identities to tell apart.
        """
        super().__init__(block, depths, classes)
        self.feature_size = self.fc.in_features
        self.neck = nn.Identity()

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512), or 2048 for ResNet50."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast("Tensor", self.avgpool(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes) logits."""
        return self.logits(self.features(x))

    def keep_last_map(self) -> None:
        """Set the last layer's stride to 1."""
        stride_one(self.layer4)


class InstanceBatchNorm(nn.Module):
    """Instance normalisation of the first half of the channels, batch normalisation of the rest.

    Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV
    2018. What a camera does to the colours is normalised away in the first half.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = channels // 2
        self.IN = nn.InstanceNorm2d(self.first, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.first)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        instances, batch = maps[:, : self.first], maps[:, self.first :]
        return torch.cat([self.IN(instances.contiguous()), self.BN(batch.contiguous())], 1)


def make(name: str, classes: int) -> ReidResNet:
    """A ResNet by its name, with random weights.

    Args:
        name: a key of `BLOCKS`, with `_ibn_a` behind it for IBN-a: each block of the first three
            layers has an `InstanceBatchNorm` behind its first convolution, under the names of
            IBN-Net and fast-reid.
        classes: identities to tell apart.
    """
    net = ReidResNet(*BLOCKS[name.removesuffix(IBN)], classes)
    if name.endswith(IBN):
        for layer in (net.layer1, net.layer2, net.layer3):
            for block in layer:
                first = cast("BasicBlock | Bottleneck", block)
                first.bn1 = InstanceBatchNorm(first.conv1.out_channels)
    return net
