"""A run's folder holds whatever it was given, whoever is killed when."""

import os
import subprocess
import sys

import pytest

from deepsort_reid.core import files
from deepsort_reid.runs import folder
from deepsort_reid.runs.folder import BusyError, RunFolder, all_folders, state_of
from deepsort_reid.runs.points import Point

MD5 = "b6d81b360a5672d80c27430f39153e2c"  # of LINK_FROM zeros


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def run():
    return RunFolder("key")


def mark_mirrored(run):
    run.merge("mlflow.json", {"run_id": "abc", "mirrored": run.state()})


# The run


def test_a_run_begins_ends_and_goes_on(run):
    assert run.status is None
    run.begin("a run")
    begun = run.read("run.json")
    assert (run.status, run.name, begun["key"]) == ("RUNNING", "a run", "key")
    run.end("FINISHED")
    assert run.read("run.json")["ended"] >= begun["started"]
    run.begin("another name")
    again = run.read("run.json")
    assert (run.status, run.name, again["started"]) == ("RUNNING", "a run", begun["started"])


def test_a_run_whose_process_has_died_ends_when_last_heard_of(run):
    run.begin("a run")
    last = run.read("run.json")["started"] + 500
    run.metrics.add([Point(last - 1, 1, "loss", 0.5)])
    run.system.add([Point(last, 0, "system/cpu", 0.5)])
    with run.owned():
        RunFolder("key").end_if_dead()
        assert run.status == "RUNNING"
    RunFolder("key").end_if_dead()
    assert (run.status, run.read("run.json")["ended"]) == ("KILLED", last)
    RunFolder("key").end_if_dead()
    run.end("FINISHED", last)
    RunFolder("key").end_if_dead()
    assert run.status == "FINISHED"


def test_a_run_from_elsewhere_has_no_status(run):
    run.attach("abc")
    assert run.read("run.json") == {"key": "key", "run_id": "abc"}
    run.attach(None)
    assert run.read("run.json")["run_id"] == "abc"
    run.begin("mine now")
    before = run.state()
    run.attach("other")
    assert run.state() == before


# Records


def test_values_are_merged(run):
    run.merge("tags.json", {"a": "1", "b": "2"})
    run.merge("tags.json", {"b": "3", "ü": "4"})
    assert run.read("tags.json") == {"a": "1", "b": "3", "ü": "4"}
    run.merge("params.json", {"a": "1"})
    run.merge("params.json", {"a": "2", "b": "2"}, replace=False)
    assert run.read("params.json") == {"a": "1", "b": "2"}


def test_what_says_nothing_new_changes_nothing(run):
    run.merge("tags.json", {"a": "1"})
    before = run.state()
    run.merge("tags.json", {"a": "1"})
    assert run.state() == before
    run.merge("tags.json", {"a": "2"})
    assert run.state() != before


@pytest.mark.parametrize("content", ["{", "[]", "\x00", ""])
def test_a_damaged_file_is_not_used(run, caplog, content):
    run.begin("a run")
    (run.path / "tags.json").write_text(content)
    assert run.read("tags.json") == {}
    assert "tags.json is damaged" in caplog.text
    run.merge("tags.json", {"a": "b"})
    assert run.read("tags.json") == {"a": "b"}


