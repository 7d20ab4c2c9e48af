"""How long ranks take to meet, by their number.

Rows: the seconds from the first of 8, 64 and 512 ranks to the moment when all know that all are
there, and who they are. The ranks are threads of one process, which share its cores: what is
measured is the work of meeting, and not a network.
"""

import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from deepsort_reid.core.launch import LOOPBACK, Launch
from deepsort_reid.training.ranks.rendezvous import Meeting, meet
from speed_items.rows import Row, spread

COUNTS, FEW = (8, 64, 512), (2, 4)
ON_A_MACHINE = 8
ROUNDS = 3


def measure(quick: bool) -> Iterator[Row]:
    """The rows; see above."""
    for count in FEW if quick else COUNTS:
        seconds = [met(count) for _ in range(ROUNDS)]
        yield Row(
            what=f"{count} ranks, all know all",
            ours=spread(seconds, "s"),
            other="",
            ratio=None,
            target="",
            met=None,
            n=ROUNDS,
            conditions=f"threads of one process, {ON_A_MACHINE} ranks a machine",
        )


def met(count: int) -> float:
    """Let so many ranks meet; return the seconds."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        port = sock.getsockname()[1]

    def join(rank: int) -> Meeting:
        local = min(ON_A_MACHINE, count)
        return meet(Launch(rank, rank % local, count, local, LOOPBACK, port), "gloo")

    with ThreadPoolExecutor(count) as pool:
        began = time.perf_counter()
        meetings = list(pool.map(join, range(count)))
        seconds = time.perf_counter() - began
    if statistics.mode(len(meeting.members) for meeting in meetings) != count:
        raise RuntimeError("not all ranks know all")
    return seconds
