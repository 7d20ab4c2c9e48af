"""Runs a function on several ranks, each a process of its own, as torchrun would.

The processes are started once, with the first call that needs them, and serve all later calls:
importing torch takes seconds.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from deepsort_reid.training.ranks.distributed import Process, joined
from tests.support.ports import free_port

MAX_RANKS = 3

_pools: list[ProcessPoolExecutor] = []  # at most one


def on_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `function(process, *arguments)` on every rank; return what each one returned.

    What the function changes outside itself, it must change back.
    """
    port = free_port()
    if not _pools:
        spawn = multiprocessing.get_context("spawn")
        _pools.append(ProcessPoolExecutor(MAX_RANKS, mp_context=spawn))
    try:
        # Each call begins by joining the others, so that no process can take two of them.
        futures = [
            _pools[0].submit(_rank, rank, world_size, port, function, arguments)
            for rank in range(world_size)
        ]
        return [future.result() for future in futures]
    except BaseException:
        _end(_pools.pop())
        raise


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown()


def _rank(rank: int, world_size: int, port: int, function: Any, arguments: Any) -> Any:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        with joined() as process:
            return function(process, *arguments)
    except BaseException:
        # At once, since the others would wait for this one.
        traceback.print_exc()
        os._exit(1)


__all__ = ["Process", "on_ranks"]
