"""Weights learned on ImageNet, by the libraries that publish them, from their own caches."""

import contextlib
import io
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsort_reid.core.arch import TIMM
from deepsort_reid.core.errors import WeightsError

OF_TORCHVISION = ("resnet18", "resnet34", "resnet50")
OF_TIMM = ("resnet18d",)  # a network of this project's, under timm's names
# Of IBN-Net's authors; the last digits of the names are those of the files' checksums.
RELEASES = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
IBN_FILES = {
    "resnet18_ibn_a": f"{RELEASES}/resnet18_ibn_a-2f571257.pth",
    "resnet50_ibn_a": f"{RELEASES}/resnet50_ibn_a-d9d0bb7b.pth",
}


def imagenet_state(arch: str) -> Mapping[str, Tensor]:
    """A network's published weights of ImageNet, downloaded unless the library has them already.

    torchvision and torch keep files in `$TORCH_HOME/hub/checkpoints`, timm in `$HF_HOME`.

    Raises:
        WeightsError: nobody publishes any, or they cannot be brought.
        ConfigError: timm does not know the network.
        MissingPackageError: timm is needed, and not installed.
    """
    bring, cache = loader_of(arch)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            return bring()
    except (OSError, RuntimeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise WeightsError(
            f"weights: imagenet: the file of {arch} cannot be brought ({reason(error)}); where "
            f"there is no network, copy it into {cache}, or name a file: weights: PATH"
        ) from None


def loader_of(arch: str) -> tuple[Callable[[], Mapping[str, Tensor]], str]:
    """What brings a network's file, and where it is kept.

    Raises:
        WeightsError: nobody publishes one.
    """
    checkpoints = str(Path(torch.hub.get_dir()) / "checkpoints")
    if arch.startswith(TIMM) or arch in OF_TIMM:
        return lambda: of_timm(arch.removeprefix(TIMM)), "timm's cache, $HF_HOME"
    if arch in IBN_FILES:
        return lambda: torch.hub.load_state_dict_from_url(
            IBN_FILES[arch], progress=False, check_hash=True, weights_only=True
        ), checkpoints
    if arch in OF_TORCHVISION:
        return lambda: of_torchvision(arch), checkpoints
    raise WeightsError(
        f"weights: imagenet: there is no such file of {arch} at an address that stays. There "
        f"are files of {', '.join([*OF_TORCHVISION, *IBN_FILES, *OF_TIMM])} and {TIMM}NAME. "
        "Or bring a file yourself, such as torchreid's of an OSNet: weights: PATH"
    )


def of_torchvision(arch: str) -> Mapping[str, Tensor]:
    """Torchvision's newest weights of a network."""
    from torchvision.models._api import get_model_weights

    best: Any = next(iter(reversed(list(get_model_weights(arch)))))
    state: Mapping[str, Tensor] = best.get_state_dict(progress=False, check_hash=True)
    return state


def of_timm(name: str) -> Mapping[str, Tensor]:
    """Timm's weights of a network, by its default tag or the one behind its name.

    Raises:
        WeightsError: timm has none.
    """
    from deepsort_reid.model.backbones.from_timm import checked, library

    timm = library()
    if not timm.is_model_pretrained(checked(name)):
        raise WeightsError(f"weights: imagenet: timm publishes no weights of {name}")
    state: Mapping[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return state


def reason(error: Exception) -> str:
    """What went wrong, in a line."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
