"""A run's model in MLflow: exported, uploaded, registered, promoted."""

import errno
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.core.errors import PromotionError, StoreError
from deepsort_reid.core.secrets import masked
from deepsort_reid.core.yaml_file import read_yaml
from deepsort_reid.runs.mlflow.failures import explained
from deepsort_reid.runs.mlflow.store import Store, once, open_store, quiet, uploading
from deepsort_reid.runs.provenance import DATA_DIGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import torch
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion

    from deepsort_reid.runs.points import Point

MODEL = "deepsort-reid"  # the registered model
BEST = "best"  # the alias of its best version
CANDIDATE = "candidate"  # the alias of its newest version
CONTEXT = "mlflow.data.context"  # the tag that says what a run uses a dataset for
TRAINING = "training"  # the context of the dataset that a network was trained on
VERSIONS = "mlflow.modelVersions"  # the tag by which a model's page knows its versions
CHECKPOINT = "checkpoint/model.pth"  # among the artifacts of the run that trained a model
BESIDE_WEIGHTS = 8 << 20  # bytes: the graph, the example and the rest of an exported model
PAGE = 5  # runs that are asked for at a time
NOTE = "mlflow.note.content"  # the tag that pages show as description
EXPECTED = f"expected a model of this project, such as models:/{MODEL}@{BEST}"


