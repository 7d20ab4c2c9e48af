"""`models:/deepsort-reid@best` brings the checkpoint of the run that trained it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from deepsort_reid.core.errors import StoreError
from deepsort_reid.model import checkpoint
from deepsort_reid.model.pretrained.source import BROUGHT, TEACHER, WeightsSource
from deepsort_reid.runs.mlflow.registry import MODEL, bring_registered, run_id_of
from deepsort_reid.runs.mlflow.store import TIMEOUT, UPLOAD_SECONDS, open_store
from tests.support import stages
from tests.support.exports import trained
from tests.support.stores import forget_mlflow


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with two versions of a model; the first is the best, the second has no checkpoint.

    It is the folder's that is the current one; the checkpoint's path is returned.
    """
    folder = tmp_path_factory.mktemp("registered")
    made = trained("osnet_x0_25", (64, 32))
    path = folder / "model.pth"
    checkpoint.save(path, made.net.state_dict(), made.about)
    with pytest.MonkeyPatch.context() as patch:
        forget_mlflow(patch)
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        store = open_store()
        client = store.client
        client.create_registered_model(MODEL)
        for version, kept in (("1", True), ("2", False)):
            run = client.create_run(store.experiment_id)
            if kept:
                client.log_artifact(run.info.run_id, str(path), "checkpoint")
            client.create_model_version(MODEL, run.info.artifact_uri, run_id=run.info.run_id)
            client.set_terminated(run.info.run_id)
            client.set_registered_model_alias(MODEL, "best" if kept else "candidate", version)
        yield path


@pytest.mark.parametrize("name", [f"models:/{MODEL}@best", f"models:/{MODEL}/1"])
def test_a_checkpoint_is_brought(registered: Path, name: str) -> None:
    bring_registered(name, Path("brought.pth"))
    assert Path("brought.pth").read_bytes() == registered.read_bytes()


@pytest.mark.usefixtures("registered")
def test_a_large_checkpoint_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that proxies S3 has the whole file before it sends the first byte."""
    seconds = []
    download = MlflowClient.download_artifacts

    def noted(*arguments: Any) -> str:
        seconds.append(os.environ[TIMEOUT])
        return str(download(*arguments))

    monkeypatch.setattr(MlflowClient, "download_artifacts", noted)
    bring_registered(f"models:/{MODEL}@best", Path("brought.pth"))
    assert seconds == [UPLOAD_SECONDS]


@pytest.mark.usefixtures("registered")
def test_the_newest_version_of_a_model_that_nobody_knows() -> None:
    for bring in (
        lambda name: bring_registered(name, Path("brought.pth")),
        lambda name: run_id_of(open_store(), name),
    ):
        with pytest.raises(StoreError, match="there is no version of a model nobody; expected"):
            bring("models:/nobody/latest")


@pytest.mark.parametrize(
    "name",
    [f"models:/{MODEL}@champion", f"models:/{MODEL}/2", f"models:/{MODEL}/9", "models:/a@best",
     f"models:/{MODEL}/latest", f"models:/{MODEL}", "models:/", f"models:/{MODEL}/x"],
)  # fmt: skip
@pytest.mark.usefixtures("registered")
def test_what_is_not_there_is_said_in_one_line(name: str) -> None:
    with pytest.raises(StoreError) as caught:
        bring_registered(name, Path("brought.pth"))
    assert str(caught.value).startswith(f"{name}: cannot be brought from sqlite:///")
    assert f"such as models:/{MODEL}@best" in str(caught.value)


def test_the_stage_brings_weights_and_teacher(registered: Path) -> None:
    workspace = registered.parent
    name = f"models:/{MODEL}@best"
    stages.write_params(workspace, {"weights": name, "teacher": name, "arch": "osnet_x0_25"})
    stages.run("weights")
    for path in (BROUGHT, TEACHER):
        source = WeightsSource.parse(name, path)
        net, about = checkpoint.load(source.verified())
        assert about.arch == "osnet_x0_25"
        assert torch.equal(net.fc[0].weight, trained("osnet_x0_25", (64, 32)).net.fc[0].weight)
    stages.write_params(workspace, {"weights": None, "teacher": name})
    stages.run("weights")
    assert BROUGHT.read_text() == "none\n"
    assert TEACHER.read_bytes() != b"none\n"
