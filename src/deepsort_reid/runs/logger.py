"""Records a run: everything goes into its folder at once, and from there to MLflow in time."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.core import files, signals
from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.secrets import masked
from deepsort_reid.runs import provenance
from deepsort_reid.runs.folder import BusyError, RunFolder, is_key, milliseconds
from deepsort_reid.runs.mlflow.failures import reason
from deepsort_reid.runs.mlflow.mirror import Mirror
from deepsort_reid.runs.mlflow.registry import export_model
from deepsort_reid.runs.mlflow.store import (
    check_address,
    import_mlflow,
    label,
    quiet,
    tracking_uri,
    where_to_look,
)
from deepsort_reid.runs.mlflow.sync import Sync
from deepsort_reid.runs.names import Numbers, valid_name, valid_params, valid_tags
from deepsort_reid.runs.points import Point
from deepsort_reid.runs.system_metrics import Sampler, is_wanted

if TYPE_CHECKING:
    import numpy as np
    import torch

logger = logging.getLogger(__name__)

CHECKPOINT = ".pth"  # what a checkpoint's name ends in
DIGEST = 12  # characters, to be read in a list; the whole is a tag
CLOSE_SECONDS = 20.0  # for what is left, while the store answers
KILLED_SECONDS = 3.0  # the same for a run that somebody wants to end now
OWN_SECONDS = 20.0  # for an earlier attempt to leave
KILLED = [128 + number for number in signals.SIGNALS]  # exit statuses
REMEDY = "the next stage sends them, or `uv run deepsort-reid deliver`"


class RunLogger:
    """Takes what there is to know of a run.

    Every method writes to the run's folder and comes back; none waits for the store, nor raises
    for a fault of the store's. All raise OSError if the folder cannot be written.

    Attributes:
        keeps_networks: False in a search's trial. The checkpoints of all trials would fill a disk,
            and whoever wants the best one trains it again.
    """

    def __init__(self, folder: RunFolder, uri: str | None):
        """Begin to send what the folder holds.

        Args:
            folder: the run's.
            uri: the store's address; None sends nothing.
        """
        self.folder, self.uri = folder, uri
        self.keeps_networks = provenance.trial_number() is None
        self.sync = Sync(Mirror(RunFolder(folder.key), uri)) if uri else None

    @property
    def key(self) -> str:
        """The name of the run's folder."""
        return self.folder.key

    @property
    def run_id(self) -> str | None:
        """MLflow's name for the run; None before the store has answered."""
        return self.folder.mlflow.get("run_id")

    @property
    def run_name(self) -> str | None:
        """The name it has in lists."""
        return self.folder.name

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; `{"dataset": {"source": …}}` becomes `dataset.source`.

        A parameter keeps its first value.
        """
        texts, there = valid_params(params), self.folder.read("params.json")
        if others := sorted(name for name in texts if there.get(name, texts[name]) != texts[name]):
            logger.warning("the run keeps the first values of %s", ", ".join(others))
        self.folder.merge("params.json", texts, replace=False)
        self._wake()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers, as points of curves where a step (the epoch) is given."""
        self.folder.metrics.add(points(metrics, step))
        self._wake()

    def log_numbers(self, numbers: Numbers) -> None:
        """Record a stage's results: metrics of the finished network, and tags."""
        self.log_metrics(numbers.metrics)
        self.set_tags(numbers.tags)

    def log_sample(self, values: Mapping[str, float]) -> None:
        """Record the machine's load; the steps count the samples."""
        system = self.folder.system
        system.add(points(values, system.next_step()), sync=False)
        self._wake()

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a file, or all files of a folder, below the run's artifact folder `folder`.

        Its content is recorded as it is now. A missing file is worth a warning.
        """
        if path.suffix == CHECKPOINT and not self.keeps_networks:
            return
        try:
            self.folder.keep(path, folder)
        except FileNotFoundError as error:
            logger.warning("%s is not in MLflow: %s", path, reason(error))

    def log_dataset(
        self, *, name: str, source: str, digest: str, profile: Mapping[str, int], context: str
    ) -> None:
        """Record what the run reads; the last of a context counts.

        Args:
            name: the dataset's name.
            source: where it comes from: a path, a URL, `synthetic`.
            digest: its hash, of which the first 12 characters are shown.
            profile: its counts, of images, say.
            context: what it is used for: `training`, or the section of the metrics that are
                measured on it, `track`. All other metrics belong to the training's.
        """
        dataset = {
            "name": name,
            "source": masked(source),
            "digest": digest[:DIGEST],
            "profile": dict(profile),
        }
        self.folder.merge("inputs.json", {context: dataset})
        self._wake()

    def log_model(
        self, module: "torch.nn.Module", example: "np.ndarray", *, metadata: Mapping[str, object]
    ) -> None:
        """Record a network, and register it as a new version of `deepsort-reid`.

        It is exported in eval mode, on the CPU, by `torch.export`, for batches of any size;
        loading it needs no code of this project. The network itself stays as it is.

        Args:
            module: takes images and returns embeddings.
            example: images (B, 3, H, W), B > 1, in the network's dtype, to export it with.
            metadata: plain data that its users need: mean, std.
        """
        if self.sync is None or not self.keeps_networks:
            return
        try:
            import_mlflow()
            with quiet():
                self.folder.keep_model(lambda place: export_model(module, example, place, metadata))
        except Exception as error:  # the checkpoint is safe, so a copy of it stops nothing
            logger.warning("the model is not in MLflow: its export failed (%s)", reason(error))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Record tags; one that is there is overwritten."""
        self.folder.merge("tags.json", valid_tags(tags))
        self._wake()

    def promote(self, metric: str, description: str = "") -> None:
        """Give the alias `best` to the model version with the highest metric on the same data.

        Args:
            metric: its name.
            description: what the page of this run's version says; the run's name by default.
        """
        text = f"{valid_name(metric)}\n{description}" if description else valid_name(metric)
        files.write_text(self.folder.path / "promote", text)

    def describe(self) -> str:
        """The run's name, where to look at it, and what it still misses."""
        if self.uri is None or self.sync is None or not self.sync.has_run:
            return "not recorded in MLflow"
        known = self.folder.mlflow
        is_there = known.get("store") == label(self.uri)
        page = (known["experiment_id"], known["run_id"]) if is_there else ()
        lines = [
            f"MLflow run {self.run_name or self.key}",
            f"to see it: {where_to_look(self.uri, *page)}",
        ]
        if unsent := self.folder.unsent():
            why = f" ({self.sync.trouble})" if self.sync.trouble else ""
            lines.append(f"still to be sent: {unsent}{why}; {REMEDY}")
        return "\n".join(lines)

    def close(self, seconds: float) -> None:
        """Wait at most so long for what is left, and say if something is."""
        if self.sync is None:
            return
        self.sync.close(seconds)
        refused = self.sync.mirror.refused
        if refused.total() > 1:
            counts = ", ".join(f"{kind} ({count})" for kind, count in sorted(refused.items()))
            logger.warning("%s has refused: %s", self.sync.mirror.where, counts)
        if unsent := self.folder.unsent():
            logger.warning(
                "MLflow run %s: %s are kept in %s; %s",
                self.run_name or self.key,
                unsent,
                self.folder.path,
                REMEDY,
            )

    def hurry(self, *_: object) -> None:
        """Let `close` wait no longer; a signal's handler."""
        if self.sync:
            self.sync.hurried = True

    def _wake(self) -> None:
        if self.sync:
            self.sync.wake()