def export_model(
    module: "torch.nn.Module", example: "np.ndarray", folder: Path, metadata: "Mapping[str, object]"
) -> None:
    """Write a network as an MLflow model: its graph and weights, signature and input example.

    Raises:
        OSError: the disk has no room for it. This is asked first, since torch's writer of files
            can end the process on a full disk.
        Exception: whatever `torch.export` raises on a network that it cannot follow.
    """
    import copy

    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    module = copy.deepcopy(module).cpu().eval()
    size = sum(tensor.nbytes for tensor in module.state_dict().values()) + BESIDE_WEIGHTS
    if shutil.disk_usage(folder.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
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


def bring_registered(name: str, path: Path) -> None:
    """Copy the checkpoint of a registered model out of its run.

    Args:
        name: `models:/deepsort-reid@best`, `models:/deepsort-reid/3`, or MLflow's other spellings.
        path: receives it.

    Raises:
        StoreError: the store cannot be opened, there is no such model, or its run has no
            checkpoint.
    """
    store = open_store()
    failed = f"{name}: cannot be brought from {masked(store.uri)}"
    with answering(store, failed, EXPECTED), tempfile.TemporaryDirectory() as folder:
        run_id = run_of(store.client, name)
        with uploading():
            found = store.client.download_artifacts(run_id, CHECKPOINT, folder)
        shutil.copyfile(found, path)


def run_id_of(store: Store, name: str) -> str:
    """The run that a registered model came from.

    Args:
        store: the open store.
        name: as for `bring_registered`.

    Raises:
        StoreError: there is no such model, or the store fails.
    """
    with answering(store, f"{name}: not in {masked(store.uri)}", EXPECTED):
        return run_of(store.client, name)


@contextmanager
def answering(store: Store, failed: str, *remedies: str) -> "Iterator[None]":
    """Let whatever goes wrong be the store's failure, in one line.

    Args:
        store: the open store.
        failed: what has failed then.
        remedies: what to do, after what is known of the failure.

    Raises:
        StoreError: the store fails, or refuses.
        PromotionError: that of the block.
    """
    try:
        with quiet():
            yield
    except PromotionError:
        raise
    except Exception as error:
        words = "; ".join([explained(error, store.uri), *remedies])
        raise StoreError(f"{failed}: {words}") from error


def model_of(run: "Run") -> str | None:
    """MLflow's name for a run's model; None if it has none."""
    models = run.outputs.model_outputs if run.outputs else []
    return models[-1].model_id if models else None


def add(client: "MlflowClient", run_id: str, folder: Path) -> None:
    """Add the model in a folder to a run, and register it, as far as that was not done before."""
    run = client.get_run(run_id)
    version = version_of(client, run_id)
    if version is None:
        model_id = model_of(run) or _create(client, run)
        _upload(client, run_id, model_id, folder)
        client.finalize_logged_model(model_id, "READY")
        version = _register(client, run, model_id)
    _link(client, client.get_run(run_id), version)
    client.set_registered_model_alias(MODEL, CANDIDATE, _newest(client, MODEL))


def lacking_metrics(
    client: "MlflowClient",
    run: "Run",
    points: "Sequence[Point]",
    datasets: "Mapping[str, Mapping[str, str]]",
) -> "list[Metric]":
    """The numbers that a run's model lacks; none if the run has no model.

    Each comes with the dataset that it was measured on: the one whose context is the number's
    section, which stands before the first slash of its name; else the dataset of the training.

    Args:
        client: what talks to the store.
        run: the run as it is now.
        points: the numbers of the finished network.
        datasets: name and digest by context, beside those that the run itself has.
    """
    from mlflow.entities import Metric

    model_id = model_of(run)
    if not points or model_id is None:
        return []
    known = client.get_logged_model(model_id).metrics or ()
    there = {(metric.key, metric.timestamp) for metric in known}
    named = {context: (told["name"], told["digest"]) for context, told in datasets.items()}
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        for tag in entry.tags:
            if tag.key == CONTEXT:
                named.setdefault(tag.value, (entry.dataset.name, entry.dataset.digest))
    lacking = []
    for point in points:
        if (point.name, point.time) not in there:
            section = point.name.partition("/")[0]
            dataset = named.get(section) or named.get(TRAINING) or (None, None)
            lacking.append(Metric(point.name, point.value, point.time, 0, model_id, *dataset))
    return lacking


def promote(client: "MlflowClient", run_id: str, wish: Path) -> None:
    """Describe a run's version, and point the alias `best` to the best one on the same data.

    Args:
        client: what talks to the store.
        run_id: the run that was measured last.
        wish: a file whose first line is the metric's name; the rest describes the version.
    """
    metric, _, description = wish.read_text(encoding="utf-8").partition("\n")
    run, version = client.get_run(run_id), version_of(client, run_id)
    if version and metric in run.data.metrics:
        value = f"{run.data.metrics[metric]:.4f}"
        client.set_model_version_tag(MODEL, version.version, metric, value)
        if description:
            client.update_model_version(MODEL, version.version, description)
        _link(client, run, version, description)
    if best := _best(client, run, metric):
        client.set_registered_model_alias(MODEL, BEST, best)


def _best(client: "MlflowClient", run: "Run", metric: str) -> str | None:
    """The version with the highest metric among the runs on a run's data; the oldest of equals."""
    found = []
    # Earlier versions of this project have recorded `reid/mAP` as `mAP`.
    for name in dict.fromkeys([metric, metric.rpartition("/")[2]]):
        for ranked in _ranking(client, run, name):
            if version := version_of(client, ranked.info.run_id):
                value = ranked.data.metrics[name]
                found.append((-value, ranked.info.start_time, version.version))
                break
    return min(found)[-1] if found else None


def _ranking(client: "MlflowClient", run: "Run", metric: str) -> "Iterator[Run]":
    """The runs on a run's data that have a metric, a share, the highest and oldest first.

    In small pages: nearly every run has a version, and each comes with all that it records.
    """
    token = None
    while True:
        page = client.search_runs(
            [run.info.experiment_id],
            filter_string=f"tags.{DATA_DIGEST} = '{run.data.tags.get(DATA_DIGEST, '')}' "
            f"AND metrics.`{metric}` >= 0",
            order_by=[f"metrics.`{metric}` DESC", "attributes.start_time ASC"],
            max_results=PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


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

    # Not `Model.load`, which takes a folder's name for a URL.
    description = Model.from_dict(read_yaml(folder / "MLmodel"))
    description.run_id, description.model_id = run_id, model_id
    description.save(str(folder / "MLmodel"))
    client.log_model_artifacts(model_id, str(folder))


def _register(client: "MlflowClient", run: "Run", model_id: str) -> "ModelVersion":
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
        return client.create_model_version(
            MODEL, source, run_id=run.info.run_id, model_id=model_id, description=name
        )


def run_of(client: "MlflowClient", name: str) -> str:
    """The id of the run that a model came from, by MLflow's own way to write the model's name."""
    name, mark, alias = name.removeprefix("models:/").partition("@")
    if mark:
        return str(client.get_model_version_by_alias(name, alias).run_id)
    name, _, version = name.partition("/")
    if version == "latest":
        version = _newest(client, name)
    return str(client.get_model_version(name, version).run_id)


def _link(
    client: "MlflowClient", run: "Run", version: "ModelVersion", description: str = ""
) -> None:
    """Let the page of a run's model name its version, as `log_model` does, and describe it."""
    model_id = model_of(run)
    if model_id is None:
        return
    tags = {VERSIONS: json.dumps([{"name": MODEL, "version": str(version.version)}])}
    if description:
        tags[NOTE] = description
    known = client.get_logged_model(model_id).tags
    if any(known.get(name) != text for name, text in tags.items()):
        client.set_logged_model_tags(model_id, tags)


def version_of(client: "MlflowClient", run_id: str) -> "ModelVersion | None":
    """The version of a run's model; None if it was not registered."""
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    return next((version for version in versions if version.name == MODEL), None)


def _newest(client: "MlflowClient", name: str) -> str:
    """The number of a model's newest version."""
    newest = client.search_model_versions(
        f"name = '{name}'", max_results=1, order_by=["version_number DESC"]
    )
    if not newest:
        raise LookupError(f"there is no version of a model {name}")
    return str(newest[0].version)
