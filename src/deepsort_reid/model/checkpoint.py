"""The checkpoint: a trained network, and all it takes to use it without guessing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid.core import files
from deepsort_reid.core.arch import is_arch
from deepsort_reid.core.errors import ConfigError, WeightsError
from deepsort_reid.model import network
from deepsort_reid.model.network import HEADS, NECKS, POOLINGS, Design, Head, Neck, Pooling
from deepsort_reid.model.weights import named_tensors, read_safely


@dataclass(frozen=True, kw_only=True)
class Description:
    """What stands in a checkpoint beside the weights."""

    epoch: int  # the best one, counted from 1
    acc: float  # its top-1 accuracy on val, per cent, as deep_sort_pytorch writes it
    arch: str
    embedding_size: int
    image_size: Sequence[int]  # height and width
    mean: Sequence[float]  # RGB, of colours in [0, 1]
    std: Sequence[float]
    classes: Sequence[str]  # identities, in the order of the classifier's outputs
    data_digest: str  # SHA-256 of the split it was trained on
    identity: Mapping[str, Any]  # the fingerprint of the training, as plain values
    # Checkpoints of earlier versions lack what follows.
    head: Head = "linear"
    last_stride: int = 2
    pooling: Pooling = "average"
    neck: Neck = "none"

    @property
    def design(self) -> Design:
        """What the network is built from, besides the number of classes."""
        return Design(**{field.name: getattr(self, field.name) for field in fields(Design)})


def is_count(value: Any) -> bool:
    """Whether a value is a whole number from 1 on that torch can hold."""
    return type(value) is int and 1 <= value < 2**63


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def is_text(value: Any) -> bool:
    """Whether a value is a text."""
    return isinstance(value, str)


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0."""
    return is_number(value) and value > 0


def each(check: Callable[[Any], bool], length: int | None = None) -> Callable[[Any], bool]:
    """A check of a list: of its length, if that is given, and of each item."""
    return lambda value: (
        isinstance(value, list | tuple)
        and (length is None or len(value) == length)
        and all(map(check, value))
    )


def one_of(choices: Sequence[str]) -> Callable[[Any], bool]:
    """A check of a choice."""
    return lambda value: is_text(value) and value in choices


CHECKS: Mapping[str, Callable[[Any], bool]] = {  # by the description's fields
    "epoch": is_count,
    "acc": is_number,
    "arch": is_arch,
    "embedding_size": is_count,
    "image_size": each(is_count, 2),
    "mean": each(is_number, 3),
    "std": each(is_positive, 3),
    "classes": each(is_text),
    "data_digest": is_text,
    "identity": lambda value: isinstance(value, dict) and all(map(is_text, value)),
    "head": one_of(HEADS),
    "last_stride": lambda value: is_count(value) and value <= 2,
    "pooling": one_of(POOLINGS),
    "neck": one_of(NECKS),
}


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
    content = dict_or_empty(read_safely(path))
    try:
        if "net_dict" not in content:
            raise WeightsError("'net_dict' is missing in it")
        description = described(content)
    except WeightsError as error:
        raise WeightsError(
            f"{path}: no checkpoint of this project, {error}; "
            "expected models/model.pth as stage train writes it"
        ) from None
    height, width = description.image_size
    try:
        net = network.build(
            description.design, len(description.classes), image_size=(height, width)
        )
    except ConfigError as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from None
    try:
        net.load_state_dict(dict(named_tensors(content["net_dict"])))
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error)[:200]
        raise WeightsError(f"{path}: its weights do not fit its own arch: {reason}") from None
    if net.feature_size != description.embedding_size:
        raise WeightsError(
            f"{path}: its embedding_size is {description.embedding_size}, but its network's "
            f"{net.feature_size}; expected models/model.pth as stage train writes it"
        )
    return net.eval(), description


def described(content: Mapping[Any, Any]) -> Description:
    """Check the description in a checkpoint, which another program may have written.

    Raises:
        WeightsError: a field is missing, or is of a type or value that it cannot have.
    """
    for field in fields(Description):
        if field.default is MISSING and field.name not in content:
            raise WeightsError(f"'{field.name}' is missing in it")
    found = {name: content[name] for name in CHECKS if name in content}
    for name, value in found.items():
        if not CHECKS[name](value):
            raise WeightsError(f"its '{name}' is not what it should be")
    return Description(**found)


def dict_or_empty(content: Any) -> dict[Any, Any]:
    """The content if it is a dictionary, else an empty one."""
    return content if isinstance(content, dict) else {}
