"""Runs a stage in a process of its own that ends, as if the power went, at one of its writes."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepsort_reid.core.stage import run_stage
from deepsort_reid.model import device
from deepsort_reid.runs import deliver
from tests.support import stages

IMPORTED = ["tests.support.power", "deepsort_reid.training.report", "mlflow.pytorch"]
WRITES = ("write", "fsync", "replace", "unlink", "ftruncate")  # of os, by which all else goes
DEAD = 9  # exit status
TIMEOUT = 100.0  # seconds


def run(folder: Path, stage: str, *, until: int | None = None) -> int:
    """Run a stage in a project's folder.

    Args:
        folder: the project's.
        stage: its name; `deliver` for the command that sends what is left to MLflow.
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
    device.cores = lambda: 1  # threads of a test would only get into each other's way
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
    (run_stage(deliver.main, ()) if stage == "deliver" else stages.run(stage))
    sender.send(count[0])
