"""The pipeline as a user runs it: dvc repro, an experiment, and what both leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from tests import stages

ROOT = Path(__file__).parents[1]


def run(folder: Path, *command: str) -> str:
    """Run a command in a project; return what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    for who in ("AUTHOR", "COMMITTER"):
        environ |= {f"GIT_{who}_NAME": "Test", f"GIT_{who}_EMAIL": "test@localhost"}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this project's files with tiny parameters, in which `dvc repro` has run."""
    folder = tmp_path_factory.mktemp("project")
    names = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, names.split("\0")):
        if name.startswith(("src/", "pipeline/", ".dvc", "dvc.yaml", ".gitignore")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    stages.write_params(folder, {"nproc_per_node": 2})
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "Begin")
    out = run(folder, "dvc", "repro")
    assert "mAP" in out
    assert "uv run mlflow ui" in out
    return folder


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def client(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project}/mlflow.db")


def runs(project: Path) -> list[Run]:
    store = client(project)
    experiment = store.get_experiment_by_name("deepsort-reid")
    return list(store.search_runs([experiment.experiment_id]))


def run_of(project: Path) -> Run:
    """The run that reports/run.json names; its key is known before MLflow's name for it."""
    key = read(project / "reports/run.json")["key"]
    (found,) = [run for run in runs(project) if run.data.tags["run_key"] == key]
    return found


def test_everything_promised_is_there(project: Path) -> None:
    for name in (
        "models/model.pth",
        "reports/train.jpg",
        "reports/history.csv",
        "reports/metrics.json",
        "reports/cmc.png",
        "reports/distances.png",
        "reports/ranked.jpg",
        "reports/split.json",
    ):
        assert (project / name).stat().st_size > 0, name
    split = read(project / "reports/split.json")
    assert split["train"]["images"] + split["val"]["images"] == 4 * 6  # type: ignore[index]
    assert split["gallery"]["junk"] == 2  # type: ignore[index]
    assert 0 < read(project / "reports/metrics.json")["mAP"] <= 1  # type: ignore[operator]


def test_a_second_repro_does_nothing(project: Path) -> None:
    assert "Data and pipelines are up to date." in run(project, "dvc", "repro")
    assert len(runs(project)) == len({run.info.run_id for run in runs(project)})


def test_git_is_left_with_small_text_alone(project: Path) -> None:
    new = run(project, "git", "ls-files", "--others", "--exclude-standard").split()
    assert {Path(name).suffix for name in new} <= {".lock", ".json", ".csv"}


def test_the_run_holds_it_all(project: Path) -> None:
    store = client(project)
    found = run_of(project)
    run_id = found.info.run_id
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.01"
    assert found.data.params["dataset.source"] == "synthetic"
    assert found.data.params["derived.world_size"] == "2"
    assert found.data.metrics["mAP"] == read(project / "reports/metrics.json")["mAP"]
    losses = store.get_metric_history(run_id, "train_loss")
    assert [point.step for point in losses] == [1, 2]
    head = run(project, "git", "rev-parse", "HEAD").strip()
    assert found.data.tags["git_commit"] == head
    digest = found.data.tags["data_digest"]
    assert found.inputs.dataset_inputs[0].dataset.digest == digest[:12]
    checkpoint = torch.load(project / "models/model.pth", weights_only=True)
    assert checkpoint["data_digest"] == digest
    artifacts = {item.path for item in store.list_artifacts(run_id)}
    assert {"train.jpg", "ranked.jpg", "cmc.png", "distances.png", "checkpoint"} <= artifacts
    (version,) = store.search_model_versions(f"run_id='{run_id}'")
    assert store.get_model_version_by_alias("deepsort-reid", "best").version == version.version


def test_an_experiment_adds_a_run_another_checkpoint_and_another_curve(project: Path) -> None:
    before = {
        name: (project / name).read_bytes() for name in ("models/model.pth", "reports/history.csv")
    }
    count = len(runs(project))
    run(project, "git", "add", ".")
    run(project, "git", "commit", "-qm", "First results")
    out = run(project, "dvc", "exp", "run", "--set-param", "lr=0.2", "--name", "faster")
    assert "Stage 'split' didn't change, skipping" in out
    after = {name: (project / name).read_bytes() for name in before}
    assert all(after[name] != before[name] for name in before)
    assert len(runs(project)) == count + 1
    newest = run_of(project)
    assert newest.info.run_name == "faster"
    assert newest.data.tags["dvc_experiment"] == "faster"
    assert newest.data.params["lr"] == "0.2"
    table = run(project, "dvc", "exp", "show", "--csv")
    assert "faster" in table
    assert "mAP" in table


def test_an_experiment_in_a_temporary_folder_lands_in_the_same_store(project: Path) -> None:
    count = len(runs(project))
    run(project, "dvc", "exp", "run", "--temp", "--set-param", "lr=0.03", "--name", "apart")
    assert len(runs(project)) == count + 1
    assert {run.info.run_name for run in runs(project)} >= {"apart"}


def test_plots_are_drawn(project: Path) -> None:
    run(project, "dvc", "plots", "show")
    page = (project / "dvc_plots/index.html").read_text()
    for title in ("Loss by epoch", "Cumulative matching characteristic", "ranked.jpg"):
        assert title in page
    run(project, "dvc", "plots", "diff", "HEAD")
    run(project, "dvc", "metrics", "diff", "HEAD")
