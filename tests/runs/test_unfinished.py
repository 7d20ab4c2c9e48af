"""The folder of a training stays until DVC has recorded its outputs, or nobody comes back to it."""

import os
import time
from pathlib import Path

import pytest
import yaml

from deepsort_reid.core import files
from deepsort_reid.runs import unfinished
from deepsort_reid.runs.unfinished import DIGITS, FOLDER, hold, run_key_of

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "train")
    return tmp_path


def begin(key: str = KEY) -> str:
    """Leave a state in a training's folder; return its run's key."""
    with hold(key) as folder:
        assert folder is not None
        (folder / "000001-0.pth").touch()
        return run_key_of(folder)


def finish(report: str) -> None:
    Path("run.json").write_text(report)
    with hold(KEY) as folder:
        assert folder is not None
        unfinished.finish(folder, Path("run.json"))


def states(key: str = KEY) -> list[Path]:
    return list((Path(FOLDER) / key[:DIGITS]).glob("*.pth"))


def write_lock(md5: str) -> None:
    outs = [{"path": "reports/run.json", "md5": md5}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"outs": outs}}}))


def test_a_folder_keeps_the_key_of_its_run() -> None:
    assert begin() == begin() != begin(OTHER)
    assert run_key_of(None) != run_key_of(None)


def test_one_process_at_a_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unfinished, "LOCK_SECONDS", 0.1)
    with hold(KEY) as first, hold(KEY) as second:
        assert first is not None
        assert second is None
        unfinished.forget(run_key_of(first))
        assert first.exists()
    assert "another process does the same training" in caplog.text


def test_without_dvc_a_finished_training_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    begin()
    finish("{}")
    assert not list(Path(FOLDER).glob("*/*"))


def test_under_dvc_it_is_forgotten_once_dvc_has_recorded_it() -> None:
    begin()
    finish("{}")
    for content in (None, "", "no: stages", "[", "a: [1]"):  # DVC was killed before, or while
        if content is not None:
            Path("dvc.lock").write_text(content)
        with hold(KEY):
            assert states()
    write_lock("0" * 32)
    with hold(KEY):
        assert states()
    write_lock(files.md5(Path("run.json")))
    with hold(KEY) as folder:
        assert folder is not None
        assert not list(folder.iterdir())


def test_the_next_stage_forgets_it() -> None:
    key = begin()
    finish("{}")
    for unknown in ("another", None):
        unfinished.forget(unknown)
        assert states()
    unfinished.forget(key)
    assert not (Path(FOLDER) / KEY[:DIGITS]).exists()


def test_what_nobody_came_back_to_goes() -> None:
    begin(OTHER)
    old = time.time() - 40 * 86_400
    os.utime(Path(FOLDER) / OTHER[:DIGITS], (old, old))
    begin()
    assert not (Path(FOLDER) / OTHER[:DIGITS]).exists()
    assert states()


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}', '{"key": "../../elsewhere"}'])
def test_a_damaged_note_of_the_run_is_replaced(content: str) -> None:
    begin()
    note = Path(FOLDER) / KEY[:DIGITS] / "run.json"
    note.write_text(content)
    key = begin()
    assert key.isalnum()
    assert files.read_json(note) == {"key": key}
