"""The files for Kubernetes and SkyPilot are what their schedulers take, and fit the project."""

import os
import subprocess
import sys
import time
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


DVC = """#!/bin/sh
echo "dvc $*" >>calls
[ "$1" != status ] || [ -e is_trained ]
"""
PYTHON = """#!/bin/sh
echo train >>calls
touch is_trained # as rank 0 does elsewhere
exit $([ -e has_failed ] && echo 0 || { touch has_failed; echo 1; })
"""


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """The project's folder as a pod of the TrainJob has it; it notes what is called."""
    (tmp_path / "bin").mkdir()
    for name, text in {"dvc": DVC, "python": PYTHON, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def run_node(pod: Path, rank: int) -> list[str]:
    """Run a node's script to its good end; what it has called, but for its shell."""
    command = ["bash", "-c", content("trainjob.yaml")["spec"]["trainer"]["args"][0]]
    environ = {"PATH": f"{pod}/bin:/usr/bin:/bin", "PET_NODE_RANK": str(rank)}
    environ["PET_MASTER_ADDR"] = "job-node-0-0.job"
    (pod / "calls").write_text("")
    subprocess.run(command, cwd=pod, env=environ, check=True, timeout=30)
    return (pod / "calls").read_text().splitlines()


def test_the_first_node_runs_the_pipeline_and_another_one_trains_until_it_succeeds(
    pod: Path,
) -> None:
    repro = ["dvc repro split weights", "dvc status --quiet train", "dvc repro"]
    assert run_node(pod, 0) == repro
    assert not list(pod.glob(".trained-*"))
    assert run_node(pod, 1) == ["train", "train"]  # the first node was late
    assert run_node(pod, 0) == repro  # started again, after the training
    assert run_node(pod, 1) == []


SLURM = {
    "dvc": "sleep 0.1; if [ -e saves ]; then touch dvc.lock; fi; touch begun; exec sleep 60",
    "squeue": "echo RUNNING",
    "scontrol": 'echo "$*" >>calls',
}


@pytest.mark.parametrize(
    ("restarts", "saves", "is_queued"), [(0, False, True), (3, True, True), (3, False, False)]
)
def test_a_job_that_never_gets_further_is_not_queued_again(
    tmp_path: Path, restarts: int, saves: bool, is_queued: bool
) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "dvc.lock").touch()
    os.utime(tmp_path / "dvc.lock", (0, 0))
    if saves:
        (tmp_path / "saves").touch()
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "SLURM_RESTART_COUNT": str(restarts), **job}
    script = subprocess.Popen(
        ["bash", str(CLUSTER / "slurm.sbatch")],
        cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "begun").exists():
        assert script.poll() is None
        time.sleep(0.01)
    script.terminate()
    _, told = script.communicate(timeout=30)
    assert script.returncode == (143 if is_queued else 1)
    assert (tmp_path / "calls").exists() == is_queued
    assert ("the job was stopped 4 times, and has ended no stage" in told) != is_queued


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
