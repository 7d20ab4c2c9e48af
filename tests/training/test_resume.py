"""The states of an interrupted training: found by what it is made of, whole, never another's."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from deepsort_reid.training.resume import FOLDER, States, kept

from deepsort_reid.core import files
from deepsort_reid.training import resume
from deepsort_reid.training.fingerprint import Identity

IDENTITY = Identity(
    data={"split": "ab" * 32},
    params={"lr": 0.1},
    code={"pipeline/train.py": "cd" * 32},
    environment={"processes": 2},
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def state(number: int) -> dict[str, Any]:
    return {"number": number, "net": {"w": torch.full((1000,), float(number))}}


def train(states: States, numbers: range, best: int = 0) -> None:
    for number in numbers:
        states.save(state(number), best=best)
    states.wait()


def number_in(content: bytes) -> int | None:
    if not content:
        return None
    Path("state.pth").write_bytes(content)
    return int(torch.load("state.pth", weights_only=True)["state"]["number"])


def newest(identity: Identity = IDENTITY) -> int | None:
    with kept(identity, every=60) as states:
        return number_in(states.newest())


def files_of(kind: str) -> list[Path]:
    return sorted(Path(FOLDER).glob(f"*/{kind}"))


def test_the_newest_state_comes_back_and_two_are_kept() -> None:
    with kept(IDENTITY, every=60) as states:
        assert states.newest() == b""
        train(states, range(1, 5))
    assert [path.name for path in files_of("*.pth")] == ["000003-0.pth", "000004-0.pth"]
    assert newest() == 4


def test_numbers_go_on() -> None:
    for number in (1, 2, 3):
        with kept(IDENTITY, every=60) as states:
            train(states, range(number, number + 1))
    assert [path.name for path in files_of("*.pth")] == ["000002-0.pth", "000003-0.pth"]


def test_the_run_keeps_its_name() -> None:
    keys = []
    for _ in range(2):
        with kept(IDENTITY, every=60) as states:
            keys.append(states.run_key)
    with kept(dataclasses.replace(IDENTITY, params={}), every=60) as states:
        keys.append(states.run_key)
    assert keys[0] == keys[1] != keys[2]


def test_a_state_is_due_by_the_clock() -> None:
    with kept(IDENTITY, every=0.05) as states:
        assert not states.is_due()
        time.sleep(0.06)
        assert states.is_due()
        train(states, range(1))
        assert not states.is_due()


@pytest.mark.parametrize("part", ["data", "params", "code", "environment"])
def test_another_training_is_never_gone_on_with(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(IDENTITY, every=60) as states:
        train(states, range(1, 2))
    other = dataclasses.replace(IDENTITY, **{part: {**getattr(IDENTITY, part), "more": 1}})
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        assert newest(other) is None
    (record,) = caplog.records
    assert "not going on with an interrupted training: " in record.getMessage()
    assert "more" in record.getMessage()


def test_a_state_that_was_put_there_by_hand_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    other = dataclasses.replace(IDENTITY, params={"lr": 0.2})
    for identity, number in ((IDENTITY, 1), (other, 2)):
        with kept(identity, every=60) as states:
            train(states, range(number, number + 1))
    mine, theirs = (
        Path(FOLDER) / identity.key()[: resume.DIGITS] / "000001-0.pth"
        for identity in (IDENTITY, other)
    )
    mine.write_bytes(theirs.read_bytes())
    assert newest() is None
    assert "the state of another training (parameter lr is 0.1 here, 0.2 there)" in caplog.text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def clear(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, clear])
def test_a_damaged_state_is_set_aside_and_the_one_before_used(
    damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(IDENTITY, every=60) as states:
        train(states, range(1, 4))
    damage(files_of("000003*.pth")[0])
    assert newest() == 2
    assert "it is set aside" in caplog.text
    assert files_of("*.damaged")
    assert newest() == 2


def write_epoch(path: Path, epoch: int) -> None:
    with files.replacing(path) as new:
        torch.save({"epoch": epoch}, new)


def test_a_state_without_its_best_checkpoint_is_of_no_use(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pth"
    with kept(IDENTITY, every=60) as states:
        for epoch in (1, 2):
            states.keep_best(partial(write_epoch, checkpoint, epoch), checkpoint, epoch)
            train(states, range(epoch, epoch + 1), best=epoch)
    clear(files_of("best-2.pth")[0])
    assert newest() == 1


def test_the_best_checkpoint_comes_back_and_older_ones_go(tmp_path: Path) -> None:
    checkpoint = tmp_path / "models" / "model.pth"
    checkpoint.parent.mkdir()
    with kept(IDENTITY, every=60) as states:
        for epoch in range(1, 6):
            states.keep_best(partial(write_epoch, checkpoint, epoch), checkpoint, epoch)
            train(states, range(epoch, epoch + 1), best=epoch)
    assert [path.name for path in files_of("best-*.pth")] == ["best-4.pth", "best-5.pth"]
    checkpoint.unlink()
    with kept(IDENTITY, every=60) as states:
        states.bring_back_best(checkpoint, 5)
    assert torch.load(checkpoint, weights_only=True) == {"epoch": 5}


def test_no_state_counts_on_a_best_checkpoint_that_could_not_be_written(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    checkpoint = tmp_path / "model.pth"
    with kept(IDENTITY, every=60) as states:
        states.keep_best(partial(write_epoch, checkpoint, 1), checkpoint, 1)
        train(states, range(1, 2), best=1)
        states.keep_best(full, checkpoint, 2)
        with pytest.raises(OSError, match="No space left"):
            states.save(state(2), best=2)
        with pytest.raises(OSError, match="No space left"):
            states.keep_best(partial(write_epoch, checkpoint, 3), checkpoint, 3)
        with pytest.raises(OSError, match="No space left"):
            states.wait()
    assert newest() == 1


def test_a_state_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with kept(IDENTITY, every=60) as states:
        train(states, range(1, 2))

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", full)
        train(states, range(2, 3))
    assert "no resume state could be saved: " in caplog.text
    assert newest() == 1


def test_two_at_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "LOCK_SECONDS", 0.1)
    with kept(IDENTITY, every=60) as first, kept(IDENTITY, every=60) as second:
        assert type(second) is States
        assert first.run_key != second.run_key
        train(second, range(1, 2))
    assert "another process does the same training" in caplog.text
    assert not files_of("*.pth")


def test_other_ranks_keep_nothing(tmp_path: Path) -> None:
    with kept(IDENTITY, every=60, enabled=False) as states:
        train(states, range(1, 2))
        assert states.newest() == b""
        assert not states.is_due()
        states.finish(tmp_path / "run.json")
    assert not Path(FOLDER).exists()


# The end


def finish(report: str) -> None:
    with kept(IDENTITY, every=60) as states:
        train(states, range(1, 2))
        Path("run.json").write_text(report)
        states.finish(Path("run.json"))


def write_lock(md5: str) -> None:
    outs = [{"path": "reports/run.json", "md5": md5}]
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"outs": outs}}}))


def test_what_is_finished_is_forgotten() -> None:
    finish("{}")
    assert not files_of("*")
    assert newest() is None


def test_under_dvc_it_is_forgotten_once_dvc_has_recorded_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    finish("{}")
    for content in (None, "", "no: stages", "[", "a: [1]"):  # DVC was killed before, or while
        if content is not None:
            Path("dvc.lock").write_text(content)
        assert newest() == 1
    write_lock("0" * 32)
    assert newest() == 1
    write_lock(files.md5(Path("run.json")))
    with kept(IDENTITY, every=60) as states:
        assert states.newest() == b""
        assert states.run_key
    assert not files_of("finished.json")


def test_the_next_stage_forgets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    with kept(IDENTITY, every=60) as states:
        key = states.run_key
    finish("{}")
    resume.forget("another")
    assert newest() == 1
    resume.forget(key)
    assert newest() is None


def test_what_nobody_came_back_to_goes(tmp_path: Path) -> None:
    other = dataclasses.replace(IDENTITY, params={})
    with kept(other, every=60) as states:
        train(states, range(1, 2))
    old = time.time() - 40 * 86_400
    os.utime(tmp_path / FOLDER / other.key()[: resume.DIGITS], (old, old))
    assert newest() is None
    assert not files_of("*.pth")


def test_damaged_notes_do_not_stop_a_training() -> None:
    with kept(IDENTITY, every=60) as states:
        train(states, range(1, 2))
    for content in ("{", "[]", '{"key": 1}', '{"key": "../../elsewhere"}'):
        for name in ("run.json", "identity.json"):
            (files_of(name)[0]).write_text(content)
        assert newest() == 1
        with kept(IDENTITY, every=60) as states:
            assert states.run_key.isalnum()
        (files_of("identity.json")[0]).write_text(content)
    assert newest(dataclasses.replace(IDENTITY, params={})) is None
