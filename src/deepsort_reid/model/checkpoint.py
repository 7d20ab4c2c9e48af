"""The checkpoint: a trained network, and all it takes to use it without guessing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model import network
from deepsort_reid.model.network import Arch, Design, Head, Neck, Pooling
from deepsort_reid.model.weights import named_tensors, read_safely

Count = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Deviation = Annotated[Number, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class Description:
    """What stands in a checkpoint beside the weights."""

    epoch: Count  # the best one, counted from 1
    acc: Number  # its top-1 accuracy on val, per cent, as deep_sort_pytorch writes it
    arch: Arch
    embedding_size: Count
    image_size: Annotated[Sequence[Count], Field(min_length=2, max_length=2)]  # height and width
    mean: Annotated[Sequence[Number], Field(min_length=3, max_length=3)]  # RGB, colours in [0, 1]
    std: Annotated[Sequence[Deviation], Field(min_length=3, max_length=3)]
    classes: Sequence[str]  # identities, in the order of the classifier's outputs
    data_digest: str  # SHA-256 of the split it was trained on
    identity: Mapping[str, Any]  # the fingerprint of the training, as plain values
    # Checkpoints of earlier versions lack what follows.
    head: Head = "linear"
    last_stride: Annotated[Count, Field(le=2)] = 2
    pooling: Pooling = "average"
    neck: Neck = "none"

    @property
    def design(self) -> Design:
        """What the network is built from, besides the number of classes."""
        return Design(**{field.name: getattr(self, field.name) for field in fields(Design)})


DESCRIPTION = TypeAdapter(Description)


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
    net = network.build(description.design, len(description.classes))
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
    names = [field.name for field in fields(Description)]
    try:
        return DESCRIPTION.validate_python({key: content[key] for key in names if key in content})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    missing = [fault["loc"][0] for fault in faults if fault["type"] == "missing"]
    if missing:
        raise WeightsError(f"'{missing[0]}' is missing in it")
    raise WeightsError(f"its '{faults[0]['loc'][0]}' is not what it should be")


def dict_or_empty(content: Any) -> dict[Any, Any]:
    """The content if it is a dictionary, else an empty one."""
    return content if isinstance(content, dict) else {}
