"""Machines that train together tell each other that they are there.

A machine that loses power, or whose link is cut, closes no connection. The others would wait for it
in a collective until that gives up, after ten minutes.
"""

import os
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Self

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from deepsort_reid.core.errors import LostContactError
from deepsort_reid.core.stage import report
from deepsort_reid.training.ranks.rendezvous import BEAT, Meeting, Member

EVERY = 5.0  # seconds between two beats of a machine
# Seconds of silence that mean that it is gone. A link that was cut for 25 s needs up to 51: TCP
# sends again after 0.2, 0.6, 1.4, … 25.4 and 51 s.
SILENCE = 60.0
LEFT = b"left"


class Heartbeat:
    """A thread that beats for this machine, and one that ends the process when another is silent.

    The first rank of each machine beats; every rank listens. Beats are counters in the store where
    the ranks have met.
    """

    def __init__(self, meeting: Meeting, rank: int):
        """Prepare; `with` starts it, and ends it in peace.

        Args:
            meeting: where the ranks have met, and who they are.
            rank: this one.
        """
        self.meeting, self.rank = meeting, rank
        self.beating = {
            other: member for other, member in enumerate(meeting.members) if not member.local_rank
        }
        self.counts: dict[int, bytes] = {}
        self.heard = dict.fromkeys(self.beating, time.monotonic())
        self.answered = time.monotonic()
        self.stopping = threading.Event()

    def __enter__(self) -> Self:
        """Start both threads."""
        self.threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (self._beat, self._watch)
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and tell the others that this machine's silence means nothing any more."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(EVERY)

    def _beat(self) -> None:
        """Beat and listen, until the end."""
        store: PrefixStore | None = None
        while not self.stopping.is_set():
            try:
                store = store or self._connected()
                if self.rank in self.beating:
                    store.add(f"{self.rank}", 1)
                self._listen(store)
            except (dist.DistError, RuntimeError):
                store = None  # what watches knows how long ago it was
            self.stopping.wait(EVERY)
        if store and self.rank in self.beating:
            try:
                store.set(f"{self.rank}", LEFT.decode())
            except (dist.DistError, RuntimeError):
                return  # whoever keeps the store has left before

    def _connected(self) -> PrefixStore:
        """A connection of this thread's own: a call that waits holds up all others of its own."""
        store = TCPStore(
            self.meeting.address, self.meeting.port, is_master=False,
            timeout=timedelta(seconds=SILENCE), wait_for_workers=False,
        )  # fmt: skip
        return PrefixStore(f"{self.meeting.prefix}/{BEAT}", store)

    def _listen(self, store: PrefixStore) -> None:
        """Note whose counter has changed."""
        told = store.multi_get([f"{rank}" for rank in self.beating])
        counts = dict(zip(self.beating, told, strict=True))
        self.answered = time.monotonic()
        for rank, count in counts.items():
            if count == LEFT:
                self.heard[rank] = float("inf")
            elif count != self.counts.get(rank):
                self.heard[rank] = self.answered
        self.counts = counts

    def _watch(self) -> None:
        """End the process once another machine has been silent for long."""
        looked = time.monotonic()
        while not self.stopping.wait(1):
            now = time.monotonic()
            if now - looked > EVERY:
                # This process itself stood still, by a scheduler's suspension for example.
                self.answered = max(self.answered, now)
                self.heard = {rank: max(when, now) for rank, when in self.heard.items()}
            looked = now
            if lost := self._silent(now):
                names = ", ".join(sorted({member.host for member in lost}))
                end(
                    f"nothing was heard from {names} for {SILENCE:.0f} s: it is down, or cannot be "
                    "reached; start the training again on every machine, and it goes on from its "
                    "last saved state"
                )

    def _silent(self, now: float) -> Sequence[Member]:
        """The machines that count as gone."""
        if now - self.answered > SILENCE:
            return [self.meeting.members[0]]  # which keeps the store, or whose launcher does
        return [
            self.beating[rank]
            for rank, when in self.heard.items()
            if now - when > SILENCE and rank != self.rank
        ]


def end(text: str) -> None:
    """End the process at once: its main thread may wait in a collective, and hear nothing."""
    report(LostContactError(text), os.environ)
    os._exit(1)
