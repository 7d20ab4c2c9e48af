"""What earlier stages could not deliver, found in their journals and sent when it can be."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deepsort_reid.runs import journal
from deepsort_reid.runs.journal import BusyError, Journal
from deepsort_reid.runs.outbox import Lane
from deepsort_reid.runs.run_writer import RunWriter
from deepsort_reid.runs.store import masked, reason

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a journal.

    Attributes:
        name: the run's.
        waiting: entries that still wait.
        size: bytes of those, with their files.
        why: why they wait; None if none does.
    """

    name: str
    waiting: int
    size: int
    why: str | None


def deliver_all(uri: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Outcome]:
    """Deliver all journals that nobody holds, one after the other.

    Args:
        uri: the store's address.
        stop: asked before each entry; True ends it.

    Yields:
        the outcome for each journal in which something waited, or whose run had not ended.
    """
    for key in list(journal.unsettled()):
        if stop():
            return
        try:
            with Journal(key) as held:
                yield deliver(held, uri, stop)
        except BusyError as error:
            yield Outcome(key, 0, 0, f"{error}, which will send it")
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
        ) as error:  # it is damaged, or another's
            yield Outcome(key, 0, 0, f"its journal cannot be used ({reason(error)})")


def deliver(held: Journal, uri: str, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Deliver a journal, as far as the store takes it.

    A run whose process has died without ending it is ended as KILLED, when last heard of.
    """
    if held.ended is False:
        held.put("end", status="KILLED", end_time=held.last_time)
    writer = RunWriter(held, uri)
    where = f"MLflow store {masked(uri)}"
    lanes = [Lane(held, writer, where, files=kind, warn=logger.debug) for kind in (False, True)]
    for lane in lanes:
        while not (stop() or held.is_wanted) and lane.step():
            pass
    count, size = held.size()
    trouble = next((lane.trouble for lane in lanes if lane.trouble), None)
    name = held.begun.payload.get("name") if held.begun else None
    name = name or (held.binding.run_name if held.binding else held.key)
    return Outcome(
        name, count, size, (trouble or "another process goes on with it") if count else None
    )
