"""Makes an MLflow run equal to a run's folder."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepsort_reid.core.secrets import masked
from deepsort_reid.runs.folder import RunFolder, remove_torn_uploads, share_with_cache, state_of
from deepsort_reid.runs.mlflow import registry
from deepsort_reid.runs.mlflow.failures import explained, is_refusal, reason
from deepsort_reid.runs.mlflow.store import (
    Store,
    import_mlflow,
    label,
    local_path,
    once,
    open_store,
    quiet,
    sqlite_file,
    uploading,
)
from deepsort_reid.runs.points import Point, Points
from deepsort_reid.runs.provenance import PARENT_KEY, RUN_KEY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

logger = logging.getLogger(__name__)

BATCH = 100  # parameters or tags a call; MLflow's limit
LARGEST = 1000  # points a call; MLflow's limit
PARENT = "mlflow.parentRunId"  # the tag by which MLflow's pages show a run below another
PARENT_SECONDS = 10.0  # for another process that makes the parent's run


class FailedError(Exception):
    """The store does not answer, or fails; it may do later what was asked."""

    def __init__(self, why: str, what: str):
        """State why, and what of the store has failed: its name, or its name and `for files`."""
        super().__init__(why)
        self.what = what


class NoRunError(Exception):
    """The store answers that there is no run to add to; the text says of which."""


class Mirror:
    """Makes one MLflow run equal to a run's folder; it can be called at any time, and again.

    It asks what the store has, and writes what is missing. So it does not matter whether a call
    that has failed was carried out all the same, nor who has written what before.

    Attributes:
        folder: the run's.
        refused: how many records and files the store will never take, by kind.
    """

    def __init__(self, folder: RunFolder, uri: str):
        """Connect to nothing yet.

        Args:
            folder: the run's; not used by any other thread.
            uri: the store's address.
        """
        self.folder, self.uri = folder, uri
        self.where = f"MLflow store {masked(uri)}"
        self.refused: Counter[str] = Counter()
        self.equal: dict[str, list[int]] = folder.mlflow.get("mirrored", {})  # states of records
        self.called_at: float | None = None  # when the store was last asked, while records go
        self.sent: dict[str, set[tuple[int, int]]] = {}  # curve -> (step, time) in the store

    def __call__(self) -> None:
        """Send all that is missing: the records first, then the files.

        Raises:
            FailedError: the store fails.
            NoRunError: there is no such run, or it was deleted.
        """
        self.records()
        self.send_files()

    def records(self) -> None:
        """Send parameters, tags, datasets, points and the run's status, but no files.

        Raises:
            FailedError: the store fails.
            NoRunError: there is no such run, or it was deleted.
        """
        self.folder.end_if_dead()
        now, self.called_at = self.folder.state(), time.monotonic()
        senders: dict[str, Callable[[Run], None]] = {
            "params.json": self._send_params,
            "tags.json": self._send_tags,
            "inputs.json": self._send_inputs,
            "metrics.csv": self._send_metrics,
            "system.csv": lambda run: self._send_points(run, self.folder.system),
            "run.json": self._send_status,
        }
        try:
            with self._answering():
                run = self._run()
                for name, send in senders.items():
                    if now.get(name) != self.equal.get(name):
                        send(run)
        finally:
            self.called_at = None
        self.equal = now

    def waits(self, seconds: float) -> bool:
        """Whether the store is that late with an answer about records; any thread may ask."""
        called_at = self.called_at
        return called_at is not None and time.monotonic() - called_at >= seconds

    def send_files(self) -> None:
        """Send artifacts and the model, promote it, and mark the folder; the records were sent.

        Raises:
            FailedError: the store fails.
            NoRunError: there is no such run, or it was deleted.
        """
        if self.folder.mlflow.get("mirrored") != self.equal:
            self.folder.merge("mlflow.json", {"mirrored": self.equal})
        if not self.folder.pending():
            return
        with self._answering(", for files,"):
            run, model = self._run(), self.folder.path / "model"
            run_id = run.info.run_id
            for path in self.folder.artifacts():
                self._send_file("artifact", path, lambda path: self._upload(run_id, path))
            self._send_file("model", model, lambda path: self._add_model(run_id, path))
            self._send_file(
                "promotion",
                self.folder.path / "promote",
                lambda path: registry.promote(self.client, run_id, path),
            )
            if place := local_path(str(run.info.artifact_uri)):
                remove_torn_uploads(place)
                share_with_cache(place)

    @cached_property
    def store(self) -> Store:
        """The store, once it could be opened."""
        return open_store(self.uri)

    @property
    def client(self) -> "MlflowClient":
        """What talks to the store; got anew for every call."""
        if self.called_at is not None:
            self.called_at = time.monotonic()
        return self.store.client

    @contextmanager
    def _answering(self, what: str = "") -> Iterator[None]:
        """Let whatever goes wrong be the store's failure, after which it is asked anew."""
        try:
            import_mlflow()
            with quiet():
                yield
        except NoRunError:
            raise
        except Exception as error:
            self.sent.clear()
            raise FailedError(explained(error, self.uri), self.where + what) from error

    # The run

    def _run(self) -> "Run":
        """The MLflow run as it is now; it is found, or made, if the folder does not know it."""
        from mlflow.exceptions import MlflowException

        known, told, name = self.folder.mlflow, self.folder.read("run.json"), self.folder.key
        if known.get("store") not in (None, label(self.uri)):
            raise LookupError(f"its run is in {known['store']}")
        if run_id := known.get("run_id"):
            if run := self._get(run_id):
                return run
            raise NoRunError(f"run {known['run_name']} was deleted in MLflow")
        is_mine, file = "status" in told, sqlite_file(self.uri)
        if not is_mine and file is not None and not file.exists():
            raise NoRunError(f"run {name} is not in MLflow")  # and no store is made to find out
        run = self._find(told.get("run_id"))
        if run is None and not is_mine:
            raise NoRunError(f"run {name} is not in MLflow")
        try:
            run = run or self._create(told)
        except MlflowException as error:
            if is_refusal(error):
                raise NoRunError(f"run {name} was refused ({reason(error)})") from error
            raise
        info, store = run.info, label(self.uri)
        bound = {"store": store, "run_id": info.run_id, "run_name": info.run_name}
        self.folder.merge("mlflow.json", {**bound, "experiment_id": str(info.experiment_id)})
        return run

    def _get(self, run_id: str) -> "Run | None":
        """The run with this name; None if there is none, or it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if is_refusal(error):
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _find(self, run_id: str | None) -> "Run | None":
        """The run with this name, or else with this key."""
        run = self._get(run_id) if run_id else None
        return run or next(iter(self._runs()), None)

    def _runs(self) -> "list[Run]":
        """All runs with this key: mostly none or one."""
        condition = f"tags.{RUN_KEY} = '{self.folder.key}'"
        return list(self.client.search_runs([self.store.experiment_id], filter_string=condition))

    def _create(self, told: dict[str, Any]) -> "Run":
        with once():
            return self.client.create_run(
                self.store.experiment_id,
                start_time=told["started"],
                tags={**self.folder.read("tags.json"), RUN_KEY: self.folder.key},
                run_name=told["name"],
            )

    def _parent(self, key: str | None) -> str | None:
        """MLflow's name for the run that this one is a part of, which is made if it is not there.

        Args:
            key: of that run; None if this one stands alone.

        Returns:
            None also where that run was deleted.
        """
        if key is None:
            return None
        folder = RunFolder(key, self.folder.path.parent)
        if folder.mlflow.get("store") == label(self.uri):
            return str(folder.mlflow["run_id"])
        try:
            with folder.mirroring(PARENT_SECONDS):
                return str(Mirror(folder, self.uri)._run().info.run_id)
        except NoRunError:
            return None

    # Records

    def _send_params(self, run: "Run") -> None:
        from mlflow.entities import Param

        values = self.folder.read("params.json")
        params = [Param(name, values[name]) for name in values if name not in run.data.params]
        self._send("params", params, BATCH, lambda some: self._log(run, params=some))

    def _send_tags(self, run: "Run") -> None:
        from mlflow.entities import RunTag

        values = self.folder.read("tags.json")
        if parent := self._parent(values.get(PARENT_KEY)):
            values[PARENT] = parent
        tags = [RunTag(n, text) for n, text in values.items() if run.data.tags.get(n) != text]
        self._send("tags", tags, BATCH, lambda some: self._log(run, tags=some))

    def _send_inputs(self, run: "Run") -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        known = run.inputs.dataset_inputs if run.inputs else []
        there = {(entry.dataset.name, entry.dataset.digest) for entry in known}
        inputs = []
        for context, told in self.folder.read("inputs.json").items():
            is_web = told["source"].startswith(("http://", "https://"))
            dataset = Dataset(
                name=told["name"],
                digest=told["digest"],
                source_type="http" if is_web else "local",
                source=json.dumps({"url" if is_web else "uri": told["source"]}),
                profile=json.dumps(told["profile"]),
            )
            if (dataset.name, dataset.digest) not in there:
                inputs.append(DatasetInput(dataset, [InputTag(registry.CONTEXT, context)]))
        run_id = run.info.run_id
        self._send("dataset", inputs, 1, lambda some: self.client.log_inputs(run_id, some))

    def _send_metrics(self, run: "Run") -> None:
        self._send_points(run, self.folder.metrics)
        self._send_model_points(run)

    def _send_points(self, run: "Run", table: Points) -> None:
        """Send the points that are missing, each with the time at which it was measured."""
        points = table.read()
        for name in {point.name for point in points} - self.sent.keys():
            has_any = name in run.data.metrics
            history = self.client.get_metric_history(run.info.run_id, name) if has_any else []
            self.sent[name] = {(there.step, there.timestamp) for there in history}
        missing = [
            point for point in points if (point.step or 0, point.time) not in self.sent[point.name]
        ]
        self._send_metrics_of(run, [as_metric(point) for point in missing])
        for point in missing:
            self.sent[point.name].add((point.step or 0, point.time))

    def _send_model_points(self, run: "Run") -> None:
        """Send the numbers of the finished network to its model too, once there is one."""
        points = [point for point in self.folder.metrics.read() if point.step is None]
        datasets = self.folder.read("inputs.json")
        lacking = registry.lacking_metrics(self.client, run, points, datasets)
        self._send_metrics_of(run, lacking)

    def _send_metrics_of(self, run: "Run", metrics: "Sequence[Metric]") -> None:
        self._send("metrics", metrics, LARGEST, lambda some: self._log(run, metrics=some))

    def _send_status(self, run: "Run") -> None:
        told, run_id = self.folder.read("run.json"), run.info.run_id
        status, ended = told.get("status"), told.get("ended")
        if status == "RUNNING" and run.info.status != status:
            self.client.update_run(run_id, status)
        if status in (None, "RUNNING"):
            return
        if (run.info.status, run.info.end_time) != (status, ended):
            self.client.set_terminated(run_id, status, ended)
        # A slow server may have made the run once more, after it was given up and asked again.
        for twin in self._runs():
            if twin.info.run_id != run_id:
                self.client.delete_run(twin.info.run_id)

    def _log(self, run: "Run", **records: Any) -> None:
        self.client.log_batch(run.info.run_id, **records)

    # Sending, and being refused

    def _send(
        self, kind: str, items: Sequence[Any], size: int, call: Callable[[Sequence[Any]], object]
    ) -> None:
        """Send items, so many a call, and leave out those that the store refuses."""
        from mlflow.exceptions import MlflowException

        for first in range(0, len(items), size):
            some = items[first : first + size]
            try:
                call(some)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                if len(some) > 1:  # not all of them are at fault
                    self._send(kind, some, len(some) // 2, call)
                else:
                    self._refuse(kind, reason(error))

    def _send_file(self, kind: str, path: Path, send: Callable[[Path], object]) -> None:
        """Send a file or folder, and drop it, unless it is missing."""
        seen = state_of(path)
        if not seen:
            return
        with uploading():
            self._send(kind, [path], 1, lambda some: send(some[0]))
        self.folder.drop(path, seen)

    def _upload(self, run_id: str, path: Path) -> None:
        place = path.parent.relative_to(self.folder.path / "artifacts")
        self.client.log_artifact(run_id, str(path), None if place == Path() else str(place))

    def _add_model(self, run_id: str, path: Path) -> None:
        registry.add(self.client, run_id, path)
        self._send_model_points(self.client.get_run(run_id))

    def _refuse(self, kind: str, why: str) -> None:
        tell = logger.debug if self.refused else logger.warning
        tell("%s refuses %s: %s", self.where, kind, why)
        self.refused[kind] += 1


def as_metric(point: Point) -> "Metric":
    """A point as MLflow has it."""
    from mlflow.entities import Metric

    return Metric(point.name, point.value, point.time, point.step or 0)
