"""Power that goes between any two writes of a training costs nothing: the next one ends alike."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support import power, stages

CHANGES: dict[str, Any] = {"epochs": 3, "run.save_seconds": 0.02, "arch": "deepsort"}
POINTS = 8  # writes tried, from the first to the last
TIMINGS = ("by_epoch/train/images_per_second", "by_epoch/train/data_wait")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data are split."""
    folder = tmp_path_factory.mktemp("prepared")
    stages.write_params(folder, CHANGES)
    for stage in ("download", "split"):
        power.run(folder, stage)
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """What training leaves, but for the report that names its run."""
    paths = [path for part in ("models", "reports") for path in (folder / part).iterdir()]
    return {path.name: path.read_bytes() for path in sorted(paths) if path.name != "run.json"}


def recorded(folder: Path) -> list[Any]:
    """The runs in the store: status, curves, files."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = []
    for run in client.search_runs(["1"]):
        curves = {
            name: [
                (point.step, point.value if name not in TIMINGS else None)
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in sorted(run.data.metrics)
        }
        files = sorted(item.path for item in client.list_artifacts(run.info.run_id))
        versions = client.search_model_versions(f"run_id='{run.info.run_id}'")
        found.append((run.info.status, curves, run.data.params, files, len(versions)))
    return found


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A project whose training has gone through, and how many writes that took."""
    folder = copy(prepared, tmp_path_factory.mktemp("undisturbed") / "project")
    writes = power.run(folder, "train")
    power.run(folder, "deliver")
    return folder, writes


@pytest.mark.slow
@pytest.mark.parametrize("point", range(POINTS))
def test_power_goes(
    prepared: Path, undisturbed: tuple[Path, int], tmp_path: Path, point: int
) -> None:
    expected, writes = undisturbed
    assert writes > 4 * POINTS
    folder = copy(prepared, tmp_path / "project")
    until = 1 + (writes - 1) * point // (POINTS - 1)
    power.run(folder, "train", until=until)
    # As DVC does before it runs a stage again.
    for part in ("models", "reports"):
        for path in (folder / part).glob("*") if (folder / part).exists() else ():
            if path.name != "split.json" and "images_per_identity" not in path.name:
                path.unlink()
    power.run(folder, "train")
    power.run(folder, "deliver")  # a slow machine may have left something to be sent
    assert outputs(folder) == outputs(expected)
    assert recorded(folder) == recorded(expected)
