"""What runs an exported file: its own runtime, with the preprocessing that its tracker does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from deepsort_reid.core.errors import ExportError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import Images
from deepsort_reid.model import network
from deepsort_reid.model.onnx_file import Floats, colours, session
from deepsort_reid.model.weights import read_safely

Runtime = Callable[[Images], Floats]  # (B, H, W, 3) uint8 RGB -> (B, D), of any length


def normalised(images: Images) -> Floats:
    """The same less ImageNet's mean, over its deviation: trackers that normalise use no other."""
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (MEAN, STD))
    return cast("Floats", (colours(images) - mean) / std)


def onnx_normalised(path: Path) -> Runtime:
    """An ONNX file whose user normalises, in ONNX Runtime, as boxmot runs it."""
    return onnx(path, normalised)


def onnx_colours(path: Path) -> Runtime:
    """An ONNX file that takes colours, in ONNX Runtime, as ultralytics runs it."""
    return onnx(path, colours)


def onnx(path: Path, prepare: Callable[[Images], Floats]) -> Runtime:
    """An ONNX file in ONNX Runtime on the CPU."""
    opened = session(path)
    (taken,) = opened.get_inputs()
    return lambda images: cast("Floats", opened.run(None, {taken.name: prepare(images)})[0])


def exported_program(path: Path) -> Runtime:
    """A `.pt2` in torch."""
    return torch_module(torch.export.load(path).module(), colours)


def by_name(path: Path) -> Runtime:
    """Weights in a new network of the name in the file, as boxmot and torchreid build it.

    Raises:
        ExportError: a weight is missing, or one is too many.
    """
    content = read_safely(path)
    return published(content["model_name"], content["state_dict"], path)


def deep_sort_pytorch(path: Path) -> Runtime:
    """Weights under deep_sort_pytorch's names in a network that has them.

    Raises:
        ExportError: a weight is missing, or one is too many.
    """
    return published("deepsort", read_safely(path)["net_dict"], path)


def published(arch: str, state: Any, path: Path) -> Runtime:
    """Weights in a new network of a name: a ResNet is torchvision's own, the others are ours.

    Raises:
        ExportError: a weight is missing, or one is too many.
    """
    from torchvision.models import resnet

    if hasattr(resnet, arch):
        net = getattr(resnet, arch)()
        net.fc = nn.Identity()
        return torch_module(with_weights(net, state, path), normalised)
    bare = network.without_classifier(network.build(network.Design(arch), 1))
    return torch_module(FeaturesAlone(with_weights(bare, state, path)), normalised)


class FeaturesAlone(nn.Module):
    """A network of `network.build` that returns what comes before its classifier."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D)."""
        return cast("network.ReidNet", self.net).features(images)


def with_weights(net: nn.Module, state: Any, path: Path) -> nn.Module:
    """Load a state dict, all of it and nothing else.

    Raises:
        ExportError: it does not fit.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ExportError(f"{path.name}: its weights do not fit ({str(error)[:300]})") from None
    return net.eval()


def torch_module(module: nn.Module, prepare: Callable[[Images], Floats]) -> Runtime:
    """A module of torch, in eval mode already, as a runtime."""

    def run(images: Images) -> Floats:
        with torch.inference_mode():
            return cast("Floats", module(torch.from_numpy(prepare(images))).numpy())

    return run
