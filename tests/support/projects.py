"""Small projects of this one's files, in which the real dvc runs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import Run

from deepsort_reid.core.files import read_json
from deepsort_reid.runs.provenance import RUN_KEY
from tests.support import stages

ROOT = Path(__file__).parents[2]
# What the session's one pipeline is run with. Tests train again and want the same bytes, so that
# no measurement may choose the arithmetic.
PREPARED = {"nproc_per_node": 2, "epochs": 4, "amp": False}
KEPT = ("src/", "pipeline/", ".dvc", "dvc.yaml", ".gitignore")


def environment() -> dict[str, str]:
    """What a user's shell would have: our programs, a name for git, no store but the default.

    One thread, since a stage's threads would wait for each other beside other processes.
    """
    unwanted = ("MLFLOW_", "DVC_", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ["OMP_NUM_THREADS"] = "1"
    for who in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{who}_NAME": "Test", f"GIT_{who}_EMAIL": "test@localhost"}
    return environ


def run(folder: Path, *command: str, **variables: str) -> str:
    """Run a command in a project, with these variables too; return what it printed."""
    return finished(folder, *command, **variables).stdout


def run_all(folder: Path, *command: str, **variables: str) -> str:
    """Likewise; return what it printed to either stream."""
    done = finished(folder, *command, **variables)
    return done.stdout + done.stderr


def finished(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project to its good end."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def make(
    folder: Path, changes: dict[str, Any], *, tiny: bool = True, repository: Path | None = None
) -> str:
    """Make a project, run its pipeline, commit; return what dvc printed.

    The parameters are the tiny ones, or else the defaults, with changes. The project is a git
    repository, or a folder of one.
    """
    begin(folder, changes, tiny=tiny, repository=repository)
    out = run(folder, "dvc", "repro")
    commit(folder, "First results")
    return out


def begin(
    folder: Path, changes: dict[str, Any], *, tiny: bool = True, repository: Path | None = None
) -> None:
    """Make a project, as `make` does, in which nothing has run yet."""
    names = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, names.split("\0")):
        if name.startswith(KEPT):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    stages.write_params(folder, changes, tiny=tiny)
    run(repository or folder, "git", "init", "-q", "-b", "main")
    commit(folder, "Begin")


def commit(folder: Path, message: str) -> str:
    """Commit all that git does not ignore; return the commit."""
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", message)
    return run(folder, "git", "rev-parse", "HEAD").strip()


def copy(source: Path, target: Path) -> Path:
    """Copy a project with its history, cache and store."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    return target


@contextmanager
def copied(source: Path, target: Path) -> Iterator[Path]:
    """A copy that is removed in the end: all of them would fill a disk."""
    try:
        yield copy(source, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def ran(out: str) -> list[str]:
    """The stages that ran, by what dvc printed."""
    return re.findall(r"Running stage '(\w+)'", out)


def read(path: Path) -> dict[str, Any]:
    """Read JSON."""
    content: dict[str, Any] = read_json(path)
    return content


def client(project: Path) -> MlflowClient:
    """What talks to a project's store."""
    return MlflowClient(f"sqlite+pysqlite:///{quote(str(project))}/mlflow.db")


def runs(project: Path) -> list[Run]:
    """All runs in a project's store."""
    store = client(project)
    experiment = store.get_experiment_by_name("deepsort-reid")
    return list(store.search_runs([experiment.experiment_id]))


def run_of(project: Path) -> Run:
    """The run that reports/run.json names; its key is known before MLflow's name for it."""
    key = read(project / "reports/run.json")["key"]
    (found,) = [run for run in runs(project) if run.data.tags[RUN_KEY] == key]
    return found