def test_a_full_disk_is_an_error_and_leaves_what_was_there(run, root, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    run.merge("tags.json", {"a": "1"})
    (root / "a").write_text("1")
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            run.merge("tags.json", {"a": "2"})
        assert caught.value.filename == str(run.path / "tags.json")
        with pytest.raises(OSError, match="No space left") as caught:
            run.keep(root / "a")
        assert caught.value.filename == str(run.path / "artifacts" / "a")
    assert run.read("tags.json") == {"a": "1"}
    assert not run.pending()
    assert not list(run.path.glob(".*"))


# Files


def kept(run):
    return {str(path.relative_to(run.path / "artifacts")): path for path in run.artifacts()}


@pytest.mark.parametrize("size", [3, 3 << 20])
def test_a_file_is_kept_as_it_was(run, root, size):
    path = root / "train.jpg"
    path.write_bytes(b"x" * size)
    run.keep(path, "plots")
    (root / "new").write_bytes(b"y")
    (root / "new").replace(path)
    assert kept(run)["plots/train.jpg"].read_bytes() == b"x" * size
    assert f"1 files ({size / 1e6:.1f} MB)" in run.unsent()


def test_a_large_file_takes_no_room(run, root):
    (root / "model.pth").write_bytes(bytes(3 << 20))
    run.keep(root / "model.pth")
    assert (root / "model.pth").samefile(run.artifacts()[0])


def test_a_small_file_may_be_changed_in_place(run, root):
    path = root / "history.csv"
    path.write_text("1")
    run.keep(path)
    path.write_text("2")
    assert kept(run)["history.csv"].read_text() == "1"


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_file_with_two_names_is_copied(run, root, link):
    (root / "cache").write_bytes(bytes(3 << 20))
    link(root / "cache", root / "model.pth")
    before = (root / "cache").stat().st_nlink
    run.keep(root / "model.pth")
    assert (root / "cache").stat().st_nlink == before
    assert not run.artifacts()[0].is_symlink()


def test_a_folders_files_are_kept_and_replaced(run, root):
    (root / "plots" / "deep").mkdir(parents=True)
    (root / "plots" / "deep" / "a.csv").write_text("1")
    (root / "plots" / "b.csv").write_text("1")
    run.keep(root / "plots", "figures")
    (root / "plots" / "deep" / "a.csv").write_text("2")
    run.keep(root / "plots", "figures")
    texts = {name: path.read_text() for name, path in kept(run).items()}
    assert texts == {"figures/b.csv": "1", "figures/deep/a.csv": "2"}


def test_what_was_sent_is_dropped_unless_it_was_replaced(run, root):
    (root / "a").write_text("1")
    run.keep(root / "a", "deep/er")
    (path,) = run.artifacts()
    seen = state_of(path)
    run.keep(root / "a", "deep/er")
    run.drop(path, seen)
    assert run.artifacts() == [path]
    run.drop(path, state_of(path))
    assert run.artifacts() == []
    assert not (run.path / "artifacts").exists()


@pytest.fixture
def artifact(root):
    """A large file in MLflow's folder, and DVC's cache with the same bytes."""
    path = root / "mlruns" / "model.pth"
    cached = root / ".dvc/cache/files/md5" / MD5[:2] / MD5[2:]
    for place in (path, cached):
        place.parent.mkdir(parents=True)
        place.write_bytes(bytes(folder.LINK_FROM))
    cached.chmod(0o444)
    return path, cached


def test_a_large_artifact_becomes_a_link_to_dvcs_cache(artifact, root):
    path, cached = artifact
    (path.parent / "small").write_text("1")
    for _ in range(2):
        folder.share_with_cache(root / "mlruns")
        assert path.samefile(cached)
    cached.unlink()  # dvc gc
    assert path.read_bytes() == bytes(folder.LINK_FROM)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.pth", "small"]


@pytest.mark.parametrize("why", ["damaged", "missing", "another disk"])
def test_an_artifact_that_cannot_be_shared_stays(artifact, root, monkeypatch, why):
    path, cached = artifact
    if why == "damaged":
        cached.chmod(0o644)
        cached.write_bytes(b"x" * folder.LINK_FROM)
    elif why == "missing":
        cached.unlink()
    else:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "EXDEV")))
    folder.share_with_cache(root / "mlruns")
    assert path.read_bytes() == bytes(folder.LINK_FROM)
    assert path.stat().st_nlink == 1


