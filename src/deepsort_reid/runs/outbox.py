"""Delivers a journal to its store on threads of its own, so that nobody waits for a store."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from deepsort_reid.runs.journal import Entry, Journal
from deepsort_reid.runs.run_writer import FILES, LARGEST, POINTS, RefusedError

logger = logging.getLogger(__name__)

FIRST_PAUSE = 10.0  # seconds without an attempt after the first failure
LONGEST_PAUSE = 300.0  # the pause doubles up to here
PATIENCE = 8.0  # seconds that a call about records may take before nobody waits for its end
LEAVE_SECONDS = 0.2  # for each thread to end

Write = Callable[[Sequence[Entry]], None]


class Lane:
    """Delivers the entries of some kinds in order, and pauses when the store fails.

    After a failure nothing is tried for a while, so that a dead store is not asked all the time.
    """

    def __init__(
        self,
        journal: Journal,
        write: Write,
        where: str,
        *,
        files: bool,
        clock: Callable[[], float] = time.monotonic,
        warn: Callable[..., None] = logger.warning,
    ):
        """Begin with a store that is thought to be well.

        Args:
            journal: holds the entries.
            write: sends entries of one kind, and can be called with them again. Raises
                RefusedError when an entry is at fault, anything else when the store is.
            where: the receiver's name, for messages.
            files: whether this lane is for the kinds that need the artifact store, or the others.
            clock: monotonic seconds.
            warn: told when the store begins to fail.
        """
        self.journal, self.write, self.where = journal, write, where
        self.files, self.clock, self.warn = files, clock, warn
        self.pause = 0.0  # seconds; 0 while all is well
        self.next_attempt = 0.0
        self.trouble: str | None = None  # why the store failed last
        self.busy_since: float | None = None  # while a call lasts
        self.refused: list[Entry] = []

    def waiting(self) -> list[Entry]:
        """The entries of this lane that can be tried next, the next first.

        A file is not tried before the records that were put in before it: it needs its run.
        """
        with self.journal.changed:
            entries = list(self.journal.waiting.values())
        mine = [entry for entry in entries if (entry.kind in FILES) == self.files]
        if self.files:
            records = [entry.number for entry in entries if entry.kind not in FILES]
            mine = [
                entry for entry in mine if entry.number < min(records, default=entry.number + 1)
            ]
        return mine

    def seconds_left(self) -> float:
        """How long nothing is to be tried."""
        return max(self.next_attempt - self.clock(), 0.0) if self.pause else 0.0

    def step(self) -> bool:
        """Deliver one entry, or several of one kind, if it is time; True if it went well."""
        entries = first_batch(self.waiting())
        if not entries or self.seconds_left():
            return False
        self.busy_since = self.clock()
        try:
            self._deliver(entries)
        except Exception as error:
            self._suspend(str(error))
            return False
        finally:
            self.busy_since = None
        if self.pause:
            logger.info("%s answers again", self.where)
            self.pause, self.trouble = 0.0, None
        return True

    def is_well(self) -> bool:
        """Whether the store has answered so far, and soon enough if it is asked for records."""
        since = self.busy_since
        stuck = since is not None and not self.files and self.clock() - since >= PATIENCE
        return not self.pause and not stuck

    def _deliver(self, entries: Sequence[Entry]) -> None:
        try:
            self.write(entries)
        except RefusedError as error:
            if len(entries) == 1:
                tell = logger.debug if self.refused else logger.warning
                tell("%s refuses %s: %s", self.where, entries[0].kind, error)
                self.refused += entries
                self.journal.strike(entries, str(error))
                return
            for entry in entries:  # not all of them are at fault
                self._deliver([entry])
        else:
            self.journal.strike(entries)

    def _suspend(self, trouble: str) -> None:
        if not self.pause:
            self.warn(
                "%s fails (%s); work goes on, and what it misses is kept and sent later",
                self.where,
                trouble,
            )
        self.trouble = trouble
        self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.next_attempt = self.clock() + self.pause


def first_batch(entries: Sequence[Entry]) -> list[Entry]:
    """The first entry, or as many points of curves from the start as fit into one call."""
    if not entries or entries[0].kind not in POINTS:
        return list(entries[:1])
    batch, points = [entries[0]], len(entries[0].payload["values"])
    for entry in entries[1:]:
        points += len(entry.payload["values"]) if entry.kind in POINTS else LARGEST
        if points > LARGEST:
            break
        batch.append(entry)
    return batch


class Outbox:
    """A journal's threads: one for records, one for files, one for what comes afterwards.

    A slow upload holds up no record, and the process may end at any time, since the threads are
    daemons and an entry is struck off only once it was delivered.
    """

    def __init__(
        self,
        journal: Journal,
        write: Write,
        where: str,
        *,
        prepare: Callable[[], object] = lambda: None,
        afterwards: Callable[[Callable[[], bool]], object] = lambda _: None,
    ):
        """Start to deliver.

        Args:
            journal: holds the entries; closed when the last thread has ended.
            write: as for `Lane`.
            where: the receiver's name, for messages.
            prepare: called first, on the threads; it may take its time.
            afterwards: called when nothing is left for the first time, with a function that says
                whether to stop.
        """
        self.journal, self.prepare, self.afterwards = journal, prepare, afterwards
        self.records = Lane(journal, write, where, files=False)
        self.files = Lane(journal, write, f"{where}, for files,", files=True)
        self.closed = self.hurried = False
        self.later = threading.Thread(target=self._run_afterwards, daemon=True)
        lanes = [
            threading.Thread(target=self._run, args=[lane], daemon=True) for lane in self.lanes
        ]
        self.threads = [*lanes, self.later]
        self.users = len(self.threads) + 1  # and whoever closes it
        for thread in self.threads:
            thread.start()

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """Both lanes."""
        return self.records, self.files

    @property
    def trouble(self) -> str | None:
        """Why something still waits, if the store has said."""
        return self.records.trouble or self.files.trouble

    @property
    def refused(self) -> list[Entry]:
        """What the store will never take."""
        return self.records.refused + self.files.refused

    def close(self, seconds: float) -> None:
        """Wait at most so long for what is left, while the store answers; then stop delivering."""
        deadline = time.monotonic() + seconds
        with self.journal.changed:
            while time.monotonic() < deadline and not self.hurried and self._is_hopeful():
                self.journal.changed.wait(0.1)
            self.closed = True
            self.journal.changed.notify_all()
        # An idle thread ends at once; one that is in a call lets go of the journal when it is back.
        for thread in () if self.hurried else self.threads:
            thread.join(LEAVE_SECONDS)
        self._leave()

    def hurry(self) -> None:
        """Let `close` wait no longer; may be called by a signal's handler."""
        self.hurried = True

    def _is_hopeful(self) -> bool:
        """Whether there is something to wait for, from a store that answers."""
        if not self.records.is_well():
            return False
        if not self.journal.waiting:
            return self.later.is_alive()
        return bool(self.records.waiting()) or self.files.is_well()

    def _run(self, lane: Lane) -> None:
        changed = self.journal.changed
        with suppress(Exception):  # the first attempt will say what is wrong
            self.prepare()
        while not self.closed:
            if not lane.step():
                with changed:
                    if not self.closed and (lane.seconds_left() or not lane.waiting()):
                        changed.wait(lane.seconds_left() or None)
        self._leave()

    def _run_afterwards(self) -> None:
        with self.journal.changed:
            while self.journal.waiting and not self.closed:
                self.journal.changed.wait()
        try:
            if not self.closed:
                self.afterwards(lambda: self.closed)
        except Exception:
            logger.debug("what earlier runs left could not be sent", exc_info=True)
        self._leave()

    def _leave(self) -> None:
        with self.journal.changed:
            self.users -= 1
            if self.users == 0:
                self.journal.close()


def summary(entries: Sequence[Entry]) -> str:
    """How many entries there are of each kind: `metrics (12), model (1)`."""
    counts = Counter(entry.kind for entry in entries)
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
