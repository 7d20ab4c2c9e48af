"""The networks: a backbone that makes embeddings, a classifier that teaches it."""

import copy
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from deepsort_reid.core.errors import ConfigError, WeightsError, nearest_hint

logger = logging.getLogger(__name__)

ZIP_START = b"PK\x03\x04"
BLOCK = 1 << 20  # bytes read at a time
ARCHS = ("resnet18", "resnet34", "resnet50", "deepsort")
HEADS = ("linear", "cosine")
POOLINGS = ("average", "gem")
NECKS = ("none", "bnneck")
SCALE = 16.0  # what a cosine head multiplies cosines by, at first
LEAST = 1e-6  # of a feature map whose powers are taken
CLASSIFIERS = ("fc", "classifier")  # what a network has to learn by, and no embedding needs


class ReidNet(Protocol):
    """What every network offers; `build` makes one."""

    feature_size: int
    neck: nn.Module

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, feature_size) as the pooling leaves them."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, feature_size) behind the neck, of any length."""
        ...

    def logits(self, features: Tensor) -> Tensor:
        """(B, feature_size) behind the neck -> (B, classes)."""
        ...

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float, normalised -> (B, classes) logits."""
        ...


class ReidResNet(resnet.ResNet):
    """torchvision's ResNet, all four layers, under torchvision's own names.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The embedding is what the
    average over the last feature map leaves; `fc` is the classifier.
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], classes: int):
        super().__init__(block, layers, num_classes=classes)
        self.feature_size = self.fc.in_features
        self.neck: nn.Module = nn.Identity()

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512), or 2048 for ResNet50."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast("Tensor", self.avgpool(x).flatten(1))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512), or 2048 for ResNet50."""
        return cast("Tensor", self.neck(self.pooled(images)))

    def logits(self, features: Tensor) -> Tensor:
        """(B, 512), or 2048 for ResNet50 -> (B, classes)."""
        return cast("Tensor", self.fc(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes) logits."""
        return self.logits(self.features(x))


class DeepSortNet(nn.Module):
    """The small network of deep_sort_pytorch, under its own names, so that its trackers load it.

    Four layers of two residual blocks, 64 to 512 channels, on an input halved once; the classifier
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
        self.neck: nn.Module = nn.Identity()

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512)."""
        x = self.layer2(self.layer1(self.conv(images)))
        return cast("Tensor", self.avgpool(self.layer4(self.layer3(x))).flatten(1))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512)."""
        return cast("Tensor", self.neck(self.pooled(images)))

    def logits(self, features: Tensor) -> Tensor:
        """(B, 512) -> (B, classes)."""
        return cast("Tensor", self.classifier(features))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes) logits."""
        return self.logits(self.features(images))


def two_blocks(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Two residual blocks, the first of which changes channels and resolution."""
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )
    return nn.Sequential(
        BasicBlock(channels_in, channels_out, stride, shortcut),
        BasicBlock(channels_out, channels_out),
    )


class CosineClassifier(nn.Module):
    """Logits by direction alone, times a scale that is learned: the cosine softmax of Deep SORT.

    Wojke and Bewley, "Deep Cosine Metric Learning for Person Re-identification", WACV 2018. What
    it learns by is what a tracker measures: the cosine of two embeddings.
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
        """() what cosines are multiplied by."""
        return F.softplus(self.scale)


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


class Taught(nn.Module):
    """A network as the losses see it, in one pass forward."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> (B, classes) logits, and the (B, D) before the neck."""
        net = cast("ReidNet", self.net)
        pooled = net.pooled(images)
        return net.logits(net.neck(pooled)), pooled


def build(
    arch: str,
    classes: int,
    *,
    head: str = "linear",
    last_stride: int = 2,
    pooling: str = "average",
    neck: str = "none",
    seed: int = 0,
) -> nn.Module:
    """Make a network with random weights that depend on the seed alone.

    `last_stride: 1` and the neck are of Luo et al., "Bag of Tricks and a Strong Baseline for Deep
    Person Re-identification", CVPRW 2019 (the first after Sun et al., "Beyond Part Models", ECCV
    2018): a larger last feature map, and a batch normalisation without offset between what
    distances are learned on and what identities are told by. The embedding is what comes out of
    the neck.

    Args:
        arch: `resnet18`, `resnet34`, `resnet50` or `deepsort`.
        classes: identities to tell apart.
        head: the classifier: `linear`, the architecture's own, or `cosine`.
        last_stride: of the last layer: 2, or 1 to keep the feature map's size there.
        pooling: `average` over the last feature map, or `gem`.
        neck: `bnneck`, or `none`.
        seed: draws the weights; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: DeepSortNet | ReidResNet
        if arch == "deepsort":
            net = DeepSortNet(classes)
        else:
            block = Bottleneck if arch == "resnet50" else BasicBlock
            layers = [2, 2, 2, 2] if arch == "resnet18" else [3, 4, 6, 3]
            net = ReidResNet(block, layers, classes)
        if last_stride == 1:
            for layer in net.layer4.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
        if pooling == "gem":
            net.avgpool = cast("nn.AdaptiveAvgPool2d", GemPool())
        if neck == "bnneck":
            norm = net.neck = nn.BatchNorm1d(net.feature_size)
            norm.bias.requires_grad_(False)
        if head == "cosine":
            setattr(net, classifier_name(net), CosineClassifier(net.feature_size, classes))
        return net


def classifier_name(net: nn.Module) -> str:
    """What a network's classifier is called."""
    return next(name for name in CLASSIFIERS if hasattr(net, name))


