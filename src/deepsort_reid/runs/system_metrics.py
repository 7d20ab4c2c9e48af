"""Samples processors, memory, disk, network and GPUs, with MLflow's monitors, on a thread."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from deepsort_reid.runs.mlflow.store import import_mlflow, quiet

logger = logging.getLogger(__name__)

SAMPLE_EVERY = 5.0  # seconds
LONGEST = 60.0  # seconds between two samples of a run that takes days
SAMPLES = 120  # about as many in the first ten minutes, in the next ten, ...


class Sampler:
    """Takes a sample every few seconds, and one at the end, so that the shortest run has one."""

    def __init__(self, take: Callable[[Mapping[str, float]], object]):
        """Start.

        Args:
            take: is given each sample, on the sampler's thread: `system/cpu_…`, a number.
        """
        self.take = take
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self, seconds: float) -> None:
        """Take the last sample, and wait at most so long for it."""
        self.stopping.set()
        self.thread.join(seconds)

    def _run(self) -> None:
        try:
            monitors, started = all_monitors(), time.monotonic()
            while not self.stopping.wait(interval(time.monotonic() - started)):
                self.take(sample(monitors))
            self.take(sample(monitors))
        except Exception:  # the machine's load is not worth more than a line for a developer
            logger.debug("the machine's load is no longer sampled", exc_info=True)


def is_wanted() -> bool:
    """Whether MLflow's own variable does not forbid it."""
    return os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "false"


def interval(elapsed: float) -> float:
    """The seconds until the next sample of a run that has lasted so many."""
    return min(max(SAMPLE_EVERY, elapsed / SAMPLES), LONGEST)


def all_monitors() -> list[Any]:
    """MLflow's monitors of what this machine has."""
    import_mlflow()
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    monitors = [kind() for kind in kinds]
    gpus: list[Any] = [GPUMonitor, ROCMMonitor]
    for kind in gpus:
        try:
            monitors.append(kind())
        except Exception:
            logger.debug("%s finds nothing to watch", kind.__name__)
        else:
            break
    return monitors


def sample(monitors: list[Any]) -> dict[str, float]:
    """One sample of everything."""
    values: dict[str, float] = {}
    with quiet():
        for monitor in monitors:
            monitor.collect_metrics()
            values |= {f"system/{name}": x for name, x in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
    return values
