"""A proxy that spoils the way to an MLflow server, and a run to lose."""

import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.entities import ViewType

from deepsort_reid.runs import logger
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow import sync
from deepsort_reid.runs.mlflow.store import open_store

EPOCHS = 20
ARTIFACTS = ["checkpoint/model.pth", "figures/cmc.csv", "figures/roc.csv", "train.jpg"]


class Net(torch.nn.Module):
    """Embeds (B, 3, 16, 8) images, otherwise in training than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.norm(self.conv(images)).mean((2, 3)))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 3, 16, 8)).astype(np.float32)


class Proxy:
    """A TCP proxy that passes everything on, or late, or nothing, or hangs up.

    Attributes:
        mode: "through", "hole" or "closed".
        delay: seconds that each piece of an answer is held back.
    """

    def __init__(self, port: int):
        self.target = ("127.0.0.1", port)
        self.mode, self.delay = "through", 0.0
        self.answers, self.due, self.action = 0, 0, lambda: None
        self.server = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.uri = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def at_answer(self, number: int, action: Callable[[], None]) -> None:
        """Do something before so many pieces of answers, from now, are passed on."""
        self.answers, self.due, self.action = 0, number, action

    def close(self) -> None:
        self.server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self.server.accept()
                threading.Thread(target=self._serve, args=[caller], daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller:
            if self.mode == "hole":
                time.sleep(30)
            elif self.mode == "through":
                with suppress(OSError), socket.create_connection(self.target) as callee:
                    back = threading.Thread(target=self._answer, args=[callee, caller], daemon=True)
                    back.start()
                    while (data := caller.recv(1 << 16)) and self.mode != "closed":
                        if self.mode == "through":
                            callee.sendall(data)

    def _answer(self, callee: socket.socket, caller: socket.socket) -> None:
        with suppress(OSError):
            while data := callee.recv(1 << 16):
                self.answers += 1
                if self.answers == self.due:
                    self.action()
                time.sleep(self.delay)
                if self.mode == "through":
                    caller.sendall(data)
            caller.shutdown(socket.SHUT_RDWR)


def make_files(folder: Path) -> None:
    """What `work` records as artifacts."""
    (folder / "figures").mkdir(parents=True)
    (folder / "train.jpg").write_bytes(b"jpg")
    (folder / "model.pth").write_bytes(os.urandom(2 << 20))
    for name in ("cmc.csv", "roc.csv"):
        (folder / "figures" / name).write_text("rank,share\n")


def hasten(patience: float = 1.0) -> None:
    """Try a failed store again soon, and wait so many seconds for an answer in the end."""
    sync.EVERY, sync.FIRST_PAUSE, sync.LONGEST_PAUSE, sync.PATIENCE = 0.05, 0.2, 0.4, patience


def use_model(files: Path) -> None:
    """Export no network, but take the one that was exported once."""
    logger.export_model = lambda _, __, folder, ___: shutil.copytree(files / "model", folder)


def work(key: str, files: Path, at: Mapping[int, Callable[[], None]] | None = None) -> float:
    """Record a run as a training does.

    Args:
        key: the run's.
        files: made by `make_files`.
        at: what happens before an epoch.

    Returns:
        the seconds that the training spent in recording, waiting at its end included.
    """
    spent = 0.0
    with logger.open_run(key=key, name=key, tags={"data_digest": "d1"}) as tracker:
        started = time.monotonic()
        tracker.log_params({"lr": 0.1, "epochs": EPOCHS})
        tracker.log_dataset(name="d", source="s", digest="0" * 64, profile={}, context="training")
        spent += time.monotonic() - started
        for epoch in range(1, EPOCHS + 1):
            if at and epoch in at:
                at[epoch]()
            started = time.monotonic()
            tracker.log_metrics({"loss": 1 / epoch, "error": 0.5, "lr": 0.1}, step=epoch)
            spent += time.monotonic() - started
        started = time.monotonic()
        tracker.log_metrics({"best/loss": 1 / EPOCHS})
        tracker.log_artifact(files / "train.jpg")
        tracker.log_artifact(files / "model.pth", "checkpoint")
        tracker.log_artifact(files / "figures", "figures")
        tracker.log_model(None, None, metadata={})  # type: ignore[arg-type]
    return spent + time.monotonic() - started


@dataclass
class Found:
    """What of a run is in the store, beside what was put in."""

    status: str
    put: int = 0
    points: int = 0
    doubled: int = 0
    artifacts: list[str] = field(default_factory=list)
    models: int = 0


def find(key: str) -> Found:
    """Count what the store has of a run, which must be one run."""
    store = open_store()
    client = store.client
    runs = client.search_runs(
        [store.experiment_id], f"tags.run_key = '{key}'", run_view_type=ViewType.ALL
    )
    assert len(runs) == 1, f"{len(runs)} runs"
    run_id = runs[0].info.run_id
    models = client.search_logged_models(
        [store.experiment_id], filter_string=f"source_run_id = '{run_id}'"
    )
    assert len(models) == 1, f"{len(models)} models"
    check_links(client, key, client.get_logged_model(models[0].model_id))
    assert runs[0].data.params == {"lr": "0.1", "epochs": str(EPOCHS)}
    assert len(runs[0].inputs.dataset_inputs) == 1
    found = Found(runs[0].info.status)
    expected = points_of(key)
    steps = set(range(1, EPOCHS + 1))
    assert {step for name, step in expected if name == "loss"} == steps
    found.put = len(expected)
    for name in runs[0].data.metrics:
        history = [(name, point.step) for point in client.get_metric_history(run_id, name)]
        found.points += len(set(history) & expected)
        found.doubled += len(history) - len(set(history))
    found.artifacts = sorted(below(client, run_id, ""))
    found.models = len(client.search_model_versions(f"run_id = '{run_id}'"))
    return found


def check_links(client: Any, key: str, model: Any) -> None:
    """The run's model has each of its numbers once, with the dataset, and knows its version."""
    points = [point for point in RunFolder(key).metrics.read() if point.step is None]
    found = [(metric.key, metric.value, metric.dataset_name) for metric in model.metrics]
    assert sorted(found) == sorted((point.name, point.value, "d") for point in points)
    (version,) = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    named = [{"name": version.name, "version": str(version.version)}]
    assert json.loads(model.tags["mlflow.modelVersions"]) == named


def points_of(key: str) -> set[tuple[str, int]]:
    """The name and step of each point that was written to a run's folder."""
    run = RunFolder(key)
    return {(point.name, point.step or 0) for point in [*run.metrics.read(), *run.system.read()]}


def below(client: Any, run_id: str, folder: str) -> list[str]:
    """The paths of all files below a folder of a run's artifacts."""
    paths: list[str] = []
    for item in client.list_artifacts(run_id, folder or None):
        paths += below(client, run_id, item.path) if item.is_dir else [item.path]
    return paths


if __name__ == "__main__":
    hasten(*map(float, sys.argv[3:]))
    use_model(Path(sys.argv[1]))
    work(sys.argv[2], Path(sys.argv[1]))
