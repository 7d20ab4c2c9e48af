"""How a process ends that is told to: at once, or at the next good moment, and never later."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE = 10.0  # seconds from a signal to the end, whatever the process is waiting for
LAUNCHER = "DEEPSORT_REID_LAUNCHER"  # the process that started this one as a rank
PR_SET_PDEATHSIG = 1  # Linux: `man 2 prctl`

Handler = Callable[[int, FrameType | None], None]


def leave(number: int, _: FrameType | None = None) -> None:
    """End the process as the signal does, but by way of every `finally`."""
    raise SystemExit(128 + number)


class Stop:
    """Whether a signal has asked the process to end."""

    signal = 0  # its number; 0: none has

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; obey the second at once."""
        if self.signal:
            leave(number, frame)
        self.signal = number


@contextmanager
def handling(handler: Handler | signal.Handlers) -> Iterator[None]:
    """Let a handler take the signals while the block runs; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def postponed() -> Iterator[Stop]:
    """Let the block choose the moment to end: it looks at the yielded `Stop`, and leaves.

    A second signal does not wait for it, and a block that ends without having looked is left then.
    """
    stop = Stop()
    with handling(stop.ask):
        yield stop
    if stop.signal:
        leave(stop.signal)


@contextmanager
def ending_in_time(patience: float = PATIENCE) -> Iterator[None]:
    """Make sure that a signal ends this process even where the main thread cannot handle it.

    Python runs handlers between two of its own instructions, and a collective that waits for a
    dead rank may not come back to them. A thread is told of signals by the system, and counts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        with reader:
            number, deadline = 0, None
            while told := received(reader, deadline):  # nothing once the block has ended
                if told[0] in SIGNALS and deadline is None:
                    number, deadline = told[0], time.monotonic() + patience
            if told is None:
                os._exit(128 + number)

    threading.Thread(target=watch, name="ending-in-time", daemon=True).start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def received(reader: socket.socket, deadline: float | None) -> bytes | None:
    """The next byte, nothing at the end, None at the deadline."""
    reader.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))
    try:
        return reader.recv(1)
    except TimeoutError:
        return None


def end_with_parent(environ: Mapping[str, str] = os.environ) -> None:
    """End this process, as SIGTERM does, when the one that started it dies.

    Ranks outlive a killed launcher otherwise, and a stage a killed DVC: they would write while the
    next attempt does. A process that the user has started is left to the user. Linux only.
    """
    if not ("DVC_STAGE" in environ or LAUNCHER in environ) or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if LAUNCHER in environ and os.getppid() != int(environ[LAUNCHER]):
        raise SystemExit(128 + signal.SIGTERM)  # it died before we asked
