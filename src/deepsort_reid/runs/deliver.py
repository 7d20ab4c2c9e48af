"""Sends to MLflow what no stage could send: `deepsort-reid deliver`.

It looks at every run's folder, says what became of each that MLflow lacked something of, and ends
with status 0 if nothing waits any more, and with 1 if something does. What a local store has of the
files in DVC's cache becomes links to these.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from deepsort_reid.core.secrets import masked
from deepsort_reid.core.stage import run_stage
from deepsort_reid.runs.folder import JOURNAL, BusyError, RunFolder, all_folders, share_with_cache
from deepsort_reid.runs.mlflow.failures import reason
from deepsort_reid.runs.mlflow.mirror import FailedError, Mirror, NoRunError
from deepsort_reid.runs.mlflow.store import (
    ARTIFACTS,
    check_address,
    sqlite_file,
    tracking_uri,
)

logger = logging.getLogger("deepsort_reid.runs.deliver")

# Until November 2026 a run's folder held a journal, and `settled` once all of it was delivered.
OLD = (
    "an earlier version of this project has kept in {} what MLflow may lack: run `deliver` of a "
    "commit that has src/deepsort_reid/journal.py, or remove that file"
)


class Outcome(NamedTuple):
    """What became of a run of which MLflow lacked something."""

    name: str
    text: str
    is_done: bool = False  # nothing waits any more
    is_busy: bool = False  # another process sends it


def main() -> None:
    """Deliver everything, with a line for each run; SystemExit 1 if something still waits."""
    uri = tracking_uri()
    check_address(uri)
    outcomes = []
    for outcome in deliver_all(uri):
        logger.info("%s: %s", outcome.name, outcome.text)
        outcomes.append(outcome)
    if database := sqlite_file(uri):
        share_with_cache(database.parent / ARTIFACTS)
    if not outcomes:
        logger.info("nothing waits to be sent to %s", masked(uri))
    if not all(outcome.is_done for outcome in outcomes):
        raise SystemExit(1)


def deliver_all(uri: str, stop: Callable[[], bool] = lambda: False) -> Iterator[Outcome]:
    """Deliver all runs of which MLflow lacks something, one after the other.

    Args:
        uri: the store's address.
        stop: asked before each run; True ends it.

    Yields:
        what became of each.
    """
    for folder in all_folders():
        if stop():
            return
        journal = folder.path / JOURNAL
        if journal.exists() and not (folder.path / "settled").exists():
            yield Outcome(folder.key, OLD.format(journal))
        try:
            if not folder.is_settled():
                yield deliver(folder, uri)
        except OSError as error:
            yield Outcome(folder.key, f"its folder cannot be used ({reason(error)})")


def deliver(folder: RunFolder, uri: str) -> Outcome:
    """Deliver a run, as far as the store takes it, unless a living process will."""
    name = folder.name or folder.key
    try:
        if folder.status == "RUNNING" and folder.is_owned():
            raise BusyError(f"run {folder.key} is recorded by another process")
        with folder.mirroring():
            Mirror(folder, uri)()
    except BusyError as error:
        return Outcome(name, f"{error}, which will send it", is_busy=True)
    except NoRunError as error:
        folder.give_up()
        return Outcome(name, f"{error}: nothing is added to it", is_done=True)
    except FailedError as error:
        return Outcome(name, f"{folder.unsent()} wait: {error}")
    if waiting := folder.unsent():
        return Outcome(name, f"{waiting} were added meanwhile")
    return Outcome(folder.name or name, "delivered", is_done=True)


if __name__ == "__main__":
    run_stage(main)
