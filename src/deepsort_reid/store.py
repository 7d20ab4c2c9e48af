"""Finds the one MLflow store of the repository, and makes, moves and opens it."""

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.errors import StoreError
from deepsort_reid.files import project_root, replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "deepsort-reid"
DATABASE = "mlflow.db"  # what `mlflow ui` opens by itself in the folder it is started in
ARTIFACTS = "mlruns"  # beside the database
LOCK_SECONDS = 60.0  # making the database takes a few

# What MLflow reads at every call. Its own values wait four minutes for a server that is not there.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",  # seconds
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",  # seconds a try, so about ten in all
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
UPLOAD_SECONDS = "120"  # MLFLOW_HTTP_REQUEST_TIMEOUT while a file travels
CHATTER = ("mlflow", "alembic", "urllib3.connectionpool")

# The columns of a SQLite store that hold absolute places of artifacts.
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        uri: MLflow's tracking URI, credentials included: `masked` before anyone sees it.
        client: talks to it.
        experiment_id: the experiment that all runs of this project belong to.
    """

    uri: str
    client: "MlflowClient"
    experiment_id: str


def open_store() -> Store:
    """Open the store that `tracking_uri` names; a local one is made, or follows a moved folder.

    Raises:
        StoreError: it cannot be opened; one line with the address, the reason and the remedy.
        ModuleNotFoundError: MLflow is not installed.
    """
    import_mlflow()
    uri = tracking_uri()
    try:
        with quiet():
            return _open(uri)
    except Exception as error:
        raise StoreError(
            f"MLflow store {masked(uri)} cannot be opened: {reason(error)}; {_remedy(uri)}"
        ) from error


def import_mlflow() -> None:
    """Import MLflow so that it neither talks nor waits for long, unless the user set it to.

    Raises:
        ModuleNotFoundError: MLflow is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with quiet():
        import mlflow  # noqa: F401
    if os.environ["MLFLOW_LOGGING_LEVEL"] == ENVIRONMENT["MLFLOW_LOGGING_LEVEL"]:
        for logger in CHATTER:
            logging.getLogger(logger).setLevel(logging.CRITICAL)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings of what runs inside from the user, who can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def uploading() -> Iterator[None]:
    """Give each request the time a file may take, unless the user has set a time."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name)
    if before == ENVIRONMENT[name]:
        os.environ[name] = UPLOAD_SECONDS
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file at the repository's root.

    A relative SQLite path counts from the root too: a temporary experiment's folder, the current
    one under DVC, is deleted with all it holds.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{DATABASE}"
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a SQLite URI's file; None for any other URI."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?!:memory:)([^?]+)", uri)
    return None if match is None else project_root() / match[1]


def masked(text: str) -> str:
    """The text with the user names, passwords and query strings of its addresses hidden."""
    text = re.sub(r"://[^/\s@]+@", "://***@", text)
    return re.sub(r"(://[^\s?]*\?)[^\s'\")]+", r"\1***", text)


def reason(error: BaseException) -> str:
    """Why it failed, in one line: the operating system's word where there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            where = f" ({cause.filename})" if cause.filename else ""
            return masked(f"{cause.strerror.lower()}{where}")
        if isinstance(cause, TimeoutError | sqlite3.Error):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    words = " ".join(str(error).split()).partition(" Response body:")[0] or type(error).__name__
    return masked(words if len(words) <= 200 else words[:199] + "…")


def _remedy(uri: str) -> str:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return "mend it or move it away, or set MLFLOW_TRACKING_URI to another store"
    if uri.startswith(("http://", "https://")):
        return "start the server, or correct or unset MLFLOW_TRACKING_URI"
    return "correct or unset MLFLOW_TRACKING_URI"


def _open(uri: str) -> Store:
    database = sqlite_file(uri)
    if database is None:
        _knock(uri)
        return _connect(uri, None if "://" not in uri or uri.startswith("http") else _artifacts())
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
        if not database.exists() or database.stat().st_size == 0:
            _create(database)
        _relocate(database)
        return _connect(uri, database.parent / ARTIFACTS)


def _artifacts() -> Path:
    """Where the artifacts of a database server go that has no MLflow server before it."""
    return project_root() / ARTIFACTS


def _knock(uri: str) -> None:
    """Try a database server once, where MLflow would try ten times in 100 seconds."""
    if re.match(r"(postgresql|mysql)\b", uri):
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": 5})
        engine.connect().close()
        engine.dispose()


def _create(database: Path) -> None:
    """Make an empty database: whole or not at all, since a half-made one is of no use to MLflow."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with replacing(database) as temporary:
        address, artifacts = f"sqlite:///{temporary}", str(database.parent / ARTIFACTS)
        store = SqlAlchemyStore(address, artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()


def _relocate(database: Path) -> None:
    """Let the artifacts' absolute places follow a repository that was moved, copied or mounted.

    MLflow stores each place as it was when the run was made. An experiment made in the user
    interface names a place only its server can write; new runs must not go there.
    """
    place = str(database.parent / ARTIFACTS)
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        row = connection.execute(
            "SELECT artifact_location FROM experiments WHERE name = ?", (_experiment(),)
        ).fetchone()
        before = row[0] if row else place
        if before.startswith("mlflow-artifacts:"):
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE name = ?",
                (place, _experiment()),
            )
        elif before != place and before.startswith("/") and Path(before).name == ARTIFACTS:
            for table, column in LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = :place || substr({column}, :size + 1) "  # noqa: S608
                    f"WHERE {column} = :before OR substr({column}, 1, :size + 1) = :before || '/'",
                    {"place": place, "before": before, "size": len(before)},
                )


def _experiment() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def _connect(uri: str, artifacts: Path | None) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

    try:
        client = MlflowClient(uri)
    except UnsupportedModelRegistryStoreURIException:
        raise ValueError(
            "expected sqlite:///FILE, http://SERVER, https://SERVER or a database's address"
        ) from None
    name = _experiment()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Without this tag MLflow shows pages for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            client.create_experiment(name, None if artifacts is None else str(artifacts), tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise LookupError(f"it shows no experiment {name}")
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return Store(uri, client, experiment.experiment_id)
