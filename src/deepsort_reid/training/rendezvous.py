"""Where ranks meet: one waits at an address, the others come, and nobody waits in silence."""

import os
import socket
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from deepsort_reid.core.errors import TrainingError
from deepsort_reid.core.launch import FIRST_WORD, LOOPBACK, PATIENCE, Launch

PAUSE = 0.1  # seconds between two looks
REMEDY = (
    "see that every process is started, by one launcher, and that its machine reaches this address "
    "(MASTER_ADDR, MASTER_PORT)"
)


def meet(launch: Launch) -> Store:
    """Wait for all ranks; return the store that they share, for the process group.

    Raises:
        TrainingError: a rank does not come in time, or the address cannot be used; one line.
    """
    waiting = Waiting(launch)
    # torchrun's agent can keep the store that is met at: then every rank is a guest there.
    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_host = launch.rank == 0 and not is_agents
    if not is_host:
        knock(launch, waiting)
    try:
        store = opened(launch, waiting, is_host=is_host)
    except dist.DistError as error:
        raise TrainingError(f"{waiting.where} cannot be used: {reason(error)}; {REMEDY}") from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    shared = PrefixStore(f"attempt-{attempt}", store)
    wait_for_all(shared, launch, waiting)
    return PrefixStore("group", shared)


class Waiting:
    """How long this process has waited at an address, and for whom.

    Attributes:
        where: the address and port, in words.
    """

    def __init__(self, launch: Launch):
        """Begin to wait."""
        self.launch, self.began = launch, time.monotonic()
        self.where = f"{launch.address}:{launch.port}"
        self.has_spoken = False

    def pause(self, whom: str, why: str = "") -> None:
        """Wait a little longer, and say for whom once it has lasted.

        Args:
            whom: who is missing, in words.
            why: what is known about the cause.

        Raises:
            TrainingError: it has lasted too long.
        """
        waited = time.monotonic() - self.began
        if waited >= PATIENCE:
            cause = f" ({why})" if why else ""
            raise TrainingError(
                f"waited {PATIENCE:.0f} s for {whom} at {self.where}{cause}; {REMEDY}"
            )
        # One voice on each machine; where rank 0 does not answer, rank 1 speaks for its own.
        is_speaker = self.launch.local_rank == 0 or (bool(why) and self.launch.rank == 1)
        if waited >= FIRST_WORD and is_speaker and not self.has_spoken:
            self.has_spoken = True
            cause = f" ({why})" if why else ""
            print(f"waiting for {whom} at {self.where}{cause}", file=sys.stderr, flush=True)  # noqa: T201
        time.sleep(PAUSE)


def knock(launch: Launch, waiting: Waiting) -> None:
    """Wait until somebody listens at the address.

    Raises:
        TrainingError: nobody does in time.
    """
    while True:
        try:
            socket.create_connection((launch.address, launch.port), timeout=FIRST_WORD).close()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            waiting.pause(f"rank 0 of {launch.world_size} ranks", why)
        else:
            return


def opened(launch: Launch, waiting: Waiting, *, is_host: bool) -> Store:
    """The store at the address: made by its host, or found there.

    In a thread, since torch waits without end for the answer of a server that is no store.

    Raises:
        TrainingError: what listens there does not answer.
        DistError: the address cannot be used.
    """
    made: list[Store] = []
    failures: list[Exception] = []

    def make() -> None:
        try:
            made.append(
                TCPStore(
                    LOOPBACK if is_host else launch.address,  # the host needs no name of its own
                    launch.port,
                    launch.world_size,
                    is_master=is_host,
                    timeout=timedelta(seconds=PATIENCE),
                    wait_for_workers=False,
                )
            )
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PAUSE)
        if thread.is_alive():
            waiting.pause(f"rank 0 of {launch.world_size} ranks", "what listens there is silent")
    if failures:
        raise failures[0]
    return made[0]


def wait_for_all(store: Store, launch: Launch, waiting: Waiting) -> None:
    """Wait until every rank has written its number into the store.

    Raises:
        TrainingError: one has not in time, or rank 0 has gone meanwhile.
    """
    missing = list(range(launch.world_size))
    try:
        store.set(f"rank-{launch.rank}", "here")
        while missing := [rank for rank in missing if not store.check([f"rank-{rank}"])]:
            names = ", ".join(map(str, missing[:8])) + (", …" if len(missing) > 8 else "")
            waiting.pause(f"{len(missing)} of {launch.world_size} ranks ({names})")
    except dist.DistError as error:
        raise TrainingError(
            f"the ranks that met at {waiting.where} have parted ({reason(error)}); {REMEDY}"
        ) from None


def reason(error: Exception) -> str:
    """The first line of torch's message, without the stack of its library."""
    return str(error).partition("\n")[0]
