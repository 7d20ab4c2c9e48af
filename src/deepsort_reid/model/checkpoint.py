"""The checkpoint: a trained network, and all it takes to use it without guessing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid.core import files
from deepsort_reid.core.config import DESIGN
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model import network


@dataclass(frozen=True, kw_only=True)
class Description:
    """What stands in a checkpoint beside the weights."""

    epoch: int  # the best one, counted from 1
    acc: float  # its top-1 accuracy on val, per cent, as deep_sort_pytorch writes it
    arch: str
    embedding_size: int
    image_size: Sequence[int]  # height and width in pixels
    mean: Sequence[float]  # RGB, of colours in [0, 1]
    std: Sequence[float]
    classes: Sequence[str]  # identities, in the order of the classifier's outputs
    data_digest: str  # SHA-256 of the split it was trained on
    identity: Mapping[str, Any]  # the training's fingerprint, as `Fingerprint.as_plain` has it
    head: str = "linear"  # the classifier
    last_stride: int = 2
    pooling: str = "average"
    neck: str = "none"

    @property
    def design(self) -> dict[str, Any]:
        """What `model.build` makes the network from, besides the number of classes."""
        return {name: getattr(self, name) for name in DESIGN}


def save(path: Path, state: Mapping[str, Tensor], description: Description) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads, whole or not at all.

    The same weights give the same bytes. The weights stand under `net_dict`, the description's
    fields beside them.

    Args:
        path: of the file.
        state: the network's, on any device.
        description: what stands beside it.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    content: dict[str, Any] = {"net_dict": plainest(state)}
    content |= {key: as_plain(value) for key, value in asdict(description).items()}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would write that into the file


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A network's state on the CPU, in the plainest memory format."""
    return plainest(net.state_dict())


def plainest(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy a state to the CPU, in the plainest memory format, without subnormal numbers.

    Weight decay takes the weights of filters that have died to where processors calculate many
    times more slowly, and no result is any different for what is left of them.
    """
    return {name: normal(tensor.detach().cpu()).contiguous() for name, tensor in state.items()}


def normal(tensor: Tensor) -> Tensor:
    """A tensor in which 0 stands for every number too small for all bits of its mantissa."""
    if not tensor.is_floating_point():
        return tensor
    return torch.where(tensor.abs() < torch.finfo(tensor.dtype).tiny, 0.0, tensor)


def as_plain(value: Any) -> Any:
    """Lists for tuples, so that a checkpoint reads the same whoever wrote it."""
    return list(value) if isinstance(value, tuple) else value


def load(path: Path) -> tuple[nn.Module, Description]:
    """Rebuild a trained network, in eval mode on the CPU.

    Raises:
        WeightsError: the file cannot be read, or is no checkpoint of this project.
    """
    usual = {
        field.name: field.default for field in fields(Description) if field.default is not MISSING
    }
    content: dict[Any, Any] = usual | dict_or_empty(network.read_safely(path))
    expected = [field.name for field in fields(Description)]
    missing = [key for key in ("net_dict", *expected) if key not in content]
    if missing:
        raise WeightsError(
            f"{path}: no checkpoint of this project, '{missing[0]}' is missing in it; "
            "expected models/model.pth as stage train writes it"
        )
    description = Description(**{key: content[key] for key in expected})
    if wrong := what_is_wrong(description):
        raise WeightsError(
            f"{path}: no checkpoint of this project, its '{wrong}' is not what it should be; "
            "expected models/model.pth as stage train writes it"
        )
    net = network.build(classes=len(description.classes), **description.design)
    try:
        net.load_state_dict(dict(network.named_tensors(content["net_dict"])))
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error)[:200]
        raise WeightsError(f"{path}: its weights do not fit its own arch: {reason}") from None
    if net.feature_size != description.embedding_size:
        raise WeightsError(
            f"{path}: its embedding_size is {description.embedding_size}, but its network's "
            f"{net.feature_size}; expected models/model.pth as stage train writes it"
        )
    return net.eval(), description


def what_is_wrong(description: Description) -> str | None:
    """The first field of a description whose value cannot be; None if all can.

    A file may have been made by hand, or by another program.
    """
    d = description
    right = {
        "epoch": is_whole(d.epoch, 1),
        "acc": is_number(d.acc),
        "arch": d.arch in network.ARCHS,
        "head": d.head in network.HEADS,
        "last_stride": is_whole(d.last_stride, 1) and d.last_stride <= 2,
        "pooling": d.pooling in network.POOLINGS,
        "neck": d.neck in network.NECKS,
        "embedding_size": is_whole(d.embedding_size, 1),
        "image_size": is_list(d.image_size, lambda x: is_whole(x, 1), 2),
        "mean": is_list(d.mean, is_number, 3),
        "std": is_list(d.std, lambda x: is_number(x) and x > 0, 3),
        "classes": is_list(d.classes, lambda x: isinstance(x, str)),
        "data_digest": isinstance(d.data_digest, str),
        "identity": isinstance(d.identity, Mapping),
    }
    return next((key for key, fits in right.items() if not fits), None)


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number of at least `least`."""
    return type(value) is int and least <= value < 2**63


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_list(value: Any, fits: Callable[[Any], bool], length: int | None = None) -> bool:
    """Whether a value is a list (of so many items) of which each one fits."""
    return type(value) is list and length in (None, len(value)) and all(map(fits, value))


def dict_or_empty(content: Any) -> dict[Any, Any]:
    """The content if it is a mapping, else an empty one."""
    return content if isinstance(content, dict) else {}
