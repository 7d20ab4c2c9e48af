import logging
import threading
import time

import pytest

from deepsort_reid.runs.journal import BusyError, Journal
from deepsort_reid.runs.outbox import FIRST_PAUSE, LONGEST_PAUSE, Lane, Outbox, first_batch, summary
from deepsort_reid.runs.run_writer import RefusedError


class World:
    """A store that fails or refuses when told to, and a clock that moves when told to."""

    def __init__(self, journal):
        self.journal = journal
        self.now = 0.0
        self.dead = False
        self.attempts = 0
        self.taken = []

    def write(self, entries):
        self.attempts += 1
        if self.dead:
            raise ConnectionError("connection refused")
        if any(entry.payload.get("bad") for entry in entries):
            raise RefusedError("not a number")
        self.taken += [entry.number for entry in entries]

    def lane(self, *, files=False):
        return Lane(self.journal, self.write, "the store", files=files, clock=lambda: self.now)


@pytest.fixture
def journal(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with Journal("key") as journal:
        yield journal


@pytest.fixture
def world(journal):
    return World(journal)


def put(journal, count, **payload):
    for _ in range(count):
        journal.put("restart", **payload)  # a kind that may be put again and again


def steps(lane):
    while lane.step():
        pass


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


# A lane


def test_delivers_in_order_and_strikes_off(world, journal, caplog):
    put(journal, 3)
    steps(world.lane())
    assert world.taken == [0, 1, 2]
    assert not journal.waiting
    assert warnings(caplog) == []


def test_keeps_what_a_dead_store_misses_and_sends_it_in_order(world, journal, caplog):
    lane = world.lane()
    put(journal, 1)
    steps(lane)
    world.dead = True
    for _ in range(50):
        put(journal, 1)
        steps(lane)
    assert world.attempts == 2  # the dead store was asked once, not each time
    assert lane.trouble == "connection refused"
    world.dead, world.now = False, FIRST_PAUSE
    steps(lane)
    assert world.taken == list(range(51))
    assert lane.trouble is None
    assert len(warnings(caplog)) == 1
    assert "connection refused" in warnings(caplog)[0]


def test_pauses_get_longer_up_to_a_limit(world, journal):
    lane = world.lane()
    world.dead = True
    put(journal, 1)
    pauses = []
    for _ in range(10):
        lane.step()
        pauses.append(lane.seconds_left())
        world.now = lane.next_attempt
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_a_new_failure_after_a_recovery_is_told_again(world, journal, caplog):
    lane = world.lane()
    for _ in range(2):
        put(journal, 1)
        world.dead = True
        steps(lane)
        world.dead, world.now = False, lane.next_attempt
        steps(lane)
    assert len(warnings(caplog)) == 2


def test_a_refused_entry_does_not_hold_up_the_next(world, journal, caplog):
    lane = world.lane()
    put(journal, 2, bad=True)
    put(journal, 1)
    steps(lane)
    assert world.taken == [2]
    assert [entry.number for entry in lane.refused] == [0, 1]
    assert not journal.waiting
    assert warnings(caplog) == ["the store refuses restart: not a number"]


def test_points_go_together(world, journal):
    for step in range(400):
        journal.put("metrics", values={"a": 1.0, "b": 2.0, "c": 3.0}, step=step)
    put(journal, 1)
    steps(world.lane())
    assert world.taken == list(range(401))
    assert world.attempts == 3  # 333 times 3 points, the rest, and what is no point


def test_a_refused_point_does_not_take_the_others_with_it(world, journal):
    for step in range(5):
        journal.put("metrics", values={"a": 1.0}, step=step, bad=step == 3)
    steps(world.lane())
    assert world.taken == [0, 1, 2, 4]


def test_a_point_larger_than_a_call_goes_alone(journal):
    journal.put("metrics", values={str(n): 0.0 for n in range(2000)}, step=1)
    journal.put("metrics", values={"a": 0.0}, step=1)
    assert [entry.number for entry in first_batch(list(journal.waiting.values()))] == [0]


def test_a_file_follows_the_records_before_it_and_no_others(world, journal):
    records, files = world.lane(), world.lane(files=True)
    put(journal, 1)
    journal.put("promotion", metric="mAP")
    put(journal, 1)
    journal.put("promotion", metric="mAP")
    assert not files.step()
    records.step()
    assert files.step()
    assert not files.step()
    assert world.taken == [0, 1]


def test_a_journal_that_cannot_be_written_is_like_a_store_that_fails(world, journal, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    lane = world.lane()
    put(journal, 1)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "strike", full)
        assert not lane.step()
    assert "No space left" in lane.trouble
    world.now = FIRST_PAUSE
    assert lane.step()


# The threads


@pytest.fixture
def outbox(world, journal):
    outbox = Outbox(journal, world.write, "the store")
    yield outbox
    outbox.hurry()


def closing_time(outbox, seconds):
    started = time.monotonic()
    outbox.close(seconds)
    return time.monotonic() - started


def test_what_is_put_is_delivered_meanwhile(world, journal, outbox):
    put(journal, 3)
    journal.put("promotion", metric="mAP")
    assert closing_time(outbox, 20) < 5
    assert world.taken == [0, 1, 2, 3]


def test_closing_does_not_wait_for_a_dead_store(world, journal, outbox):
    world.dead = True
    put(journal, 3)
    assert closing_time(outbox, 20) < 5
    assert len(journal.waiting) == 3


def slowly(world, seconds):
    def write(entries):
        time.sleep(seconds)
        World.write(world, entries)

    world.write = write


@pytest.mark.parametrize("hurried", [False, True])
def test_closing_waits_for_a_slow_store_only_so_long(world, journal, hurried):
    slowly(world, 0.05)
    outbox = Outbox(journal, world.write, "the store")
    put(journal, 100)
    if hurried:
        threading.Timer(0.2, outbox.hurry).start()
    assert closing_time(outbox, 20 if hurried else 0.2) < 2
    assert 0 < len(journal.waiting) < 100


def test_a_slow_file_holds_up_no_record(world, journal):
    slowly(world, 0)
    began, go_on = threading.Event(), threading.Event()

    def write(entries):
        if entries[0].kind == "promotion":
            began.set()
            go_on.wait(20)
        World.write(world, entries)

    outbox = Outbox(journal, write, "the store")
    journal.put("promotion", metric="mAP")
    assert began.wait(20)
    put(journal, 3)
    deadline = time.monotonic() + 20
    while world.taken != [1, 2, 3] and time.monotonic() < deadline:
        time.sleep(0.01)
    go_on.set()
    outbox.close(20)
    assert world.taken == [1, 2, 3, 0]


def test_the_journal_is_let_go_of_when_the_last_call_has_ended(world, journal):
    slowly(world, 0.5)
    outbox = Outbox(journal, world.write, "the store")
    put(journal, 1)
    time.sleep(0.1)
    outbox.close(0)
    with pytest.raises(BusyError):
        Journal("key")
    for thread in outbox.threads:
        thread.join(20)
    with Journal("key") as again:
        assert not again.waiting


def test_what_comes_afterwards_comes_when_nothing_is_left(world, journal):
    left = []
    outbox = Outbox(
        journal, world.write, "the store", afterwards=lambda stop: left.append((world.taken, stop))
    )
    outbox.close(20)
    ((_, stop),) = left
    assert stop()


def test_what_comes_afterwards_does_not_come_while_something_waits(world, journal):
    world.dead, left = True, []
    put(journal, 1)
    Outbox(journal, world.write, "the store", afterwards=left.append).close(20)
    assert left == []


def test_summary_counts_by_kind(journal):
    put(journal, 2)
    journal.put("dataset")
    assert summary(list(journal.waiting.values())) == "dataset (1), restart (2)"
