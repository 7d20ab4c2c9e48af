"""Sends to MLflow what no stage could send: `python -m deepsort_reid.runs.deliver`.

It tries every run's journal once, says what became of each, and ends with status 0 if nothing
waits any more, and with 1 if something does.
"""

import logging

from deepsort_reid.core.stage import run_stage
from deepsort_reid.runs import leftovers
from deepsort_reid.runs.leftovers import Outcome
from deepsort_reid.runs.store import check_address, masked, tracking_uri

logger = logging.getLogger("deepsort_reid.runs.deliver")


def main() -> None:
    """Deliver everything, with a line for each run; SystemExit 1 if something still waits."""
    uri = tracking_uri()
    check_address(uri)
    outcomes = []
    for outcome in leftovers.deliver_all(uri):
        logger.info(line(outcome))
        outcomes.append(outcome)
    if not outcomes:
        logger.info("nothing waits to be sent to %s", masked(uri))
    if any(outcome.why for outcome in outcomes):
        raise SystemExit(1)


def line(outcome: Outcome) -> str:
    """What became of a run, in one line."""
    if outcome.why is None:
        return f"{outcome.name}: delivered"
    if not outcome.waiting:
        return f"{outcome.name}: {outcome.why}"
    return (
        f"{outcome.name}: {outcome.waiting} entries, {outcome.size / 1e6:.1f} MB, wait: "
        f"{outcome.why}"
    )


if __name__ == "__main__":
    run_stage(main)
