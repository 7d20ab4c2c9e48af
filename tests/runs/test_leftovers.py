"""What earlier stages left, and the command that sends it."""

import pytest

from deepsort_reid.core.project import project_root
from deepsort_reid.runs import deliver, leftovers
from deepsort_reid.runs.journal import Binding, Journal
from deepsort_reid.runs.leftovers import Outcome, deliver_all
from deepsort_reid.runs.run_writer import FailedError
from tests.support.stores import forget_mlflow

URI = "sqlite:///mlflow.db"


class Writer:
    """Takes what it is given, but for the runs that it is told to fail."""

    failing: tuple[str, ...] = ()
    taken: list[tuple[str, str]]

    def __init__(self, journal, _):
        self.journal = journal

    def __call__(self, entries):
        if self.journal.key in self.failing:
            raise FailedError("it is locked")
        if entries[0].kind == "begin":
            name = entries[0].payload["name"]
            self.journal.bind(Binding(URI, "id", name, "1"))
        self.taken.extend((self.journal.key, entry.kind) for entry in entries)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(leftovers, "RunWriter", Writer)
    monkeypatch.setattr(Writer, "taken", [], raising=False)
    for key in ("a", "b", "c"):
        with Journal(key) as held:
            held.put("begin", key=key, name=f"run {key}", tags={})
            if key != "c":
                held.put("end", status="FINISHED", end_time=1)
    return tmp_path


def test_delivers_every_journal_once():
    assert [outcome.why for outcome in deliver_all(URI)] == [None, None, None]
    assert Writer.taken == [(key, kind) for key in "abc" for kind in ("begin", "end")]
    assert list(deliver_all(URI)) == []


def test_a_journal_that_fails_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(Writer, "failing", ("a",))
    first, *others = deliver_all(URI)
    assert (first.name, first.waiting, first.why) == ("run a", 2, "it is locked")
    assert [outcome.why for outcome in others] == [None, None]


def test_a_journal_that_somebody_holds_is_left_to_them():
    with Journal("a"):
        first, *others = deliver_all(URI)
    assert first == Outcome("a", 0, 0, "run a is recorded by another process, which will send it")
    assert len(others) == 2


def test_a_journal_that_cannot_be_read_holds_up_no_other(root):
    path = root / ".runs" / "a" / "journal.jsonl"
    path.unlink()
    path.mkdir()
    first, *others = deliver_all(URI)
    assert first.why.startswith("its journal cannot be used (is a directory")
    assert [outcome.why for outcome in others] == [None, None]


def test_it_lets_go_of_a_journal_that_somebody_waits_for(root):
    with Journal("a") as held:
        (root / ".runs" / "a" / "wanted").touch()
        assert leftovers.deliver(held, URI).why == "another process goes on with it"
    assert Writer.taken == []
    with Journal("a") as held:  # they no longer wait
        assert leftovers.deliver(held, URI).why is None


def test_it_stops_when_told_to():
    assert list(deliver_all(URI, lambda: True)) == []
    assert Writer.taken == []


def test_the_command_says_what_became_of_each_run(monkeypatch, caplog):
    caplog.set_level("INFO", "deepsort_reid")
    monkeypatch.setattr(Writer, "failing", ("b",))
    with Journal("c"), pytest.raises(SystemExit) as ended:
        deliver.main()
    assert ended.value.code == 1
    assert [record.getMessage() for record in caplog.records] == [
        "run a: delivered",
        "run b: 2 entries, 0.0 MB, wait: it is locked",
        "c: run c is recorded by another process, which will send it",
    ]
    caplog.clear()
    monkeypatch.setattr(Writer, "failing", ())
    deliver.main()
    deliver.main()
    assert [record.getMessage() for record in caplog.records] == [
        "run b: delivered",
        "run c: delivered",
        f"nothing waits to be sent to sqlite:///{project_root()}/mlflow.db",
    ]
