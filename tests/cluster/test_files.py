"""The files for Kubernetes and SkyPilot are what their schedulers take, and fit the project."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob as TrainJob

CLUSTER = Path(__file__).parents[2] / "cluster"


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return loaded


def test_the_train_job_is_one_of_kubeflow_trainer() -> None:
    job = content("trainjob.yaml")
    # What the schema does not know is left out here.
    assert TrainJob.from_dict(job).to_dict() == job


def test_a_key_that_kubeflow_does_not_know_would_be_noticed() -> None:
    job = content("trainjob.yaml")
    job["spec"]["trainer"]["numNode"] = 2
    assert TrainJob.from_dict(job).to_dict() != job


def shell_scripts() -> dict[str, str]:
    trainer, sky = content("trainjob.yaml")["spec"]["trainer"], content("skypilot.yaml")
    return {
        "slurm": (CLUSTER / "slurm.sbatch").read_text(encoding="utf-8"),
        "kubernetes": trainer["args"][0],
        "skypilot setup": sky["setup"],
        "skypilot": sky["run"],
    }


@pytest.mark.parametrize("name", shell_scripts())
def test_a_shell_can_read_it(name: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=shell_scripts()[name], text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


READ = """
import sky
task = sky.Task.from_yaml("skypilot.yaml")
(resources,) = task.resources
print(task.num_nodes, resources.use_spot, resources.job_recovery["strategy"], *task.storage_mounts)
"""


@pytest.mark.slow
def test_skypilot_reads_its_task(tmp_path: Path) -> None:
    """SkyPilot checks a file against its schema as it reads it; it is installed for this alone."""
    done = subprocess.run(
        ["uv", "run", "--no-project", "--python", sys.executable, "--with", "skypilot==0.14.1",
         "python", "-c", READ],
        cwd=CLUSTER, env=os.environ | {"HOME": str(tmp_path), "UV_CACHE_DIR": cache()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "True", "EAGER_NEXT_REGION", "/bucket"]


def cache() -> str:
    """uv's cache, which would be looked for in the home folder."""
    done = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
    return done.stdout.strip()
