"""torchrun with this project's defaults, and its failures in one line.

`python -m deepsort_reid.training.torchrun ARGUMENTS` takes torchrun's own arguments
(https://docs.pytorch.org/docs/stable/elastic/run.html) and variables (`PET_…`), and does what it
does. Besides, `--nnodes`, `--nproc-per-node` and `--max-restarts` come from params.yaml where they
are not given as arguments, each rank gets its share of the cores, a launcher that dies takes its
ranks with it, and a rank's error is the last line, not a page of launcher's report.
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from deepsort_reid.core import config, errors, signals
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.launch import FIRST_WORD, LOOPBACK, PATIENCE, PORT

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
STANDALONE = "--standalone"
# Options that say which machines train together, and where they meet.
PLACES = {STANDALONE, "--nnodes", "--node-rank", "--master-addr", "--rdzv-endpoint"}
# torchrun's own variables for such options, as Kubeflow sets them too.
NNODES, NODE_RANK, MASTER_ADDR = "PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR"
ENDPOINT, RDZV_CONF = "PET_RDZV_ENDPOINT", "PET_RDZV_CONF"
COMMAND = "python -m deepsort_reid.training.torchrun pipeline/train.py"


def main(arguments: Sequence[str]) -> int:
    """Run torchrun; return the exit status: 0, 1 if a rank failed, 128 + signal if stopped."""
    signals.end_with_parent()
    try:
        arguments = [*defaults(arguments, os.environ), *arguments]
    except ConfigError as error:
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
    where = options.rdzv_endpoint or f"{options.master_addr}:{options.master_port or PORT}"
    try:
        with nullcontext() if options.standalone else word_of_waiting(options, where):
            run.run(options)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        print(f"error: {explain(*cause(error.failures))}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except (RendezvousError, dist.DistError) as error:
        print(f"error: {missed(error, options.nnodes, where)}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return 130
    return 0


def defaults(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What is not given: what follows from other options, and what params.yaml says if it is here.

    The stage's command names no parameter: DVC would put its text into a line for the shell.

    Raises:
        ConfigError: params.yaml holds something it should not, or the environment does not fit it.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    options: dict[str, object] = {}
    if Path("params.yaml").exists():
        params = config.load_params()
        options["--nproc-per-node"] = params.train.nproc_per_node
        options["--max-restarts"] = params.run.max_restarts
        if not given & PLACES:
            options |= machines(params.train.nnodes, environ)
    if STANDALONE in given | options.keys():
        # Whatever a cluster has left in the environment, and whatever this machine is called.
        options |= {"--nnodes": 1, "--local-addr": LOOPBACK}
    elif RDZV_CONF not in environ:
        seconds = f"{PATIENCE:.0f}"
        options["--rdzv-conf"] = f"join_timeout={seconds},timeout={seconds}"
    missing = {name: value for name, value in options.items() if name not in given}
    return [name if value is None else f"{name}={value}" for name, value in missing.items()]


def machines(nnodes: int, environ: Mapping[str, str]) -> dict[str, object]:
    """The options for as many machines as params.yaml states, by torchrun's own variables.

    Args:
        nnodes: the machines that train together.
        environ: `PET_NODE_RANK` is this machine's number, 0 if it is not set. All others find
            number 0 at `PET_MASTER_ADDR`, and `PET_MASTER_PORT` if it is not 29500.

    Returns:
        option -> value, or None if it has none.

    Raises:
        ConfigError: the variables do not fit params.yaml or each other.
    """
    stated = environ.get(NNODES, str(nnodes))
    if stated not in (str(nnodes), f"{nnodes}:{nnodes}"):
        raise ConfigError(
            f"{NNODES}={stated}, but params.yaml says nnodes: {nnodes}; state there how many train "
            "together, since the result depends on it"
        )
    text = environ.get(NODE_RANK, "0")
    if not text.isdecimal() or int(text) >= nnodes:
        raise ConfigError(
            f"{NODE_RANK}={text}, but params.yaml says nnodes: {nnodes}; "
            + ("it is the only machine" if nnodes == 1 else f"expected 0 to {nnodes - 1}")
        )
    if nnodes == 1:
        return {STANDALONE: None}
    if text == "0":
        # It needs no name of its own: the others come to it.
        return {"--nnodes": nnodes} | ({} if ENDPOINT in environ else {"--master-addr": LOOPBACK})
    if "DVC_STAGE" in environ:
        raise ConfigError(
            f"{NODE_RANK}={text}: machine 0 writes the checkpoint, so DVC runs there; here, run "
            f"`{COMMAND}`"
        )
    if not environ.keys() & {MASTER_ADDR, ENDPOINT}:
        raise ConfigError(
            f"{NODE_RANK}={text}, but {MASTER_ADDR} is not set; expected the name or address of "
            "machine 0"
        )
    return {"--nnodes": nnodes}


def waiting_for_machines(options: Any, where: str) -> str:
    """For whom this launcher waits, and what is to be done there.

    Args:
        options: torchrun's.
        where: the address at which all meet.
    """
    if options.rdzv_endpoint or options.master_addr != LOOPBACK or MASTER_ADDR in os.environ:
        return f"waiting for the other machines of {options.nnodes} at {where}"
    port = options.master_port or PORT
    at = f"{MASTER_ADDR}={socket.gethostname()}"
    at += "" if port == PORT else f" PET_MASTER_PORT={port}"
    last = int(str(options.nnodes).rpartition(":")[2]) - 1
    numbers = "1" if last == 1 else f"1 … {last}"
    return f"waiting for the other machines: {NODE_RANK}={numbers} {at} uv run {COMMAND}"


@contextmanager
def word_of_waiting(options: Any, where: str) -> Iterator[None]:
    """Say after a while for whom this waits, unless the launchers of all machines have met by then.

    Args:
        options: torchrun's.
        where: the address at which all meet.
    """
    from torch.distributed.elastic.metrics.api import MetricData, MetricHandler, configure

    text = waiting_for_machines(options, where)
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
    reason = errors.first_line(error.__cause__ or error)
    if "Timeout" in type(error).__name__:
        reason = "nobody else came in time"
    return errors.one_line(
        f"not all of {machines} machines have come to {where} ({reason}); start the same command "
        "on each of them, and see that each reaches this address (--rdzv-endpoint)"
    )


def cause(failures: Mapping[int, Any]) -> tuple[int, Any]:
    """The failure that the others follow from: the first, but not one of having lost the others.

    Args:
        failures: of this machine: rank among all -> torch's ProcessFailure.
    """
    lost = errors.LostContactError.__name__

    def order(failure: tuple[int, Any]) -> tuple[bool, float]:
        return text_of(failure[1]).startswith(lost), failure[1].timestamp

    return min(failures.items(), key=order)


def text_of(failure: Any) -> str:
    """What torch knows of a failure: a text, or a mapping that the rank has written."""
    message = failure.message
    return str(message["message"] if isinstance(message, dict) else message).strip()


def explain(rank: int, failure: Any) -> str:
    """A rank's failure in one line.

    Args:
        rank: among those of all machines.
        failure: torch's ProcessFailure.
    """
    kind, _, line = text_of(failure).partition(": ")
    if hasattr(errors, kind):
        return line
    if failure.exitcode < 0:
        return f"rank {rank} was ended by signal {-failure.exitcode}"
    return f"rank {rank} ended with status {failure.exitcode}; its report is above"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
