"""Runs a stage in a process of its own that ends, as if the power went, at one of its writes."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import stages

IMPORTED = ["tests.power", "deepsort_reid.recorder", "mlflow.pytorch"]
WRITES = ("write", "fsync", "replace", "unlink", "ftruncate")  # of os, by which all else goes
DEAD = 9  # exit status
TIMEOUT = 100.0  # seconds


def run(folder: Path, stage: str, *, until: int | None = None) -> int:
    """Run a stage in a project's folder.

    Args:
        folder: the project's.
        stage: its name.
        until: the write at which the power goes, counted from 1; None: never.

    Returns:
        how many writes there were.

    Raises:
        AssertionError: the stage failed, or took too long.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(folder, stage, until, sender))
    process.start()
    sender.close()
    process.join(TIMEOUT)
    assert process.exitcode in (0, DEAD), process.exitcode
    return int(receiver.recv()) if process.exitcode == 0 else until or 0


def _run(folder: Path, stage: str, until: int | None, sender: Any) -> None:
    os.chdir(folder)
    os.environ |= {
        "DVC_ROOT": str(folder),
        "DVC_STAGE": stage,  # which DVC has not recorded
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",  # its samples come by the clock
    }
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    count = [0]

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == until:
                os._exit(DEAD)
            return call(*arguments, **options)

        return counted

    for name in WRITES:
        setattr(os, name, counting(getattr(os, name)))
    stages.run(stage)
    sender.send(count[0])
