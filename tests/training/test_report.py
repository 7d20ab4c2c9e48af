"""What training leaves behind is a function of what it did, and is in MLflow too."""

from pathlib import Path
from typing import Any

from deepsort_reid.training.recorder import FileRecorder, NullRecorder, line
from deepsort_reid.training.resume import States
from torch import nn

from deepsort_reid.core import files
from deepsort_reid.model import checkpoint, network
from deepsort_reid.runs.logger import RunLogger
from deepsort_reid.training.trainer import EpochResult


class Remember(RunLogger):
    """A tracker that remembers its calls."""

    key, run_id, run_name = "k1", "abc", "resnet18-1234567"

    def __init__(self) -> None:
        self.metrics: list[tuple[Any, Any]] = []
        self.artifacts: list[str] = []
        self.models: list[Any] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.metrics.append((dict(metrics), step))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.artifacts.append(f"{folder}/{path.name}")
        assert path.exists()

    def log_model(self, module: nn.Module, example: Any, *, metadata: Any) -> None:
        self.models.append((module, example.shape, metadata))


HISTORY = [
    EpochResult(1, 0.1, 2.0, 0.9, 2.1, 0.8, images_per_second=40.0, data_wait=0.01),
    EpochResult(2, 0.01, 1.0, 0.5, 1.6, 0.4, images_per_second=41.0, data_wait=0.02),
    EpochResult(3, 0.001, 0.9, 0.4, 1.7, 0.5, images_per_second=39.0, data_wait=0.03),
]
NETWORK = {
    "arch": "resnet18",
    "embedding_size": 512,
    "image_size": (32, 16),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.2, 0.2, 0.2),
    "classes": ["a", "b", "c"],
    "data_digest": "ab" * 32,
    "identity": {"data": {"split": "ab" * 32}, "params": {}, "code": {}, "environment": {}},
}


def record(folder: Path, tracker: RunLogger) -> None:
    states = States()
    states.run_key = "abc"
    recorder = FileRecorder(
        folder / "models" / "model.pth", folder / "reports", tracker, states, NETWORK
    )
    for epochs, is_best in ((1, True), (2, True), (3, False)):
        net = network.build(network.Design(), 3, seed=epochs)
        recorder.record(HISTORY[:epochs], net, is_best=is_best)
    recorder.finish(HISTORY)


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    record(tmp_path, RunLogger())
    net, description = checkpoint.load(tmp_path / "models" / "model.pth")
    assert (description.epoch, description.acc) == (2, 60.0)
    expected = network.build(network.Design(), 3, seed=2).state_dict()
    assert (net.state_dict()["fc.weight"] == expected["fc.weight"]).all()
    best = files.read_json(tmp_path / "reports" / "train.json")
    assert best == {
        "best_epoch": 2, "best_train_loss": 1.0, "best_train_error": 0.5,
        "best_val_loss": 1.6, "best_val_error": 0.4,
    }  # fmt: skip


def test_the_history_holds_no_times(tmp_path: Path) -> None:
    record(tmp_path, RunLogger())
    lines = (tmp_path / "reports" / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,lr,train_loss,train_error,val_loss,val_error"
    assert lines[2] == "2,0.01,1.0,0.5,1.6,0.4"
    assert len(lines) == 4


def test_the_same_training_leaves_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in "ab":
        record(tmp_path / name, RunLogger())
        paths = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        written.append({p.name: p.read_bytes() for p in paths})
    assert written[0] == written[1]
    assert set(written[0]) == {
        "model.pth",
        "train.jpg",
        "history.csv",
        "train.json",
        "run.json",
        "identity.json",
    }


def test_everything_is_in_mlflow(tmp_path: Path) -> None:
    tracker = Remember()
    record(tmp_path, tracker)
    assert [step for _, step in tracker.metrics] == [1, 2, 3, None]
    assert tracker.metrics[0][0]["images_per_second"] == 40.0
    assert tracker.metrics[0][0]["data_wait"] == 0.01
    assert tracker.artifacts == [
        "/train.jpg",
        "/history.csv",
        "/identity.json",
        "checkpoint/model.pth",
    ]
    ((_, shape, metadata),) = tracker.models
    assert shape == (2, 3, 32, 16)
    assert metadata["epoch"] == 2
    assert files.read_json(tmp_path / "reports" / "run.json") == {
        "key": "abc", "run_id": "abc", "run_name": "resnet18-1234567",
    }  # fmt: skip


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    recorder = NullRecorder()
    recorder.record(HISTORY, nn.Identity(), is_best=True)
    recorder.finish(HISTORY)
    assert not list(tmp_path.iterdir())


def test_an_epoch_in_one_line() -> None:
    assert line(HISTORY[0]) == (
        "epoch   1   loss 2.000 / 2.100   error 90.0% / 80.0%   lr 1.0e-01   40 images/s"
    )
