"""The tensors of a file of pretrained weights, whoever wrote it; nothing in it is executed."""

import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsort_reid.core.errors import MissingPackageError, WeightsError
from deepsort_reid.model.pretrained.kinds import SAVE_TENSORS, foreign_kind, is_safetensors
from deepsort_reid.model.weights import check_members, in_one_line

UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not")
MOST_CLASSES = 64  # unknown to torch, in one file
DEEPEST = 5  # levels of dictionaries in which state dicts are sought
STANDS_FOR = "_stands_for"


def read_state_dicts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Every dictionary of a file that holds tensors by name.

    Returns:
        where it stands, such as `model.state_dict`, '' for the file itself -> its tensors, those
        of its own dictionaries left out.

    Raises:
        WeightsError: the file cannot be read, is of another kind, or holds no tensors.
    """
    with in_one_line(path):
        kind = foreign_kind(path)
        if kind:
            raise WeightsError(f"{path}: {kind}")
        content = read_safetensors(path) if is_safetensors(path) else read_torch(path)
    found = {place: state for place, state in state_dicts(content) if state}
    if found:
        return found
    module = whole_module(content)
    if module:
        raise code_refused(path, [f"a whole network, {module}"])
    raise WeightsError(
        f"{path}: no tensors in it; expected a state dict, bare or under a name such as "
        "state_dict or model"
    )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Raises:
        MissingPackageError: the package is not installed.
        Exception: whatever the package raises on a damaged file.
    """
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise MissingPackageError(
            f"{path}: reading it needs the package safetensors; `uv sync` installs it"
        ) from None
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def read_torch(path: Path) -> Any:
    """What torch.save wrote, with an empty dictionary in place of every object unknown to torch.

    Training states hold numpy scalars, parsed arguments, configurations. torch's restricted
    unpickler refuses to make them. We give it for each of their classes one that makes an
    empty dictionary, so none of their code runs, and only tensors are looked for.

    Raises:
        WeightsError: it holds objects that an empty dictionary cannot stand for.
        Exception: whatever torch.load raises on a damaged file, or on one that asks for a module
            by which code could run.
    """
    check_members(path)
    stand_ins: list[Any] = []  # of a class and the name that it stands for
    while True:
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other versions of pickle
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            unknown = UNKNOWN.search(str(error))
            if unknown and len(stand_ins) < MOST_CLASSES:
                stand_ins.append(stand_in(unknown[1]))
            elif stand_ins:
                raise code_refused(path, [name for _, name in stand_ins]) from None
            else:
                raise


def stand_in(name: str) -> tuple[Any, str]:
    """A class that makes something empty, whatever it is given, and the name it stands for."""
    full = name if "." in name else f"builtins.{name}"  # torch leaves that module's name out
    if full.startswith("numpy."):
        return type("NumpyStandIn", (NumpyStandIn,), {}), full

    def new(_cls: type, *_arguments: object) -> OrderedDict[Any, Any]:
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made)[STANDS_FOR] = name
        return made

    return type("StandIn", (), {"__new__": new}), full


class NumpyStandIn:
    """Stands for numpy's scalars, types and arrays, whose state is no dictionary."""

    def __init__(self, *_arguments: object):
        """Take whatever numpy's would, and keep nothing."""

    def __setstate__(self, _state: object) -> None:
        """Likewise."""


def code_refused(path: Path, names: Sequence[str]) -> WeightsError:
    """What is said of a file that holds objects of classes that are not to run."""
    return WeightsError(
        f"{path}: it holds Python objects ({', '.join(names[:3])}) that only running its code "
        f"could load, which is refused; {SAVE_TENSORS}"
    )


def state_dicts(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield each dictionary in a dictionary, outermost first, as a path and its own tensors."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    yield place, dict(named_tensors(content))
    for name, inner in content.items():
        if isinstance(name, str):
            yield from state_dicts(inner, f"{place}.{name}".lstrip("."), depth + 1)


def named_tensors(content: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a dictionary that have a name and numbers in memory."""
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Tensor) and is_plain(value):
            yield name, value.detach()


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is a dense array of numbers in this machine's memory."""
    return (
        tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    )


def whole_module(content: Any, depth: int = 0) -> str | None:
    """The class of the first network that a file holds as an object; None if it holds none."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return None
    about = getattr(content, "__dict__", {})
    if "_modules" in about and "_parameters" in about:
        return str(about.get(STANDS_FOR, "torch.nn.Module"))
    inner = (whole_module(value, depth + 1) for value in content.values())
    return next(filter(None, inner), None)
