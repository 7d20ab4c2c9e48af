"""OSNet, the network that trackers ship with, and its variants with instance normalisation.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019; the variants IBN
and AIN from "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI
2021. The tensors have the names that torchreid's files have, which boxmot and others load too.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.model.backbones.base import ReidNet

CHANNELS: dict[str, tuple[int, int, int, int]] = {  # of the stem and the three stages
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
EMBEDDING = 512
SCALES = 4  # streams of a block, which see 3, 5, 7 and 9 pixels
Norm = Literal["batch", "instance", "none"]
NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": partial(nn.InstanceNorm2d, affine=True),
    "none": lambda _: nn.Identity(),
}
# Where the blocks of AIN normalise each image by itself, found by its authors' search.
AIN = ((True, True), (False, True), (True, False))


class Conv(nn.Module):
    """A convolution, a normalisation, and a ReLU unless there is none."""

    def __init__(
        self,
        inputs: int,
        channels: int,
        size: int = 1,
        *,
        stride: int = 1,
        norm: Norm = "batch",
        relu: bool = True,
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, size, stride, padding=size // 2, bias=False)
        self.bn = NORMS[norm](channels)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H', W')."""
        return cast("Tensor", self.relu(self.bn(self.conv(maps))))


class LightConv(nn.Module):
    """A 3×3 convolution in two parts: across channels, then across pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return F.relu(self.bn(self.conv2(self.conv1(maps))), inplace=True)


class ChannelGate(nn.Module):
    """Weights each channel of an image by a factor in (0, 1), made from all its channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        means = maps.mean((2, 3), keepdim=True)
        return maps * torch.sigmoid(self.fc2(F.relu(self.fc1(means), inplace=True)))


class Block(nn.Module):
    """A residual block of four streams that see ever more pixels, summed through one gate.

    Attributes:
        streams: names of the streams' modules; OSNet and AIN have different ones.
    """

    def __init__(self, inputs: int, channels: int, *, as_ain: bool, norm_inside: bool, norm: bool):
        """Make a block.

        Args:
            inputs: channels that enter.
            channels: channels that leave.
            as_ain: whether modules have the names of AIN.
            norm_inside: instance normalisation of the residual, in place of its batch
                normalisation.
            norm: instance normalisation of the sum.
        """
        super().__init__()
        middle = channels // 4
        self.conv1 = Conv(inputs, middle)
        depths = range(1, SCALES + 1)
        if as_ain:
            self.conv2 = nn.ModuleList(Stream(middle, depth) for depth in depths)
        else:
            self.conv2a = LightConv(middle)
            for letter, depth in zip("bcd", depths[1:], strict=True):
                lights = (LightConv(middle) for _ in range(depth))
                setattr(self, f"conv2{letter}", nn.Sequential(*lights))
        self.gate = ChannelGate(middle)
        self.conv3 = Conv(middle, channels, norm="none" if norm_inside else "batch", relu=False)
        self.downsample = Conv(inputs, channels, relu=False) if inputs != channels else None
        if norm_inside or norm:
            self.IN = NORMS["instance"](channels)
        self.as_ain, self.norm_inside, self.norm = as_ain, norm_inside, norm

    @property
    def streams(self) -> Sequence[nn.Module]:
        """The four streams, that of the fewest pixels first."""
        if self.as_ain:
            return list(self.conv2)
        return [self.conv2a, *(getattr(self, f"conv2{letter}") for letter in "bcd")]

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H, W)."""
        first, *others = self.streams
        entering = self.conv1(maps)
        mixed = self.gate(first(entering))
        for stream in others:
            mixed = mixed + self.gate(stream(entering))
        residual = self.conv3(mixed)
        if self.norm_inside:
            residual = self.IN(residual)
        summed = residual + (maps if self.downsample is None else self.downsample(maps))
        return F.relu(self.IN(summed) if self.norm else summed, inplace=True)


class Stream(nn.Module):
    """Some light convolutions in a row, under the names of AIN."""

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.layers = nn.Sequential(*(LightConv(channels) for _ in range(depth)))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return cast("Tensor", self.layers(maps))


def blocks(
    inputs: int, channels: int, variant: str, inside: Sequence[bool], *, norm: bool = False
) -> nn.Sequential:
    """The two blocks of a stage.

    Args:
        inputs: channels that enter.
        channels: channels that leave.
        variant: see `OSNet`.
        inside: of each block, whether AIN normalises its residual.
        norm: whether the sum is normalised.
    """
    as_ain = variant == "ain"
    first, second = (
        Block(entering, channels, as_ain=as_ain, norm_inside=as_ain and place, norm=norm)
        for entering, place in zip((inputs, channels), inside, strict=True)
    )
    return nn.Sequential(first, second)


def halving(channels: int) -> nn.Sequential:
    """What brings a stage's maps to half their size."""
    return nn.Sequential(Conv(channels, channels), nn.AvgPool2d(2, 2))


class OSNet(ReidNet):
    """OSNet of any width; its embedding is a linear layer of 512 behind the pooling.

    Its last stage keeps the size of its feature map as published: 1/16 of the image's.
    """

    pool_name: ClassVar[str] = "global_avgpool"
    feature_size = EMBEDDING

    def __init__(self, channels: Sequence[int], classes: int, *, variant: str = ""):
        """Make a network with random weights.

        Args:
            channels: of the stem and the three stages.
            classes: identities to tell apart.
            variant: of the instance normalisation: `""` none, `ibn` or `ain`.
        """
        super().__init__()
        stem, first, second, third = channels
        self.conv1 = Conv(3, stem, 7, stride=2, norm="instance" if variant else "batch")
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.conv2 = blocks(stem, first, variant, AIN[0], norm=variant == "ibn")
        self.conv3 = blocks(first, second, variant, AIN[1])
        self.conv4 = blocks(second, third, variant, AIN[2])
        if variant == "ain":
            self.pool2, self.pool3 = halving(first), halving(second)
        else:
            self.conv2.append(halving(first))
            self.conv3.append(halving(second))
        self.conv5 = Conv(third, third)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(third, EMBEDDING), nn.BatchNorm1d(EMBEDDING), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Linear(EMBEDDING, classes)
        self.neck = nn.Identity()
        self.apply(set_random)

    @property
    def stages(self) -> Iterator[nn.Module]:
        """What stands between the stem and the last convolution, in order."""
        names = ("conv2", "pool2", "conv3", "pool3", "conv4")
        return (getattr(self, name) for name in names if hasattr(self, name))

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512)."""
        maps = self.maxpool(self.conv1(images))
        for stage in self.stages:
            maps = stage(maps)
        maps = self.conv5(maps)
        return cast("Tensor", self.fc(self.global_avgpool(maps).flatten(1)))

    def keep_last_map(self) -> None:
        """Nothing: the last stage does so as published."""


def set_random(layer: nn.Module) -> None:
    """Draw a layer's weights as OSNet's authors do."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)


def make(name: str, classes: int) -> OSNet:
    """An OSNet by its name, with random weights.

    Args:
        name: `osnet_x0_25`, `osnet_ain_x1_0`, …: a variant, and a key of `CHANNELS`.
        classes: identities to tell apart.
    """
    start, _, width = name.rpartition("_x")
    return OSNet(CHANNELS[f"x{width}"], classes, variant=start.removeprefix("osnet").strip("_"))
