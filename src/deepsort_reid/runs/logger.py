"""Records a run in MLflow, from its parameters to its model, without ever holding it up.

Everything goes into the run's journal first, and from there to the store, when that answers.
"""

import logging
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from deepsort_reid.core import files, signals
from deepsort_reid.core.errors import StoreError
from deepsort_reid.core.project import project_root
from deepsort_reid.runs import journal, leftovers
from deepsort_reid.runs.journal import Binding, BusyError, Journal, milliseconds
from deepsort_reid.runs.outbox import Outbox, summary
from deepsort_reid.runs.run_writer import RunWriter
from deepsort_reid.runs.store import (
    DATABASE,
    check_address,
    import_mlflow,
    label,
    masked,
    quiet,
    reason,
    sqlite_file,
    tracking_uri,
)
from deepsort_reid.runs.system_metrics import Sampler, is_wanted

if TYPE_CHECKING:
    import numpy as np
    import torch
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

LONGEST_PARAM = 6000  # characters; MLflow's limits
LONGEST_TAG = 5000
DIGEST = 12  # characters, to be read in a list; the whole is a tag
CLOSE_SECONDS = 20.0  # for what is left, while the store answers
KILLED_SECONDS = 3.0  # the same for a run that somebody wants to end now
FIND_SECONDS = 5.0  # to find the run that an evaluation adds to
HOLD_SECONDS = 20.0  # for whoever sends what an interrupted run has left, to let go of it
KILLED = [128 + number for number in signals.SIGNALS]  # exit statuses
DELIVER = "uv run python -m deepsort_reid.runs.deliver"


class RunLogger:
    """Takes what there is to know of a run. This one, the base of the others, records nothing.

    No method raises for a fault of the store's, and none waits for it for long.
    """

    @property
    def key(self) -> str | None:
        """The name of the run's journal; None if there is no run."""
        return None

    @property
    def run_id(self) -> str | None:
        """MLflow's name for the run; None before the store has answered."""
        return None

    @property
    def run_name(self) -> str | None:
        """The name it has in lists."""
        return None

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


class NullRunLogger(RunLogger):
    """Records nothing, anywhere."""


