"""What launchers leave in the environment: which rank this is, and where all meet."""

import pytest

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.core.launch import Launch, first_host, read_launch

TORCHRUN = {
    "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "head", "MASTER_PORT": "29400",
}  # fmt: skip
KUBEFLOW = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NODELIST": "gpu[03-05,9],cpu1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@pytest.mark.parametrize(
    ("environ", "launch"),
    [
        ({}, Launch()),
        (TORCHRUN, Launch(5, 1, 8, 4, "head", 29400)),
        (TORCHRUN | SLURM | OPEN_MPI, Launch(5, 1, 8, 4, "head", 29400)),
        (TORCHRUN | {"LOCAL_RANK": "5", "LOCAL_WORLD_SIZE": "8"},
         Launch(5, 5, 8, 8, "127.0.0.1", 29400)),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, Launch(1, 1, 2, 2)),
        (KUBEFLOW, Launch(1, 0, 3, 1, "job-master-0", 23456)),
        (KUBEFLOW | {"RANK": "0", "WORLD_SIZE": "1"}, Launch()),
        (KUBEFLOW | {"MASTER_ADDR": "localhost"}, Launch(1, 1, 3, 3, "127.0.0.1", 23456)),
        (SLURM, Launch(3, 1, 4, 2, "gpu03", 23456)),
        (SLURM | {"MASTER_ADDR": "here", "MASTER_PORT": "1"}, Launch(3, 1, 4, 2, "here", 1)),
        (SLURM | {"SLURM_STEP_NODELIST": "gpu[04,9]", "SLURM_STEP_ID": "2"},
         Launch(3, 1, 4, 2, "gpu04", 23458)),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"},
         Launch(3, 3, 4, 4, "127.0.0.1", 23456)),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "1,3"}, Launch(3, 1, 4, 3, "gpu03", 23456)),
        (OPEN_MPI, Launch(1, 1, 2, 2)),
        (OPEN_MPI | SLURM, Launch(1, 1, 2, 2)),
        (MPICH, Launch(1, 1, 2, 2)),
    ],
)  # fmt: skip
def test_where_this_process_stands(environ: dict[str, str], launch: Launch) -> None:
    assert read_launch(environ) == launch


def test_tasks_per_node_as_they_were_asked_for() -> None:
    environ = {name: value for name, value in SLURM.items() if not name.startswith("SLURM_STEP_")}
    environ |= {"SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}
    assert read_launch(environ) == Launch(3, 1, 4, 2, "gpu03", 23456)


@pytest.mark.parametrize(
    "shell",
    [
        {"SLURM_STEP_ID": ""},  # sbatch
        {"SLURM_STEP_ID": "4294967291"},  # sbatch, as a step
        {"SLURM_STEP_ID": "4294967290"},  # salloc
        {"SLURM_PTY_PORT": "40123"},  # srun --pty bash
        {"SLURM_STEP_ID": "4294967290", **MPICH},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun -n1 in a job of four tasks
    ],
)
def test_a_shell_in_a_job_is_one_process(shell: dict[str, str]) -> None:
    assert read_launch(SLURM | shell) == Launch()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (TORCHRUN | {"LOCAL_RANK": "one"}, "LOCAL_RANK is 'one', no whole number"),
        (TORCHRUN | {"WORLD_SIZE": ""}, "WORLD_SIZE is '', no whole number"),
        (TORCHRUN | {"RANK": "8"}, "RANK=8, WORLD_SIZE=8, LOCAL_RANK=1, LOCAL_WORLD_SIZE=4, which"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE=0, which do not fit"),
        ({"RANK": "1"}, "RANK=1, but WORLD_SIZE is not set"),
        ({"RANK": "1", "WORLD_SIZE": "3"}, "but MASTER_ADDR is not set; set it to the host of"),
        (KUBEFLOW | {"LOCAL_RANK": "0"}, "LOCAL_WORLD_SIZE is not set; set it to the number of"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4"}, "MASTER_ADDR is not set"),
        (KUBEFLOW | {"MASTER_PORT": "http"}, "MASTER_PORT is 'http', no whole number"),
    ],
)
def test_half_an_environment_is_refused(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(TrainingError) as caught:
        read_launch(environ)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu7", "gpu7"), ("a,b", "a"), ("n[1-4]", "n1"), ("n[007,009]", "n007"), ("", ""),
     ("rack[1-2]n[03-04],x", "rack1n03"), ("n[1-4]-ib", "n1-ib")],
)  # fmt: skip
def test_the_first_host_of_slurms_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
