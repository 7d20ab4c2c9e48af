"""What a training leaves behind is a function of what it did, and is in its run too."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from deepsort_reid.core import files
from deepsort_reid.model import checkpoint, network
from deepsort_reid.training.history import EpochResult, Meter, write_history
from deepsort_reid.training.observers import LEGEND, Console, RunMetrics, line, opening
from deepsort_reid.training.report import write_report
from tests.support.trainings import trainer


class Remember:
    """A run that remembers what is recorded."""

    run_id, run_name = "abc", "resnet18-1234567"

    def __init__(self) -> None:
        self.metrics: list[tuple[Any, Any]] = []
        self.artifacts: list[str] = []
        self.models: list[Any] = []
        self.tags: dict[str, str] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.metrics.append((dict(metrics), step))

    def log_numbers(self, numbers: Any) -> None:
        self.log_metrics(numbers.metrics)
        self.tags |= numbers.tags

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.artifacts.append(f"{folder}/{path.name}")
        assert path.exists()

    def log_model(self, module: nn.Module, example: Any, *, metadata: Any) -> None:
        self.models.append((module, example.shape, metadata))

    def set_tags(self, tags: Any) -> None:
        self.tags |= tags


HISTORY = [
    EpochResult(1, 0.1, 2.0, 0.9, 2.1, 0.8, images_per_second=40.0, data_wait=0.01),
    EpochResult(2, 0.01, 1.0, 0.5, 1.6, 0.4, images_per_second=41.0, data_wait=0.02),
    EpochResult(3, 0.001, 0.9, 0.4, 1.7, 0.5, images_per_second=39.0, data_wait=0.03),
]
BEST = checkpoint.Description(
    epoch=2,
    acc=60.0,
    arch="resnet18",
    embedding_size=512,
    image_size=(32, 16),
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    classes=["a", "b", "c"],
    data_digest="ab" * 32,
    identity={"data": {"split": "ab" * 32}, "params": {}, "code": {}, "environment": {}},
)


def write(folder: Path, run: Any) -> None:
    path, reports = folder / "models" / "model.pth", folder / "reports"
    checkpoint.save(path, network.build(BEST.design, 3, seed=2).state_dict(), BEST)
    write_history(reports / "history.csv", HISTORY)
    write_report(reports, path, HISTORY, run, run_key="k1")


def test_the_best_epochs_numbers_are_reported(tmp_path: Path) -> None:
    write(tmp_path, Remember())
    assert files.read_json(tmp_path / "reports" / "train.json") == {
        "best_epoch": 2, "best_train_loss": 1.0, "best_train_error": 0.5,
        "best_val_loss": 1.6, "best_val_error": 0.4,
    }  # fmt: skip
    assert files.read_json(tmp_path / "reports" / "identity.json") == BEST.identity


def test_the_history_holds_no_times(tmp_path: Path) -> None:
    write_history(tmp_path / "history.csv", HISTORY)
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,lr,train_loss,train_error,val_loss,val_error"
    assert lines[2] == "2,0.01,1.0,0.5,1.6,0.4"
    assert len(lines) == 4


def test_the_same_training_leaves_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in "ab":
        write(tmp_path / name, Remember())
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


def test_everything_is_in_the_run(tmp_path: Path) -> None:
    run: Any = Remember()
    observer = RunMetrics(run)
    for epochs in (1, 2, 3):
        observer.on_epoch_end(HISTORY[:epochs], nn.Identity(), is_best=False)
    write(tmp_path, run)
    assert [step for _, step in run.metrics] == [1, 2, 3, None]
    assert run.metrics[0][0] == {
        "by_epoch/train/loss": 2.0,
        "by_epoch/train/error": 0.9,
        "by_epoch/train/lr": 0.1,
        "by_epoch/train/images_per_second": 40.0,
        "by_epoch/train/data_wait": 0.01,
        "by_epoch/val/loss": 2.1,
        "by_epoch/val/error": 0.8,
    }
    assert run.metrics[3][0] == {
        "train/loss": 1.0, "train/error": 0.5, "val/loss": 1.6, "val/error": 0.4,
    }  # fmt: skip
    assert run.artifacts == [
        "/train.jpg",
        "/history.csv",
        "/identity.json",
        "checkpoint/model.pth",
    ]
    assert run.tags["best_epoch"] == 2
    assert len(run.tags["checkpoint_md5"]) == 32
    ((_, shape, metadata),) = run.models
    assert shape == (2, 3, 32, 16)
    assert (metadata["epoch"], metadata["arch"]) == (2, "resnet18")
    assert files.read_json(tmp_path / "reports" / "run.json") == {
        "key": "k1", "run_id": "abc", "run_name": "resnet18-1234567",
    }  # fmt: skip


def test_an_epoch_is_a_line_below_the_legend() -> None:
    assert [LEGEND, line(HISTORY[0])] == [
        "epoch  train loss  val loss  train error  val error  learning rate  images/s",
        "    1       2.000     2.100        90.0%      80.0%        1.0e-01        40",
    ]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_opens_with_what_it_is(ranks: int, caplog: pytest.LogCaptureFixture) -> None:
    own = trainer(weights="a.pth" if ranks > 1 else None)
    own.process = replace(own.process, world_size=ranks)
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        Console(num_workers=0, opening=opening(own)).on_start([], 0)
    *lines, legend = [record.getMessage() for record in caplog.records]
    assert legend == LEGEND
    weights = ("random at the start", "starting from a.pth")[ranks - 1]
    assert lines == [
        "data        44 images of 4 identities, 12 more of them for val; 32×16 pixels",
        f"network     resnet10d, 0.0 million weights, {weights}",
        f"parameters  2 epochs of 6 steps, {8 * ranks} images a step, sgd, lr 0.02, seed 0",
        f"device      cpu, 1 thread, {('1 rank', '2 ranks')[ranks - 1]}",
    ]


def test_slow_data_is_advised_on_once(caplog: pytest.LogCaptureFixture) -> None:
    slow = EpochResult(1, 0.1, 1.0, 1.0, 1.0, 1.0, images_per_second=5.0, data_wait=0.42)
    console = Console(num_workers=3)
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        for is_best in (True, False):
            console.on_epoch_end([slow], nn.Identity(), is_best=is_best)
    assert [record.getMessage() for record in caplog.records] == [
        "42 % of the time went into waiting for images; raise num_workers (3), "
        "or put data/split on a faster disk",
        f"{line(slow)}  best",
        line(slow),
    ]


def test_a_meter_adds_up_steps_and_comes_back() -> None:
    meter = Meter.of(2, torch.device("cpu"))
    meter.add(3, torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]))
    again = Meter.of(2, torch.device("cpu"))
    again.load_state_dict(meter.state_dict())
    again.add(1, torch.tensor([2.5, 1.0]))
    assert again.means() == (1.0, 0.75)
    assert (meter.step, again.step, again.steps) == (1, 2, 2)
