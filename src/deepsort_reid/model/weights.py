"""Files of torch.save, read without running code in them and against their checksums."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsort_reid.core.errors import DeepSortReidError, WeightsError

ZIP_START = b"PK\x03\x04"
BLOCK = 1 << 20  # bytes read at a time


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
    with in_one_line(path):
        check_members(path)
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def in_one_line(path: Path) -> Iterator[None]:
    """Turn whatever reading a file of weights raises into one line.

    Raises:
        WeightsError: the block failed.
    """
    try:
        yield
    except DeepSortReidError:
        raise
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
