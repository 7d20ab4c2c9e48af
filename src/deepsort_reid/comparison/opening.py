"""Tells by its content what a file or folder of a network is, and makes it ready to embed.

Nothing in a file is executed. So programs of torch.export and TorchScript are refused: torch loads
both with Python's pickle, or compiles text that stands in them.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.onnx_file import open_onnx
from deepsort_reid.comparison.roboflow import open_folder
from deepsort_reid.comparison.torch_file import USUAL_SIZE, open_checkpoint, open_torch
from deepsort_reid.comparison.wanted import Wanted
from deepsort_reid.core.errors import EmbeddingError, WeightsError
from deepsort_reid.core.secrets import masked
from deepsort_reid.export.roboflow import CONFIG
from deepsort_reid.model.pretrained.kinds import foreign_kind, is_safetensors
from deepsort_reid.model.pretrained.source import REGISTERED
from deepsort_reid.runs.mlflow.registry import bring_registered

OF_A_RUN = Path("models/model.pth")
TORCH_STARTS = (b"PK\x03\x04", b"\x80")  # of torch.save now, and before torch 1.6
ONNX = "an ONNX model"
REMEDY = "compare the checkpoint that it was made from, or an ONNX file of it"


def open_network(
    wanted: Wanted, *, device: torch.device, image_size: tuple[int, int] | None = None
) -> Network:
    """Open a network of any kind.

    Args:
        wanted: what the command line says of it.
        device: where networks of torch compute, and ONNX Runtime if it can.
        image_size: height and width in pixels of what a network takes whose file does not say it;
            None: `USUAL_SIZE`, or what its architecture was made for.

    Raises:
        WeightsError: it is not there, cannot be read, or is of no kind that is known here.
        ConfigError: an option contradicts the file, or its network cannot be built.
        StoreError: there is no such registered model.
    """
    stated = wanted.options.get("image_size", image_size)
    size = (stated[0], stated[1]) if stated else None
    try:
        return opened(wanted, size, device)
    except EmbeddingError as error:
        raise WeightsError(
            f"{wanted.place}: {error}; if it takes images of another size, state it: "
            f"--set {wanted.name}.image_size=[256,128]"
        ) from None


def opened(wanted: Wanted, size: tuple[int, int] | None, device: torch.device) -> Network:
    """Open a network of any kind; see `open_network`.

    Raises:
        EmbeddingError: it does not give each crop an embedding of its own.
    """
    if wanted.place.startswith(REGISTERED):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pth"
            bring_registered(wanted.place, path)
            return open_checkpoint(path, wanted, device)
    if "://" in wanted.place:
        raise WeightsError(f"{masked(wanted.place)}: download it first, and name the file")
    path = wanted.path
    if path.is_dir() and (path / CONFIG).is_file():
        return open_folder(path, wanted, device)
    path = file_in(path) if path.is_dir() else path
    if is_onnx(path):
        return open_onnx(path, wanted, size or USUAL_SIZE, device)
    return open_torch(path, wanted, size, device)


def file_in(folder: Path) -> Path:
    """The checkpoint in a folder of a run.

    Raises:
        WeightsError: there is none.
    """
    if (folder / OF_A_RUN).is_file():
        return folder / OF_A_RUN
    raise WeightsError(
        f"{folder}: a folder without {OF_A_RUN} or {CONFIG}; expected a file of a network, a "
        "folder of a run, or one of Roboflow's reid"
    )


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX model, by its content; by its name where the content tells nothing.

    Raises:
        WeightsError: it is not there, or it is of a kind that is known and not read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        kind = foreign_kind(path) or ""
        if start.startswith(TORCH_STARTS) or is_safetensors(path):
            if "torch.export" in kind or "TorchScript" in kind:
                raise WeightsError(f"{path}: {kind.partition(';')[0]}, which is not read, since "
                                   f"that would run what it holds; {REMEDY}")  # fmt: skip
            return False
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such file or folder; expected a network (`deepsort-reid metrics` compares "
            "the recorded numbers of runs and commits)"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; expected a network") from None
    return kind.startswith(ONNX) or (not kind and path.suffix.lower() == ".onnx")


def on_data(network: Network, crop_size: tuple[int, int], data_digest: str) -> Network:
    """The network with notes on what is unfair to it, or to the others, on some data.

    Args:
        network: the network.
        crop_size: height and width in pixels of the packed crops.
        data_digest: of the split.
    """
    notes = list(network.notes)
    (height, width), (least_height, least_width) = network.image_size, crop_size
    if network.image_size != crop_size:
        notes.append(f"the packed crops of {least_height}×{least_width} are resized")
    if height > least_height or width > least_width:
        notes.append(
            "enlarged crops have no more detail, a handicap: pack the split at the largest size "
            f"that takes part, split.image_size={[height, width]}"
        )
    if network.data_digest == data_digest:
        notes.append("trained on the other part of this split, an advantage")
    return replace(network, notes=notes)
