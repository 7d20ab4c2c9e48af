"""Where ranks meet: one waits at an address, the others come, and nobody waits in silence."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from deepsort_reid.core.errors import TrainingError, first_line
from deepsort_reid.core.launch import FIRST_WORD, LOOPBACK, PATIENCE, Launch
from deepsort_reid.training.ranks import interface

PAUSE = 0.1  # seconds between two looks
BEAT = "beat"  # where the store has the counter of each machine's first rank; see `heartbeat`
REMEDY = (
    "see that every process is started, by one launcher, and that its machine reaches this address "
    "(MASTER_ADDR, MASTER_PORT)"
)


class Member(NamedTuple):
    """A rank, as it has presented itself to the others."""

    host: str  # its machine's name
    address: str  # at which other machines reach it; until all have met, empty on rank 0's machine
    local_rank: int
    backend: str  # by which it would join the others


class Meeting(NamedTuple):
    """Where all ranks have met, and who they are."""

    store: Store
    members: list[Member]  # in the order of ranks
    address: str  # of the store, as this rank reaches it
    port: int
    prefix: str  # of this attempt's keys in the store


def meet(launch: Launch, backend: str) -> Meeting:
    """Wait for all ranks.

    Args:
        launch: this process among the others.
        backend: by which it would join them.

    Raises:
        TrainingError: a rank does not come in time, would join by another backend, or the address
            cannot be used; one line.
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
        raise TrainingError(
            f"{waiting.where} cannot be used: {first_line(error)}; {REMEDY}"
        ) from None
    prefix = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    shared = PrefixStore(prefix, store)
    present(shared, launch, backend)
    wait_for_all(shared, launch, waiting)
    members = presented(shared, launch)
    address = LOOPBACK if is_host else launch.address
    return Meeting(shared, members, address, launch.port, prefix)


def present(store: Store, launch: Launch, backend: str) -> None:
    """Tell the others that this rank is there, and where."""
    address = ""
    if not launch.is_on_one_machine and launch.rank != launch.local_rank:
        address = interface.own_address(launch.address, launch.port, store)
    member = Member(socket.gethostname(), address, launch.local_rank, backend)
    if not launch.local_rank:
        store.set(f"{BEAT}/{launch.rank}", "0")
    store.set(f"rank-{launch.rank}", json.dumps(member))
    store.add("present", 1)


def presented(store: Store, launch: Launch) -> list[Member]:
    """What the ranks, which are all there, have told.

    Raises:
        TrainingError: they would not join by one backend.
    """
    told = store.multi_get([f"rank-{rank}" for rank in range(launch.world_size)])
    members = [Member(*json.loads(text)) for text in told]
    if not launch.is_on_one_machine:
        are_apart = any(member.address for member in members)
        first = interface.address_of_first(store) if are_apart else LOOPBACK
        members = [member._replace(address=member.address or first) for member in members]
    for rank, member in enumerate(members):
        if member.backend != members[0].backend:
            raise TrainingError(
                f"rank {rank} on {member.host} would join by {member.backend}, rank 0 on "
                f"{members[0].host} by {members[0].backend}; nccl needs a GPU for each rank, on "
                "every machine"
            )
    return members


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

    def pause(self, whom: Callable[[], str], why: str = "") -> None:
        """Wait a little longer, and say for whom once it has lasted.

        Args:
            whom: tells who is missing, in words.
            why: what is known about the cause.

        Raises:
            TrainingError: it has lasted too long.
        """
        waited = time.monotonic() - self.began
        if waited >= PATIENCE:
            cause = f" ({why})" if why else ""
            raise TrainingError(
                f"waited {PATIENCE:.0f} s for {whom()} at {self.where}{cause}; {REMEDY}"
            )
        # One voice on each machine; where rank 0 does not answer, rank 1 speaks for its own.
        is_speaker = self.launch.local_rank == 0 or (bool(why) and self.launch.rank == 1)
        if waited >= FIRST_WORD and is_speaker and not self.has_spoken:
            self.has_spoken = True
            cause = f" ({why})" if why else ""
            print(f"waiting for {whom()} at {self.where}{cause}", file=sys.stderr, flush=True)  # noqa: T201
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
            waiting.pause(lambda: f"rank 0 of {launch.world_size} ranks", why)
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
            waiting.pause(
                lambda: f"rank 0 of {launch.world_size} ranks", "what listens there is silent"
            )
    if failures:
        raise failures[0]
    return made[0]


def wait_for_all(store: Store, launch: Launch, waiting: Waiting) -> None:
    """Wait until every rank has presented itself in the store.

    Each look is one question, however many ranks there are.

    Raises:
        TrainingError: one has not in time, or rank 0 has gone meanwhile.
    """

    def missing() -> str:
        ranks = [rank for rank in range(launch.world_size) if not store.check([f"rank-{rank}"])]
        names = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
        return f"{len(ranks)} of {launch.world_size} ranks ({names})"

    try:
        while store.add("present", 0) < launch.world_size:
            waiting.pause(missing)
    except dist.DistError as error:
        raise TrainingError(
            f"the ranks that met at {waiting.where} have parted ({first_line(error)}); {REMEDY}"
        ) from None
