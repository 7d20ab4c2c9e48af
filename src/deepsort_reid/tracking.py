"""Records a run in MLflow, from its parameters to its model, without ever holding it up."""

import logging
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from deepsort_reid.errors import StoreError
from deepsort_reid.files import project_root
from deepsort_reid.outbox import Outbox, RefusedError, summary
from deepsort_reid.run_writer import FILES, RunWriter
from deepsort_reid.store import (
    DATABASE,
    Store,
    import_mlflow,
    masked,
    open_store,
    quiet,
    reason,
    sqlite_file,
    tracking_uri,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

LONGEST_PARAM = 6000  # characters; MLflow's limits
LONGEST_TAG = 5000
DIGEST = 12  # characters, to be read in a list; the whole is a tag
SAMPLE_EVERY = 5.0  # seconds between two system metrics
CLOSE_SECONDS = 10.0  # for what is left, and one attempt more
KILLED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit statuses


class Tracker:
    """Takes what there is to know of a run. This one, the base of the others, records nothing.

    No method raises for a fault of the store's, and none waits for it for long.

    Attributes:
        run_id: MLflow's name for the run; None if there is no run.
        run_name: the name it has in lists.
    """

    run_id: str | None = None
    run_name: str | None = None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; `{"dataset": {"source": …}}` becomes `dataset.source`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, as points of curves where a step (the epoch) is given."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a file, or all files of a folder, below the run's artifact folder `folder`."""

    def log_dataset(
        self, *, name: str, source: str, digest: str, profile: Mapping[str, int], context: str
    ) -> None:
        """Record what the run reads.

        Args:
            name: the dataset's name.
            source: where it comes from: a path, a URL, `synthetic`.
            digest: its hash, of which the first 12 characters are shown.
            profile: its counts, of images, say.
            context: what it is used for: `training`.
        """

    def log_model(
        self, module: "torch.nn.Module", example: "np.ndarray", *, metadata: Mapping[str, object]
    ) -> None:
        """Record a network, and register it as a new version of `deepsort-reid`.

        It is exported in eval mode, on the CPU, by `torch.export`, for batches of any size;
        nobody's code runs when it is loaded. The network itself stays as it is.

        Args:
            module: takes images and returns embeddings.
            example: images (B, 3, H, W), B > 1, in the network's dtype, to export it with.
            metadata: plain data that its users need: mean, std.
        """

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags; one that is there is overwritten."""

    def promote(self, metric: str) -> None:
        """Give the alias `best` to the model version with the highest metric on the same data."""

    def describe(self) -> str:
        """The run's name, and where to look at it."""
        return "not recorded in MLflow"


class NullTracker(Tracker):
    """Records nothing, anywhere."""


class MlflowTracker(Tracker):
    """Records into one MLflow run, through outboxes that keep what the store does not take."""

    def __init__(self, writer: RunWriter, run: "Run | None"):
        """Record through a writer.

        Args:
            writer: writes to the run.
            run: the run as it is in the store; None if the store does not answer now.
        """
        self.writer, self.run, self.run_id = writer, run, writer.run_id
        self.run_name = run.info.run_name if run else None
        self.where = f"MLflow store {masked(tracking_uri())}"
        # Files may fail where records arrive, for want of rights to a bucket, say.
        self.records = Outbox(writer, self.where)
        self.files = Outbox(writer, f"{self.where}, for files,", after=self.records)
        self.models = tempfile.TemporaryDirectory(prefix="deepsort-reid-")

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters."""
        texts = {valid_name(name): str(value) for name, value in flattened(params).items()}
        self.put("params", values={name: cut(text, LONGEST_PARAM) for name, text in texts.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers."""
        values = {valid_name(name): float(value) for name, value in metrics.items()}
        self.put("metrics", values=values, step=step or 0, timestamp=milliseconds())

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or a folder."""
        self.put("artifact", path=str(path.absolute()), folder=folder)

    def log_dataset(
        self, *, name: str, source: str, digest: str, profile: Mapping[str, int], context: str
    ) -> None:
        """Record what the run reads."""
        self.put(
            "dataset",
            name=name,
            source=masked(source),
            digest=digest[:DIGEST],
            profile=dict(profile),
            context=context,
        )

    def log_model(
        self, module: "torch.nn.Module", example: "np.ndarray", *, metadata: Mapping[str, object]
    ) -> None:
        """Record a network."""
        folder = Path(tempfile.mkdtemp(dir=self.models.name)) / "model"
        try:
            with quiet():
                export_model(module, example, folder, metadata)
        except Exception as error:  # the checkpoint is safe, so a copy of it stops nothing
            logger.warning("the model is not in MLflow: its export failed (%s)", reason(error))
        else:
            self.put("model", folder=str(folder))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags."""
        values = {valid_name(name): cut(text, LONGEST_TAG) for name, text in tags.items()}
        self.put("tags", values=values)

    def promote(self, metric: str) -> None:
        """Move the alias `best`."""
        self.put("promotion", metric=valid_name(metric))

    def describe(self) -> str:
        """The run's name, and where to look at it."""
        return f"MLflow run {self.run_name or self.run_id}\nto see it: {where_to_look(self.run)}"

    def put(self, kind: str, **payload: Any) -> None:
        """Send an entry by the outbox of its kind."""
        (self.files if kind in FILES else self.records).put(kind, **payload)

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Record the run's end with one of MLflow's statuses, and what failed, and close."""
        # Who sends SIGTERM twice, or to a run that has failed, shall not leave it RUNNING.
        with on_sigterm(signal.SIG_IGN):
            if status == "FAILED":
                self.set_tags({"failure": f"{type(error).__name__}: {error}"})
            self.put("end", status=status, end_time=milliseconds())
            self.close(0.0 if status == "KILLED" else CLOSE_SECONDS)

    def close(self, seconds: float) -> None:
        """Send what is left within this time, and name what the store did not take."""
        lost = self.records.close(seconds)
        lost += self.files.close(0.0 if self.records.waiting else seconds)
        if lost:
            logger.warning("%s did not take: %s", self.where, summary(lost))
        self.models.cleanup()


@contextmanager
def open_run(*, name: str, tags: Mapping[str, str], enabled: bool = True) -> Iterator[Tracker]:
    """Begin a run, and end it with the block.

    The run ends as FINISHED; as FAILED on an exception; as KILLED on Ctrl-C, and on SIGTERM, which
    unwinds the block like an exception.

    Args:
        name: the run's name in lists.
        tags: `provenance.provenance_tags`, say.
        enabled: False, for ranks other than the first, gives a NullTracker.

    Yields:
        the run's tracker; a NullTracker, after a warning, where MLflow is not installed.

    Raises:
        StoreError: the store cannot be opened. One that fails later is put up with.
    """
    if not enabled or not is_installed():
        yield NullTracker()
        return
    tracker = begin_run(open_store(), name, tags)
    try:
        with on_sigterm(terminate), system_metrics(tracker):
            yield tracker
    except BaseException as error:
        tracker.end(status_after(error), error)
        raise
    tracker.end("FINISHED")


@contextmanager
def resume_run(run_id: str | None) -> Iterator[Tracker]:
    """Add to a run that has ended, whose status stays as it is.

    Args:
        run_id: the run's; None if it was not recorded.

    Yields:
        the run's tracker; a NullTracker, after a warning, if there is no such run, as in a fresh
        clone that has its results from a DVC cache. A store that cannot be opened is put up with,
        since the work it would record is done: what it does not take is named at the end.
    """
    tracker = find_run(run_id)
    try:
        yield tracker or NullTracker()
    finally:
        if tracker:
            tracker.close(CLOSE_SECONDS)


def begin_run(store: Store, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    """Create a run in an open store.

    Raises:
        StoreError: the store can be read, but not written.
    """
    values = {key: cut(text, LONGEST_TAG) for key, text in tags.items()}
    try:
        with quiet():
            run = store.client.create_run(store.experiment_id, tags=values, run_name=name)
    except Exception as error:
        raise StoreError(
            f"MLflow store {masked(store.uri)} takes no new run: {reason(error)}; "
            "mend it, or set MLFLOW_TRACKING_URI to another store"
        ) from error
    return MlflowTracker(RunWriter(lambda: store, run.info.run_id), run)


def find_run(run_id: str | None) -> MlflowTracker | None:
    """The tracker of a run that exists, or may exist in a store that does not answer now."""
    if run_id is None:
        logger.warning("the training was not recorded in MLflow, so neither is this")
        return None
    if not is_installed():
        return None
    writer = RunWriter(open_store, run_id)
    try:
        file = sqlite_file(tracking_uri())
        if file is not None and not file.exists():
            raise RefusedError(f"there is no {file}")
        return MlflowTracker(writer, writer.read())
    except RefusedError as error:
        logger.warning("run %s is not in MLflow (%s): nothing is added to it", run_id, error)
        return None
    except Exception as error:
        tracker = MlflowTracker(writer, None)
        tracker.records.suspend(reason(error))
        return tracker


def is_installed() -> bool:
    """Whether MLflow can be imported; warns if not."""
    try:
        import_mlflow()
    except ModuleNotFoundError as error:
        logger.warning("%s is not installed, so nothing is recorded in MLflow", error.name)
        return False
    return True


@contextmanager
def system_metrics(tracker: MlflowTracker) -> Iterator[None]:
    """Let MLflow sample processors, memory, disk, network and GPUs while the block runs.

    One sample is taken at the end, so that the shortest run has one.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor: Any = None
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "false":
        with suppress(Exception), quiet():
            monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
                tracker.run_id, SAMPLE_EVERY, tracking_uri=tracker.writer.store.uri
            )
            monitor.start()
    try:
        yield
    finally:
        # A monitor of a dead store would wait for it; its thread ends with the process.
        if monitor is not None and not tracker.records.waiting:
            with suppress(Exception), quiet():
                monitor.finish()
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
                monitor.mlflow_logger.flush()