@contextmanager
def open_run(*, key: str, name: str, tags: Mapping[str, str]) -> Iterator[RunLogger]:
    """Begin a run, or go on with one that was interrupted, and end it with the block.

    The run ends as FINISHED; as FAILED on an exception; as KILLED on KeyboardInterrupt, and on
    SystemExit with the status of a process that was ended by a signal.

    Args:
        key: letters and digits that no other run has. If there is a folder with this key, the
            run goes on, and what that has already is not recorded again.
        name: the run's name in lists.
        tags: `provenance.provenance_tags`, say.

    Yields:
        the run's logger; without MLflow, it writes the folder alone, after a warning.

    Raises:
        StoreError: there can be no store at the address, or another process records this run. A
            store that fails is put up with.
        OSError: the folder cannot be written.
    """
    uri, folder = store_address(), RunFolder(key)
    if uri:
        check_address(uri)
    try:
        with folder.owned(OWN_SECONDS):
            folder.merge("tags.json", valid_tags(tags))
            folder.begin(name)
            yield from logged(RunLogger(folder, uri))
    except BusyError as error:
        raise StoreError(f"{error}; wait for it to end") from None


def logged(run: RunLogger) -> Iterator[RunLogger]:
    """Yield a training's logger, which records the machine's load too, and end the run."""
    sampler = Sampler(run.log_sample) if is_wanted() and run.sync else None
    status, failure = "FINISHED", {}
    try:
        yield run
    except BaseException as error:
        status = status_after(error)
        if status == "FAILED":
            failure = {"failure": f"{type(error).__name__}: {error}"}
        raise
    finally:
        seconds = KILLED_SECONDS if status == "KILLED" else CLOSE_SECONDS
        # Who sends a signal twice, or to a run that has failed, only shortens the wait.
        with signals.handling(run.hurry):
            try:
                if sampler:
                    sampler.stop(seconds)
                run.set_tags(failure)
                run.folder.end(status)
            finally:
                run.close(seconds)


