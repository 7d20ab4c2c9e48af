"""A device for each process, its share of the cores, and random generators that can be set back."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from deepsort_reid.model import device


@pytest.mark.parametrize(
    ("gpus", "local_rank", "ranks", "expected"),
    [(0, 1, 2, "cpu"), (2, 1, 2, "cuda:1"), (4, 1, 2, "cuda:1"), (2, 3, 4, "cuda:1")],
)
def test_processes_have_a_gpu_each_or_share_them(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: int, local_rank: int, ranks: int, expected: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with caplog.at_level(logging.WARNING, "deepsort_reid"):
        assert device.choose_device(local_rank, ranks) == torch.device(expected)
    assert ("share 2 GPU(s) over gloo" in caplog.text) == (0 < gpus < ranks)


@pytest.mark.parametrize(("processes", "threads"), [(1, 4), (2, 2), (8, 1)])
def test_threads_are_the_share_of_the_cores_and_then_as_many_as_before(
    monkeypatch: pytest.MonkeyPatch, processes: int, threads: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(device, "cores", lambda: 4)
    with device.computing(local_world_size=processes) as chosen:
        assert chosen == torch.device("cpu")
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 1  # as the tests have it


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_are_chosen_as_asked(monkeypatch: pytest.MonkeyPatch, deterministic: bool) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        with device.computing(deterministic=deterministic):
            assert torch.are_deterministic_algorithms_enabled() == deterministic
    finally:
        torch.use_deterministic_algorithms(before)


def test_random_numbers_come_again() -> None:
    cpu = torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        state = device.random_state(cpu)
        first = torch.rand(3)
        device.set_random_state(state, cpu)
        assert torch.equal(torch.rand(3), first)


def test_subnormal_numbers_are_zero_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    subnormal = torch.full((100,), 1e-39)
    with device.computing():
        assert (subnormal * 1.0 == 0).all()
    assert (subnormal * 1.0 != 0).all()  # as before


SLOWDOWN = """
import time, torch
from deepsort_reid.model import device

def seconds(value):
    one, other = torch.full((1 << 21,), value), torch.full((1 << 21,), 0.5)
    began = time.perf_counter()
    for _ in range(20):
        one * other
    return time.perf_counter() - began

with device.computing():
    torch.set_num_threads(2)
    seconds(1.0)
    print(min(seconds(1e-39) / seconds(1.0) for _ in range(5)))
"""


@pytest.mark.slow
def test_subnormal_numbers_slow_no_thread_down() -> None:
    """In a new process, whose threads start after that was said; else they take eight times."""
    done = subprocess.run(
        [sys.executable, "-c", SLOWDOWN],
        env=os.environ | {"PYTHONPATH": "src", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 3
