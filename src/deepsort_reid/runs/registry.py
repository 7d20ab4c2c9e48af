"""A run's model in MLflow: exported, uploaded, registered, promoted."""

from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.runs.provenance import DATA_DIGEST
from deepsort_reid.runs.store import once

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

MODEL = "deepsort-reid"  # the registered model
BEST = "best"  # the alias of its best version


def export_model(
    module: "torch.nn.Module", example: "np.ndarray", folder: Path, metadata: "Mapping[str, object]"
) -> None:
    """Write a network as an MLflow model: its graph and weights, signature and input example.

    Raises:
        Exception: whatever `torch.export` raises on a network that it cannot follow.
    """
    import copy

    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    module = copy.deepcopy(module).cpu().eval()
    with torch.no_grad():
        embeddings = module(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        module,
        str(folder),
        signature=infer_signature(example, embeddings),  # -1, any, in place of the batch size
        input_example=example,
        # Named here, since MLflow would load the model in a new process to find them.
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        metadata=dict(metadata),
        serialization_format="pt2",
    )


def model_of(run: "Run") -> str | None:
    """MLflow's name for a run's model; None if it has none."""
    models = run.outputs.model_outputs if run.outputs else []
    return models[-1].model_id if models else None


def add(client: "MlflowClient", run_id: str, folder: Path) -> None:
    """Add the model in a folder to a run, and register it, as far as that was not done before."""
    run = client.get_run(run_id)
    if any(version.name == MODEL for version in _versions(client, "run_id", run_id)):
        return
    model_id = model_of(run) or _create(client, run)
    _upload(client, run_id, model_id, folder)
    client.finalize_logged_model(model_id, "READY")
    _register(client, run, model_id)


def promote(client: "MlflowClient", run_id: str, wish: Path) -> None:
    """Point the alias to the version with the highest metric among runs on the same data.

    Args:
        client: what talks to the store.
        run_id: the run that was measured last.
        wish: a file that holds the metric's name.
    """
    from mlflow.entities import Metric

    metric, run = wish.read_text(encoding="utf-8"), client.get_run(run_id)
    is_measured = metric in run.data.metrics
    if (model_id := model_of(run)) and is_measured:  # it may be older than the model
        last = client.get_metric_history(run_id, metric)[-1]
        point = Metric(metric, last.value, last.timestamp, last.step, model_id=model_id)
        client.log_batch(run_id, metrics=[point])
    versions = {version.run_id: version.version for version in _versions(client, "name", MODEL)}
    if run_id in versions and is_measured:
        value = f"{run.data.metrics[metric]:.4f}"
        client.set_model_version_tag(MODEL, versions[run_id], metric, value)
    ranking = client.search_runs(
        [run.info.experiment_id],
        filter_string=f"tags.{DATA_DIGEST} = '{run.data.tags.get(DATA_DIGEST, '')}'",
        order_by=[f"metrics.`{metric}` DESC", "attributes.start_time ASC"],
    )
    measured = [ranked for ranked in ranking if metric in ranked.data.metrics]
    best = next((r.info.run_id for r in measured if r.info.run_id in versions), None)
    if best is not None:
        client.set_registered_model_alias(MODEL, BEST, versions[best])


def _create(client: "MlflowClient", run: "Run") -> str:
    from mlflow.entities import LoggedModelOutput

    # An attempt that was cut short may have made it already.
    models = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    with once():
        model = next(iter(models), None) or client.create_logged_model(
            run.info.experiment_id,
            name="model",
            source_run_id=run.info.run_id,
            params=run.data.params,
        )
        client.log_outputs(run.info.run_id, models=[LoggedModelOutput(model.model_id, step=0)])
    return model.model_id


def _upload(client: "MlflowClient", run_id: str, model_id: str, folder: Path) -> None:
    from mlflow.models import Model

    description = Model.load(str(folder))
    description.run_id, description.model_id = run_id, model_id
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(model_id, str(folder))


def _register(client: "MlflowClient", run: "Run", model_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            MODEL, description="Appearance networks of a Deep SORT tracker: crops to embeddings"
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # Not `models:/<id>` for a source: MLflow would look that up in a store of its own choice.
    source = client.get_logged_model(model_id).artifact_location
    name = run.info.run_name
    with once():
        client.create_model_version(
            MODEL, source, run_id=run.info.run_id, model_id=model_id, description=name
        )


def _versions(client: "MlflowClient", attribute: str, value: str) -> "list[ModelVersion]":
    return list(client.search_model_versions(f"{attribute} = '{value}'"))