@contextmanager
def resume_run(key: str | None, run_id: str | None = None) -> Iterator[RunLogger]:
    """Add to a run that has ended, whose status stays as it is.

    Args:
        key: the run's; None if nobody knows.
        run_id: MLflow's name for it, if that is known, to find it where it has no folder, as in a
            fresh clone that has its results from a DVC cache.

    Yields:
        the run's logger. If MLflow has no such run there is a warning in the end, and nothing is
        kept. A store that does not answer is put up with.

    Raises:
        OSError: the folder cannot be written.
    """
    key, uri = key or run_id, store_address()
    if key is None:
        logger.warning("the training was not recorded in MLflow, so neither is this")
        with tempfile.TemporaryDirectory() as place:
            yield RunLogger(RunFolder("unknown", Path(place)), None)
        return
    folder = RunFolder(key)
    folder.attach(run_id)
    run = RunLogger(folder, uri)
    try:
        yield run
    finally:
        run.close(CLOSE_SECONDS)


def read_reference(path: Path) -> tuple[str | None, str | None]:
    """The key and the MLflow name of the run that a training left in run.json.

    A file that is missing or damaged is worth a warning: results count more than their record.
    """
    try:
        content = files.read_json(path)
        key, run_id = content.get("key"), content.get("run_id")
    except (OSError, ValueError, AttributeError):
        logger.warning("%s is damaged", path)
        return None, None
    return key if is_key(key) else None, run_id if is_key(run_id) else None


def store_address() -> str | None:
    """The store's address; None, after a warning, where MLflow is not installed."""
    if find_spec("mlflow") is None:
        logger.warning("mlflow is not installed, so nothing is recorded in MLflow")
        return None
    return tracking_uri()


def status_after(error: BaseException) -> str:
    """MLflow's status of a run that ends with this."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "FINISHED"
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    return "KILLED" if isinstance(error, SystemExit) and error.code in KILLED else "FAILED"


def points(values: Mapping[str, float], step: int | None) -> list[Point]:
    """Numbers as points of curves, measured now."""
    now = milliseconds()
    return [Point(now, step, valid_name(name), float(value)) for name, value in values.items()]
