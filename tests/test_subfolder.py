"""A project in a folder of a repository, beside what a launcher has left in the environment."""

import re
from pathlib import Path

import pytest

from tests.support import projects
from tests.support.projects import client, ran, run, run_of

LEFT = {
    "SLURM_JOB_ID": "42", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "WORLD_SIZE": "2",
    "RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2",
}  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # two whole pipelines


def test_a_clean_project_is_clean_and_nobody_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)
    repository = tmp_path / "my%20re?po#1 'ü' \"x\""
    project = repository / "reid"
    project.mkdir(parents=True)
    projects.make(project, {"epochs": 1}, repository=repository)
    assert run(repository, "git", "status", "--short") == ""
    out = run(project, "dvc", "exp", "run", "-S", "lr=0.04")
    assert ran(out) == ["train", "evaluate", "export", "track", "summary"]
    found = run_of(project)
    assert found.info.run_name == "resnet10d-lr0.04"
    assert found.data.tags["git_dirty"] == "false"
    head = run(project, "git", "rev-parse", "--short=7", "HEAD").strip()
    back = f"git checkout {head} && dvc exp run -S lr=0.04"
    assert f"`{back}`" in found.data.tags["mlflow.note.content"]
    names = {file.path for file in client(project).list_artifacts(found.info.run_id)}
    assert {"history.csv", "export", "track.webm"} <= names
    assert re.search(r"go back: +git restore \. && (uv run )?dvc checkout", out)
    run(project, "sh", "-c", "git restore . && dvc checkout")
    assert "up to date" in run(project, "dvc", "status")
