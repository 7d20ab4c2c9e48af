"""torchrun with this project's defaults, and its failures in one line.

`python -m deepsort_reid.training.torchrun ARGUMENTS` takes torchrun's own arguments
(https://docs.pytorch.org/docs/stable/elastic/run.html) and does what it does. Besides,
`--nproc-per-node` and `--max-restarts` come from params.yaml where they are not given, each rank
gets its share of the cores, a launcher that dies takes its ranks with it, and a rank's error is the
last line, not a page of launcher's report.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepsort_reid.core import config, errors, signals
from deepsort_reid.core.launch import FIRST_WORD, LOOPBACK, PATIENCE

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; return the exit status: 0, 1 if a rank failed, 128 + signal if stopped."""
    signals.end_with_parent()
    try:
        arguments = [*defaults(arguments), *arguments]
    except errors.ConfigError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    os.environ[signals.LAUNCHER] = str(os.getpid())
    # Threads are set by the ranks, from the cores there are; torchrun would warn and set 1.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # torch reads this as it is imported: by the launcher here, whose errors are one line below.
    level = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = level or "FATAL"
    # With a store shared between launcher and ranks, a restarted rank meets what is left of the
    # first ones there, and hangs: https://github.com/pytorch/pytorch/issues/135712
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    import torch.distributed as dist
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    os.environ[LOG_LEVEL] = level or "ERROR"  # of the ranks
    logging.disable()  # of this process alone, which has nothing to add to what its ranks say
    options = run.parse_args(arguments)  # type: ignore[no-untyped-call]
    where = options.rdzv_endpoint or f"{options.master_addr}:{options.master_port}"
    try:
        with word_of_waiting(f"waiting for the other machines of {options.nnodes} at {where}"):
            run.run(options)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        print(f"error: {explain(cause(error.failures.values()))}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except (RendezvousError, dist.DistError) as error:
        print(f"error: {missed(error, options.nnodes, where)}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return 130
    return 0


def defaults(arguments: Sequence[str]) -> list[str]:
    """What is not given: what follows from other options, and what params.yaml says if it is here.

    The stage's command names no parameter: DVC would put its text into a line for the shell.

    Raises:
        ConfigError: params.yaml holds something it should not.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    options: dict[str, object] = {}
    if "--standalone" in given:
        # Whatever a cluster has left in the environment, and whatever this machine is called.
        options |= {"--nnodes": 1, "--local-addr": LOOPBACK}
    else:
        seconds = f"{PATIENCE:.0f}"
        options["--rdzv-conf"] = f"join_timeout={seconds},timeout={seconds}"
    if Path("params.yaml").exists():
        params = config.load_params()
        options["--nproc-per-node"] = params.train.nproc_per_node
        options["--max-restarts"] = params.run.max_restarts
    return [f"{name}={value}" for name, value in options.items() if name not in given]


@contextmanager
def word_of_waiting(text: str) -> Iterator[None]:
    """Say a text after a while, unless the launchers of all machines have met by then."""
    from torch.distributed.elastic.metrics.api import MetricData, MetricHandler, configure

    timer = threading.Timer(FIRST_WORD, print, [text], {"file": sys.stderr, "flush": True})
    timer.daemon = True

    class Meeting(MetricHandler):
        """Hears of what torch counts, among it each meeting."""

        def emit(self, metric_data: MetricData) -> None:
            """Say nothing any more once all have met."""
            if metric_data.name.endswith("_rendezvous.success"):
                timer.cancel()

    configure(Meeting())
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def missed(error: Exception, machines: str, where: str) -> str:
    """Why the launchers of several machines have not met, in one line."""
    reason = str(error.__cause__ or error).partition("\n")[0]
    if "Timeout" in type(error).__name__:
        reason = "nobody else came in time"
    return errors.one_line(
        f"not all of {machines} machines have come to {where} ({reason}); start the same command "
        "on each of them, and see that each reaches this address (--rdzv-endpoint)"
    )


def cause(failures: Iterable[Any]) -> Any:
    """The failure that the others follow from: the first, but not one of having lost the others."""
    lost = errors.LostContactError.__name__

    def order(failure: Any) -> tuple[bool, float]:
        return text_of(failure).startswith(lost), failure.timestamp

    return min(failures, key=order)


def text_of(failure: Any) -> str:
    """What torch knows of a failure: a text, or a mapping that the rank has written."""
    message = failure.message
    return str(message["message"] if isinstance(message, dict) else message).strip()


def explain(failure: Any) -> str:
    """A rank's failure in one line.

    Args:
        failure: torch's ProcessFailure.
    """
    kind, _, line = text_of(failure).partition(": ")
    if hasattr(errors, kind):
        return line
    if failure.exitcode < 0:
        return f"rank {failure.local_rank} was ended by signal {-failure.exitcode}"
    return f"rank {failure.local_rank} ended with status {failure.exitcode}; its report is above"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