@pytest.mark.parametrize("name", ["config", "config.local"])
def test_dvcs_cache_may_lie_elsewhere(root, name):
    (root / ".dvc").mkdir()
    assert folder.dvc_cache() == root / ".dvc/cache/files/md5"
    text = (
        "[core]\n    analytics = false\n['remote \"r\"']\n    url = /r\n[cache]\n    type = copy\n"
    )
    (root / ".dvc" / name).write_text(f"{text}    dir = ../../shared\n")
    assert folder.dvc_cache().resolve() == root.parent / "shared/files/md5"
    (root / ".dvc" / name).write_text("[cache\n")
    assert folder.dvc_cache() == root / ".dvc/cache/files/md5"


def test_there_is_one_model(run):
    for text in "12":
        run.keep_model(lambda place, text=text: (place.mkdir(), (place / "data").write_text(text)))
    assert (run.path / "model" / "data").read_text() == "1"
    assert not list(run.path.glob(".*"))


def test_a_model_that_cannot_be_written_leaves_nothing(run):
    def fail(place):
        place.mkdir()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run.keep_model(fail)
    assert not run.pending()


# What MLflow has


def test_a_run_is_settled_when_mlflow_has_all_of_it(run):
    run.begin("a run")
    assert run.unsent() == "records"
    mark_mirrored(run)
    assert run.unsent() == ""
    assert not run.is_settled()
    run.end("FINISHED")
    mark_mirrored(run)
    assert run.is_settled()


@pytest.mark.parametrize("what", ["point", "tag", "file", "promotion", "model"])
def test_whatever_is_written_afterwards_waits(run, root, what):
    run.begin("a run")
    run.end("FINISHED")
    mark_mirrored(run)
    (root / "a").write_text("1")
    writes = {
        "point": lambda: run.metrics.add([Point(1, None, "mAP", 0.5)]),
        "tag": lambda: run.merge("tags.json", {"a": "b"}),
        "file": lambda: run.keep(root / "a"),
        "promotion": lambda: files.write_text(run.path / "promote", "mAP"),
        "model": lambda: run.keep_model(lambda place: place.mkdir() or (place / "x").touch()),
    }
    writes[what]()
    assert run.unsent() == ("records" if what in ("point", "tag") else "1 files (0.0 MB)")


def test_a_guest_that_is_not_welcome_leaves_nothing(run, root):
    (root / "a").write_text("1")
    run.attach("abc")
    run.keep(root / "a")
    run.give_up()
    assert not run.path.exists()


def test_an_earlier_versions_journal_is_never_removed(run):
    run.attach("abc")
    (run.path / "journal.jsonl").write_text("{}")
    run.give_up()
    assert (run.path / "journal.jsonl").exists()
    assert run.is_settled()


def test_a_run_that_was_deleted_keeps_its_numbers(run, root):
    (root / "a").write_text("1")
    run.begin("a run")
    run.end("FINISHED")
    run.merge("mlflow.json", {"run_id": "abc"})
    run.keep(root / "a")
    run.give_up()
    assert run.is_settled()
    assert (run.status, run.artifacts()) == ("FINISHED", [])


# Locks


def test_one_process_trains_and_its_death_is_seen(run):
    code = (
        "import sys\nfrom deepsort_reid.runs.folder import RunFolder\n"
        "with RunFolder('key').owned():\n    print(flush=True)\n    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        with pytest.raises(BusyError, match="run key is recorded by another process"), run.owned():
            pytest.fail("two trained")
        assert run.is_owned()
        process.kill()
    assert not run.is_owned()
    with run.owned():
        pass


@pytest.mark.parametrize("key", ["", "..", "a/b", "/a", ".hidden", None, 3, "a" * 101])
def test_a_key_is_a_name_of_a_folder(key):
    assert not folder.is_key(key)
    with pytest.raises(ValueError, match="no key of a run"):
        RunFolder(key)


def test_all_folders_are_found(root):
    assert all_folders() == []
    for key in ("b", "a"):
        RunFolder(key).begin(key)
    (root / folder.FOLDER / "c").touch()
    (root / folder.FOLDER / ".d").mkdir()
    assert [found.key for found in all_folders()] == ["a", "b"]
