"""A trial's folder: what is left to do in it, and why it has failed. No stage is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deepsort_reid.core import files
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.points import Point
from deepsort_reid.search import held_out, trial

PARAMS: Mapping[str, Any] = {"lr": 0.1, "amp": True}


@pytest.fixture
def place(workspace: Path) -> trial.Place:
    """A search with a split, in an empty project."""
    base = workspace / ".search/search/base"
    for name in ("split", "also"):
        (base / "data" / name).mkdir(parents=True)
    files.write_text(base / "data/weights", "none\n")
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


def test_a_folder_without_dvc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no DVC project; run a search where"):
        held_out.check_project(tmp_path)
