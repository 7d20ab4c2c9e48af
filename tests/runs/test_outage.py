"""Whatever happens to MLflow's store, a training neither stops nor waits, and nothing is lost.

With a real `mlflow server`, which is stopped and started here.
"""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from deepsort_reid.runs import logger
from deepsort_reid.runs.deliver import deliver_all
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.logger import CLOSE_SECONDS, resume_run
from deepsort_reid.runs.mlflow import sync
from deepsort_reid.runs.mlflow.store import import_mlflow, quiet, tracking_uri
from tests.support.outages import (
    ARTIFACTS,
    Found,
    Net,
    Proxy,
    find,
    hasten,
    images,
    make_files,
    use_model,
    work,
)
from tests.support.servers import Server
from tests.support.stores import forget_mlflow, make_store

ROOT = Path(__file__).parents[2]
WORK = [sys.executable, "-m", "tests.support.outages"]
LONGEST = 5.0  # seconds that an outage may cost a training
QUICK = {  # what the environment says in these tests, so that they take seconds
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outage") / "files"
    make_files(folder)
    torch.manual_seed(0)
    import_mlflow()
    with quiet():
        logger.export_model(Net(), images(2), folder / "model", {})
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Not started yet."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def root(tmp_path, files, monkeypatch):
    forget_mlflow(monkeypatch)
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("EVERY", "FIRST_PAUSE", "LONGEST_PAUSE", "PATIENCE"):
        monkeypatch.setattr(sync, name, getattr(sync, name))
    monkeypatch.setattr(logger, "export_model", None)
    hasten()
    use_model(files)
    return tmp_path


@pytest.fixture
def use(monkeypatch):
    """Sets the store's address."""
    return lambda uri: monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@pytest.fixture(scope="module")
def table(pytestconfig):
    """A row for each outage, printed at the end even where pytest captures what is printed."""
    rows: list[tuple[str, float, Found]] = []
    yield rows
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        show(rows, pytestconfig.get_terminal_writer().line)


def show(rows, write):
    usual = next((seconds for name, seconds, _ in rows if name == "no outage"), 0.0)
    write(f"\n\n{'outage':38} metrics     doubled   artifacts   models   added seconds")
    for name, seconds, found in rows:
        write(
            f"{name:38} {found.points:3} of {found.put:3} {found.doubled:9} "
            f"{len(found.artifacts):7} of {len(ARTIFACTS)} "
            f"{found.models:8} {seconds - usual:+13.2f}"
        )
    put, found_all = sum(row.put for _, _, row in rows), sum(row.points for _, _, row in rows)
    write(f"{put - found_all} of {put} metrics lost")


def check(key, table, name, seconds, longest=LONGEST):
    """Nothing is lost, nothing is doubled, and the training has not waited."""
    found = find(key)
    table.append((name, seconds, found))
    assert found.points == found.put
    assert found.doubled == 0
    assert found.artifacts == ARTIFACTS
    assert found.models == 1
    assert found.status == "FINISHED"
    assert seconds < longest


def deliver():
    """Run the documented command; its status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "deepsort_reid.runs.deliver"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def wait_until_delivered(key):
    """Deliver what waits until all has arrived; a thread of this process may be at it, too."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if RunFolder(key).is_settled():
            return
        list(deliver_all(tracking_uri()))
        time.sleep(0.1)
    pytest.fail("it does not arrive")


# The order counts: the server is down first, and each start of it takes five seconds.


@pytest.mark.slow
def test_down_at_the_start_and_back_later(server, use, files, table):
    use(server.uri)
    seconds = work("first", files, at={10: server.start})
    wait_until_delivered("first")
    check("first", table, "down at the start", seconds)


@pytest.mark.slow
def test_no_outage(server, use, files, table):
    use(server.uri)
    seconds = work("usual", files)
    check("usual", table, "no outage", seconds)


@pytest.mark.slow
def test_down_half_way_and_back(server, use, files, table):
    use(server.uri)
    seconds = work("half", files, at={7: server.stop, 14: server.start})
    wait_until_delivered("half")
    check("half", table, "down half way, and back", seconds)


@pytest.mark.slow
def test_never_back_during_the_run(server, use, files, table):
    use(server.uri)
    seconds = [
        work("next", files, at={7: server.stop}),
        work("other", files),
        work("command", files),
    ]
    status, said = deliver()
    assert status == 1
    assert "command: " in said
    assert "wait: connection refused" in said
    server.start()
    with resume_run("next") as tracker:  # the next stage
        tracker.log_metrics({"mAP": 0.5})
        tracker.promote("mAP")
    check("next", table, "down to the end; the next stage", seconds[0])
    wait_until_delivered("other")
    check("other", table, "down all the time; a later stage", seconds[1])
    wait_until_delivered("command")
    check("command", table, "down all the time; a later stage", seconds[2])
    assert tracker.describe().count("\n") == 1  # nothing more to be sent


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hole", "closed"])
def test_an_address_that_does_not_answer_and_the_command(proxy, use, files, table, mode):
    use(proxy.uri)
    proxy.mode = mode
    seconds = work(mode, files)
    proxy.mode = "through"
    with RunFolder(mode).mirroring(20):  # when the last call is given up
        pass
    status, said = deliver()
    assert (status, said) == (0, f"{mode}: delivered\n")
    check(mode, table, f"address: {mode}; the command", seconds)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.1, 1.5])
