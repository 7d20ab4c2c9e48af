"""cluster/slurm.sbatch on a real SLURM: it ends well, queues again where it is stopped, or ends."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import outputs, projects, slurm, stages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHANGES = {"nproc_per_node": 2, "epochs": 6, "run.save_seconds": 0.1, "amp": False}
OUTPUTS = ("models/model.pth", "reports/history.csv", "reports/train.json")
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    if missing := slurm.missing():
        assert "CI" not in os.environ, missing
        pytest.skip(f"not installed: {', '.join(missing)}")
    with slurm.running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline ends with the training, and which has run up to it."""
    folder = tmp_path_factory.mktemp("split")
    projects.begin(folder, CHANGES)
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    wanted = ("download", "also", "split", "weights", "train")
    kept = {name: stage for name, stage in pipeline["stages"].items() if name in wanted}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": kept}))
    projects.run(folder, "dvc", "repro", "split", "weights")
    return folder


@pytest.fixture(scope="module")
def undisturbed(split: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the training leaves without SLURM."""
    with projects.copied(split, tmp_path_factory.mktemp("undisturbed")) as project:
        projects.run(project, "dvc", "repro")
        return outputs.of(project, OUTPUTS)


def text_of(project: Path) -> str:
    path = project / "output.txt"
    return path.read_text() if path.exists() else ""


def wait_for_epoch(cluster: slurm.Cluster, project: Path, epoch: int) -> None:
    """Wait until the training has printed an epoch's line."""
    cluster.wait_for(lambda: f"\n{epoch:5}  " in text_of(project), 200)


def test_a_job_that_is_told_to_stop_queues_again_and_ends_in_the_same_bytes(
    cluster: slurm.Cluster, split: Path, undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    project = projects.copy(split, tmp_path / "project")
    job = cluster.submit(project)
    wait_for_epoch(cluster, project, 2)
    # What --signal does two minutes before the job's time is up.
    cluster.command("scancel", "--batch", "--signal=TERM", job)
    cluster.wait(job, "PENDING")
    assert cluster.wait(job, *ENDED)["JobState"] == "COMPLETED", text_of(project)
    assert cluster.job(job)["Restarts"] == "1"
    assert "going on with an interrupted training: epoch " in text_of(project)
    assert "Traceback" not in text_of(project)
    assert outputs.of(project, OUTPUTS) == undisturbed


def test_a_job_that_is_cancelled_stays_so(
    cluster: slurm.Cluster, split: Path, tmp_path: Path
) -> None:
    project = projects.copy(split, tmp_path / "project")
    job = cluster.submit(project)
    wait_for_epoch(cluster, project, 1)
    cluster.command("scancel", job)
    cluster.wait(job, "CANCELLED")
    cluster.wait_for(lambda: set(cluster.nodes()) == {"idle"}, 60)
    assert cluster.job(job)["Restarts"] == "0"
    assert cluster.job(job)["JobState"] == "CANCELLED"


def test_two_nodes_train_together(
    cluster: slurm.Cluster, split: Path, undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    project = projects.copy(split, tmp_path / "project")
    stages.write_params(project, CHANGES | {"nnodes": 2, "nproc_per_node": 1})
    job = cluster.submit(project, "--nodes=2")
    assert cluster.wait(job, *ENDED)["JobState"] == "COMPLETED", text_of(project)
    found = outputs.of(project, OUTPUTS)
    assert found["reports/history.csv"] == undisturbed["reports/history.csv"]
    assert found["models/model.pth"] == undisturbed["models/model.pth"]
