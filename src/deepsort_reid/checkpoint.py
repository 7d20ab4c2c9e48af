"""The checkpoint: a trained network, and all it takes to use it without guessing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid import files, model
from deepsort_reid.errors import WeightsError


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
    identity: Mapping[str, Any]  # of the training, as `identity.Identity.as_plain` has it


def save(path: Path, net: nn.Module, description: Description) -> None:
    """Write a checkpoint that `torch.load(weights_only=True)` reads, whole or not at all.

    The same weights give the same bytes. The weights stand under `net_dict`, the description's
    fields beside them.
    """
    content: dict[str, Any] = {"net_dict": weights(net)}
    content |= {key: as_plain(value) for key, value in asdict(description).items()}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)  # given a path, it would write that into the file


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A network's state on the CPU, in the plainest memory format."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}


def as_plain(value: Any) -> Any:
    """Lists for tuples, so that a checkpoint reads the same whoever wrote it."""
    return list(value) if isinstance(value, tuple) else value


def load(path: Path) -> tuple[nn.Module, Description]:
    """Rebuild a trained network, in eval mode on the CPU.

    Raises:
        WeightsError: the file cannot be read, or is no checkpoint of this project.
    """
    content = model.read_safely(path)
    expected = [field.name for field in fields(Description)]
    missing = [key for key in ("net_dict", *expected) if key not in dict_or_empty(content)]
    if missing:
        raise WeightsError(
            f"{path}: no checkpoint of this project, '{missing[0]}' is missing in it; "
            "expected models/model.pth as stage train writes it"
        )
    description = Description(**{key: content[key] for key in expected})
    net = model.build(description.arch, len(description.classes))
    try:
        net.load_state_dict(content["net_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: its weights do not fit its own arch: {reason}") from None
    return net.eval(), description


def dict_or_empty(content: Any) -> dict[Any, Any]:
    """The content if it is a mapping, else an empty one."""
    return content if isinstance(content, dict) else {}
