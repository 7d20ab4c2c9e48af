"""What a checkpoint is a function of: data, parameters, code and environment, told apart exactly.

Two trainings with equal fingerprints end in the same bytes. A resume state, a checkpoint and
reports/identity.json carry the fingerprint of the training that made them.
"""

import ast
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import torch

from deepsort_reid.core import files
from deepsort_reid.core.arch import TIMM
from deepsort_reid.core.config import TrainConfig
from deepsort_reid.core.errors import shortened
from deepsort_reid.core.machine import processor
from deepsort_reid.core.project import PACKAGE, home
from deepsort_reid.model.pretrained.source import sources
from deepsort_reid.training.ranks.distributed import Process

SCRIPT = home() / "pipeline" / "train.py"
LIBRARIES = ("torch", "numpy")  # whose arithmetic a training is made of


@dataclass(frozen=True)
class Fingerprint:
    """Everything that the bytes of a checkpoint depend on, as plain data."""

    data: Mapping[str, str]  # SHA-256 of the split, and of the pretrained weights
    params: Mapping[str, Any]  # the training's, as params.yaml states them
    code: Mapping[str, str]  # file -> SHA-256
    environment: Mapping[str, Any]  # versions, processes, and what they compute on

    def key(self) -> str:
        """64 hexadecimal digits: equal keys, equal fingerprints."""
        text = json.dumps(self.as_plain(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_plain(self) -> dict[str, Any]:
        """Dictionaries, lists, texts and numbers, sorted, as JSON has them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), sort_keys=True))
        return {field.name: plain[field.name] for field in fields(self)}

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """The inverse of `as_plain`.

        Raises:
            ValueError: this is no fingerprint.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(plain, Mapping) or sorted(plain) != sorted(names):
            raise ValueError("it tells no data, params, code and environment")
        if not all(isinstance(value, Mapping) for value in plain.values()):
            raise ValueError("its parts are no tables")
        return cls(**plain)


def of_training(
    config: TrainConfig, process: Process, *, data_digest: str, bfloat16: bool
) -> Fingerprint:
    """The fingerprint of the training that would begin here and now.

    Args:
        config: the hyperparameters.
        process: this rank, which stands for all: their devices are expected to be alike.
        data_digest: SHA-256 of the split.
        bfloat16: what it computes in; see `choose_bfloat16`.

    Raises:
        WeightsError: the file of pretrained weights is not there, or a URL without a checksum.
        OSError: it or a file of the code cannot be read.
    """
    data = {"split": data_digest}
    for name, source in sources(config).items():
        data[name] = source.digest()
    return Fingerprint(
        data=data,
        params=config.determining,
        code=code_digests(),
        environment=environment(process, config.arch, bfloat16=bfloat16),
    )


def code_digests(script: Path = SCRIPT) -> dict[str, str]:
    """The SHA-256 of a stage's script and of each module of this package that it needs.

    Returns:
        `pipeline/train.py` and `src/deepsort_reid/….py` -> 64 hexadecimal digits.
    """
    paths = sorted(path for path in (script, *used_by(script)) if path.is_file())
    return {name_of(path): files.sha256(path) for path in paths}


def name_of(path: Path) -> str:
    """A file of the code as the clone has it, also where it was installed by a wheel."""
    if path.parent == SCRIPT.parent:
        return f"pipeline/{path.name}"
    return f"src/{path.relative_to(PACKAGE.parent).as_posix()}"


@cache
def used_by(script: Path) -> frozenset[Path]:
    """The files of this package that a file needs, directly or not."""
    found: set[Path] = set()
    waiting = set(imported_files(script))
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= set(imported_files(path)) - found
    return frozenset(found)


def imported_files(path: Path) -> Iterator[Path]:
    """Yield the files of this package that a file imports, at its top or inside functions."""
    if not path.is_file():
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from room import module` or `from room.module import name`: one of them is a file.
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            file = PACKAGE / f"{module.replace('.', '/')}.py"
            if package == PACKAGE.name and module and file.is_file():
                yield file


def environment(process: Process, arch: str, *, bfloat16: bool) -> dict[str, Any]:
    """What computes: versions, processes, the processor or GPU, and its arithmetic.

    Rounding depends on all of it: kernels are chosen by instruction set and cache, and sums are
    cut up by threads and processes.
    """
    on_gpu = process.device.type == "cuda"
    libraries = (*LIBRARIES, "timm") if arch.startswith(TIMM) else LIBRARIES
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in libraries},
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(process.device) if on_gpu else processor(),
        "arithmetic": arithmetic(bfloat16),
        "processes": process.world_size,
        "threads": torch.get_num_threads(),
    }


def arithmetic(bfloat16: bool) -> str:
    """What the passes of a training compute in."""
    return "bfloat16" if bfloat16 else "float32"


def differences(there: Fingerprint, here: Fingerprint) -> list[str]:
    """What differs, a line each: data first, then parameters, code and environment.

    Args:
        there: of a resume state or checkpoint.
        here: of this training.

    Returns:
        lines like `parameter lr is 0.2 here, 0.01 there`; none if the two are equal.
    """
    words = {
        "data": "data {name}: {here} here, {there} there",
        "params": "parameter {name} is {here} here, {there} there",
        "code": "code {name} differs",
        "environment": "environment: {name} is {here} here, {there} there",
    }
    lines = []
    for part, sentence in words.items():
        old, new = there.as_plain()[part], here.as_plain()[part]
        for name in sorted(old.keys() | new.keys()):
            if (name in old, old.get(name)) != (name in new, new.get(name)):
                values = {
                    side: show(table, name) for side, table in (("here", new), ("there", old))
                }
                lines.append(sentence.format(name=name, **values))
    return lines


def show(table: Mapping[str, Any], name: str) -> str:
    """A value in a few characters; digests by their first twelve."""
    if name not in table:
        return "missing"
    return shortened(table[name])