class MlflowRunLogger(RunLogger):
    """Records into a journal, which an outbox delivers to one MLflow run."""

    def __init__(self, held: Journal, writer: RunWriter):
        """Start to deliver what the journal holds.

        Args:
            held: the run's journal, with an entry that begins the run or finds it.
            writer: writes to the run.
        """
        self.journal, self.uri = held, writer.uri
        self.sampler: Sampler | None = None
        self.outbox = Outbox(
            held,
            writer,
            f"MLflow store {masked(self.uri)}",
            prepare=import_mlflow,
            afterwards=self.deliver_leftovers,
        )

    @property
    def key(self) -> str | None:
        """The key of the run's journal."""
        return str(self.journal.begun.payload["key"]) if self.journal.begun else self.journal.key

    @property
    def run_id(self) -> str | None:
        """MLflow's name for the run."""
        return self.journal.binding.run_id if self.journal.binding else None

    @property
    def run_name(self) -> str | None:
        """The name it has in lists."""
        if self.journal.binding:
            return self.journal.binding.run_name
        return self.journal.begun.payload.get("name") if self.journal.begun else None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters."""
        texts = {valid_name(name): str(value) for name, value in flattened(params).items()}
        values = {name: cut(text, LONGEST_PARAM) for name, text in texts.items()}
        self.journal.put("params", values=values)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers."""
        values = {valid_name(name): float(value) for name, value in metrics.items()}
        self.journal.put("metrics", values=values, step=step)

    def log_sample(self, values: Mapping[str, float]) -> None:
        """Record the machine's load; the steps count the samples."""
        with self.journal.changed:
            step = self.journal.next_sample
            self.journal.put("system", sync=False, values=dict(values), step=step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Record a file or a folder, as it is now."""
        try:
            self.journal.put_file("artifact", path, folder=folder)
        except FileNotFoundError as error:
            logger.warning("%s is not in MLflow: %s", path, reason(error))

    def log_dataset(
        self, *, name: str, source: str, digest: str, profile: Mapping[str, int], context: str
    ) -> None:
        """Record what the run reads."""
        self.journal.put(
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
        """Record a network, unless the run has one."""
        if self.journal.has("model"):
            return
        with tempfile.TemporaryDirectory(dir=self.journal.folder, prefix="export-") as folder:
            model = Path(folder) / "model"
            try:
                import_mlflow()
                with quiet():
                    export_model(module, example, model, metadata)
            except Exception as error:  # the checkpoint is safe, so a copy of it stops nothing
                logger.warning("the model is not in MLflow: its export failed (%s)", reason(error))
            else:
                self.journal.put_file("model", model, move=True)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Record tags."""
        self.journal.put("tags", values=valid_tags(tags))

    def promote(self, metric: str) -> None:
        """Move the alias `best`."""
        self.journal.put("promotion", metric=valid_name(metric))

    def describe(self) -> str:
        """The run's name, where to look at it, and what it still misses."""
        name = self.run_name or self.run_id or self.key
        lines = [
            f"MLflow run {name}",
            f"to see it: {where_to_look(self.uri, self.journal.binding)}",
        ]
        count, size = self.journal.size()
        if count:
            why = f" ({self.outbox.trouble})" if self.outbox.trouble else ""
            lines.append(
                f"still to be sent: {count} entries, {size / 1e6:.1f} MB{why}; "
                f"the next stage sends them, or `{DELIVER}`"
            )
        return "\n".join(lines)

    def begin_sampling(self) -> None:
        """Record the machine's load from now on, unless the user does not want it."""
        self.sampler = Sampler(self.log_sample) if is_wanted() else None

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Record the run's end with one of MLflow's statuses, and what failed, and close."""
        seconds = KILLED_SECONDS if status == "KILLED" else CLOSE_SECONDS
        # Who sends a signal twice, or to a run that has failed, only shortens the wait.
        with signals.handling(lambda *_: self.outbox.hurry()):
            try:
                if self.sampler:
                    self.sampler.stop(seconds)
                if status == "FAILED":
                    self.set_tags({"failure": f"{type(error).__name__}: {error}"})
                self.journal.put("end", status=status, end_time=milliseconds())
            finally:
                self.close(seconds)

    def close(self, seconds: float) -> None:
        """Wait at most so long for what is left, and say if something is."""
        self.outbox.close(seconds)
        if len(self.outbox.refused) > 1:
            where, what = masked(self.uri), summary(self.outbox.refused)
            logger.warning("MLflow store %s has refused: %s", where, what)
        if count := len(self.journal.waiting):
            logger.warning(
                "MLflow run %s: %d entries are kept in %s; the next stage sends them, or `%s`",
                self.run_name or self.key,
                count,
                self.journal.folder,
                DELIVER,
            )

    def deliver_leftovers(self, stop: Callable[[], bool]) -> None:
        """Send what earlier runs have left, now that the store answers."""
        for outcome in leftovers.deliver_all(self.uri, stop):
            if outcome.why is None:
                logger.info("MLflow run %s, of earlier, is complete", outcome.name)


@contextmanager
def open_run(
    *, key: str, name: str, tags: Mapping[str, str], enabled: bool = True
) -> Iterator[RunLogger]:
    """Begin a run, or go on with one that was interrupted, and end it with the block.

    The run ends as FINISHED; as FAILED on an exception; as KILLED on KeyboardInterrupt, and on
    SystemExit with the status of a process that was ended by a signal.

    Args:
        key: letters and digits that no other run has. If there is a journal with this key, the
            run goes on, and what that has already is not recorded again.
        name: the run's name in lists.
        tags: `provenance.provenance_tags`, say.
        enabled: False, for ranks other than the first, gives a NullRunLogger.

    Yields:
        the run's tracker; a NullRunLogger, after a warning, where MLflow is not installed.

    Raises:
        StoreError: there can be no store at the address, or another process records this run. A
            store that fails is put up with.
        OSError: the journal cannot be written.
    """
    if not enabled or not is_installed():
        yield NullRunLogger()
        return
    uri = tracking_uri()
    check_address(uri)
    tracker = begin_run(uri, key, name, tags)
    try:
        tracker.begin_sampling()
        yield tracker
    except BaseException as error:
        tracker.end(status_after(error), error)
        raise
    tracker.end("FINISHED")


@contextmanager
def resume_run(key: str | None, run_id: str | None = None) -> Iterator[RunLogger]:
    """Add to a run that has ended, whose status stays as it is.

    Args:
        key: the run's; None if it was not recorded.
        run_id: MLflow's name for it, if that is known, to find it where it has no journal, as in
            a fresh clone that has its results from a DVC cache.

    Yields:
        the run's tracker; a NullRunLogger, after a warning, if there is no such run. A store that
        does not answer is put up with.

    Raises:
        OSError: the journal cannot be written.
    """
    tracker = find_run(key, run_id)
    try:
        yield tracker or NullRunLogger()
    finally:
        if tracker:
            tracker.close(CLOSE_SECONDS)


def begin_run(uri: str, key: str, name: str, tags: Mapping[str, str]) -> MlflowRunLogger:
    """Begin a run, or go on with it.

    Raises:
        StoreError: another process records it.
        OSError: the journal cannot be written.
    """
    try:
        held = Journal(key, HOLD_SECONDS)
    except BusyError as error:
        raise StoreError(f"{error}; wait for it to end") from None
    try:
        if not held.has_run:
            held.put("begin", key=key, name=name, tags=valid_tags(tags))
        else:
            held.put("restart")
            held.put("tags", values=valid_tags(tags))
    except BaseException:
        held.close()
        raise
    return MlflowRunLogger(held, RunWriter(held, uri))


def find_run(key: str | None, run_id: str | None) -> MlflowRunLogger | None:
    """The tracker of a run that has a journal, or is in the store, or may be if that is down."""
    key = key or run_id
    if key is None:
        logger.warning("the training was not recorded in MLflow, so neither is this")
        return None
    if not is_installed():
        return None
    uri = tracking_uri()
    is_known = journal.exists(key)
    try:
        held = Journal(key, FIND_SECONDS)
    except BusyError:  # another evaluation, say, so this one gets a journal of its own
        held = Journal(f"{key}+{uuid.uuid4().hex[:8]}")
        is_known = True
    writer = RunWriter(held, uri)
    if not is_known and not may_exist(writer, key, run_id):
        logger.warning("run %s is not in MLflow: nothing is added to it", run_id or key)
        held.discard()
        return None
    if not held.has_run:
        held.put("attach", key=key, run_id=run_id)
    return MlflowRunLogger(held, writer)


def may_exist(writer: RunWriter, key: str, run_id: str | None) -> bool:
    """Whether a run is in the store, or the store does not say so within seconds."""
    file = sqlite_file(writer.uri)
    if file is not None and not file.exists():
        return False

    def find() -> None:
        import_mlflow()
        with quiet():
            found.append(writer.find(key, run_id))

    found: list[Run | None] = []
    searching = threading.Thread(target=quietly(find), daemon=True)
    searching.start()
    searching.join(FIND_SECONDS)
    return found != [None]


def quietly(call: Callable[[], None]) -> Callable[[], None]:
    """The call, with its errors kept to itself."""

    def attempt() -> None:
        try:
            call()
        except Exception:
            logger.debug("the store does not answer", exc_info=True)

    return attempt


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
    return key if journal.is_key(key) else None, run_id if journal.is_key(run_id) else None


def is_installed() -> bool:
    """Whether MLflow is installed; warns if not."""
    if find_spec("mlflow") is None:
        logger.warning("mlflow is not installed, so nothing is recorded in MLflow")
        return False
    return True


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


def where_to_look(uri: str, binding: Binding | None) -> str:
    """The command, or the address, that shows a run; all runs if it is not in the store yet."""
    page = ""
    if binding is not None and binding.store == label(uri):
        page = f"/#/experiments/{binding.experiment_id}/runs/{binding.run_id}"
        page += "?workflowType=machine_learning"  # else MLflow shows pages for language models
    if uri.startswith(("http://", "https://")):
        return masked(uri.rstrip("/")) + page
    is_default = sqlite_file(uri) == project_root() / DATABASE
    store = "" if is_default else f" --backend-store-uri {masked(uri)}"
    return f"uv run mlflow ui{store}, then http://127.0.0.1:5000{page}"


def valid_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as MLflow takes them."""
    return {valid_name(name): cut(text, LONGEST_TAG) for name, text in tags.items()}


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
