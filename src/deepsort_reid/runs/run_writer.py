"""Writes entries of a journal to its MLflow run, each kind by a method of its own."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.runs.journal import Binding, Entry, Journal, may_still_arrive
from deepsort_reid.runs.provenance import DATA_DIGEST
from deepsort_reid.runs.store import (
    Store,
    import_mlflow,
    label,
    once,
    open_store,
    quiet,
    reason,
    uploading,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

MODEL = "deepsort-reid"  # the registered model
BEST = "best"  # the alias of its best version
RUN_KEY = "run_key"  # the tag by which a run is found that was made without our hearing of it
FILES = frozenset({"artifact", "model", "promotion"})  # kinds that need the artifact store
POINTS = frozenset({"metrics", "system"})  # kinds of which many go in one call
BATCH = 100  # parameters or tags a call; MLflow's limit
LARGEST = 1000  # points a call; MLflow's limit

# What MLflow answers when the entry is at fault, and sending it again would not help.
REFUSALS = frozenset({
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
})  # fmt: skip


class FailedError(Exception):
    """The store did not take an entry, and may take it later."""


class RefusedError(Exception):
    """The store has answered that it will never take an entry."""


class RunWriter:
    """Writes to one run through a client: its status changes only when an entry says so.

    Writing an entry twice leaves what writing it once does, since a time limit may pass, or the
    process be killed, after the store has taken it.
    """

    def __init__(self, journal: Journal, uri: str, open_store: Callable[[str], Store] = open_store):
        """Connect to nothing yet.

        Args:
            journal: the run's; it learns which run that is.
            uri: the store's address.
            open_store: opens the store, at the first entry, or later if it fails then.
        """
        self.journal, self.uri, self.open_store = journal, uri, open_store
        self.model_id: str | None = None  # of the run's model, once it has one

    @cached_property
    def store(self) -> Store:
        """The store.

        Raises:
            FailedError: the run lies in another one.
        """
        binding = self.journal.binding
        if binding is not None and binding.store != label(self.uri):
            raise FailedError(f"its run is in {binding.store}")
        return self.open_store(self.uri)

    @property
    def client(self) -> "MlflowClient":
        """What talks to the store."""
        return self.store.client

    @property
    def run_id(self) -> str:
        """MLflow's name for the run.

        Raises:
            RefusedError: the store would not have a run.
        """
        if self.journal.binding is None:
            raise RefusedError("there is no run to add it to")
        return self.journal.binding.run_id

    def __call__(self, entries: Sequence[Entry]) -> None:
        """Write an entry, or several points of curves.

        Raises:
            RefusedError: the store will never take one of them.
            FailedError: the store may take them later.
        """
        import_mlflow()
        from mlflow.exceptions import MlflowException

        kind = entries[0].kind
        try:
            with quiet():
                if kind in POINTS:
                    self.write_points(entries)
                else:
                    getattr(self, f"write_{kind}")(entries[0])
        except (RefusedError, FailedError):
            raise
        except Exception as error:
            refused = isinstance(error, MlflowException) and is_refusal(error)
            raise (RefusedError if refused else FailedError)(reason(error)) from error

    def find(self, key: str, run_id: str | None) -> "Run | None":
        """The run with this name or else this key; None if there is none, or it was deleted.

        Raises:
            FailedError, StoreError, mlflow.exceptions.MlflowException: the store does not answer.
        """
        from mlflow.exceptions import MlflowException

        if run_id is not None:
            try:
                run = self.client.get_run(run_id)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
            else:
                if run.info.lifecycle_stage == "active":
                    return run
        return next(iter(self._runs(key)), None)

    def bind(self, run: "Run") -> None:
        """Let the journal know which run it belongs to."""
        info = run.info
        self.journal.bind(
            Binding(label(self.uri), info.run_id, info.run_name, str(info.experiment_id))
        )

    def read(self) -> "Run":
        """The run as it is now.

        Raises:
            RefusedError: it was deleted.
            mlflow.exceptions.MlflowException: the store does not answer, or knows no such run.
        """
        run = self.client.get_run(self.run_id)
        if run.info.lifecycle_stage == "deleted":
            raise RefusedError("the run was deleted")
        models = run.outputs.model_outputs if run.outputs else []
        self.model_id = models[-1].model_id if models else None
        return run

    def write_begin(self, entry: Entry) -> None:
        """Make the run, unless an earlier attempt did."""
        if self.journal.binding is not None:
            return
        key = entry.payload["key"]
        run = self.find(key, None)
        if run is None:
            with once():
                run = self.client.create_run(
                    self.store.experiment_id,
                    start_time=entry.time,
                    tags={**entry.payload["tags"], RUN_KEY: key},
                    run_name=entry.payload["name"],
                )
        self.bind(run)

    def write_attach(self, entry: Entry) -> None:
        """Find the run, which another journal has made."""
        if self.journal.binding is not None:
            return
        key = entry.payload["key"]
        run = self.find(key, entry.payload["run_id"])
        if run is None:
            if may_still_arrive(key, besides=self.journal):
                raise FailedError("what it adds to has not arrived")
            raise RefusedError("no such run")
        self.bind(run)

    def write_restart(self, _: Entry) -> None:
        """Let the run go on."""
        self.client.update_run(self.run_id, status="RUNNING")

    def write_params(self, entry: Entry) -> None:
        """Add parameters."""
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in entry.payload["values"].items()]
        for first in range(0, len(params), BATCH):
            self.client.log_batch(self.run_id, params=params[first : first + BATCH])

    def write_points(self, entries: Sequence[Entry]) -> None:
        """Add points to curves, each with the time at which it was measured.

        What has no step, and is not of the machine, is of the model, once there is one.
        """
        if self.model_id is None and any(is_final(entry) for entry in entries):
            self.read()
        self.client.log_batch(
            self.run_id, metrics=[point for entry in entries for point in self._points(entry)]
        )

    def write_tags(self, entry: Entry) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        tags = [RunTag(*item) for item in entry.payload["values"].items()]
        self.client.log_batch(self.run_id, tags=tags)

    def write_artifact(self, entry: Entry) -> None:
        """Copy a file, or a folder's files, to the run's artifacts."""
        path = self._file(entry)
        add = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with uploading():
            add(self.run_id, str(path), entry.payload["folder"] or None)

    def write_dataset(self, entry: Entry) -> None:
        """Add a dataset to the run's inputs."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = entry.payload["source"]
        is_web = source.startswith(("http://", "https://"))
        dataset = Dataset(
            name=entry.payload["name"],
            digest=entry.payload["digest"],
            source_type="http" if is_web else "local",
            source=json.dumps({"url" if is_web else "uri": source}),
            profile=json.dumps(entry.payload["profile"]),
        )
        tags = [InputTag("mlflow.data.context", entry.payload["context"])]
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags)])

    def write_model(self, entry: Entry) -> None:
        """Add a model that lies in a folder to the run, and register it."""
        folder, run = self._file(entry), self.read()
        model_id = self.model_id or self._create_model(run)
        with uploading():
            self._upload_model(folder, model_id)
        self.client.finalize_logged_model(model_id, "READY")
        if all(version.name != MODEL for version in self._versions("run_id", self.run_id)):
            self._register(model_id, run.info.run_name)
        self.model_id = model_id

    def write_promotion(self, entry: Entry) -> None:
        """Point the alias to the version with the highest metric among runs on the same data."""
        metric, run = entry.payload["metric"], self.read()
        if self.model_id is not None and metric in run.data.metrics:
            self._give_to_model(metric, self.model_id)
        versions = {version.run_id: version.version for version in self._versions("name", MODEL)}
        ranking = self.client.search_runs(
            [run.info.experiment_id],
            filter_string=f"tags.{DATA_DIGEST} = '{run.data.tags.get(DATA_DIGEST, '')}'",
            order_by=[f"metrics.`{metric}` DESC", "attributes.start_time ASC"],
        )
        if self.run_id in versions and metric in run.data.metrics:
            value = f"{run.data.metrics[metric]:.4f}"
            self.client.set_model_version_tag(MODEL, versions[self.run_id], metric, value)
        measured = [ranked for ranked in ranking if metric in ranked.data.metrics]
        best = next((r.info.run_id for r in measured if r.info.run_id in versions), None)
        if best is not None:
            self.client.set_registered_model_alias(MODEL, BEST, versions[best])

    def write_end(self, entry: Entry) -> None:
        """End the run, at a time in milliseconds since 1970."""
        run_id, begun = self.run_id, self.journal.begun
        self.client.set_terminated(run_id, entry.payload["status"], entry.payload["end_time"])
        # A slow server may have made the run once more, after it had been given up and asked again.
        for run in self._runs(begun.payload["key"]) if begun else ():
            if run.info.run_id != run_id:
                self.client.delete_run(run.info.run_id)

    def _runs(self, key: str) -> "list[Run]":
        experiments, name = [self.store.experiment_id], f"tags.{RUN_KEY} = '{key}'"
        return list(self.client.search_runs(experiments, filter_string=name))

    def _file(self, entry: Entry) -> Path:
        path = self.journal.folder / str(entry.payload["path"])
        if not path.exists():
            raise RefusedError(f"{path} is gone")
        return path

    def _points(self, entry: Entry) -> "list[Metric]":
        from mlflow.entities import Metric

        step, model_id = entry.payload["step"] or 0, self.model_id if is_final(entry) else None
        return [
            Metric(name, value, entry.time, step, model_id=model_id)
            for name, value in entry.payload["values"].items()
        ]

    def _create_model(self, run: "Run") -> str:
        from mlflow.entities import LoggedModelOutput

        # An attempt that was cut short may have made it already.
        models = self.client.search_logged_models(
            [run.info.experiment_id], filter_string=f"source_run_id = '{self.run_id}'"
        )
        with once():
            model = next(iter(models), None) or self.client.create_logged_model(
                run.info.experiment_id,
                name="model",
                source_run_id=self.run_id,
                params=run.data.params,
            )
            self.client.log_outputs(self.run_id, models=[LoggedModelOutput(model.model_id, step=0)])
        return model.model_id

    def _give_to_model(self, metric: str, model_id: str) -> None:
        """Let the model have a metric that may have arrived before the model did."""
        from mlflow.entities import Metric

        last = self.client.get_metric_history(self.run_id, metric)[-1]
        point = Metric(metric, last.value, last.timestamp, last.step, model_id=model_id)
        self.client.log_batch(self.run_id, metrics=[point])

    def _upload_model(self, folder: Path, model_id: str) -> None:
        from mlflow.models import Model

        description = Model.load(str(folder))
        description.run_id, description.model_id = self.run_id, model_id
        description.save(str(folder / "MLmodel"))
        self.client.log_model_artifacts(model_id, str(folder))

    def _register(self, model_id: str, description: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(
                MODEL, description="Appearance networks of a Deep SORT tracker: crops to embeddings"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        # Not `models:/<id>` for a source: MLflow would look that up in a store of its own choice.
        source = self.client.get_logged_model(model_id).artifact_location
        with once():
            self.client.create_model_version(
                MODEL, source, run_id=self.run_id, model_id=model_id, description=description
            )

    def _versions(self, attribute: str, value: str) -> "list[ModelVersion]":
        return list(self.client.search_model_versions(f"{attribute} = '{value}'"))


def is_final(entry: Entry) -> bool:
    """Whether numbers are those of the finished network, not points of a curve."""
    return entry.kind == "metrics" and entry.payload["step"] is None


def is_refusal(error: "MlflowException") -> bool:
    """Whether an error is MLflow's word that an entry is at fault, and not a sick database's.

    MLflow calls both a bad request; what it does not catch itself is the database's word.
    """
    if error.error_code == "BAD_REQUEST":
        return re.search(r"\b(DataError|IntegrityError)\b", str(error)) is not None
    return error.error_code in REFUSALS
