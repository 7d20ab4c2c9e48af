"""Keeps an MLflow run equal to a run's folder while a stage runs, so that nobody waits for it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from deepsort_reid.runs.deliver import deliver_all
from deepsort_reid.runs.folder import BusyError
from deepsort_reid.runs.mlflow.mirror import FailedError, Mirror, NoRunError
from deepsort_reid.runs.mlflow.store import import_mlflow

logger = logging.getLogger(__name__)

EVERY = 1.0  # seconds between two calls, at least
FIRST_PAUSE = 10.0  # seconds without a call after the first failure
LONGEST_PAUSE = 300.0  # the pause doubles up to here
PATIENCE = 8.0  # seconds that an answer about records may take before nobody waits for it


class Sync:
    """A thread that sends what is new: records while the stage runs, and files when it ends.

    A store that fails is left alone for a while. The thread is a daemon: the process may end at
    any time, and what was not sent by then is sent by whoever comes next.

    Attributes:
        trouble: why the store failed last; None while it answers.
        hurried: lets `close` wait no longer.
        has_run: False once the store has answered that there is no such run.
    """

    def __init__(self, mirror: Mirror):
        """Start.

        Args:
            mirror: sends; used by this thread alone.
        """
        self.mirror = mirror
        self.pause = 0.0  # seconds; 0 while all is well
        self.trouble: str | None = None
        self.woken, self.closing = threading.Event(), threading.Event()
        self.hurried = self.left = self.is_last = False
        self.has_run = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Send soon what is new."""
        self.woken.set()

    def close(self, seconds: float) -> None:
        """Send what is left, files and earlier runs too, and wait for that at most so long."""
        deadline = time.monotonic() + seconds
        self.closing.set()
        self.woken.set()
        while self.thread.is_alive() and time.monotonic() < deadline:
            if self.hurried or self.mirror.waits(PATIENCE):
                break
            self.thread.join(0.05)
        self.left = True

    def _run(self) -> None:
        with suppress(Exception):  # the first call will say what is wrong
            import_mlflow()
        while not self.closing.is_set():
            self.woken.clear()
            was_well = self._attempt(self.mirror.records)
            self.closing.wait(self.pause or EVERY)
            if was_well:
                self.woken.wait()
        self.is_last = True
        while not (self.pause or self.left):
            if self._attempt(self.mirror):
                self._send_earlier_runs()
                return
            time.sleep(0.1)  # another process is at it

    def _attempt(self, send: Callable[[], None]) -> bool:
        """Send records, or all; False if the store fails, or another process sends them."""
        try:
            with self.mirror.folder.mirroring():
                send()
        except BusyError:
            return False
        except NoRunError as error:
            if self.is_last:
                logger.warning("%s: nothing is added to it", error)
                self.mirror.folder.give_up()
                self.has_run = False
        except FailedError as error:
            self._suspend(str(error), error.what)
            return False
        except Exception as error:  # the folder cannot be read or written
            self._suspend(str(error), f"run folder {self.mirror.folder.path}")
            return False
        if self.pause:
            logger.info("%s answers again", self.mirror.where)
            self.pause, self.trouble = 0.0, None
        return True

    def _suspend(self, trouble: str, what: str) -> None:
        if not self.pause:
            logger.warning(
                "%s fails (%s); work goes on, and what it misses is kept and sent later",
                what,
                trouble,
            )
        self.trouble = trouble
        self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)

    def _send_earlier_runs(self) -> None:
        try:
            for outcome in deliver_all(self.mirror.uri, lambda: self.left):
                if not outcome.is_busy:
                    logger.info("MLflow run %s, of earlier: %s", outcome.name, outcome.text)
        except Exception:
            logger.debug("what earlier runs left could not be sent", exc_info=True)
