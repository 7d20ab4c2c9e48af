"""Runs a function on several ranks, each a process of its own that joins the others."""

import multiprocessing
import os
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from deepsort_reid.core.machine import cores
from deepsort_reid.model.device import synchronize
from deepsort_reid.training.ranks.distributed import Process, joined

BEST_ON_CPU = 2  # ranks, as in params.yaml


def usual_ranks() -> int:
    """A rank for each GPU; without one as many as params.yaml says, if there are the cores."""
    return torch.cuda.device_count() or min(BEST_ON_CPU, cores())


def on_ranks(
    world_size: int, function: Callable[..., Any], *arguments: Any, threads: int = 0
) -> list[Any]:
    """Call `function(process, *arguments)` on every rank; return what each one returned.

    Each rank computes in a folder of this call, which is removed afterwards.

    Args:
        world_size: how many ranks.
        function: of a module, and what it takes and returns can be pickled.
        arguments: what follows the process.
        threads: of each rank; 0: its share of the cores.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="speed-") as folder,
        ProcessPoolExecutor(world_size, mp_context=spawn) as pool,
    ):
        futures = [
            pool.submit(_rank, rank, world_size, port, folder, threads, function, arguments)
            for rank in range(world_size)
        ]
        return [future.result() for future in futures]


def _rank(
    rank: int, world_size: int, port: int, folder: str, threads: int, function: Any, arguments: Any
) -> Any:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    os.chdir(folder)
    screen = sys.stderr
    try:
        # Progress goes on being told, to a file.
        with Path(f"rank{rank}.log").open("w") as sys.stderr, joined() as process:
            if threads:
                torch.set_num_threads(threads)
            return function(process, *arguments)
    except BaseException:
        # At once, since the others would wait for this one.
        traceback.print_exc(file=screen)
        os._exit(1)
    finally:
        sys.stderr = screen


def now(process: Process) -> float:
    """Seconds by the clock, once every rank has done all that it was told before."""
    synchronize(process.device)
    if dist.is_initialized():
        dist.barrier()
    return time.perf_counter()