@contextmanager
def on_sigterm(action: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Do this on SIGTERM while the block runs; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def terminate(number: int, _: FrameType | None) -> None:
    """End the process as SIGTERM does, but by way of every `finally`."""
    raise SystemExit(128 + number)


def status_after(error: BaseException) -> str:
    """MLflow's status of a run that ends with this."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "FINISHED"
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    return "KILLED" if isinstance(error, SystemExit) and error.code in KILLED else "FAILED"


def export_model(
    module: "torch.nn.Module", example: "np.ndarray", folder: Path, metadata: Mapping[str, object]
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


def where_to_look(run: "Run | None") -> str:
    """The command, or the address, that shows a run; all runs if it is not known."""
    uri, page = tracking_uri(), ""
    if run is not None:
        page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        page += "?workflowType=machine_learning"  # else MLflow shows pages for language models
    if uri.startswith(("http://", "https://")):
        return masked(uri.rstrip("/")) + page
    is_default = sqlite_file(uri) == project_root() / DATABASE
    store = "" if is_default else f" --backend-store-uri {masked(uri)}"
    return f"uv run mlflow ui{store}, then http://127.0.0.1:5000{page}"


def flattened(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dots in the names: `dataset.source`."""
    flat: dict[str, object] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def valid_name(name: str) -> str:
    """The nearest name that MLflow takes: `rank@1` becomes `rank_1`.

    MLflow allows letters, digits and `_-. :/`, and nothing that means another place as a path.
    """
    parts = re.sub(r"[^\w\-. :/]", "_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"


def cut(text: str, length: int) -> str:
    """The text, or its beginning if it is too long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def milliseconds() -> int:
    """The time since 1970 in milliseconds."""
    return time.time_ns() // 1_000_000
