"""Checkpoint, history and states: in order, whole, found again, never another training's."""

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deepsort_reid.model import checkpoint
from deepsort_reid.runs import unfinished
from deepsort_reid.runs.unfinished import DIGITS, FOLDER
from deepsort_reid.training.checkpointer import Checkpointer, open_checkpointer
from deepsort_reid.training.fingerprint import Fingerprint
from deepsort_reid.training.history import EpochResult

MADE_OF = Fingerprint(
    data={"split": "ab" * 32},
    params={"lr": 0.1},
    code={"pipeline/train.py": "cd" * 32},
    environment={"processes": 2},
)
DESCRIPTION = {
    "arch": "deepsort",
    "embedding_size": 512,
    "image_size": (32, 16),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "classes": ["a", "b", "c"],
    "data_digest": "ab" * 32,
    "identity": MADE_OF.as_plain(),
}
CHECKPOINT, HISTORY = Path("models/model.pth"), Path("reports/history.csv")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def opened(
    made_of: Fingerprint = MADE_OF, every: float = 60
) -> AbstractContextManager[Checkpointer]:
    return open_checkpointer(CHECKPOINT, HISTORY, DESCRIPTION, fingerprint=made_of, every=every)


def state(number: int) -> dict[str, Any]:
    return {"number": number, "net": {"w": torch.full((1000,), float(number))}}


def save(checkpointer: Checkpointer, numbers: range, best: int = 0) -> None:
    for number in numbers:
        checkpointer.on_state(state(number), best=best)
    checkpointer.wait()


def epochs(count: int) -> list[EpochResult]:
    return [
        EpochResult(epoch, 0.1, 2.0, 0.5, 1.0, 0.25, 40.0, 0.0) for epoch in range(1, count + 1)
    ]


def net(value: float) -> nn.Module:
    made = nn.Linear(2, 2)
    nn.init.constant_(made.weight, value)
    return made


def end_epoch(checkpointer: Checkpointer, epoch: int, *, is_best: bool = True) -> None:
    checkpointer.on_epoch_end(epochs(epoch), net(epoch), is_best=is_best)


