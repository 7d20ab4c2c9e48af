"""Nobody waits for a store: neither the stage while it runs, nor for long at its end."""

import logging
import threading
import time

import pytest

from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow import sync
from deepsort_reid.runs.mlflow.mirror import FailedError, NoRunError
from deepsort_reid.runs.mlflow.sync import FIRST_PAUSE, LONGEST_PAUSE, Sync


class Mirror:
    """A store that fails, hangs or has no such run when told to."""

    uri, where = "sqlite:///mlflow.db", "the store"

    def __init__(self):
        self.folder = RunFolder("key")
        self.dead = self.gone = False
        self.slow = 0.0  # seconds a call
        self.calls = []

    def records(self):
        self.calls.append("records")
        time.sleep(self.slow)
        if self.dead:
            raise FailedError("connection refused", self.where)
        if self.gone:
            raise NoRunError("run key is not in MLflow")

    def __call__(self):
        self.records()
        self.calls.append("files")

    def waits(self, seconds):
        return self.slow > seconds


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(sync, "EVERY", 0.01)
    monkeypatch.setattr(sync, "deliver_all", lambda *_: ())
    return Mirror()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def closing_time(sync, seconds=20.0):
    started = time.monotonic()
    sync.close(seconds)
    return time.monotonic() - started


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_what_is_new_is_sent_meanwhile_and_files_at_the_end(mirror):
    keeper = Sync(mirror)
    wait_for(lambda: len(mirror.calls) == 1)
    keeper.wake()
    wait_for(lambda: len(mirror.calls) == 2)
    assert closing_time(keeper) < 10
    assert mirror.calls == ["records", "records", "records", "files"]
    assert not keeper.thread.is_alive()


def test_a_store_that_is_not_needed_is_not_asked(mirror):
    keeper = Sync(mirror)
    wait_for(lambda: mirror.calls)
    time.sleep(0.1)
    assert mirror.calls == ["records"]
    keeper.close(20)


def test_a_dead_store_is_left_alone_and_told_of_once(mirror, caplog, monkeypatch):
    monkeypatch.setattr(sync, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(sync, "LONGEST_PAUSE", 0.05)
    caplog.set_level(logging.INFO, "deepsort_reid")
    mirror.dead = True
    keeper = Sync(mirror)
    for _ in range(50):
        keeper.wake()
    wait_for(lambda: len(mirror.calls) >= 3)
    assert keeper.trouble == "connection refused"
    assert len(mirror.calls) < 20
    mirror.dead = False
    wait_for(lambda: keeper.trouble is None)
    keeper.close(20)
    assert warnings(caplog) == [
        "the store fails (connection refused); work goes on, and what it misses is kept and sent "
        "later"
    ]
    assert "the store answers again" in caplog.text
    assert mirror.calls[-1] == "files"


def test_pauses_get_longer_up_to_a_limit(mirror):
    keeper = Sync(mirror)
    keeper.close(20)
    pauses = []
    for _ in range(10):
        keeper._suspend("connection refused", "the store")
        pauses.append(keeper.pause)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE


def test_closing_does_not_wait_for_a_dead_store(mirror):
    mirror.dead = True
    keeper = Sync(mirror)
    wait_for(lambda: keeper.pause)
    calls = len(mirror.calls)
    assert closing_time(keeper) < 5
    assert len(mirror.calls) == calls


def test_closing_waits_for_a_slow_store_only_so_long(mirror):
    mirror.slow = 3.0
    assert closing_time(Sync(mirror), 0.2) < 2


@pytest.mark.parametrize("how", ["hurried", "stuck"])
def test_closing_does_not_wait_on_what_is_hopeless(mirror, monkeypatch, how):
    mirror.slow = 3.0
    keeper = Sync(mirror)
    if how == "hurried":
        threading.Timer(0.2, lambda: setattr(keeper, "hurried", True)).start()
    else:
        monkeypatch.setattr(sync, "PATIENCE", 1.0)
    assert closing_time(keeper) < 2.5


def test_what_another_process_sends_is_waited_for_without_a_word(mirror, caplog):
    with mirror.folder.mirroring():
        keeper = Sync(mirror)
        time.sleep(0.1)
        assert not mirror.calls
        threading.Timer(0.2, keeper.closing.set).start()
        keeper.closing.wait(20)
        time.sleep(0.2)
        assert not mirror.calls
    assert closing_time(keeper) < 10
    assert mirror.calls[-1] == "files"
    assert warnings(caplog) == []


def test_a_run_that_is_not_there_is_told_of_once_at_the_end(mirror, caplog):
    mirror.gone = True
    mirror.folder.attach("abc")
    keeper = Sync(mirror)
    for count in (1, 2, 3):
        wait_for(lambda count=count: len(mirror.calls) >= count)
        keeper.wake()
    assert warnings(caplog) == []
    keeper.close(20)
    assert warnings(caplog) == ["run key is not in MLflow: nothing is added to it"]
    assert not mirror.folder.path.exists()


def test_earlier_runs_follow_when_this_one_is_complete(mirror, monkeypatch):
    asked = []
    monkeypatch.setattr(sync, "deliver_all", lambda uri, stop: asked.append((uri, stop())) or ())
    mirror.dead = True
    keeper = Sync(mirror)
    wait_for(lambda: keeper.pause)
    keeper.close(20)
    assert asked == []
    mirror.dead = False
    Sync(mirror).close(20)
    assert asked == [(mirror.uri, False)]


def test_a_folder_that_cannot_be_read_ends_nothing(mirror, caplog, monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mirror, "records", full)
    Sync(mirror).close(20)
    (line,) = warnings(caplog)
    assert ".runs/key fails ([Errno 28] No space left" in line
