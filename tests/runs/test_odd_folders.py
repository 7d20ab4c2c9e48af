"""Folders whose names mean something in a URL, to a shell or to SQL: everything works there."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deepsort_reid.core.files import read_json
from deepsort_reid.core.project import project_root
from deepsort_reid.core.secrets import masked
from deepsort_reid.runs import deliver
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow import store
from tests.support import stages
from tests.support.networks import narrow

NAMES = ["my%20repo", "a?b#c", 'it\'s "so" ü 東京', "a;b:c\\d $e `f`", "100% & more"]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in a folder of that name, the current one."""
    place = tmp_path / request.param / "project"
    (place / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(place)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_an_address_leads_back_to_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = store.tracking_uri()
    assert store.sqlite_file(uri) == folder / "mlflow.db"
    assert masked(uri) == uri
    assert store.label(uri) == "sqlite:///mlflow.db"
    (folder / "mlruns").mkdir()
    place = store.quoted(folder / "mlruns")
    assert store.local_path(place) == store.local_path(f"file://{place}") == folder / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.quoted(folder / 'other.db')}")
    assert store.sqlite_file(store.tracking_uri()) == folder / "other.db"
    assert store.tracking_uri() == store.for_mlflow(store.tracking_uri()).replace("+pysqlite", "")


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_the_command_that_shows_a_run_can_be_pasted(folder: Path) -> None:
    uri = f"sqlite:///{store.quoted(folder / 'other.db')}"
    command = store.where_to_look(uri).partition(", then ")[0]
    assert shlex.split(command) == ["uv", "run", "mlflow", "ui", "--backend-store-uri", uri]


@pytest.mark.slow
@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_a_store_is_made_used_and_moved(folder: Path) -> None:
    opened = store.open_store()
    run = opened.client.create_run(opened.experiment_id)
    (folder / "note.txt").write_text("hello")
    opened.client.log_artifact(run.info.run_id, "note.txt")
    assert (store.local_path(run.info.artifact_uri) or folder) / "note.txt" in list(
        folder.rglob("note.txt")
    )
    assert [path.name for path in folder.parent.iterdir()] == ["project"]  # MLflow makes none
    # What an earlier version has written down, and a folder that is moved.
    plain = str(folder / "mlruns")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ? || '/' || run_uuid", [plain])
        connection.execute("UPDATE experiments SET artifact_location = ?", [plain])
    again = store.open_store().client.get_run(run.info.run_id).info.artifact_uri
    assert again == f"{store.quoted(folder / 'mlruns')}/{run.info.run_id}"


@pytest.fixture
def narrowed() -> Iterator[None]:
    with narrow():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("narrowed")
@pytest.mark.parametrize("folder", NAMES[:3], indirect=True)
def test_a_pipeline_and_its_run(folder: Path) -> None:
    """Sources with such names, a training that cannot reach its store, and the delivery."""
    stages.write_params(folder, {})
    stages.run("download")
    stages.run("sequences")
    name = folder.parent.name
    for kind in ("raw", "sequences"):
        made = next((folder / "data" / kind).rglob("dataset.zip"))
        made.rename(folder / f"{kind} of {name}.zip")
    stages.write_params(
        folder,
        {"dataset.source": f"raw of {name}.zip", "track.source": f"sequences of {name}.zip"},
    )
    (folder / "mlflow.db").mkdir()  # no database, until it is delivered
    for stage in ("download", "split", "train", "evaluate", "sequences"):
        stages.run(stage)
    (folder / "mlflow.db").rmdir()
    deliver.main()
    client = MlflowClient(store.for_mlflow(store.tracking_uri()))
    key = read_json(Path("reports/run.json"))["key"]
    run_id = RunFolder(key).mlflow["run_id"]
    run = client.get_run(run_id)
    assert run.data.metrics["reid/mAP"] > 0
    assert run.data.params["dataset.source"] == f"raw of {name}.zip"
    names = [found.path for found in client.list_artifacts(run_id)]
    assert {"history.csv", "train.jpg", "ranked.jpg"} <= set(names)
    assert (
        Path(client.download_artifacts(run_id, "history.csv")).read_bytes()
        == (folder / "reports/history.csv").read_bytes()
    )
    (version,) = client.search_model_versions("name = 'deepsort-reid'")
    assert version.run_id == run_id
    assert (store.local_path(str(version.source)) or folder / "none").is_dir()
    assert project_root() == folder
    assert [path.name for path in folder.parent.iterdir()] == ["project"]
