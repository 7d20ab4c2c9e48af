"""Which backend joins ranks, and what their collectives add up to."""

import pytest
import torch

from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.ranks.distributed import Process
from tests.support.ranks import on_ranks


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
