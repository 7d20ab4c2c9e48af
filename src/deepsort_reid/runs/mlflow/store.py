"""Finds the one MLflow store of the repository, and makes, moves and opens it."""

import logging
import os
import re
import shlex
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.files import remove_stale, temporary
from deepsort_reid.core.project import project_root
from deepsort_reid.core.secrets import masked, without_secrets
from deepsort_reid.runs.mlflow.failures import reason, remedy

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
SCHEMES = ("http", "https", "databricks", "sqlite", "postgresql", "mysql", "mssql")
EXPECTED = "expected sqlite:///FILE, http://SERVER, https://SERVER or a database's address"

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


def open_store(uri: str | None = None) -> Store:
    """Open a store, by default the one that `tracking_uri` names.

    A local one is made if there is none, or follows a moved folder.

    Raises:
        StoreError: it cannot be opened; one line with the address, the reason and the remedy.
        ModuleNotFoundError: MLflow is not installed.
    """
    import_mlflow()
    uri = uri or tracking_uri()
    try:
        with quiet():
            return _open(uri)
    except Exception as error:
        advice = remedy(error, uri) or _remedy(uri)
        raise StoreError(
            f"MLflow store {masked(uri)} cannot be opened: {reason(error)}; {advice}"
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


class Shared(AbstractContextManager[None]):
    """A change of this process that several threads may want at once.

    The first to enter makes it, and the last to leave undoes it.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[None]]):
        """Share a change; nothing is changed yet."""
        self.change, self.users, self.lock = change, 0, threading.Lock()

    def __enter__(self) -> None:
        """Make the change, unless it is made."""
        with self.lock:
            if self.users == 0:
                self.made = self.change()
                self.made.__enter__()
            self.users += 1

    def __exit__(self, *_: object) -> None:
        """Undo the change, unless another still wants it."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.made.__exit__(None, None, None)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Ignore warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def environment(name: str, value: str, *, instead_of: str | None = None) -> Iterator[None]:
    """Set a variable, or only in the place of this value, for as long as the block runs."""
    before = os.environ.get(name)
    if instead_of in (None, before):
        os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


TIMEOUT, RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_QUIET = Shared(no_warnings)
_UPLOADING = Shared(lambda: environment(TIMEOUT, UPLOAD_SECONDS, instead_of=ENVIRONMENT[TIMEOUT]))
_ONCE = Shared(lambda: environment(RETRIES, "0"))


def quiet() -> Shared:
    """Keep the warnings of what runs inside from the user, who can do nothing about them."""
    return _QUIET


def uploading() -> Shared:
    """Give each request the time a file may take, unless the user has set a time."""
    return _UPLOADING


def once() -> Shared:
    """Send each request once: MLflow repeats one that made something, and makes it twice."""
    return _ONCE


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI` if set, else a SQLite file at the repository's root.

    A relative SQLite path counts from the root too: a temporary experiment's folder, the current
    one under DVC, is deleted with all it holds.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or f"sqlite:///{DATABASE}"
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{quoted(file)}"


def quoted(path: Path) -> str:
    """A path as it stands in a URL, and where MLflow says where artifacts lie.

    Quotes are spelled out too: MLflow writes the place of artifacts into a line of SQL.
    """
    return re.sub(r"""[%?#'":;\\]""", lambda found: f"%{ord(found[0]):02X}", str(path))


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of a SQLite URI's file; None for any other URI."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?!:memory:)([^?]+)", uri)
    return None if match is None else project_root() / unquote(match[1])


def local_path(uri: str) -> Path | None:
    """The folder of artifacts at an address; None if they are not on this machine's disks."""
    path = Path(unquote(uri.removeprefix("file://")))
    return path if path.is_absolute() and path.is_dir() else None


def for_mlflow(uri: str) -> str:
    """The address as MLflow's client gets it.

    Without a driver's name in it, MLflow makes the folder of a SQLite file, under the name that the
    URL has: `my%20repo` beside `my repo`.
    """
    return re.sub("^sqlite:", "sqlite+pysqlite:", uri)


def check_address(uri: str) -> None:
    """Refuse an address at which there can be no store, without trying it.

    Raises:
        StoreError: one line with the address, what was expected and the remedy.
    """
    scheme = re.match(r"[^:]*", uri)
    plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
    if scheme is None or scheme[0].partition("+")[0] not in {*SCHEMES, *plugins}:
        raise StoreError(f"MLflow store {masked(uri)} cannot be opened: {EXPECTED}; {_remedy(uri)}")


def label(uri: str) -> str:
    """The address by which a store is known again.

    It holds no credentials, and a file below the repository's root is named from there, since both
    may change while the store stays the same.
    """
    file = sqlite_file(uri)
    if file is not None and file.is_relative_to(project_root()):
        return f"sqlite:///{file.relative_to(project_root())}"
    return without_secrets(uri).rstrip("/")


def where_to_look(uri: str, experiment_id: str | None = None, run_id: str | None = None) -> str:
    """The command, or the address, that shows a run, or all of a store's runs."""
    page = "/#/experiments" if run_id is None else f"/#/experiments/{experiment_id}/runs/{run_id}"
    page += "?workflowType=machine_learning"  # else MLflow shows pages for language models
    if uri.startswith(("http://", "https://")):
        return masked(uri.rstrip("/")) + page
    is_default = sqlite_file(uri) == project_root() / DATABASE
    store = "" if is_default else f" --backend-store-uri {shlex.quote(masked(uri))}"
    return f"uv run mlflow ui{store}, then http://127.0.0.1:5000{page}"


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
        # A database server has no MLflow server before it that could keep artifacts.
        has_server = "://" not in uri or uri.startswith("http")
        return _connect(uri, None if has_server else _place(project_root()))
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
        if not database.exists() or database.stat().st_size == 0:
            _create(database)
        remove_stale(making(database))
        _relocate(database)
        return _connect(uri, _place(database.parent))


def _place(folder: Path) -> str:
    """Where artifacts go that lie in a folder, as MLflow stores it."""
    return quoted(folder / ARTIFACTS)


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

    # In a folder, since SQLite has a file of its own beside it until it is done.
    with temporary(making(database)) as folder:
        folder.mkdir()
        new = folder / database.name
        address = for_mlflow(f"sqlite:///{quoted(new)}")
        store = SqlAlchemyStore(address, _place(database.parent))  # type: ignore[no-untyped-call]
        store.engine.dispose()
        new.replace(database)


def making(database: Path) -> Path:
    """What the folder is named after in which a database is made."""
    return database.with_name(f"{database.stem}-new")


def _relocate(database: Path) -> None:
    """Let the artifacts' absolute places follow a repository that was moved, copied or mounted.

    MLflow stores each place as it was when the run was made. An experiment made in the user
    interface names a place only its server can write; new runs must not go there.
    """
    place = _place(database.parent)
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


def _connect(uri: str, place: str | None) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException

    try:
        client = MlflowClient(for_mlflow(uri))
    except UnsupportedModelRegistryStoreURIException:
        raise ValueError(EXPECTED) from None
    name = _experiment()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Without this tag MLflow shows pages for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            client.create_experiment(name, place, tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise LookupError(f"it shows no experiment {name}")
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return Store(uri, client, experiment.experiment_id)
