"""How every stage begins and ends: its log, and its errors in one line."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from deepsort_reid.core import signals
from deepsort_reid.core.errors import DeepSortReidError


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`, and end the process with status 1 and one line on a user's error.

    Anything else, a defect of ours, keeps its traceback. Under torchrun the line is left to it,
    which shows the one of the rank that failed first. SIGTERM, Ctrl-C and a lost terminal end the
    process by way of every `finally`, with status 128 + signal.
    """
    set_up_log(is_first=os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0")
    signals.end_with_parent()
    try:
        with signals.ending_in_time(), signals.handling(signals.leave):
            main()
    except (DeepSortReidError, OSError) as error:
        mendable = describe(error)
        if mendable is None:
            raise
        report(mendable)
        raise SystemExit(1) from None


def set_up_log(*, is_first: bool) -> None:
    """Send our log to standard error: all of it from rank 0, warnings and worse from the others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    log = logging.getLogger("deepsort_reid")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO if is_first else logging.ERROR)


class _Formatter(logging.Formatter):
    """Plain lines; warnings and errors say that they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def describe(error: DeepSortReidError | OSError) -> DeepSortReidError | None:
    """The error as a user can mend it, or None if they cannot."""
    if isinstance(error, DeepSortReidError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the file being written"
        return DeepSortReidError(
            f"{where}: no space left on the disk; free some and run the same command again"
        )
    return None


def report(error: DeepSortReidError) -> None:
    """Print the error, or hand it to torchrun if that started this process."""
    if os.environ.get("TORCHELASTIC_ERROR_FILE"):
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)
    else:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