def multiplier(net: nn.Module) -> Tensor | None:
    """() what a cosine head multiplies cosines by; None of a linear one."""
    head = getattr(net, classifier_name(net))
    return head.multiplier() if isinstance(head, CosineClassifier) else None


def layout(device: torch.device) -> torch.memory_format:
    """The order in memory that a network's images and weights train fastest in.

    Colours innermost on a GPU; outermost on a CPU, where the last layers' many weights meet few
    pixels. benchmarks/speed.py measures both.
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def embed(net: nn.Module, images: Tensor) -> Tensor:
    """Read embeddings off a network: (B, 3, H, W) float, normalised -> (B, D) of unit length."""
    features = cast("ReidNet", net).features(images)
    return F.normalize(features.float(), dim=1)


def without_classifier(net: nn.Module) -> nn.Module:
    """A copy of a network that makes embeddings and nothing else; its weights are shared."""
    bare = copy.copy(net)
    bare._modules = {name: m for name, m in net._modules.items() if name not in CLASSIFIERS}
    return bare


class Embedder(nn.Module):
    """A network as a user wants it: colours in, unit embeddings out, nothing to normalise."""

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]):
        """Wrap a network.

        Args:
            net: a network of `build`.
            mean: RGB, of colours in [0, 1].
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
    """Keep the weights and the batch statistics of the named parts as they are.

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
    """Put a network in train mode, its frozen parts in eval mode, so that nothing in them moves.

    Dropout and batch statistics of a frozen part would otherwise go on changing.
    """
    net.train()
    modules = dict(net.named_modules())
    for name in frozen:
        modules[name].eval()


# Pretrained weights


@dataclass(frozen=True)
class LoadReport:
    """What became of a file of weights."""

    loaded: Sequence[str]
    skipped: Mapping[str, str]  # in the file, of another shape -> "(751, 512) for (64, 512)"
    missing: Sequence[str]  # in the network, not in the file
    unknown: Sequence[str]  # in the file, not in the network

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} tensors loaded"
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.skipped.items())
        skipped = f"; skipped by shape: {shapes}" if self.skipped else ""
        return f"{counts}{skipped}{listing('missing in the file', self.missing)}" + listing(
            "unknown to the network", self.unknown
        )


def listing(title: str, names: Sequence[str]) -> str:
    """`; title: a, b, … (12)`, or nothing."""
    if not names:
        return ""
    more = f", … ({len(names)})" if len(names) > 6 else ""
    return f"; {title}: {', '.join(names[:6])}{more}"


def load_weights(net: nn.Module, path: Path) -> LoadReport:
    """Load what fits from a file of pretrained weights into a network, and log what did not.

    The file may hold a bare state dict, or one under `net_dict`, `state_dict` or `model`, its
    names with or without `module.`. Nothing in it is executed.

    Raises:
        WeightsError: the file cannot be read, is no file of weights, or nothing in it fits.
    """
    found = read_state_dict(path)
    own = net.state_dict()
    fits = {name: w for name, w in found.items() if name in own and w.shape == own[name].shape}
    # Counters of batches fit every network and mean nothing alone.
    if not any(tensor.dim() for tensor in fits.values()):
        raise WeightsError(
            f"{path}: none of its {len(found)} tensors fits the network; it has "
            f"{next(iter(found))}, the network {next(iter(own))}: choose another arch or file"
        )
    net.load_state_dict(fits, strict=False)
    report = LoadReport(
        loaded=sorted(fits),
        skipped={
            name: f"{tuple(tensor.shape)} for {tuple(own[name].shape)}"
            for name, tensor in sorted(found.items())
            if name in own and name not in fits
        },
        missing=sorted(name for name in own if name not in found),
        unknown=sorted(name for name in found if name not in own),
    )
    logger.info("%s: %s", path, report)
    return report


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights, however they are wrapped.

    Raises:
        WeightsError: see `load_weights`.
    """
    content = read_safely(path)
    for key in ("net_dict", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = dict(named_tensors(content))
    if not tensors:
        raise WeightsError(
            f"{path}: no tensors in it; expected a state dict, bare or under net_dict, state_dict "
            "or model"
        )
    return tensors


def named_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state dict, without DistributedDataParallel's prefix."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if isinstance(name, str) and isinstance(value, Tensor):
                yield name.removeprefix("module."), value


def read_safely(path: Path) -> Any:
    """torch.load without executing anything, of a file whose checksums are right.

    torch.load compares no checksums: a flipped bit would become another weight. Files of torch
    before 1.6 have none, and are read as they are.

    Raises:
        WeightsError: the file is missing, is damaged, or holds code.
    """
    try:
        check_members(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; expected a file of weights") from None
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or error}; expected a file of weights"
        ) from None
    except Exception as error:  # torch.load fails in many ways on what torch.save did not write
        refused = any(sign in str(error) for sign in ("GLOBAL", "Can only"))
        reason = (
            "it holds Python objects that only running its code could load, which is refused"
            if refused
            else "it is damaged, or no file of torch.save"
        )
        raise WeightsError(f"{path}: {reason}; save a plain state_dict") from None


def check_members(path: Path) -> None:
    """Read the zip that torch.save wrote once, member by member, against its checksums.

    Raises:
        BadZipFile: a member is damaged, compressed or shares its bytes with another one, which
            torch.save does not do and a file that expands a thousandfold does.
        Exception: whatever else zipfile raises on a damaged file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            return  # what torch reads by the older way
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise zipfile.BadZipFile("expands to more than the file holds")
        for member in members:
            with archive.open(member) as content:
                while content.read(BLOCK):
                    pass
