"""DVC's own words for what has changed, and ours for them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepsort_reid.core.errors import LineageError
from deepsort_reid.lineage import dvc_cli
from deepsort_reid.lineage.records import PipelineRecords
from deepsort_reid.lineage.workspace import DATA, code_differences, in_words, stage_differences
from tests.support.recorded_projects import git

STAGES: dict[str, Any] = {
    "download": {
        "cmd": "mkdir -p data && echo raw > data/raw",
        "params": ["dataset.mot", "dataset.source"],
        "deps": ["pipeline/download.py", "src/sources"],
        "outs": ["data/raw"],
    },
    "split": {
        "cmd": "mkdir -p data/split && cp data/raw data/split/part",
        "params": ["split"],
        "deps": ["data/raw", "pipeline/split.py", "src/data"],
        "outs": ["data/split"],
    },
}
PARAMS: dict[str, Any] = {
    "dataset": {"source": "synthetic", "sha256": None, "mot": {"every": 5, "classes": [1]}},
    "split": {"seed": 0, "small": 1e-05},
}


def write(**changes: Any) -> None:
    """Write dvc.yaml, with changes of the stage split, and params.yaml."""
    stages = STAGES | {"split": STAGES["split"] | changes}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose two stages DVC has run."""
    monkeypatch.chdir(tmp_path)
    for name in ("pipeline/download.py", "pipeline/split.py", "src/sources/a.py", "src/data/a.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("one\n")
    write()
    git("init", "-q", "-b", "main")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\n    analytics = false\n")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    return tmp_path


def told_here() -> list[str]:
    """What DVC says of the workspace and its own dvc.lock, in our words."""
    root = Path.cwd()
    lock = PipelineRecords.here(root).lock or {}
    return in_words(dvc_cli.status(DATA, root), lock, root, with_outputs=True)


def told_since(lock: dvc_cli.Lock) -> list[str]:
    return stage_differences(lock, DATA, Path.cwd())


def change_everything(project: Path) -> None:
    for folder in ("pipeline/split.py", "src/data/a.py"):
        (project / folder).write_text("two\n")
    (project / "pipeline/download.py").unlink()
    changed = {"split": {"seed": 1, "small": 1e-05}}
    mot = {"dataset": PARAMS["dataset"] | {"sha256": "0", "mot": {"every": 9, "classes": [1]}}}
    write(cmd="other", deps=["data/raw", "src/data", "pipeline/split.py", "src/new"])
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS | changed | mot))
    (project / "src/new").mkdir()


CHANGES = [
    "stage download would run again: dataset.mot.every is 9 here, 5 there",
    "stage download would run again: pipeline/download.py is missing here",
    "stage split would run again: split.seed is 1 here, 0 there",
    "stage split would run again: src/data differs",
    "stage split would run again: pipeline/split.py differs",
    "stage split would run again: src/new is a new dependency",
    "stage split would run again: its command differs",
]


def test_what_dvc_finds_changed_is_told(project: Path) -> None:
    lock = PipelineRecords.here(project).lock or {}
    change_everything(project)
    assert told_since(lock) == CHANGES
    (project / "data/split/part").write_text("another\n")
    *changes, command = CHANGES
    output = "stage split would run again: data/split is not the one of dvc.lock"
    assert told_here() == [*changes, output, command]


@pytest.mark.slow
def test_what_only_the_workspace_has_changed(project: Path) -> None:
    lock = PipelineRecords.here(project).lock or {}
    assert dvc_cli.status(DATA, project) == {}
    write(deps=["data/raw", "src/data"])
    assert told_here() == []  # DVC runs no stage for a dependency that it no longer has
    (project / "data/raw").unlink()
    assert told_here() == ["stage download would run again: data/raw is missing here"]
    assert told_since(lock) == []
    (project / "dvc.lock").unlink()
    assert told_here() == [f"stage {stage} would run: dvc.lock has nothing of it" for stage in DATA]


def test_what_dvc_cannot_tell_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LineageError, match=r"^there is no DVC repository here$"):
        dvc_cli.cache_folder(tmp_path)
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(LineageError, match=r"^dvc status: .* is not a git repository$"):
        dvc_cli.status(DATA, tmp_path)
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nread line || echo "$0: No module named dvc" >&2; exit 1\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(LineageError, match=r"^DVC is not installed$"):
        dvc_cli.status(DATA, tmp_path)
    program.write_text("#!/bin/sh\nexec sleep 20\n")
    monkeypatch.setattr(dvc_cli, "DVC_SECONDS", 0.1)
    with pytest.raises(LineageError, match=r"^dvc status: no answer within 0 s$"):
        dvc_cli.status(DATA, tmp_path)


def test_a_cache_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n[cache]\n    dir = ../near\n")
    found = dvc_cli.cached_file(dvc_cli.cache_folder(tmp_path), "abcd")
    assert found == tmp_path / "near/files/md5/ab/cd"


def test_a_lock_is_read_as_dvc_reads_it() -> None:
    lock = dvc_cli.parse_lock(b"schema: '2.0'\nstages:\n  a:\n    params:\n      p: {lr: 1e-05}\n")
    assert lock["a"]["params"]["p"]["lr"] == 1e-05
    for text in (b"", b"stages: [", b"stages: 1", b"\xff", b"{}"):
        with pytest.raises(ValueError, match=r"it is no dvc\.lock"):
            dvc_cli.parse_lock(text)


def test_files_that_are_only_here_or_only_there_differ() -> None:
    assert code_differences({"a": "1", "b": "1"}, {"b": "2", "c": "1"}) == [
        "code a differs",
        "code b differs",
        "code c differs",
    ]
