"""Files of weights: read without running code in them, and loaded as far as they fit a network."""

import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid.core.errors import WeightsError

logger = logging.getLogger(__name__)

ZIP_START = b"PK\x03\x04"
BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a file of weights a network took, and which it did not."""

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
    """Load the tensors of a file that fit a network, and log which did not.

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
    """Load a file of torch.save without executing code in it, and compare its checksums.

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
    """Compare each member of the zip that torch.save wrote with its checksum.

    Raises:
        BadZipFile: a member is damaged, compressed or shares its bytes with another one, which
            torch.save does not do and a file that expands a thousandfold does.
        Exception: whatever else zipfile raises on a damaged file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            return  # a file in the older format
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(member.file_size for member in members) > path.stat().st_size:
            raise zipfile.BadZipFile("expands to more than the file holds")
        for member in members:
            with archive.open(member) as content:
                while content.read(BLOCK):
                    pass
