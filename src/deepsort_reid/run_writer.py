"""Writes entries of an outbox to one MLflow run, each kind by a method of its own."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.outbox import Entry, RefusedError
from deepsort_reid.provenance import DATA_DIGEST
from deepsort_reid.store import Store, quiet, reason, uploading

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

MODEL = "deepsort-reid"  # the registered model
BEST = "best"  # the alias of its best version
FILES = frozenset({"artifact", "model", "promotion"})  # kinds that need the artifact store
BATCH = 100  # parameters or tags a call; MLflow's limit

# What MLflow answers when the entry is at fault, and sending it again would not help.
REFUSALS = frozenset({
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
})  # fmt: skip


class FailedError(Exception):
    """The store did not take an entry, and may take it later."""


class RunWriter:
    """Writes to one run through a client: its status changes only when an entry says so.

    Writing an entry twice leaves what writing it once does, since a time limit may pass after
    the store has taken it.
    """

    def __init__(self, open_store: Callable[[], Store], run_id: str):
        """Connect to nothing yet.

        Args:
            open_store: opens the store, at the first entry, or later if it fails then.
            run_id: the run, which exists.
        """
        self.open_store, self.run_id = open_store, run_id
        self.model_id: str | None = None  # of the run's model, once it has one

    @cached_property
    def store(self) -> Store:
        """The store."""
        return self.open_store()

    @property
    def client(self) -> "MlflowClient":
        """What talks to the store."""
        return self.store.client

    def __call__(self, entry: Entry) -> None:
        """Write an entry.

        Raises:
            RefusedError: the store will never take it.
            FailedError: the store may take it later.
        """
        from mlflow.exceptions import MlflowException

        try:
            with quiet():
                getattr(self, f"write_{entry.kind}")(**entry.payload)
        except FileNotFoundError as error:
            raise RefusedError(reason(error)) from error
        except MlflowException as error:
            kind = RefusedError if error.error_code in REFUSALS else FailedError
            raise kind(reason(error)) from error
        except Exception as error:
            raise FailedError(reason(error)) from error

    def read(self) -> "Run":
        """The run as it is now.

        Raises:
            RefusedError: there is none, or it was deleted.
            StoreError, mlflow.exceptions.MlflowException: the store does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise RefusedError("no such run") from error
            raise
        if run.info.lifecycle_stage == "deleted":
            raise RefusedError("it was deleted")
        models = run.outputs.model_outputs if run.outputs else []
        self.model_id = models[-1].model_id if models else None
        return run

    def write_params(self, values: Mapping[str, str]) -> None:
        """Add parameters."""
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in values.items()]
        for first in range(0, len(params), BATCH):
            self.client.log_batch(self.run_id, params=params[first : first + BATCH])

    def write_metrics(self, values: Mapping[str, float], step: int, timestamp: int) -> None:
        """Add a point to each metric's curve, and the model's once there is one.

        Args:
            values: what was measured.
            step: the epoch.
            timestamp: when it was measured, in milliseconds since 1970.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, timestamp, step, model_id=self.model_id)
            for name, value in values.items()
        ]
        self.client.log_batch(self.run_id, metrics=metrics)

    def write_tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(*item) for item in values.items()])

    def write_artifact(self, path: str, folder: str) -> None:
        """Copy a file, or a folder's files, to the run's artifacts."""
        add = self.client.log_artifacts if Path(path).is_dir() else self.client.log_artifact
        with uploading():
            add(self.run_id, path, folder or None)

    def write_dataset(
        self, name: str, source: str, digest: str, profile: Mapping[str, int], context: str
    ) -> None:
        """Add a dataset to the run's inputs."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        is_web = source.startswith(("http://", "https://"))
        dataset = Dataset(
            name=name,
            digest=digest,
            source_type="http" if is_web else "local",
            source=json.dumps({"url" if is_web else "uri": source}),
            profile=json.dumps(dict(profile)),
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags)])

    def write_model(self, folder: str) -> None:
        """Add a model that lies in a folder to the run, and register it."""
        run = self.read()
        model_id = self.model_id or self._create_model(run)
        with uploading():
            self._upload_model(Path(folder), model_id)
        self.client.finalize_logged_model(model_id, "READY")
        if all(version.name != MODEL for version in self._versions("run_id", self.run_id)):
            self._register(model_id, run.info.run_name)
        self.model_id = model_id

    def write_promotion(self, metric: str) -> None:
        """Point the alias to the version with the highest metric among runs on the same data."""
        run = self.read()
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

    def write_end(self, status: str, end_time: int) -> None:
        """End the run; `end_time` in milliseconds since 1970."""
        self.client.set_terminated(self.run_id, status, end_time)

    def _create_model(self, run: "Run") -> str:
        from mlflow.entities import LoggedModelOutput

        model = self.client.create_logged_model(
            run.info.experiment_id,
            name="model",
            source_run_id=self.run_id,
            params=run.data.params,
        )
        # At once: a second attempt finds it by this.
        self.client.log_outputs(self.run_id, models=[LoggedModelOutput(model.model_id, step=0)])
        return model.model_id

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
        self.client.create_model_version(
            MODEL, source, run_id=self.run_id, model_id=model_id, description=description
        )

    def _versions(self, attribute: str, value: str) -> "list[ModelVersion]":
        return list(self.client.search_model_versions(f"{attribute} = '{value}'"))
