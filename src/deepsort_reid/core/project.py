"""Where the project lies, and the paths in params.yaml that begin there."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]


def home() -> Path:
    """The folder of params.yaml, dvc.yaml, pipeline/ and recipes/ that belong to this code.

    It is the clone's, or the one that the wheel brings along.
    """
    packed, clone = PACKAGE / "project", PACKAGE.parents[1]
    return packed if packed.is_dir() else clone


def stage_command(stage: str) -> list[str]:
    """The command that runs a stage without DVC, in the folder of a run."""
    launcher = ["-m", "deepsort_reid.training.torchrun"]
    script = str(home() / "pipeline" / f"{stage}.py")
    return [sys.executable, *(launcher if stage == "train" else ()), script]


def outputs_of(stage: Mapping[str, Any]) -> list[str]:
    """The paths of a stage's outputs, as dvc.yaml declares them, with options or without."""
    return [
        out if isinstance(out, str) else next(iter(out))
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
    ]


def project_root() -> Path:
    """The repository's root, which all experiments share.

    DVC names the real repository even where it runs an experiment in a temporary copy. Without DVC
    it is the nearest folder upward that holds `.dvc`, else the current one.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def resolve(path: str) -> Path:
    """A path in params.yaml: `~` is the user's home, a relative path begins at the root."""
    return project_root() / Path(path).expanduser()
