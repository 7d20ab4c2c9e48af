import logging
import os
import shutil
import threading
import time

import pytest

from deepsort_reid.runs import journal
from deepsort_reid.runs.journal import Binding, BusyError, Journal, exists, unsettled

BINDING = Binding("sqlite:///mlflow.db", "abc", "a run", "1")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def held():
    with Journal("key") as held:
        yield held


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def kinds(held):
    return [entry.kind for entry in held.waiting.values()]


def begin(held):
    held.put("begin", key="key", name="a run", tags={"git_commit": "1"})


def lose_power(held):
    """End without a word, as a process does that is killed."""
    os.close(held.file)
    held.file = -1
    held.lock.release()


def test_what_is_put_is_there_after_the_process_was_killed(held):
    begin(held)
    held.put("metrics", values={"loss": float("nan"), "naïve": 0.5}, step=1)
    held.bind(BINDING)
    before = held.waiting
    lose_power(held)
    with Journal("key") as again:
        assert str(again.waiting) == str(before)
        assert again.binding == BINDING
        assert again.begun == before[0]
        assert again.ended is False
        assert again.put("tags", values={"a": "b"})
        assert list(again.waiting) == [0, 1, 2]


def test_what_is_struck_off_no_longer_waits(held):
    begin(held)
    held.put("tags", values={"a": "b"})
    held.strike([held.waiting[0]])
    lose_power(held)
    with Journal("key") as again:
        assert kinds(again) == ["tags"]
        again.strike(list(again.waiting.values()), "no such tag")
        assert again.size() == (0, 0)
    assert b'{"refused":[1],"why":"no such tag"}' in again.path.read_bytes()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_ignored(held, caplog, cut):
    begin(held)
    held.put("tags", values={"a": "b" * 40})
    lose_power(held)
    os.truncate(held.path, held.path.stat().st_size - cut)
    with Journal("key") as again:
        assert kinds(again) == ["begin"]
        again.put("end", status="KILLED", end_time=0)
    with Journal("key") as again:
        assert kinds(again) == ["begin", "end"]
    assert warnings(caplog) == []


def test_zeros_after_a_power_loss_are_ignored(held, caplog):
    begin(held)
    lose_power(held)
    with held.path.open("ab") as file:
        file.write(bytes(3000))
    with Journal("key") as again:
        assert kinds(again) == ["begin"]
    assert warnings(caplog) == []


def damage(held, number):
    lines = held.path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number][:20] + b"#" + lines[number][21:]
    held.path.write_bytes(b"".join(lines))


def test_a_damaged_line_costs_itself_and_a_warning(held, caplog):
    begin(held)
    for epoch in (1, 2, 3):
        held.put("metrics", values={"loss": 0.5}, step=epoch)
    lose_power(held)
    damage(held, 2)
    with Journal("key") as again:
        assert list(again.waiting) == [0, 1, 3]
    (line,) = warnings(caplog)
    assert "1 of its lines are damaged" in line


def test_a_run_whose_beginning_is_damaged_is_still_a_run(held):
    begin(held)
    held.put("tags", values={"a": "b"})
    lose_power(held)
    damage(held, 0)
    with Journal("key") as again:
        assert kinds(again) == ["begin", "tags"]
        assert again.begun.payload["key"] == "key"


def test_nothing_is_put_twice(held):
    def points():
        return [
            held.put("metrics", values={"loss": 0.5, "speed": time}, step=step)
            for step, time in ((1, 40.0), (2, 41.0))
        ]

    assert points() == [True, True]
    assert held.put("metrics", values={"mAP": 0.5}, step=None)
    lose_power(held)
    with Journal("key") as held:
        assert points() == [False, False]
        assert not held.put("metrics", values={"loss": 0.4, "speed": 99.0}, step=1)
        assert held.put("metrics", values={"loss": 0.4}, step=1)  # another curve
        assert not held.put("metrics", values={"mAP": 0.5}, step=None)
        assert held.put("metrics", values={"mAP": 0.6}, step=None)
        assert held.put("metrics", values={"mAP": 0.5}, step=None)


@pytest.mark.parametrize("kind", ["params", "tags"])
def test_values_are_put_again_when_they_have_changed(held, kind):
    assert held.put(kind, values={"a": "1", "b": "2"})
    assert not held.put(kind, values={"b": "2", "a": "1"})
    assert held.put(kind, values={"a": "1", "b": "3"})


def test_a_run_that_goes_on_has_its_tags_already(held):
    begin(held)
    assert not held.put("tags", values={"git_commit": "1"})


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_there_is_one_dataset_and_one_model(held, kind):
    assert not held.has(kind)
    assert held.put(kind, name="a", path="nowhere")
    assert held.has(kind)
    assert not held.put(kind, name="b", path="nowhere")


def test_what_was_refused_may_be_put_again(held):
    held.put("params", values={"a": "1"})
    held.strike([held.waiting[0]], "no")
    assert held.put("params", values={"a": "1"})


# Files