def test_a_slow_server(proxy, use, files, table, delay):
    use(proxy.uri)
    proxy.delay = delay  # with 1.5 s every answer is late, and what it answers was done
    seconds = work(f"slow-{delay}", files)
    proxy.delay = 0.0
    wait_until_delivered(f"slow-{delay}")
    check(f"slow-{delay}", table, f"every answer {delay} s late", seconds, CLOSE_SECONDS)


@pytest.mark.slow
def test_killed_while_delivering(proxy, use, files, table):
    use(proxy.uri)
    command = [*WORK, str(files), "killed"]
    for answer in (3, 9, 16):
        process = subprocess.Popen(command, cwd=ROOT)
        proxy.at_answer(answer, process.kill)
        assert process.wait(60) == -signal.SIGKILL
    seconds = work("killed", files)
    check("killed", table, "killed three times while sending", seconds)


@pytest.mark.slow
def test_two_processes_at_once(proxy, use, files, table):
    use(proxy.uri)
    proxy.mode = "closed"
    both = [subprocess.Popen([*WORK, str(files), key], cwd=ROOT) for key in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    proxy.mode = "through"
    command = [sys.executable, "-m", "deepsort_reid.runs.deliver"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    said = b"".join(process.communicate(timeout=60)[1] for process in both).decode()
    assert "one: delivered" in said
    assert "two: delivered" in said
    for key in ("one", "two"):
        check(key, table, f"two at once: {key}", 0.0)


# A database without a server


@pytest.fixture
def database(root):
    make_store(root)
    return root / "mlflow.db"


def test_a_locked_database(database, files, table):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        seconds = work("locked", files)
        connection.execute("COMMIT")
    wait_until_delivered("locked")
    check("locked", table, "database locked by another process", seconds)


@pytest.mark.slow
def test_a_full_database(database, files, table, caplog):
    """SQLite itself says that it is full, of the pages it is allowed to have."""
    import sqlalchemy

    allowed = {"pages": database.stat().st_size // 4096}

    def limit(connection, *_):
        connection.execute(f"PRAGMA max_page_count = {allowed['pages']}")

    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "checkout", limit)
    try:
        seconds = work("full", files)
        assert "fails (database or disk is full)" in caplog.text
        allowed["pages"] = 1 << 30
        wait_until_delivered("full")
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "checkout", limit)
    check("full", table, "database full", seconds)
