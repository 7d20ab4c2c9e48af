"""Holds what is on its way to a store, so that a store that fails costs neither time nor data."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

FIRST_PAUSE = 10.0  # seconds without an attempt after the first failure
LONGEST_PAUSE = 300.0  # the pause doubles up to here


class Entry(NamedTuple):
    """One thing to record, as plain data: it could as well be written down as a line of JSON."""

    kind: str
    payload: dict[str, Any]


class RefusedError(Exception):
    """The store has answered that it will never take this entry."""


class Outbox:
    """Delivers entries in order, and keeps what cannot be delivered now.

    After a failure nothing is tried for a while, so that a dead store costs its time limit once
    in that while and not at every call.

    `put` is the only way in, and an entry leaves `waiting` only once it was delivered or refused:
    whoever wants entries to outlive the process writes them down at the one, and strikes them out
    at the other.
    """

    def __init__(
        self,
        deliver: Callable[[Entry], None],
        where: str,
        *,
        after: "Outbox | None" = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """Start empty.

        Args:
            deliver: sends one entry, and can be called with it again. Raises RefusedError when
                the entry is at fault, anything else when the store is.
            where: the receiver's name, for messages.
            after: another outbox; while that one is not empty, this one does not try.
            clock: monotonic seconds.
            sleep: waits so many seconds.
        """
        self.deliver, self.where, self.after = deliver, where, after
        self.clock, self.sleep = clock, sleep
        self.waiting: deque[Entry] = deque()
        self.refused: list[Entry] = []
        self.pause = 0.0  # seconds; 0 while all is well
        self.next_attempt = 0.0

    def put(self, kind: str, **payload: Any) -> None:
        """Deliver an entry now, or keep it for later; raises nothing."""
        self.waiting.append(Entry(kind, payload))
        if not self.pause or self.clock() >= self.next_attempt:
            self.flush()

    def flush(self) -> bool:
        """Deliver what waits, until the first failure; True if nothing is left."""
        if self.after is not None and self.after.waiting:
            return not self.waiting
        while self.waiting:
            try:
                self.deliver(self.waiting[0])
            except RefusedError as error:
                self._refuse(self.waiting[0], error)
            except Exception as error:
                self.suspend(str(error))
                return False
            self.waiting.popleft()
        if self.pause:
            logger.info("%s answers again; nothing is missing", self.where)
            self.pause = 0.0
        return True

    def suspend(self, reason: str) -> None:
        """Try nothing for a while, since the store has failed."""
        if not self.pause:
            logger.warning(
                "%s fails (%s); work goes on, and what it misses is sent again later",
                self.where,
                reason,
            )
        self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.next_attempt = self.clock() + self.pause

    def close(self, seconds: float) -> list[Entry]:
        """Try for so long, and one attempt more, to deliver the rest; return what is lost."""
        deadline = self.clock() + seconds
        while not self.flush() and self.clock() < deadline:
            self.sleep(1.0)
        return [*self.refused, *self.waiting]

    def _refuse(self, entry: Entry, error: Exception) -> None:
        if not self.refused:
            logger.warning("%s refuses %s: %s", self.where, entry.kind, error)
        self.refused.append(entry)


def summary(entries: Sequence[Entry]) -> str:
    """How many entries there are of each kind: `metrics (12), model (1)`."""
    counts = Counter(entry.kind for entry in entries)
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(counts.items()))