def epoch_in(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


def lines_in(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1


def number_in(content: bytes) -> int | None:
    if not content:
        return None
    Path("state.pth").write_bytes(content)
    return int(torch.load("state.pth", weights_only=True)["state"]["number"])


def newest(made_of: Fingerprint = MADE_OF) -> int | None:
    with opened(made_of) as checkpointer:
        return number_in(checkpointer.newest())


def files_of(kind: str) -> list[Path]:
    return sorted(Path(FOLDER).glob(f"*/{kind}"))


# Checkpoint and history


def test_the_best_epochs_checkpoint_stays_and_the_history_goes_on() -> None:
    with opened() as checkpointer:
        for epoch, is_best in ((1, True), (2, True), (3, False)):
            end_epoch(checkpointer, epoch, is_best=is_best)
        checkpointer.on_end()
        content = torch.load(CHECKPOINT, weights_only=True)
        assert (content["epoch"], content["acc"], content["arch"]) == (2, 75.0, "deepsort")
        assert torch.equal(content["net_dict"]["weight"], torch.full((2, 2), 2.0))
        assert lines_in(HISTORY) == 3


def test_a_checkpoint_holds_the_weights_of_its_moment() -> None:
    trained = net(1.0)
    with opened() as checkpointer:
        checkpointer.on_epoch_end(epochs(1), trained, is_best=True)
        nn.init.constant_(trained.weight, 5.0)
        checkpointer.on_end()
    assert torch.equal(
        torch.load(CHECKPOINT, weights_only=True)["net_dict"]["weight"], torch.ones(2, 2)
    )


def test_the_history_tells_of_no_epoch_whose_checkpoint_was_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened() as checkpointer:
        end_epoch(checkpointer, 1)
        checkpointer.wait()
        monkeypatch.setattr(checkpoint, "save", full)
        end_epoch(checkpointer, 2)
        with suppress(OSError):
            end_epoch(checkpointer, 3, is_best=False)
        with pytest.raises(OSError, match="No space left"):
            checkpointer.wait()
    assert lines_in(HISTORY) == epoch_in(CHECKPOINT) == 1


def test_epochs_that_end_faster_than_they_are_written_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_write, saved = threading.Event(), []

    def slow(path: Path, weights: Any, description: Any, save: Any = checkpoint.save) -> None:
        may_write.wait(10)
        saved.append(description.epoch)
        save(path, weights, description)

    monkeypatch.setattr(checkpoint, "save", slow)
    with opened() as checkpointer:
        end_epoch(checkpointer, 1)
        while not checkpointer.jobs[0].running():
            time.sleep(0.001)
        for epoch in (2, 3, 4):
            end_epoch(checkpointer, epoch, is_best=epoch < 4)
        may_write.set()
        checkpointer.wait()
        assert lines_in(HISTORY) == 4
    assert saved == [1, 3]
    assert epoch_in(CHECKPOINT) == 3


# States


def test_the_newest_state_comes_back_and_two_are_kept() -> None:
    with opened() as checkpointer:
        assert checkpointer.newest() == b""
        save(checkpointer, range(1, 5))
    assert [path.name for path in files_of("*.pth")] == ["000003-0.pth", "000004-0.pth"]
    assert newest() == 4


def test_a_state_is_of_its_moment() -> None:
    content = state(1)
    with opened() as checkpointer:
        checkpointer.on_state(content, best=0)
        content["net"]["w"].fill_(7.0)
        checkpointer.wait()
    saved = torch.load(files_of("000001-0.pth")[0], weights_only=True)["state"]
    assert torch.equal(saved["net"]["w"], torch.ones(1000))


def test_numbers_go_on() -> None:
    for number in (1, 2, 3):
        with opened() as checkpointer:
            save(checkpointer, range(number, number + 1))
    assert [path.name for path in files_of("*.pth")] == ["000002-0.pth", "000003-0.pth"]


def test_the_run_keeps_its_key() -> None:
    keys = []
    for made_of in (MADE_OF, MADE_OF, dataclasses.replace(MADE_OF, params={})):
        with opened(made_of) as checkpointer:
            keys.append(checkpointer.run_key)
    assert keys[0] == keys[1] != keys[2]


def test_a_state_is_due_by_the_clock() -> None:
    with opened(every=0.05) as checkpointer:
        assert not checkpointer.wants_state()
        time.sleep(0.06)
        assert checkpointer.wants_state()
        save(checkpointer, range(1))
        assert not checkpointer.wants_state()


@pytest.mark.parametrize("part", ["data", "params", "code", "environment"])
def test_another_training_is_never_gone_on_with(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
    other = dataclasses.replace(MADE_OF, **{part: {**getattr(MADE_OF, part), "more": 1}})
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        assert newest(other) is None
    (record,) = caplog.records
    assert "not going on with an interrupted training: " in record.getMessage()
    assert "more" in record.getMessage()


def test_a_training_that_runs_now_is_no_interrupted_one(caplog: pytest.LogCaptureFixture) -> None:
    other = dataclasses.replace(MADE_OF, params={"lr": 0.2})
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
        with caplog.at_level(logging.INFO, "deepsort_reid"), opened(other):
            assert not caplog.records


@pytest.mark.parametrize("in_the_way", ["folder", "file"])
def test_a_place_that_cannot_be_written_is_refused_at_the_start(in_the_way: str) -> None:
    if in_the_way == "folder":
        (CHECKPOINT / "x").mkdir(parents=True)
    else:
        CHECKPOINT.parent.write_text("a file")
    with pytest.raises(OSError, match="models") as caught, opened():
        pass
    assert str(caught.value.filename).startswith("models")


def test_a_state_that_was_put_there_by_hand_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    other = dataclasses.replace(MADE_OF, params={"lr": 0.2})
    for made_of, number in ((MADE_OF, 1), (other, 2)):
        with opened(made_of) as checkpointer:
            save(checkpointer, range(number, number + 1))
    mine, theirs = (
        Path(FOLDER) / made_of.key()[:DIGITS] / "000001-0.pth" for made_of in (MADE_OF, other)
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
    with opened() as checkpointer:
        save(checkpointer, range(1, 4))
    damage(files_of("000003*.pth")[0])
    assert newest() == 2
    assert "it is set aside" in caplog.text
    assert files_of("*.damaged")
    assert newest() == 2


def test_a_state_without_its_best_checkpoint_is_of_no_use() -> None:
    with opened() as checkpointer:
        for epoch in (1, 2):
            end_epoch(checkpointer, epoch)
            save(checkpointer, range(epoch, epoch + 1), best=epoch)
    clear(files_of("best-2.pth")[0])
    assert newest() == 1


def test_what_was_written_comes_back_and_older_copies_go() -> None:
    with opened() as checkpointer:
        for epoch in range(1, 6):
            end_epoch(checkpointer, epoch)
            save(checkpointer, range(epoch, epoch + 1), best=epoch)
    assert [path.name for path in files_of("best-*.pth")] == ["best-4.pth", "best-5.pth"]
    before = CHECKPOINT.read_bytes()
    CHECKPOINT.unlink()
    HISTORY.unlink()
    with opened() as checkpointer:
        checkpointer.on_start(epochs(6), 5)
    assert CHECKPOINT.read_bytes() == before
    assert lines_in(HISTORY) == 6


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_no_state_refers_to_a_best_checkpoint_that_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened() as checkpointer:
        end_epoch(checkpointer, 1)
        save(checkpointer, range(1, 2), best=1)
        monkeypatch.setattr(checkpoint, "save", full)
        end_epoch(checkpointer, 2)
        for call in (
            lambda: checkpointer.on_state(state(2), best=2),
            lambda: end_epoch(checkpointer, 3),
            checkpointer.on_end,
        ):
            with pytest.raises(OSError, match="No space left"):
                call()
    assert newest() == 1


def test_a_state_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
        monkeypatch.setattr(torch, "save", full)
        save(checkpointer, range(2, 3))
    assert "no resume state could be saved: " in caplog.text
    assert newest() == 1


def test_two_at_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "LOCK_SECONDS", 0.1)
    with opened() as first, opened(every=0) as second:
        assert first.run_key != second.run_key
        assert not second.wants_state()
        end_epoch(second, 1)
        save(second, range(1, 2), best=1)
        second.finish(Path("reports/run.json"))
    assert "another process does the same training" in caplog.text
    assert epoch_in(CHECKPOINT) == 1
    assert not files_of("*.pth")


def test_damaged_notes_do_not_stop_a_training() -> None:
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
    for content in ("{", "[]", '{"key": 1}', '{"key": "../../elsewhere"}'):
        for name in ("run.json", "identity.json"):
            (files_of(name)[0]).write_text(content)
        assert newest() == 1
        with opened() as checkpointer:
            assert checkpointer.run_key.isalnum()
        (files_of("identity.json")[0]).write_text(content)
    assert newest(dataclasses.replace(MADE_OF, params={})) is None


# The end


def test_what_is_finished_is_forgotten() -> None:
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
        Path("run.json").write_text("{}")
        checkpointer.finish(Path("run.json"))
    assert not files_of("*")
    assert newest() is None


def test_until_dvc_has_recorded_it_a_finished_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DVC may be killed between a stage's end and its record of it."""
    monkeypatch.setenv("DVC_STAGE", "train")
    with opened() as checkpointer:
        save(checkpointer, range(1, 2))
        Path("run.json").write_text("{}")
        checkpointer.finish(Path("run.json"))
    assert newest() == 1
    monkeypatch.setattr(unfinished, "is_recorded", lambda _: True)
    assert newest() is None
