"""MLflow runs, as the store tells them; the only file of this room that knows the room `runs`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from deepsort_reid.core.errors import StoreError
from deepsort_reid.runs.mlflow.failures import explained
from deepsort_reid.runs.mlflow.store import (
    Store,
    local_path,
    open_store,
    sqlite_file,
    tracking_uri,
    where_to_look,
)
from deepsort_reid.runs.provenance import CHECKPOINT_MD5, RUN_KEY

HEXADECIMAL = frozenset("0123456789abcdef")
T = TypeVar("T")


@dataclass(frozen=True)
class RecordedRun:
    """An MLflow run, as far as the store has told."""

    run_id: str
    name: str
    status: str
    started: str  # 2026-11-24 15:20
    experiment_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]

    @property
    def key(self) -> str:
        """The key by which reports name the run; its id if it is older than keys."""
        return self.tags.get(RUN_KEY, self.run_id)

    @property
    def checkpoint_md5(self) -> str | None:
        """The MD5 of the checkpoint that it made."""
        return self.tags.get(CHECKPOINT_MD5)

    @property
    def page(self) -> str:
        """The command, or the address, that shows it."""
        return where_to_look(tracking_uri(), self.experiment_id, self.run_id)

    @classmethod
    def of_mlflow(cls, run: Any) -> "RecordedRun":
        """What matters of a `mlflow.entities.Run`."""
        started = datetime.fromtimestamp(run.info.start_time / 1000).astimezone()
        return cls(
            run_id=run.info.run_id,
            name=run.info.run_name,
            status=run.info.status,
            started=f"{started:%Y-%m-%d %H:%M}",
            experiment_id=str(run.info.experiment_id),
            tags=dict(run.data.tags),
            params=dict(run.data.params),
        )


class RunSearch:
    """Searches the MLflow store, which is opened once, at the first question.

    Attributes:
        failure: why the store does not answer; None as long as it does.
    """

    def __init__(self) -> None:
        """Ask nothing yet."""
        self.failure: str | None = None
        self._store: Store | None = None

    def named(self, text: str) -> list[RecordedRun]:
        """The runs with this id, key or name, or of the DVC experiment with this name."""
        quote = '"' if "'" in text else "'"
        if quote in text or "\\" in text:  # MLflow's conditions have no way to quote them
            return []
        conditions = [
            f"{name} = {quote}{text}{quote}"
            for name in (f"tags.{RUN_KEY}", "attributes.run_name", "tags.dvc_experiment")
        ]
        if is_hexadecimal(text):
            conditions.insert(0, f"attributes.run_id = '{text}'")
        runs = [run for condition in conditions for run in self._search(condition)]
        return list({run.run_id: run for run in runs}.values())

    def of_checkpoint(self, *, key: str | None, md5: str | None) -> RecordedRun | None:
        """The run with this key or id, or the newest that made a checkpoint of this MD5."""
        conditions = []
        if key and is_hexadecimal(key):
            conditions += [f"tags.{RUN_KEY} = '{key}'", f"attributes.run_id = '{key}'"]
        if md5:
            conditions.append(f"tags.{CHECKPOINT_MD5} = '{md5}'")
        found = (run for condition in conditions for run in self._search(condition))
        return next(found, None)

    def artifact(self, run: RecordedRun, path: str) -> Path | None:
        """Where a run's artifact lies on this machine; None if it lies elsewhere or nowhere."""
        uri = self._ask(lambda store: str(store.client.get_run(run.run_id).info.artifact_uri), "")
        folder = local_path(uri)
        return folder / path if folder and (folder / path).is_file() else None

    def _search(self, condition: str) -> list[RecordedRun]:
        """The runs that meet a condition in MLflow's words, the newest first."""
        return self._ask(
            lambda store: [
                RecordedRun.of_mlflow(run)
                for run in store.client.search_runs([store.experiment_id], condition)
            ],
            [],
        )

    def _ask(self, question: Callable[[Store], T], otherwise: T) -> T:
        """Ask the store; after a failure nothing more is asked."""
        if self.failure is not None:
            return otherwise
        try:
            self._store = self._store or open_existing()
            return question(self._store)
        except ModuleNotFoundError as error:
            self.failure = f"{error.name} is not installed"
        except StoreError as error:
            self.failure = str(error)
        except Exception as error:  # a store fails in many ways, and the rest is told without it
            self.failure = f"the MLflow store does not answer: {explained(error, tracking_uri())}"
        return otherwise


def open_existing() -> Store:
    """Open the MLflow store, but make none.

    Raises:
        StoreError: there is none, or it cannot be opened.
        ModuleNotFoundError: MLflow is not installed.
    """
    file = sqlite_file(tracking_uri())
    if file is not None and not (file.exists() and file.stat().st_size):
        raise StoreError(f"there is no MLflow store {file}")
    return open_store()


def is_hexadecimal(text: str) -> bool:
    """Whether a text is made of the digits of which ids, keys and checksums are made."""
    return bool(text) and set(text) <= HEXADECIMAL
