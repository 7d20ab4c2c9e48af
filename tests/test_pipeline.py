"""The pipeline as a user runs it: what `dvc repro` leaves behind."""

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deepsort_reid.core.config import SequencesConfig
from deepsort_reid.runs.folder import LINK_FROM
from deepsort_reid.synthetic.sequences import write_sequences
from tests.support.projects import client, copied, ran, read, run, run_all, run_of


def test_everything_promised_is_there(project: Path) -> None:
    for name in (
        "models/model.pth",
        "reports/train.jpg",
        "reports/history.csv",
        "reports/evaluation.json",
        "reports/metrics.json",
        "reports/record.json",
        "reports/cmc.png",
        "reports/distances.png",
        "reports/calibration.png",
        "reports/ranked.jpg",
        "reports/split.json",
        "reports/track.json",
        "reports/track.csv",
        "reports/tracks.zip",
        "reports/track.jpg",
        "reports/track.webm",
    ):
        assert (project / name).stat().st_size > 0, name
    split = read(project / "reports/split.json")
    assert split["train"]["images"] + split["val"]["images"] == 4 * 6  # type: ignore[index]
    assert split["gallery"]["junk"] == 2  # type: ignore[index]
    assert 0 < read(project / "reports/metrics.json")["mAP"] <= 1  # type: ignore[operator]


def test_git_is_left_with_small_text_alone(project: Path) -> None:
    # A process that is killed leaves its half-written files.
    for name in (".mlflow.1.tmp.db", "reports/.metrics.1.tmp.json"):
        (project / name).touch()
    assert run(project, "git", "status", "--short") == ""
    new = run(project, "git", "diff", "--name-only", "HEAD~1").split()
    assert new == ["dvc.lock", "reports/metrics.json", "reports/record.json"]


