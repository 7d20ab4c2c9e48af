"""What a pipeline leaves, in lines, so that a comparison that fails shows at once what differs."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from deepsort_reid.core import files


def of(project: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Some of a project's outputs."""
    return {name: lines_of(project / name) for name in names}


def lines_of(path: Path) -> list[str]:
    """A file's digest, and behind it what it holds: a checkpoint's entries, or a text's lines."""
    if path.suffix == ".pth":
        within = list(entries(torch.load(path, weights_only=True)))
    else:
        within = path.read_text().splitlines() if path.suffix in (".csv", ".json") else []
    return [files.sha256(path), *within]


def entries(value: Any, name: str = "") -> Iterator[str]:
    """A line for each value in nested dictionaries; tensors by digest."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from entries(inner, f"{name}/{key}")
    elif isinstance(value, torch.Tensor):
        plain = value.contiguous().flatten().view(torch.uint8)
        digest = hashlib.sha256(plain.numpy().tobytes()).hexdigest()[:12]
        yield f"{name}: {tuple(value.shape)} {digest}, mean {value.double().mean():.17g}"
    else:
        yield f"{name}: {value!r}"
