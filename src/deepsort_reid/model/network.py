"""The networks: a backbone that makes embeddings, and a classifier that teaches it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.core.errors import ConfigError, first_line, nearest_hint
from deepsort_reid.model.backbones.base import ReidNet as ReidNet
from deepsort_reid.model.backbones.registry import backbone
from deepsort_reid.model.heads import CosineClassifier, bnneck

Head = Literal["linear", "cosine"]
Pooling = Literal["average", "gem"]
Neck = Literal["none", "bnneck"]
HEADS: tuple[Head, ...] = get_args(Head)
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
NECKS: tuple[Neck, ...] = get_args(Neck)
IMAGE_SIZE = (128, 64)  # height and width; of most re-identification crops


@dataclass(frozen=True)
class Design:
    """What a network is built from, besides classes and image size; plain by default."""

    arch: str = "resnet18"
    head: Head = "linear"  # the classifier: `linear`, the architecture's own, or `cosine`
    last_stride: int = 2  # of the last stage: 2, as published, or 1 to keep its feature map large
    pooling: Pooling = "average"  # over the last feature map
    neck: Neck = "none"  # between pooling and classifier


def build(
    design: Design, classes: int, *, image_size: tuple[int, int] = IMAGE_SIZE, seed: int = 0
) -> ReidNet:
    """Make a network with random weights that depend on the seed alone.

    `last_stride` 1 makes the last feature map larger (Sun et al., "Beyond Part Models", ECCV 2018).
    The embedding is what leaves the neck.

    Args:
        design: what kind of network.
        classes: identities to tell apart.
        image_size: height and width in pixels; some networks take images of one size only.
        seed: draws the weights; the global random state stays as it was.

    Raises:
        ConfigError: the network is not known, or cannot be built as designed or for such images.
        MissingPackageError: the network is one of timm's, which is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = backbone(design.arch, classes, image_size)
        if design.last_stride == 1:
            net.keep_last_map()
        if design.pooling == "gem":
            net.use_gem()
        if design.neck == "bnneck":
            net.neck = bnneck(net.feature_size)
        if design.head == "cosine":
            setattr(net, net.classifier_name, CosineClassifier(net.feature_size, classes))
        return net


def check_image_size(net: ReidNet, arch: str, image_size: tuple[int, int]) -> None:
    """Refuse images that a network cannot take: too small, or no multiple of its patches.

    Args:
        net: a network of `build`, which stays as it is.
        arch: its name.
        image_size: height and width in pixels.

    Raises:
        ConfigError: it cannot take them.
    """
    was_training = net.training
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, 3, *image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        height, width = image_size
        raise ConfigError(
            f"arch={arch} cannot take images of {height}×{width} pixels ({first_line(error)}); "
            "change split.image_size"
        ) from None
    finally:
        net.train(was_training)


def multiplier(net: nn.Module) -> Tensor | None:
    """() the factor of a cosine head's cosines; None for a linear head."""
    head = cast("ReidNet", net).classifier_module
    return head.multiplier() if isinstance(head, CosineClassifier) else None


def layout(net: nn.Module, device: torch.device, *, bfloat16: bool = False) -> torch.memory_format:
    """The memory format in which a network trains fastest on a device.

    Channels are innermost on a GPU, in bfloat16, and in networks with depthwise convolutions. Other
    networks have them outermost in float32 on a CPU, since their last layers have many weights for
    few pixels. benchmarks/speed.py measures both.

    Args:
        net: the network.
        device: that computes.
        bfloat16: whether it computes in bfloat16.
    """
    outermost = device.type == "cpu" and not bfloat16 and not is_depthwise(net)
    return torch.contiguous_format if outermost else torch.channels_last


def is_depthwise(net: nn.Module) -> bool:
    """Whether a network has convolutions that take each channel for itself."""
    convolutions = (module for module in net.modules() if isinstance(module, nn.Conv2d))
    return any(conv.groups == conv.in_channels > 1 for conv in convolutions)


def embed(net: nn.Module, images: Tensor) -> Tensor:
    """(B, 3, H, W) float, normalised -> (B, feature_size) float32 embeddings of unit length."""
    features = cast("ReidNet", net).features(images)
    return F.normalize(features.float(), dim=1)


def without_classifier(net: nn.Module) -> nn.Module:
    """A copy of a network that makes embeddings alone, with the same weights in memory."""
    bare = copy.copy(net)
    classifier = cast("ReidNet", net).classifier_name
    bare._modules = {name: m for name, m in net._modules.items() if name != classifier}
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
