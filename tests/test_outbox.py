import logging

import pytest

from deepsort_reid.outbox import FIRST_PAUSE, LONGEST_PAUSE, Entry, Outbox, RefusedError, summary


class World:
    """A store that fails or refuses when told to, and a clock that moves when told to."""

    def __init__(self):
        self.now = 0.0
        self.dead = False
        self.attempts = 0
        self.taken = []

    def deliver(self, entry):
        self.attempts += 1
        if self.dead:
            raise ConnectionError("connection refused")
        if entry.payload.get("bad"):
            raise RefusedError("not a number")
        self.taken.append(entry.payload["n"])

    def sleep(self, seconds):
        self.now += seconds

    def outbox(self, **options):
        return Outbox(
            self.deliver, "the store", clock=lambda: self.now, sleep=self.sleep, **options
        )


@pytest.fixture
def world():
    return World()


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_delivers_at_once_and_in_order(world, caplog):
    outbox = world.outbox()
    for n in range(3):
        outbox.put("metrics", n=n)
        assert world.taken[-1] == n
    assert outbox.close(10) == []
    assert warnings(caplog) == []


def test_keeps_what_a_dead_store_misses_and_sends_it_in_order(world, caplog):
    outbox = world.outbox()
    outbox.put("metrics", n=0)
    world.dead = True
    for n in range(1, 50):
        outbox.put("metrics", n=n)
    assert world.attempts == 2  # the dead store was asked once, not at every call
    world.dead, world.now = False, FIRST_PAUSE
    outbox.put("metrics", n=50)
    assert world.taken == list(range(51))
    assert len(warnings(caplog)) == 1
    assert "connection refused" in warnings(caplog)[0]


def test_pauses_get_longer_up_to_a_limit(world):
    outbox = world.outbox()
    world.dead = True
    pauses = []
    for n in range(10):
        outbox.put("metrics", n=n)
        pauses.append(outbox.next_attempt - world.now)
        world.now = outbox.next_attempt
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_new_failure_after_a_recovery_is_told_again(world, caplog):
    outbox = world.outbox()
    for _ in range(2):
        world.dead = True
        outbox.put("metrics", n=0)
        world.dead, world.now = False, outbox.next_attempt
        outbox.put("metrics", n=1)
    assert len(warnings(caplog)) == 2


def test_a_refused_entry_does_not_hold_up_the_next(world, caplog):
    outbox = world.outbox()
    outbox.put("params", n=0, bad=True)
    outbox.put("params", n=1, bad=True)
    outbox.put("metrics", n=2)
    assert world.taken == [2]
    assert [entry.payload["n"] for entry in outbox.close(0)] == [0, 1]
    assert warnings(caplog) == ["the store refuses params: not a number"]


def test_close_tries_for_a_bounded_time_and_returns_what_is_lost(world):
    outbox = world.outbox()
    world.dead = True
    outbox.put("metrics", n=0)
    outbox.put("end", n=1)
    assert outbox.close(10) == [Entry("metrics", {"n": 0}), Entry("end", {"n": 1})]
    assert world.now == 10


def test_close_delivers_to_a_store_that_comes_back(world):
    outbox = world.outbox()
    world.dead = True
    outbox.put("metrics", n=0)
    world.sleep = lambda _: setattr(world, "dead", False)
    outbox.sleep = world.sleep
    assert outbox.close(10) == []
    assert world.taken == [0]


def test_an_outbox_after_another_waits_for_it(world, caplog):
    records = world.outbox()
    files = world.outbox(after=records)
    world.dead = True
    records.put("metrics", n=0)
    files.put("artifact", n=1)
    assert world.attempts == 1
    assert len(warnings(caplog)) == 1
    world.dead = False
    assert records.close(0) == []
    assert files.close(0) == []
    assert world.taken == [0, 1]


def test_summary_counts_by_kind():
    entries = [Entry("metrics", {}), Entry("model", {}), Entry("metrics", {})]
    assert summary(entries) == "metrics (2), model (1)"
