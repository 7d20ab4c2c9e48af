"""The split on which all trials of a study are trained and compared."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepsort_reid.core import files, signals
from deepsort_reid.core.errors import ConfigError, SearchError
from deepsort_reid.core.project import home, stage_command
from deepsort_reid.data.packed import Summary, read_summary
from deepsort_reid.lineage.dvc_cli import outputs, parse_lock
from deepsort_reid.model.pretrained.source import BROUGHT, TEACHER, WeightsSource
from deepsort_reid.search.space import Choice, Space
from deepsort_reid.training.fingerprint import code_digests

RAW, SPLIT = Path("data/raw"), Path("data/split")
READY = "ready.json"  # in the folder: what its split was made of


def prepare(folder: Path, params: Mapping[str, Any], root: Path) -> Summary:
    """Make a folder of a run whose split keeps `split.tune_fraction` of the identities apart.

    DVC brings the archives up to date in the project, so that the trials have what `dvc exp run`
    will have. The split is made in the folder, and the project may change meanwhile. Weights are
    brought each time: what a name means may have changed.

    Args:
        folder: receives params.yaml and data.
        params: of the trials, nested as in params.yaml.
        root: of the project.

    Returns:
        what the split holds.

    Raises:
        SearchError: a stage has failed; it has said why.
    """
    made_of = {
        "raw": download(root),
        "code": code("split"),
        **{name: params[name] for name in ("dataset", "split")},
    }
    is_made = files.holds(folder / READY, made_of)
    if not is_made:
        files.remove(folder)
    files.write_json(folder / "params.yaml", params)  # JSON is YAML too
    if not is_made:
        (folder / "data").mkdir()
        (folder / RAW).symlink_to(root / RAW)
        run(stage_command("split"), folder, "split", root)
        files.write_json(folder / READY, made_of)
    run(stage_command("weights"), folder, "weights", root)
    return read_summary(folder / SPLIT)


def code(*stages: str) -> str:
    """A checksum of the scripts of stages, and of all modules of this package that they need."""
    digests = [code_digests(home() / "pipeline" / f"{stage}.py") for stage in stages]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def weights(folder: Path, space: Space) -> dict[str, str]:
    """The SHA-256 of each file from which trials begin or learn, so far as it is here.

    Args:
        folder: that `prepare` has made.
        space: may vary the files; what is to be brought from elsewhere is left out then.

    Returns:
        `weights` and `teacher`, each with the name of the file behind it if it varies -> digest.

    Raises:
        WeightsError: such a file is not there.
    """
    fixed = [path for path in (BROUGHT, TEACHER) if path.name not in space.keys]
    found = {path.name: files.sha256(folder / path) for path in fixed}
    for dimension in space.dimensions:
        if isinstance(dimension, Choice) and dimension.key in (BROUGHT.name, TEACHER.name):
            for name in filter(None, dimension.values):
                source = WeightsSource.parse(name)
                if not source.is_remote:
                    found[f"{dimension.key} {name}"] = source.digest()
    return found


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

    A stage ends when this process is killed. So does DVC's, which has DVC for a parent, with DVC.

    Raises:
        SearchError: it fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environ = {**os.environ, "PATH": path, "DVC_ROOT": str(root)}
    if folder != root:
        environ[signals.LAUNCHER] = str(os.getpid())
    done = subprocess.run(command, cwd=folder, env=environ, check=False)  # noqa: S603
    if done.returncode:
        raise SearchError(f"stage {stage} has failed, so there is nothing to search on; see above")
