"""Runs a function on several ranks, each a process of its own, as torchrun would."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from deepsort_reid.training.distributed import Process, joined


def on_ranks(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `function(process, *arguments)` on every rank; return what each one returned."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(world_size, mp_context=spawn) as pool:
        futures = [
            pool.submit(_rank, rank, world_size, port, function, arguments)
            for rank in range(world_size)
        ]
        return [future.result() for future in futures]


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
