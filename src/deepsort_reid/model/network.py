"""The networks: a backbone that makes embeddings, and a classifier that teaches it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from deepsort_reid.core.errors import ConfigError, nearest_hint
from deepsort_reid.model.heads import CosineClassifier, GemPool, bnneck

Arch = Literal["resnet18", "resnet34", "resnet50", "deepsort"]
Head = Literal["linear", "cosine"]
Pooling = Literal["average", "gem"]
Neck = Literal["none", "bnneck"]
ARCHS: tuple[Arch, ...] = get_args(Arch)
HEADS: tuple[Head, ...] = get_args(Head)
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
NECKS: tuple[Neck, ...] = get_args(Neck)
CLASSIFIERS = ("fc", "classifier")  # the names of classifiers, which no embedding needs


@dataclass(frozen=True)
class Design:
    """What a network is built from, besides the number of classes; plain by default."""

    arch: Arch = "resnet18"
    head: Head = "linear"  # the classifier: `linear`, the architecture's own, or `cosine`
    last_stride: int = 2  # of the last layer: 2, or 1 to keep the feature map's size there
    pooling: Pooling = "average"  # over the last feature map
    neck: Neck = "none"  # between pooling and classifier


class ReidNet(nn.Module):
    """What all networks have in common: pooling, neck, classifier. `build` makes one."""

    feature_size: int  # channels of the last feature map
    layer4: nn.Sequential
    neck: nn.Module

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, feature_size) as the pooling leaves them."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, feature_size) behind the neck, of any length."""
        return cast("Tensor", self.neck(self.pooled(images)))

    def logits(self, features: Tensor) -> Tensor:
        """(B, feature_size) behind the neck -> (B, classes)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, classes) logits."""
        return self.logits(self.features(images))


class ReidResNet(resnet.ResNet, ReidNet):
    """torchvision's ResNet with all four layers, under torchvision's names.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The classifier is `fc`.
    """

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

    def logits(self, features: Tensor) -> Tensor:
        """(B, 512), or 2048 for ResNet50 -> (B, classes)."""
        return cast("Tensor", self.fc(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes) logits."""
        return self.logits(self.features(x))


class DeepSortNet(ReidNet):
    """The small network of deep_sort_pytorch, under its own names, so that its trackers load it.

    Four layers of two residual blocks, 64 to 512 channels, on an input halved once. The classifier
    has a hidden layer of 256.
    """

    feature_size = 512

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=1, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.layer1 = two_blocks(64, 64, stride=1)
        self.layer2 = two_blocks(64, 128, stride=2)
        self.layer3 = two_blocks(128, 256, stride=2)
        self.layer4 = two_blocks(256, 512, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(512, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(256, classes),
        )
        self.neck = nn.Identity()

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512)."""
        x = self.layer2(self.layer1(self.conv(images)))
        return cast("Tensor", self.avgpool(self.layer4(self.layer3(x))).flatten(1))

    def logits(self, features: Tensor) -> Tensor:
        """(B, 512) -> (B, classes)."""
        return cast("Tensor", self.classifier(features))


def two_blocks(inputs: int, channels: int, *, stride: int) -> nn.Sequential:
    """Two residual blocks, the first of which changes channels and resolution.

    Args:
        inputs: channels that enter.
        channels: channels that leave.
        stride: of the first block.
    """
    shortcut = None
    if stride != 1 or inputs != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
        )
    return nn.Sequential(
        BasicBlock(inputs, channels, stride, shortcut), BasicBlock(channels, channels)
    )


def build(design: Design, classes: int, *, seed: int = 0) -> ReidNet:
    """Make a network with random weights that depend on the seed alone.

    `last_stride` 1 makes the last feature map larger (Sun et al., "Beyond Part Models", ECCV 2018).
    The embedding is what leaves the neck.

    Args:
        design: what kind of network.
        classes: identities to tell apart.
        seed: draws the weights; the global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = backbone(design.arch, classes)
        if design.last_stride == 1:
            for layer in net.layer4.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
        if design.pooling == "gem":
            net.avgpool = GemPool()
        if design.neck == "bnneck":
            net.neck = bnneck(net.feature_size)
        if design.head == "cosine":
            setattr(net, classifier_name(net), CosineClassifier(net.feature_size, classes))
        return net


def backbone(arch: Arch, classes: int) -> ReidNet:
    """Make a network as its authors have it, with the architecture's own classifier."""
    if arch == "deepsort":
        return DeepSortNet(classes)
    block = Bottleneck if arch == "resnet50" else BasicBlock
    depths = [2, 2, 2, 2] if arch == "resnet18" else [3, 4, 6, 3]
    return ReidResNet(block, depths, classes)


def classifier_name(net: nn.Module) -> str:
    """The name of a network's classifier among its modules."""
    return next(name for name in CLASSIFIERS if hasattr(net, name))


def multiplier(net: nn.Module) -> Tensor | None:
    """() the factor of a cosine head's cosines; None for a linear head."""
    head = getattr(net, classifier_name(net))
    return head.multiplier() if isinstance(head, CosineClassifier) else None


def layout(device: torch.device) -> torch.memory_format:
    """The memory format in which a network trains fastest on a device.

    Channels are innermost on a GPU. On a CPU they are outermost, since the last layers have many
    weights for few pixels. benchmarks/speed.py measures both.
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def embed(net: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, H, W) float, normalised -> (B, feature_size) float32 embeddings of unit length."""
    features = cast("ReidNet", net).features(images)
    return F.normalize(features.float(), dim=1)


def without_classifier(net: nn.Module) -> nn.Module:
    """A copy of a network that makes embeddings alone, with the same weights in memory."""
    bare = copy.copy(net)
    bare._modules = {name: m for name, m in net._modules.items() if name not in CLASSIFIERS}
    return bare


class Embedder(nn.Module):
    """A network with its normalisation: colours in [0, 1] in, embeddings of unit length out."""

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]):
        """Wrap a network.

        Args:
            net: a network of `build`.
            mean: of RGB in [0, 1], (3,).
            std: likewise.
        """
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 RGB in [0, 1] -> (B, D) float32 of unit length."""
        mean, std = cast("Tensor", self.mean), cast("Tensor", self.std)
        return embed(self.net, (images - mean) / std)


# Frozen layers


def freeze(net: nn.Module, layers: Sequence[str]) -> None:
    """Exclude the weights of the named parts from training; see `set_training` for the rest.

    Args:
        net: a network of `build`.
        layers: names of its parts, as in its state dict: `conv1`, `layer1`, `layer4.0`.

    Raises:
        ConfigError: a part does not exist, or none would be left to train.
    """
    modules = dict(net.named_modules())
    for name in layers:
        if name not in modules or not name:
            parts = [part for part, _ in net.named_children()]
            hint = nearest_hint(name, parts)
            raise ConfigError(f"freeze_layers: the network has no '{name}'; {hint}")
        modules[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ConfigError(
            "freeze_layers: every part is frozen; leave one to train, such as the last"
        )


def set_training(net: nn.Module, frozen: Sequence[str]) -> None:
    """Put a network in train mode, but its frozen parts in eval mode.

    Otherwise the batch statistics of a frozen part would change, and its dropout would act.

    Args:
        net: a network of `build`.
        frozen: names of parts that `freeze` has accepted.
    """
    net.train()
    modules = dict(net.named_modules())
    for name in frozen:
        modules[name].eval()
