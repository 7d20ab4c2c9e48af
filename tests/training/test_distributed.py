"""Ranks are found under torchrun, under SLURM and alone, and their collectives add up."""

import pytest
import torch

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.training import distributed
from deepsort_reid.training.distributed import Process
from tests.support.ranks import on_ranks

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SLURM = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NODELIST": "gpu[03-05,9],cpu1",
}


def test_where_this_process_stands() -> None:
    assert distributed.read_environment({}) == (0, 0, 1, 1)
    assert distributed.read_environment(TORCHRUN) == (5, 1, 8, 4)
    assert distributed.read_environment(SLURM) == (3, 1, 4, 2)
    assert distributed.read_environment(SLURM | TORCHRUN) == (5, 1, 8, 4)
    interactive = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}
    assert distributed.read_environment(interactive) == (0, 0, 1, 1)


@pytest.mark.parametrize("change", [{"LOCAL_RANK": "one"}, {"WORLD_SIZE": ""}])
def test_half_an_environment_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="start with torchrun, srun or plain python"):
        distributed.read_environment(TORCHRUN | change)


def test_slurm_ranks_agree_on_a_meeting_place() -> None:
    environ = dict(SLURM)
    distributed.set_rendezvous_from_slurm(environ)
    assert (environ["MASTER_ADDR"], environ["MASTER_PORT"]) == ("gpu03", "23456")
    own = SLURM | {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
    distributed.set_rendezvous_from_slurm(own)
    assert (own["MASTER_ADDR"], own["MASTER_PORT"]) == ("here", "1")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu7", "gpu7"), ("a,b", "a"), ("n[1-4]", "n1"), ("n[007,009]", "n007"), ("", "")],
)
def test_the_first_host_of_slurms_list(nodes: str, first: str) -> None:
    assert distributed.first_host(nodes) == first


@pytest.mark.parametrize(
    ("gpus", "device", "ranks", "backend"),
    [(0, "cpu", 2, "gloo"), (2, "cuda:1", 2, "nccl"), (4, "cuda:1", 2, "nccl"),
     (2, "cuda:1", 4, "gloo")],
)  # fmt: skip
def test_nccl_joins_ranks_that_have_a_gpu_each(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, ranks: int, backend: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert distributed.backend_of(torch.device(device), ranks) == backend


def collect(process: Process) -> tuple[float, list[list[float]], bool]:
    own = torch.tensor([process.rank + 1.0, 1.0])
    gathered = distributed.gather_over_ranks(own).tolist()
    total = distributed.sum_over_ranks(own.clone())[0].item()
    return total, gathered, process.is_first


def test_collectives_over_three_ranks() -> None:
    results = on_ranks(3, collect)
    assert [total for total, _, _ in results] == [6.0, 6.0, 6.0]
    assert all(gathered == [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]] for _, gathered, _ in results)
    assert [first for _, _, first in results] == [True, False, False]


def test_collectives_of_one_need_no_group() -> None:
    assert distributed.sum_over_ranks(torch.tensor([2.0])).item() == 2
    assert distributed.gather_over_ranks(torch.tensor([2.0])).tolist() == [[2.0]]
