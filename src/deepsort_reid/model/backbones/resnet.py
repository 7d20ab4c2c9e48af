"""ResNets under torchvision's names, and their variants IBN-a and D.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride of a block in
its 3×3 convolution. Initial weights, embeddings and gradients are torchvision's to the bit. It is
not imported, since it brings what takes each process two seconds to import.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from deepsort_reid.model.backbones.base import ReidNet, stride_one

WIDTH = 64  # channels of the first layer
IBN = "_ibn_a"  # the end of a name


def conv3x3(inputs: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the map's size, or halves it."""
    return nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, and what enters added to what leaves."""

    expansion: ClassVar[int] = 1  # channels that leave, as a multiple of the layer's

    def __init__(
        self, inputs: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ):
        """Make a block.

        Args:
            inputs: channels that enter.
            channels: of the layer.
            stride: of the first convolution.
            downsample: brings what enters to the size of what leaves; None where it has it.
        """
        super().__init__()
        self.conv1 = conv3x3(inputs, channels, stride)
        self.bn1: nn.Module = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H', W')."""
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        residual += maps if self.downsample is None else self.downsample(maps)
        return cast("Tensor", self.relu(residual))


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, which narrow the maps and widen them again."""

    expansion: ClassVar[int] = 4

    def __init__(
        self, inputs: int, channels: int, stride: int = 1, downsample: nn.Module | None = None
    ):
        """Make a block; see `BasicBlock`."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, 4 × channels, H', W')."""
        residual = self.relu(self.bn1(self.conv1(maps)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        residual += maps if self.downsample is None else self.downsample(maps)
        return cast("Tensor", self.relu(residual))


Block = type[BasicBlock | Bottleneck]


@dataclass(frozen=True)
class Layout:
    """What a ResNet is built from.

    Attributes:
        block: what layers consist of.
        depths: blocks of each of the four layers.
        width: channels of the first layer; each later one has twice as many.
        deep: whether it is a ResNet-D.
    """

    block: Block
    depths: tuple[int, int, int, int]
    width: int = WIDTH
    deep: bool = False


LAYOUTS: dict[str, Layout] = {
    "resnet18": Layout(BasicBlock, (2, 2, 2, 2)),
    "resnet34": Layout(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Layout(Bottleneck, (3, 4, 6, 3)),
    "resnet18d": Layout(BasicBlock, (2, 2, 2, 2), deep=True),
    "resnet10d": Layout(BasicBlock, (1, 1, 1, 1), deep=True),
    "resnet10d_x0_5": Layout(BasicBlock, (1, 1, 1, 1), width=WIDTH // 2, deep=True),
}


class ReidResNet(ReidNet):
    """A ResNet with all four layers. The classifier is `fc`.

    A ResNet-D (He et al., "Bag of Tricks for Image Classification with Convolutional Neural
    Networks", CVPR 2019) begins with three 3×3 convolutions in place of one of 7×7, and halves by
    an average what a block adds to its residual; under the names that timm has for it.
    """

    classifier_name: ClassVar[str] = "fc"

    def __init__(self, layout: Layout, classes: int):
        """Make a network with random weights.

        Args:
            layout: what it is built from.
            classes: identities to tell apart.
        """
        super().__init__()
        block, width = layout.block, layout.width
        self.conv1 = deep_stem(width) if layout.deep else stem(width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = width
        for number, depth in enumerate(layout.depths):
            channels, stride = width * 2**number, 1 if number == 0 else 2
            layer = layer_of(block, inputs, channels, depth, stride=stride, deep=layout.deep)
            setattr(self, f"layer{number + 1}", layer)
            inputs = channels * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.feature_size = inputs
        self.fc = nn.Linear(inputs, classes)
        self.neck = nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512), or 2048 for ResNet50."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for layer in self.layers:
            maps = layer(maps)
        return cast("Tensor", self.avgpool(maps).flatten(1))

    @property
    def layers(self) -> list[nn.Sequential]:
        """The four layers, in order."""
        return [getattr(self, f"layer{number}") for number in (1, 2, 3, 4)]

    def keep_last_map(self) -> None:
        """Set the last layer's stride to 1."""
        stride_one(self.layers[-1])


def stem(width: int) -> nn.Module:
    """The first convolution, which halves the image."""
    return nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)


def deep_stem(width: int) -> nn.Module:
    """The first three convolutions of a ResNet-D, which halve the image."""
    middle = width // 2
    return nn.Sequential(
        conv3x3(3, middle, stride=2), nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
        conv3x3(middle, middle), nn.BatchNorm2d(middle), nn.ReLU(inplace=True),
        conv3x3(middle, width),
    )  # fmt: skip


def layer_of(
    block: Block, inputs: int, channels: int, depth: int, *, stride: int, deep: bool = False
) -> nn.Sequential:
    """Blocks of one size of map, the first of which changes size and channels.

    Args:
        block: their kind.
        inputs: channels that enter.
        channels: of the layer; `block.expansion` times as many leave it.
        depth: how many blocks.
        stride: of the first one.
        deep: whether an average halves what the first one adds to its residual.
    """
    leaving = channels * block.expansion
    downsample = None
    if stride != 1 or inputs != leaving:
        # An average over the pixels that are there: maps of odd sizes are rounded up.
        halving = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)]
        downsample = nn.Sequential(
            *(halving if deep else []),
            nn.Conv2d(inputs, leaving, 1, stride=1 if deep else stride, bias=False),
            nn.BatchNorm2d(leaving),
        )
    first = block(inputs, channels, stride, downsample)
    return nn.Sequential(first, *(block(leaving, channels) for _ in range(1, depth)))


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
        name: a key of `LAYOUTS`, with `_ibn_a` behind it for IBN-a: each block of the first three
            layers has an `InstanceBatchNorm` behind its first convolution, under the names of
            IBN-Net and fast-reid.
        classes: identities to tell apart.
    """
    net = ReidResNet(LAYOUTS[name.removesuffix(IBN)], classes)
    if name.endswith(IBN):
        for layer in net.layers[:3]:
            for block in layer:
                first = cast("BasicBlock | Bottleneck", block)
                first.bn1 = InstanceBatchNorm(first.conv1.out_channels)
    return net
