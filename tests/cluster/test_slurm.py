"""cluster/slurm.sbatch on a real SLURM: it ends well, queues again where it is stopped, or ends."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import projects, slurm, stages

pytestmark = pytest.mark.slow

CHANGES = {"nproc_per_node": 2, "epochs": 6, "run.save_seconds": 0.1}
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
    projects.bring_files(folder)
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text())
    wanted = ("download", "also", "split", "weights", "train")
    kept = {name: stage for name, stage in pipeline["stages"].items() if name in wanted}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": kept}))
    stages.write_params(folder, CHANGES)
    projects.run(folder, "git", "init", "-q", "-b", "main")
    projects.commit(folder, "Begin")
    projects.run(folder, "dvc", "repro", "split", "weights")
    return folder


@pytest.fixture(scope="module")
def undisturbed(split: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the training leaves without SLURM."""
    with projects.copied(split, tmp_path_factory.mktemp("undisturbed")) as project:
        projects.run(project, "dvc", "repro")
        return outputs(project)


def outputs(project: Path) -> dict[str, bytes]:
    return {name: (project / name).read_bytes() for name in OUTPUTS}


def text_of(project: Path) -> str:
    path = project / "output.txt"
    return path.read_text() if path.exists() else ""
