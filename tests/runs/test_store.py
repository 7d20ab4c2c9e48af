import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.project import project_root
from deepsort_reid.runs.mlflow import store
from tests.support.stores import forget_mlflow, make_store

ONE_RUN = """
from deepsort_reid.runs.mlflow.store import open_store
store = open_store()
run = store.client.create_run(store.experiment_id, run_name="one")
store.client.log_metric(run.info.run_id, "loss", 0.5)
print(run.info.run_id)
"""


def stores_here():
    """The store of whoever has run the pipeline in this folder, and when it was last changed."""
    return {path.name: path.stat().st_mtime_ns for path in Path.cwd().glob("mlflow.db*")}


FOUND_HERE = stores_here()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A repository with an empty store, made once."""
    return make_store(tmp_path_factory.mktemp("template"))


@pytest.fixture
def root(template, tmp_path, monkeypatch):
    """A copy of that repository, with blanks and letters in its name that people do have."""
    place = tmp_path / "my répo 100%"
    shutil.copytree(template, place)
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(place))
    return place


def read(root, query):
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        return connection.execute(query).fetchall()


def write(root, query, *values):
    with closing(sqlite3.connect(root / "mlflow.db")) as connection, connection:
        connection.execute(query, values)


# Where it lies


@pytest.fixture
def folders(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    (tmp_path / ".dvc").mkdir()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def test_the_root_is_the_folder_that_holds_dvc(folders):
    assert project_root() == folders
    assert store.tracking_uri() == f"sqlite:///{folders}/mlflow.db"


def test_the_root_is_the_one_dvc_names(folders, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(folders / "a"))
    assert project_root() == folders / "a"


def test_without_dvc_the_root_is_the_current_folder(folders):
    (folders / ".dvc").rmdir()
    assert project_root() == folders / "a" / "b"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://server:5000", "http://server:5000"),
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("sqlite:///runs.db", "sqlite:///{root}/runs.db"),  # not in a folder DVC deletes
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("  ", "sqlite:///{root}/mlflow.db"),
    ],
)
def test_mlflow_tracking_uri_comes_first(folders, monkeypatch, uri, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.tracking_uri() == expected.format(root=folders)


# Opening it


@pytest.mark.slow
def test_processes_that_start_together_share_one_new_store(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_RUN],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert [error for _, error in answers] == ["", ""]  # nothing of MLflow's chatter
    runs = {out.strip() for out, _ in answers}
    assert {run for (run,) in read(tmp_path, "SELECT run_uuid FROM runs")} == runs
    assert len(runs) == 2
    # Nothing half-made is left, and nothing that belongs to no run.
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlruns"}


def test_what_a_process_left_that_was_making_a_store_is_swept_away(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    left = tmp_path / ".mlflow-new.999999999.tmp"  # of a process that there cannot be
    left.mkdir()
    for name in ("mlflow.db", "mlflow.db-journal"):
        (left / name).write_text("half")
    store.open_store()
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_artifacts_lie_beside_the_database_whatever_the_current_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = store.open_store()
    run = opened.client.create_run(opened.experiment_id)
    opened.client.log_text(run.info.run_id, "hello", "notes/hello.txt")
    place = root / "mlruns" / run.info.run_id / "artifacts"
    assert (place / "notes" / "hello.txt").read_text() == "hello"
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.usefixtures("root")
def test_the_users_settings_of_mlflow_stay(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    store.open_store()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    with store.uploading():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")
    store.open_store()
    with store.uploading():
        assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) > 60
    assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) < 10


@pytest.mark.usefixtures("root")
def test_an_experiment_deleted_by_hand_comes_back():
    opened = store.open_store()
    opened.client.delete_experiment(opened.experiment_id)
    again = store.open_store()
    assert again.experiment_id == opened.experiment_id
    assert again.client.get_experiment(again.experiment_id).lifecycle_stage == "active"


def test_an_experiment_can_have_another_name(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "vehicles")
    opened = store.open_store()
    experiment = opened.client.get_experiment(opened.experiment_id)
    assert (experiment.name, experiment.artifact_location) == (
        "vehicles",
        store.quoted(root / "mlruns"),
    )


# Following its folder


def test_artifacts_follow_a_moved_repository(root, tmp_path, monkeypatch):
    opened = store.open_store()
    run = opened.client.create_run(opened.experiment_id)
    opened.client.log_text(run.info.run_id, "hello", "hello.txt")
    model = opened.client.create_logged_model(opened.experiment_id, name="model")
    opened.client.create_registered_model("net")
    opened.client.create_model_version("net", model.artifact_location, run.info.run_id)
    elsewhere = f"{root}/mlruns-of-another/x"  # begins alike, and is not below
    write(root, "UPDATE model_versions SET storage_location = ?", elsewhere)

    moved = tmp_path / "moved"
    root.rename(moved)
    monkeypatch.setenv("DVC_ROOT", str(moved))
    client = store.open_store().client
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["hello.txt"]
    assert client.get_logged_model(model.model_id).artifact_location.startswith(f"{moved}/mlruns/")
    assert client.get_model_version("net", "1").source.startswith(f"{moved}/mlruns/")
    assert read(moved, "SELECT storage_location FROM model_versions") == [(elsewhere,)]
    assert client.get_experiment_by_name("Default").artifact_location == f"{moved}/mlruns/0"
    assert not root.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mlflow-artifacts:/1", "{root}/mlruns"),  # only MLflow's server can write there
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("/big/disk/artifacts", "/big/disk/artifacts"),
    ],
)
def test_a_place_somebody_chose_stays(root, before, after):
    write(root, "UPDATE experiments SET artifact_location = ? WHERE name <> 'Default'", before)
    opened = store.open_store()
    experiment = opened.client.get_experiment(opened.experiment_id)
    assert experiment.artifact_location == after.format(root=store.quoted(root))


# Failing to open it


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """Opens a store that cannot be, and returns the one line and the seconds it took."""
    forget_mlflow(monkeypatch)
    store.import_mlflow()

    def attempt(uri=None):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        if uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        started = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.open_store()
        line = str(caught.value)
        assert "\n" not in line
        assert len(line) < 400
        return line, time.monotonic() - started

    return attempt


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nonsense://somewhere", "expected sqlite:///FILE, http://SERVER"),
        ("file:///somewhere/mlruns", "maintenance mode"),
        ("sqlite:////dev/null/mlflow.db", "file exists (/dev/null)"),
        ("http://127.0.0.1:9", "connection refused"),
        ("http://host.invalid:5000", "http://host.invalid:5000"),
    ],
)
def test_an_address_that_cannot_be_opened(bad, uri, reason):
    line, _ = bad(uri)
    assert uri in line
    assert reason in line
    assert "correct or unset MLFLOW_TRACKING_URI" in line


@pytest.mark.parametrize(
    "uri",
    [
        "http://ada:s3cret@127.0.0.1:9",
        "postgresql://ada:s3cret@127.0.0.1:9/runs",
        "http://ada:s3/cret@127.0.0.1:9",
        "postgresql://ada:s3/cret@127.0.0.1:9/runs",
    ],
)
def test_passwords_are_not_shown(bad, uri):
    line, _ = bad(uri)
    assert "cret" not in line
    assert "ada" not in line
    assert "cret" not in store.label(uri)
    assert "127.0.0.1:9" in line


def test_a_server_that_never_answers_is_given_up(bad, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        line, seconds = bad(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert "timed out" in line
    assert "start the server" in line
    assert seconds < 8  # two tries and the wait between them


def test_a_file_that_is_no_database_is_left_alone(bad, tmp_path):
    (tmp_path / "mlflow.db").write_text("my notes\n" * 100)
    line, _ = bad()
    assert "file is not a database" in line
    assert "move it away" in line
    assert (tmp_path / "mlflow.db").read_text() == "my notes\n" * 100


def test_a_folder_in_the_databases_place(bad, tmp_path):
    (tmp_path / "mlflow.db").mkdir()
    assert "unable to open database file" in bad()[0]


@contextmanager
def somebody_else():
    """Be a user without rights, even where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_without_permission(bad, tmp_path):
    import filelock  # noqa: F401  (while root can still read it)

    tmp_path.chmod(0o555)
    try:
        with somebody_else():
            line, _ = bad()
    finally:
        tmp_path.chmod(0o755)
    assert "permission denied" in line
    assert not list(tmp_path.iterdir())


def test_nothing_is_made_in_the_current_folder():
    assert stores_here() == FOUND_HERE
