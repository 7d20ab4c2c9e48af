"""torchrun with this project's defaults, and its failures in one line.

`python -m deepsort_reid.torchrun ARGUMENTS` takes torchrun's own arguments
(https://docs.pytorch.org/docs/stable/elastic/run.html) and does what it does. Besides, each rank
gets its share of the cores, and a rank's error is the last line, not a page of launcher's report.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from deepsort_reid import errors


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; return the exit status: 0, 1 if a rank failed, 128 + signal if stopped."""
    # Threads are set by the ranks, from the cores there are; torchrun would warn and set 1.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable()  # of this process alone, which has nothing to add to what its ranks say
    try:
        run.main(list(arguments))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        print(f"error: {explain(failure)}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return 130
    return 0


def explain(failure: Any) -> str:
    """A rank's failure in one line.

    Args:
        failure: torch's ProcessFailure; its message is a text, or a mapping written by the rank.
    """
    message = failure.message
    text = str(message["message"] if isinstance(message, dict) else message).strip()
    kind, _, line = text.partition(": ")
    if hasattr(errors, kind):
        return line
    if failure.exitcode < 0:
        return f"rank {failure.local_rank} was ended by signal {-failure.exitcode}"
    return f"rank {failure.local_rank} ended with status {failure.exitcode}; its report is above"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
