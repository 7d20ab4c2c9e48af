"""What earlier stages left, and the command that sends it."""

import pytest

from deepsort_reid.core.project import project_root
from deepsort_reid.runs import deliver
from deepsort_reid.runs.deliver import deliver_all
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow.mirror import FailedError
from tests.support.stores import forget_mlflow

URI = "sqlite:///mlflow.db"


class Mirror:
    """Takes what it is given, but for the runs that it is told to fail."""

    failing: tuple[str, ...] = ()
    taken: list[str]

    def __init__(self, folder, _):
        self.folder = folder

    def __call__(self):
        if self.folder.key in self.failing:
            raise FailedError("it is locked", "the store")
        self.folder.end_if_dead()
        self.folder.merge("mlflow.json", {"run_id": "id", "mirrored": self.folder.state()})
        self.taken.append(self.folder.key)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(deliver, "Mirror", Mirror)
    monkeypatch.setattr(Mirror, "taken", [], raising=False)
    for key in ("a", "b", "c"):
        run = RunFolder(key)
        run.begin(f"run {key}")
        if key != "c":  # that one was killed
            run.end("FINISHED")
    return tmp_path


def test_delivers_every_run_once():
    assert [outcome.is_done for outcome in deliver_all(URI)] == [True, True, True]
    assert Mirror.taken == ["a", "b", "c"]
    assert RunFolder("c").status == "KILLED"
    assert list(deliver_all(URI)) == []


def test_a_run_that_fails_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(Mirror, "failing", ("a",))
    first, *others = deliver_all(URI)
    assert (first.name, first.text) == ("run a", "records wait: it is locked")
    assert [outcome.is_done for outcome in others] == [True, True]


@pytest.mark.parametrize("lock", ["owned", "mirroring"])
def test_a_run_that_another_process_holds_is_left_to_it(lock):
    with getattr(RunFolder("c"), lock)():
        *others, last = deliver_all(URI)
    assert (last.name, last.is_busy) == ("run c", True)
    assert last.text == "run c is recorded by another process, which will send it"
    assert RunFolder("c").status == "RUNNING"
    assert [outcome.is_done for outcome in others] == [True, True]


def test_a_folder_that_cannot_be_read_holds_up_no_other(root):
    path = root / ".runs" / "a" / "run.json"
    path.unlink()
    path.mkdir()
    first, *others = deliver_all(URI)
    assert first.text.startswith("its folder cannot be used (is a directory")
    assert [outcome.is_done for outcome in others] == [True, True]


def test_it_stops_when_told_to():
    assert list(deliver_all(URI, lambda: True)) == []
    assert Mirror.taken == []


def test_the_command_says_what_became_of_each_run(monkeypatch, caplog):
    caplog.set_level("INFO", "deepsort_reid")
    monkeypatch.setattr(Mirror, "failing", ("b",))
    with RunFolder("c").owned(), pytest.raises(SystemExit) as ended:
        deliver.main()
    assert ended.value.code == 1
    assert caplog.messages == [
        "run a: delivered",
        "run b: records wait: it is locked",
        "run c: run c is recorded by another process, which will send it",
    ]
    caplog.clear()
    monkeypatch.setattr(Mirror, "failing", ())
    deliver.main()
    deliver.main()
    assert caplog.messages == [
        "run b: delivered",
        "run c: delivered",
        f"nothing waits to be sent to sqlite:///{project_root()}/mlflow.db",
    ]


def test_what_an_earlier_version_has_kept_is_named(root, caplog):
    caplog.set_level("INFO", "deepsort_reid")
    list(deliver_all(URI))
    for key in ("old", "sent"):
        (root / ".runs" / key).mkdir()
        (root / ".runs" / key / "journal.jsonl").touch()
    (root / ".runs" / "sent" / "settled").touch()
    with pytest.raises(SystemExit):
        deliver.main()
    (line,) = caplog.messages
    assert line.startswith("old: an earlier version of this project has kept in ")
    assert "or remove that file" in line
    (root / ".runs" / "old" / "journal.jsonl").unlink()
    deliver.main()