def spooled(held):
    return [held.folder / entry.payload["path"] for entry in held.waiting.values()]


@pytest.mark.parametrize("size", [3, 3 << 20])
def test_a_file_is_kept_as_it_was(held, root, size):
    path = root / "train.jpg"
    path.write_bytes(b"x" * size)
    assert held.put_file("artifact", path, folder="")
    (root / "new").write_bytes(b"y")
    (root / "new").replace(path)
    (kept,) = spooled(held)
    assert kept.name == "train.jpg"
    assert kept.read_bytes() == b"x" * size
    assert held.size()[1] >= size
    held.strike(list(held.waiting.values()))
    assert not kept.exists()


def test_a_small_file_may_be_changed_in_place(held, root):
    path = root / "history.csv"
    path.write_text("1")
    held.put_file("artifact", path, folder="")
    path.write_text("2")
    assert spooled(held)[0].read_text() == "1"


def test_a_file_with_two_names_is_copied(held, root):
    path = root / "model.pth"
    path.write_bytes(bytes(3 << 20))
    os.link(path, root / "cache")
    held.put_file("artifact", path, folder="")
    assert path.stat().st_nlink == 2


def test_an_artifact_is_put_again_when_its_content_has_changed(held, root):
    folder = root / "plots"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.csv").write_text("1")
    assert held.put_file("artifact", folder, folder="")
    assert not held.put_file("artifact", folder, folder="")
    assert held.put_file("artifact", folder, folder="elsewhere")
    (folder / "deep" / "a.csv").write_text("2")
    assert held.put_file("artifact", folder, folder="")
    texts = [(path / "deep" / "a.csv").read_text() for path in spooled(held)]
    assert texts == ["1", "1", "2"]


def test_files_without_an_entry_are_removed(held, root):
    (root / "a").write_text("1")
    held.put_file("artifact", root / "a", folder="")
    shutil.copytree(held.folder / "files" / "0", held.folder / "files" / "1")
    (held.folder / "export-x").mkdir()
    lose_power(held)
    with Journal("key") as again:
        assert [path.name for path in (again.folder / "files").iterdir()] == ["0"]
        assert not (again.folder / "export-x").exists()


def test_a_full_disk_leaves_a_journal_of_whole_lines(held, root, monkeypatch):
    begin(held)
    (root / "a").write_text("1")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        held.put("tags", values={"a": "b"})
    with pytest.raises(OSError, match="No space left") as caught:
        held.put_file("artifact", root / "a", folder="")
    assert caught.value.filename == str(held.path)
    assert not list((held.folder / "files").iterdir())
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert held.put("tags", values={"a": "b"})
    lose_power(held)
    with Journal("key") as again:
        assert kinds(again) == ["begin", "tags"]


def test_a_signal_while_the_disk_is_written_to_loses_nothing(held, root, monkeypatch):
    def terminate(_):
        raise SystemExit(143)

    (root / "a").write_text("1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", terminate)
        with pytest.raises(SystemExit):
            held.put("metrics", values={"loss": 0.5}, step=1)
    held.put("end", status="KILLED", end_time=0)
    lose_power(held)
    with Journal("key") as again:
        assert list(again.waiting) == [0, 1]
        assert kinds(again) == ["metrics", "end"]


# Who holds it


def test_one_at_a_time(held):
    with pytest.raises(BusyError, match="run key is recorded by another process"):
        Journal("key")
    held.close()
    held.close()  # twice is as good as once
    Journal("key").close()


def test_whoever_waits_can_be_seen_and_gets_it(held):
    def let_go():
        while not held.is_wanted:
            time.sleep(0.01)
        held.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    with Journal("key", 20) as again:
        assert not again.is_wanted
    thread.join()


def test_threads_may_share_it(held):
    def put(name):
        for step in range(50):
            held.put("metrics", sync=False, values={name: 0.5}, step=step)

    threads = [threading.Thread(target=put, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lose_power(held)
    with Journal("key") as again:
        assert list(again.waiting) == list(range(200))


@pytest.mark.parametrize("key", ["", "..", "a/b", "/a", ".hidden", None, 3, "a" * 101])
def test_a_key_is_a_name_of_a_folder(key):
    assert not journal.is_key(key)
    with pytest.raises(ValueError, match="no key of a run"):
        journal.folder_of(key)


def test_only_what_may_have_something_to_send_is_looked_at(root):
    assert list(unsettled()) == []
    for key in ("running", "ended", "sent"):
        with Journal(key) as held:
            begin(held)
            if key != "running":
                held.put("end", status="FINISHED", end_time=0)
            if key != "ended":
                held.strike(list(held.waiting.values()))
    (root / journal.FOLDER / "notes").mkdir()
    assert list(unsettled()) == ["ended", "running"]
    Journal("sent")  # killed before it puts anything in
    assert list(unsettled()) == ["ended", "running", "sent"]


def test_discard_leaves_nothing(root):
    Journal("key").discard()
    assert not exists("key")
    assert not list(root.iterdir())