def test_the_run_holds_it_all(project: Path) -> None:
    store = client(project)
    found = run_of(project)
    run_id = found.info.run_id
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.01"
    assert found.data.params["dataset.source"] == "synthetic"
    assert found.data.params["derived.world_size"] == "2"
    metrics = read(project / "reports/evaluation.json")
    names = {
        "reid/mAP": "mAP",
        "reid/rank-1": "rank1",
        "calibration/max_cosine_distance": "max_cosine_distance",
        "calibration/eer_across": "eer_across",
        "val/accuracy": "val_accuracy",
    }
    for name, reported in names.items():
        assert found.data.metrics[name] == metrics[reported]
    assert found.data.tags["reid.queries"] == str(metrics["queries"])
    tracked = read(project / "reports/track.json")
    assert found.data.metrics["track/hota"] == tracked["hota"]
    assert found.data.metrics["track/none/hota"] == tracked["none"]["hota"]  # type: ignore[index]
    assert found.data.metrics["track/fps"] > 0
    for name, first in (("train/loss", 1), ("val/error", 1), ("reid/mAP", 0), ("reid/rank-1", 0)):
        curve = store.get_metric_history(run_id, f"by_epoch/{name}")
        assert [point.step for point in curve] == list(range(first, 5))
    made = found.data.tags["checkpoint_md5"]
    for stage in ("evaluate", "export", "track"):
        assert found.data.tags[f"{stage}_checkpoint_md5"] == made
    sections = {name.partition("/")[0] for name in found.data.metrics}
    assert sections == {
        "by_epoch", "calibration", "export", "reid", "system", "track", "train", "val",
    }  # fmt: skip
    head = run(project, "git", "rev-parse", "HEAD~1").strip()  # before the results
    assert found.data.tags["git_commit"] == head
    digest = found.data.tags["data_digest"]
    datasets = {
        tag.value: entry.dataset for entry in found.inputs.dataset_inputs for tag in entry.tags
    }
    assert datasets["training"].digest == digest[:12]
    checkpoint = torch.load(project / "models/model.pth", weights_only=True)
    assert checkpoint["data_digest"] == digest
    artifacts = {item.path for item in store.list_artifacts(run_id)}
    assert {"train.jpg", "ranked.jpg", "cmc.png", "distances.png", "calibration.png"} <= artifacts
    assert {"track.jpg", "track.webm", "tracks.zip", "checkpoint"} <= artifacts
    (version,) = store.search_model_versions(f"run_id='{run_id}'")
    for alias in ("best", "candidate"):
        assert store.get_model_version_by_alias("deepsort-reid", alias).version == version.version
    assert f"mAP {metrics['mAP']:.1%}" in version.description
    (output,) = found.outputs.model_outputs
    model = store.get_logged_model(output.model_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [
        {"name": "deepsort-reid", "version": str(version.version)}
    ]
    measured_on = {metric.key: metric.dataset_digest for metric in model.metrics}
    assert measured_on["reid/mAP"] == digest[:12]
    assert measured_on["track/hota"] == datasets["track"].digest


def test_the_run_takes_no_room_for_what_dvc_has(prepared: Path) -> None:
    kept = [path for path in (prepared / "mlruns").glob("*/artifacts/*/*") if large(path)]
    assert {"model.pth", "boxmot.onnx", "model.pt2"} <= {path.name for path in kept}
    assert [path.name for path in kept if path.stat().st_nlink == 1] == []
    assert [
        path for path in (prepared / ".runs").rglob("*") if path.is_file() and large(path)
    ] == []


def large(path: Path) -> bool:
    return path.stat().st_size >= LINK_FROM


@pytest.fixture(scope="module")
def filmed(project: Path) -> Path:
    """The project with a video and the programs of the page about videos, in their folder."""
    page = (Path(__file__).parents[1] / "docs" / "video.md").read_text(encoding="utf-8")
    (project / "footage").mkdir()
    for name, code in re.findall(r"```python\n# (footage/\w+\.py)\n(.*?)```", page, re.DOTALL):
        (project / name).write_text(code)
    config = SequencesConfig(
        seed=0, sequences=1, frames=16, people=6, image_size=(360, 640), missed=0.15
    )
    with tempfile.TemporaryDirectory() as folder:
        write_sequences(Path(folder) / "street.zip", config)
        video = cv2.VideoWriter(
            str(project / "footage/yard.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 14, (640, 360)
        )
        with zipfile.ZipFile(Path(folder) / "street.zip") as frames:
            for name in sorted(frames.namelist()):
                if name.endswith(".jpg"):
                    data = np.frombuffer(frames.read(name), np.uint8)
                    video.write(cv2.imdecode(data, cv2.IMREAD_COLOR))
        video.release()
    said = run(project, sys.executable, "footage/prepare.py", "footage/yard.mp4")
    assert re.match(r"footage/yard: 16 frames, \d+ detections", said)
    return project


@pytest.mark.slow
def test_the_page_about_videos_tracks_one(filmed: Path) -> None:
    lines = run(filmed, sys.executable, "footage/follow.py").splitlines()
    assert len(lines) > 10
    for line in lines:
        number, track, left, top, width, height = map(float, line.split())
        assert 1 <= number <= 16
        assert track >= 1
        assert 0 < width < height < 400
        assert left < 640
        assert top < 360
    film = cv2.VideoCapture(str(filmed / "footage/yard-tracked.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 16


@pytest.mark.slow
def test_git_and_dvc_leave_the_users_footage_alone(filmed: Path) -> None:
    """603 frames of somebody's video were once staged by `git add .`."""
    assert run(filmed, "git", "status", "--short") == ""
    assert "footage" in run(filmed, "git", "status", "--short", "--ignored")
    assert run(filmed, "dvc", "check-ignore", "footage/yard/img1/000001.jpg")


@pytest.mark.slow
def test_ones_own_video_is_tracked_without_rendering_another(filmed: Path, tmp_path: Path) -> None:
    with copied(filmed, tmp_path / "project") as project:
        out = run(project, "dvc", "exp", "run", "-S", "track.source=footage/yard")
        assert {"sequences", "track"} <= set(ran(out))
        assert "train" not in ran(out)
        assert "nothing was scored" in out
        tracked = read(project / "reports/track.json")
        assert (tracked["sequences"], tracked["sequences_with_truth"]) == (1, 0)
        film = cv2.VideoCapture(str(project / "reports/track.webm"))
        assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 16


def test_plots_are_drawn(project: Path) -> None:
    done = run_all(project, "dvc", "plots", "show")
    assert "failed" not in done
    page = (project / "dvc_plots/index.html").read_text()
    for title in (
        "Loss by epoch",
        "Cumulative matching characteristic",
        "ranked.jpg",
        "calibration",
    ):
        assert title in page
    run(project, "dvc", "plots", "diff", "HEAD")
    run(project, "dvc", "metrics", "diff", "HEAD")


@pytest.mark.slow
def test_the_lineage_of_what_was_made_just_now(project: Path) -> None:
    lineage = (sys.executable, "-m", "deepsort_reid.lineage", "--check", "--json")
    found = json.loads(run(project, *lineage, PYTHONPATH="src"))
    assert found["differences"] == []
    assert found["sure"]
    assert found["run"]["run_id"] == run_of(project).info.run_id
    assert found["unknown"] == []
    assert [holder["names"] for holder in found["held_by"]] == [["branch main"]]
    assert len(found["checkpoint"]["places"]) == 3  # workspace, cache, the run's artifacts
