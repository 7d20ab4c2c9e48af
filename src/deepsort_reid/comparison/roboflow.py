"""Folders of Roboflow's package reid: `reid_config.json` beside `weights.safetensors`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.torch_file import USUAL_SIZE, from_weights
from deepsort_reid.comparison.wanted import Wanted
from deepsort_reid.core import files
from deepsort_reid.core.arch import TIMM, is_arch
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.export.roboflow import CONFIG, OF_TIMM
from deepsort_reid.model.checkpoint import CHECKS
from deepsort_reid.model.pretrained.source import IN_FOLDER

KEYS = {"input_size": "image_size", "mean": "mean", "std": "std"}  # theirs -> ours


def open_folder(folder: Path, wanted: Wanted, device: torch.device) -> Network:
    """A network as `save_pretrained` of reid 0.1 leaves it.

    Their `to_rgb` concerns frames of OpenCV alone; the crops here are RGB, as those of their files.

    Raises:
        WeightsError: a file is missing or damaged, or asks for what cannot be done here.
        ConfigError: the network cannot be built.
    """
    wanted.refuse_options((), "a folder of Roboflow's reid")
    label = f"{folder / CONFIG}"
    config = read_config(folder / CONFIG)
    arch = str(config.get("architecture", ""))
    if arch.startswith(OF_TIMM):
        arch = TIMM + arch.removeprefix(OF_TIMM)
    if not is_arch(arch):
        raise WeightsError(
            f"{label}: its architecture '{arch}' is not known here; expected an OSNet, or "
            f"{OF_TIMM}NAME"
        )
    told = config.get("preprocessing", {})
    if not isinstance(told, Mapping):
        raise WeightsError(f"{label}: its preprocessing is no mapping")
    for theirs, ours in KEYS.items():
        if theirs in told and not CHECKS[ours](told[theirs]):
            raise WeightsError(f"{label}: its {theirs} is {told[theirs]}, which cannot be")
    mode, by = told.get("resize_mode", "stretch"), told.get("interpolation", "bilinear")
    if mode != "stretch":
        raise WeightsError(
            f"{label}: resize_mode {mode} keeps the shape of a crop, which the packed crops have "
            "lost; expected stretch"
        )
    size = told.get("input_size", USUAL_SIZE)
    return from_weights(
        folder / IN_FOLDER, wanted, arch, (size[0], size[1]), device,
        mean=told.get("mean", MEAN), std=told.get("std", STD),
        notes=[] if by == "bilinear" else [f"resizes {by} elsewhere, bilinearly here"],
        kind="folder of Roboflow's reid",
    )  # fmt: skip


def read_config(path: Path) -> dict[str, Any]:
    """The content of reid_config.json.

    Raises:
        WeightsError: it is no such file.
    """
    try:
        content = files.read_json(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); expected JSON") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected architecture and preprocessing in JSON")
    return content
