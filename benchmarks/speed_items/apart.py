"""Runs a function in a process of its own, so that its memory is nobody else's."""

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
SERVE = "import sys; sys.path[:] = sys.argv[2:]; from speed_items import apart; apart.serve()"


@dataclass(frozen=True)
class Outcome:
    """What a call came to."""

    value: Any
    seconds: float  # of the part of the call that counts
    peak: float  # MB of memory that its process held at most, its libraries among them


def call(function: Callable[..., tuple[Any, float]], *arguments: Any) -> Outcome:
    """Call a function in a new process, which imports the function's module and no more.

    Args:
        function: of a module; returns a value and the seconds that count; see `timed`.
        arguments: what it takes; they and the value can be pickled.

    Raises:
        subprocess.CalledProcessError: the call failed; why stands on the screen.
    """
    with tempfile.NamedTemporaryFile(prefix="speed-") as result:
        subprocess.run(
            [sys.executable, "-c", SERVE, result.name, *sys.path],
            input=pickle.dumps((function, arguments)),
            check=True,
        )
        outcome: Outcome = pickle.loads(Path(result.name).read_bytes())
    return outcome


def serve() -> None:
    """Do the call that standard input asks for; the process of `call` runs this."""
    function, arguments = pickle.load(sys.stdin.buffer)
    value, seconds = function(*arguments)
    Path(sys.argv[1]).write_bytes(pickle.dumps(Outcome(value, seconds, peak_memory())))


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """What a call returns, and the seconds that it took."""
    started = time.perf_counter()
    value = function(*arguments, **options)
    return value, time.perf_counter() - started


def peak_memory() -> float:
    """MB of memory that this process has held at most; NaN where the system does not tell.

    Not by `resource`: its figure begins with what the process held that started this one.
    """
    if not STATUS.exists():
        return float("nan")
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1000
