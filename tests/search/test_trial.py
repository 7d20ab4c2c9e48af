"""A trial's folder: what is left to do in it, and why it has failed. No stage is run."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deepsort_reid.core import files
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.points import Point
from deepsort_reid.search import trial

PARAMS: Mapping[str, Any] = {"lr": 0.1, "amp": True}


@pytest.fixture
def place(workspace: Path) -> trial.Place:
    """A search with a split, in an empty project."""
    base = workspace / ".search/search/base"
    for name in ("split", "also"):
        (base / "data" / name).mkdir(parents=True)
    files.write_text(base / "data/weights", "none\n")
    (base / "reports").mkdir()
    return trial.Place(workspace / ".search/search", base, workspace, "5ea4c4", ["lr"])


def test_a_trial_sees_the_common_data(place: trial.Place) -> None:
    running = trial.begin(3, PARAMS, (), place)
    assert running.folder.name == "0003"
    assert (running.folder / "data/split").resolve() == (place.base / "data/split").resolve()
    assert running.stages == ["train", "evaluate"]
    place.keys.append("arch")
    assert trial.begin(4, PARAMS, (), place).stages == ["weights", "train", "evaluate"]


def test_stage_weights_replaces_a_trial_s_own_links_alone(place: trial.Place) -> None:
    running = trial.begin(3, PARAMS, (), place)
    files.write_text(running.folder / "data/weights", "other\n")
    assert (place.base / "data/weights").read_text() == "none\n"


def test_what_was_done_is_not_done_again_and_what_others_left_is_removed(
    place: trial.Place,
) -> None:
    folder = trial.begin(0, PARAMS, (), place).folder
    files.write_json(folder / trial.RUN, {"key": "a1", "run_id": None})
    run = RunFolder("a1")
    run.begin("trial-0")
    assert trial.begin(0, PARAMS, (), place).stages == ["train", "evaluate"]  # it was killed
    run.end("FINISHED")
    assert trial.begin(0, PARAMS, (), place).stages == ["evaluate"]
    assert trial.begin(0, {**PARAMS, "lr": 0.2}, (), place).stages == ["train", "evaluate"]
    assert not (folder / trial.RUN).exists()


def test_a_trial_s_curve_is_that_of_its_run(place: trial.Place) -> None:
    running = trial.begin(1, PARAMS, (), place)
    assert running.curve() == []
    for number, key in ((0, "other"), (1, "mine")):
        run = RunFolder(key)
        run.merge("tags.json", {"parent_run_key": "5ea4c4", "trial": str(number)})
        run.metrics.add([Point(1, epoch, trial.CURVE, number + epoch / 10) for epoch in (0, 1)])
    assert running.curve() == [(0, 1.0), (1, 1.1)]
    running.conclude({"trial_state": "pruned"})
    assert RunFolder("mine").read("tags.json")["trial_state"] == "pruned"
    assert "trial_state" not in RunFolder("other").read("tags.json")
    assert not (running.folder / "data").exists()
    assert (place.base / "data/split").is_dir()


@pytest.mark.parametrize(
    ("log", "status", "reason", "is_result"),
    [
        ("error: the loss is no longer a finite number: epoch 1\n", 1, "the loss is no", True),
        ("torch.OutOfMemoryError: CUDA out of memory.\nerror: rank 0 ended\n", 1, "rank 0", True),
        ("RuntimeError: … DefaultCPUAllocator: can't allocate memory: you tried\n", 1, "its", True),
        ("numpy…ArrayMemoryError: Unable to allocate 7.3 TiB for an array\n", 1, "its", True),
        ("OSError: [Errno 12] Cannot allocate memory\n", 1, "its process ended", True),
        ("MemoryError\n", 1, "its process ended with status 1", True),
        ("error: models: no space left on the disk\n", 1, "models: no space left", False),
        ("epoch 1\n", -9, "its process ended with signal 9", False),
        ("", 3, "its process ended with status 3", False),
    ],
)
def test_why_a_trial_has_failed(
    tmp_path: Path, log: str, status: int, reason: str, is_result: bool
) -> None:
    path = tmp_path / "log.txt"
    path.write_text(log)
    found = trial.failure(path, status)
    assert found.reason.startswith(reason)
    assert found.reason.endswith(f"see {path}")
    assert found.is_result == is_result


def test_only_too_little_memory_may_be_the_fault_of_others(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("torch.OutOfMemoryError: CUDA out of memory.\n")
    assert trial.failure(path, 1).is_memory
    path.write_text("error: the loss is no longer a finite number: epoch 1\n")
    assert not trial.failure(path, 1).is_memory


def test_what_an_earlier_attempt_has_logged_is_no_reason(
    place: trial.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = trial.begin(0, PARAMS, (), place)
    (running.folder / trial.LOG).write_text("CUDA out of memory\nerror: an older one\n")
    says = "import sys; sys.exit('error: no disk')"
    monkeypatch.setattr(trial, "stage_command", lambda _: [sys.executable, "-c", says])
    while not running.advance():
        running.wait(10)
    assert running.failure is not None
    assert running.failure.reason.startswith("no disk")
    assert not running.failure.is_result


def test_of_several_runs_the_last_one_is_the_trial_s(place: trial.Place) -> None:
    """With other code the training does not go on: it begins anew, in a run of its own."""

    def train(key: str, started: int) -> RunFolder:
        run = RunFolder(key)
        run.merge("run.json", {"key": key, "started": started, "status": "RUNNING"})
        run.merge("tags.json", {"parent_run_key": "5ea4c4", "trial": "1"})
        run.metrics.add([Point(1, 1, trial.CURVE, started / 10)])
        files.write_json(place.root / ".resume" / key / "run.json", {"key": key})
        return run

    keys = ["b" * 32, "c" * 32, "a" * 32]
    running = trial.begin(1, PARAMS, (), place)
    for number, key in enumerate(keys):
        train(key, started=number)
        assert running.curve() == [(1, number / 10)]
    assert trial.begin(1, PARAMS, (), place).curve() == [(1, 0.2)]
    running.conclude({"trial_state": "complete"})
    told = [RunFolder(key).read("tags.json").get("trial_state") for key in keys]
    assert told == [None, None, "complete"]
    assert not list(place.root.glob(".resume/*/"))
