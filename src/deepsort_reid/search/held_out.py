"""The split on which all trials of a study are trained and compared."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepsort_reid.core import files
from deepsort_reid.core.errors import ConfigError, SearchError
from deepsort_reid.core.project import stage_command
from deepsort_reid.data.packed import Summary, read_summary
from deepsort_reid.lineage.dvc_cli import outputs, parse_lock

RAW, SPLIT = Path("data/raw"), Path("data/split")
READY = "ready.json"  # in the folder: what its split was made of


def prepare(folder: Path, params: Mapping[str, Any], root: Path) -> Summary:
    """Make a folder of a run whose split keeps `split.tune_fraction` of the identities apart.

    DVC brings the archives up to date in the project, so that the trials have what `dvc exp run`
    will have. The split is made in the folder, and the project may change meanwhile.

    Args:
        folder: receives params.yaml and data.
        params: of the trials, nested as in params.yaml.
        root: of the project.

    Returns:
        what the split holds.

    Raises:
        SearchError: a stage has failed; it has said why.
    """
    raw = download(root)
    made_of = {"raw": raw, **{name: params[name] for name in ("dataset", "split", "weights",
                                                              "teacher", "arch")}}  # fmt: skip
    if read(folder / READY) != made_of:
        files.remove(folder)
        files.write_json(folder / "params.yaml", params)  # JSON is YAML too
        (folder / "data").mkdir()
        (folder / RAW).symlink_to(root / RAW)
        for stage in ("split", "weights"):
            run(stage_command(stage), folder, stage, root)
        files.write_json(folder / READY, made_of)
    return read_summary(folder / SPLIT)


def check_project(root: Path) -> None:
    """Refuse a folder in which DVC cannot run the stages.

    Raises:
        ConfigError: this is no DVC project.
    """
    if not (root / ".dvc").is_dir() or not (root / "dvc.yaml").exists():
        raise ConfigError(f"{root}: no DVC project; run a search where dvc.yaml stands")


def download(root: Path) -> str:
    """Have DVC bring the archives up to date; return their checksum.

    Raises:
        SearchError: the stage has failed.
    """
    run([sys.executable, "-m", "dvc", "repro", "-q", "download"], root, "download", root)
    lock = parse_lock((root / "dvc.lock").read_bytes())
    return outputs(lock, "download")[str(RAW)]


def run(command: list[str], folder: Path, stage: str, root: Path) -> None:
    """Run a command to its good end; it finds the programs beside this Python.

    Raises:
        SearchError: it fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, "PATH": path, "DVC_ROOT": str(root)}
    done = subprocess.run(command, cwd=folder, env=environ, check=False)  # noqa: S603
    if done.returncode:
        raise SearchError(f"stage {stage} has failed, so there is nothing to search on; see above")


def read(path: Path) -> Any:
    """The content of a JSON file; None if it cannot be read."""
    try:
        return files.read_json(path)
    except (OSError, ValueError):
        return None
