"""A process that is told to end does: at once, at its own next moment, and never later."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deepsort_reid.core import signals


def tell(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_postponed_signal_is_obeyed_at_the_end() -> None:
    seen = []

    def work() -> None:
        with signals.postponed() as stop:
            tell()
            seen.append(stop.signal)

    with pytest.raises(SystemExit) as caught:
        work()
    assert seen == [signal.SIGTERM]
    assert caught.value.code == 128 + signal.SIGTERM


def test_a_second_signal_does_not_wait() -> None:
    def work() -> None:
        with signals.postponed():
            tell()
            tell(signal.SIGINT)
            pytest.fail("still there")

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 128 + signal.SIGINT


def test_nothing_happens_without_a_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.ending_in_time(0.01), signals.postponed() as stop:
        assert signal.getsignal(signal.SIGTERM) == stop.ask
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
    time.sleep(0.05)
    assert "ending-in-time" not in [thread.name for thread in threading.enumerate()]


def test_another_thread_cannot_handle_signals() -> None:
    failed = []

    def work() -> None:
        try:
            with signals.ending_in_time(), signals.postponed():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


def run(code: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from deepsort_reid.core import signals\n" + code],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **environ},
    )  # fmt: skip


STUCK = """
import threading
with signals.ending_in_time(0.3), signals.postponed():
    print("ready", flush=True)
    import ctypes
    ctypes.CDLL(None).sleep(30)  # not Python's own code: no handler runs before it returns
    ctypes.CDLL(None).sleep(30)  # the signal cuts the first one short
"""


def test_a_main_thread_that_is_stuck_ends_all_the_same() -> None:
    with run(STUCK) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 10


CHILD = "import time; signals.end_with_parent(); print('here', flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
code = "from deepsort_reid.core import signals; " + {CHILD!r}
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
@pytest.mark.parametrize(("environ", "ends"), [({"DVC_STAGE": "train"}, True), ({}, False)])
def test_a_stage_ends_with_the_dvc_that_started_it(environ: dict[str, str], ends: bool) -> None:
    with run(PARENT, **environ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + (5 if ends else 0.5)
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert is_alive(pid) != ends
        if not ends:
            os.kill(pid, signal.SIGKILL)


def test_a_rank_whose_launcher_is_already_dead_does_not_begin() -> None:
    with run(CHILD, **{signals.LAUNCHER: "1"}) as process:
        assert process.wait(20) == 128 + signal.SIGTERM
