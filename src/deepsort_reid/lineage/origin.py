"""Where checkpoints come from, pieced together from files, git, DVC's cache and MLflow."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from deepsort_reid.core import files
from deepsort_reid.core.errors import LineageError, StoreError, WeightsError
from deepsort_reid.lineage import git as history
from deepsort_reid.lineage.git import Holder
from deepsort_reid.lineage.workspace import CHECKPOINT, Lock, outputs, parse_lock
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import dict_or_empty
from deepsort_reid.runs.provenance import CHECKPOINT_MD5, RUN_KEY, git
from deepsort_reid.runs.store import Store, open_store, reason, sqlite_file, tracking_uri
from deepsort_reid.training.fingerprint import Identity

ARTIFACT = "checkpoint/model.pth"  # where a run keeps its checkpoint
KINDS = {"file": "file", "commit": "commit, branch, tag or experiment", "run": "MLflow run"}
REPORTS = {
    "identity": "reports/identity.json",
    "training": "reports/train.json",
    "counts": "reports/split.json",
    "run": history.RUN,
}


@dataclass(frozen=True)
class Records:
    """The small files beside a checkpoint, in the workspace or at a commit; None: missing."""

    lock: Lock | None
    identity: Any
    training: Any
    counts: Any
    run: Any

    @classmethod
    def read(cls, contents: Callable[[Sequence[str]], Sequence[bytes | None]]) -> Self:
        """Read them.

        Args:
            contents: gives the bytes of files; None for each that is missing.
        """
        lock, *reports = contents([history.LOCK, *REPORTS.values()])
        return cls(parsed(parse_lock, lock), *(parsed(json.loads, report) for report in reports))

    @property
    def md5(self) -> str | None:
        """The checkpoint's MD5, as dvc.lock states it."""
        return outputs(self.lock or {}, "train").get(CHECKPOINT)


@dataclass(frozen=True)
class Run:
    """An MLflow run, as far as the store has told."""

    run_id: str
    name: str
    status: str
    started: str  # 2026-11-24 15:20
    experiment_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A checkpoint, and what is known of how it was made; None or empty where nobody knows."""

    target: str  # `file models/model.pth`, `commit 0a1b2c3`, `MLflow run misty-fox`
    commit: str | None = None  # the one asked for
    md5: str | None = None
    sha256: str | None = None
    epoch: int | None = None
    accuracy: float | None = None  # on val, per cent
    places: Sequence[str] = ()
    identity: Identity | None = None
    records: Records | None = None
    run: Run | None = None
    run_key: str | None = None  # or the run's id, in what was recorded before there were keys
    run_name: str | None = None
    holders: Sequence[Holder] = ()
    unknown: Sequence[str] = field(default=())  # what could not be found out, and why


def parsed(parse: Callable[[bytes], Any], content: bytes | None) -> Any:
    """A file's content; None if it is missing or damaged."""
    try:
        return None if content is None else parse(content)
    except (ValueError, UnicodeDecodeError):
        return None


def identity_of(plain: Any) -> Identity | None:
    """An identity as a file states it; None if that is none."""
    try:
        return Identity.from_plain(plain)
    except ValueError:
        return None


class Sources:
    """The project's folder, its history, and its MLflow store, which is opened once if at all."""

    def __init__(self, root: Path):
        """Ask nothing yet."""
        self.root = root
        self.store: Store | None = None
        self.failure: str | None = None  # of the store

    def at_commit(self, commit: str) -> Records:
        """The records at a commit."""
        return Records.read(
            lambda paths: history.contents([(commit, path) for path in paths], self.root)
        )

    def here(self) -> Records:
        """The records of the workspace."""
        return Records.read(lambda paths: [read_bytes(self.root / path) for path in paths])

    def runs(self, condition: str) -> list[Run]:
        """The runs that meet a condition in MLflow's words; none if the store does not answer."""
        found = self.ask(
            lambda store: store.client.search_runs([store.experiment_id], filter_string=condition)
        )
        return [told(run) for run in found or ()]

    def run(self, run_id: str) -> Run | None:
        """The run with this id; None if there is none, or the store does not answer."""
        if not is_hexadecimal(run_id):
            return None
        found = self.runs(f"attributes.run_id = '{run_id}'")
        return found[0] if found else None

    def artifact(self, run: Run, path: str) -> Path | None:
        """Where a run's artifact lies on this machine; None if it lies elsewhere or nowhere."""
        found = self.ask(lambda store: store.client.get_run(run.run_id).info.artifact_uri)
        local = Path(str(found).removeprefix("file://")) / path
        return local if found and local.is_absolute() and local.is_file() else None

    def ask(self, question: Callable[[Store], Any]) -> Any:
        """Ask the store; None after a failure, and nothing more is asked then."""
        if self.failure is not None:
            return None
        try:
            self.store = self.store or open_existing()
            return question(self.store)
        except ModuleNotFoundError as error:
            self.failure = f"{error.name} is not installed"
        except StoreError as error:
            self.failure = str(error)
        except Exception as error:  # a store fails in many ways, and the rest is told without it
            self.failure = f"the MLflow store does not answer: {reason(error)}"
        return None


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


def told(run: Any) -> Run:
    """What matters of MLflow's `mlflow.entities.Run`."""
    started = datetime.fromtimestamp(run.info.start_time / 1000).astimezone()
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started=f"{started:%Y-%m-%d %H:%M}",
        experiment_id=str(run.info.experiment_id),
        tags=dict(run.data.tags),
        params=dict(run.data.params),
    )


def read_bytes(path: Path) -> bytes | None:
    """A file's bytes; None if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def is_hexadecimal(text: str | None) -> bool:
    """Whether a text is made of the digits that MLflow, git and we name things by."""
    return bool(text) and set(str(text)) <= set("0123456789abcdef")


def find(target: str | None, sources: Sources) -> Origin:
    """The one checkpoint that a text means, and all that is known of it.

    Args:
        target: a file, a commit, branch, tag or experiment, or an MLflow run's id, key or name;
            with `file:`, `commit:` or `run:` before it, that alone. None: the workspace's.
        sources: where to look.

    Raises:
        LineageError: it means nothing, or more than one thing.
        WeightsError: the file is no checkpoint.
    """
    kind, text = exact(f"file:{sources.root / CHECKPOINT}" if target is None else target)
    finders = {"file": from_file, "commit": from_commits, "run": from_runs}
    found: list[Origin] = []
    for name, finder in finders.items():
        if kind in (None, name):
            found += [origin for origin in finder(text, sources) if not is_among(origin, found)]
    if not found:
        failure = f" ({sources.failure})" if sources.failure else ""
        kinds = KINDS[kind] if kind else ", ".join(KINDS.values())
        raise LineageError(f"{text}: no such {kinds}{failure}; --help says what can be asked")
    if len(found) > 1:
        ways = ", ".join(f"{spelling(origin)} ({origin.target})" for origin in found)
        raise LineageError(f"{text} may mean several things; say which: {ways}")
    return complete(found[0], sources)


def exact(target: str) -> tuple[str | None, str]:
    """The kind of thing that a target says it is, and the rest of it."""
    kind, colon, rest = target.partition(":")
    return (kind, rest) if colon and kind in KINDS else (None, target)


def spelling(origin: Origin) -> str:
    """How to ask for this one and no other."""
    if origin.commit:
        return f"commit:{origin.commit[:10]}"
    return f"run:{origin.run.run_id}" if origin.run else f"file:{origin.target.split(' ', 1)[1]}"


def is_among(origin: Origin, others: Sequence[Origin]) -> bool:
    """Whether a run is the one of a commit that the same name means: an experiment and its run."""
    names = {origin.run_key, origin.run.run_id if origin.run else None} - {None}
    return any(other.run_key in names for other in others)


def from_file(text: str, sources: Sources) -> Iterator[Origin]:
    """Yield what a file says of itself, if there is one."""
    path = Path(text)
    if text == str(sources.root / CHECKPOINT) and not path.is_file():
        raise LineageError(
            f"{CHECKPOINT} is missing here: bring it back (dvc checkout), make it (dvc repro), "
            "or ask for a commit or a run"
        )
    if path.is_file():
        yield with_file(Origin(target=f"file {relative(path, sources.root)}"), path, is_strict=True)


def with_file(origin: Origin, path: Path, *, is_strict: bool = False) -> Origin:
    """Add what a checkpoint's file says of itself.

    Raises:
        WeightsError: it is no checkpoint, or cannot be read, and `is_strict`.
    """
    try:
        content = network.read_safely(path)
    except WeightsError as error:
        if is_strict:
            raise
        return replace(origin, unknown=[*origin.unknown, str(error)])
    about = dict_or_empty(content)
    if is_strict and "net_dict" not in about:
        raise LineageError(f"{path}: no checkpoint of this project; expected {CHECKPOINT}'s like")
    return replace(
        origin,
        md5=files.md5(path),
        sha256=files.sha256(path),
        epoch=about.get("epoch"),
        accuracy=about.get("acc"),
        identity=identity_of(about.get("identity")),
    )


def from_commits(text: str, sources: Sources) -> Iterator[Origin]:
    """Yield what each commit that a name means has recorded."""
    for commit in history.resolve(text, sources.root):
        records = sources.at_commit(commit)
        if records.md5 is None:
            raise LineageError(f"commit {commit[:7]} holds no checkpoint: its dvc.lock has none")
        name = "" if commit.startswith(text) else f" ({text})"
        origin = Origin(target=f"commit {commit[:7]}{name}", commit=commit, md5=records.md5)
        yield with_records(origin, records)


def with_records(origin: Origin, records: Records) -> Origin:
    """Add what the files beside a checkpoint say, where nothing is known yet."""
    run, training = dict_or_empty(records.run), dict_or_empty(records.training)
    error = training.get("best_val_error")
    accuracy = None if error is None else 100 * (1 - error)
    return replace(
        origin,
        md5=origin.md5 or records.md5,
        records=records,
        epoch=origin.epoch or training.get("best_epoch"),
        accuracy=accuracy if origin.accuracy is None else origin.accuracy,
        identity=origin.identity or identity_of(records.identity),
        run_key=origin.run_key or run.get("key") or run.get("run_id"),
        run_name=origin.run_name or run.get("run_name"),
    )


def from_runs(text: str, sources: Sources) -> Iterator[Origin]:
    """Yield what MLflow has recorded of each run that a text means."""
    found = {run.run_id: run for run in [sources.run(text)] if run}
    if "'" not in text and "\\" not in text:
        for condition in (f"tags.{RUN_KEY} = '{text}'", f"attributes.run_name = '{text}'"):
            found |= {run.run_id: run for run in sources.runs(condition)}
    for run in found.values():
        yield with_run(Origin(target=f"MLflow run {run.name}, {run.started}"), run)


def with_run(origin: Origin, run: Run) -> Origin:
    """Add what an MLflow run says."""
    return replace(
        origin,
        run=run,
        md5=origin.md5 or run.tags.get(CHECKPOINT_MD5),
        run_key=run.tags.get(RUN_KEY, run.run_id),
        run_name=run.name,
    )


def complete(origin: Origin, sources: Sources) -> Origin:
    """Follow what is known of a checkpoint to all the rest."""
    here = sources.here()
    if origin.records is None and is_same(origin, here):
        origin = with_records(origin, here)
    origin = hold(origin, sources)
    if origin.run is None and (run := find_run(origin, sources)):
        origin = hold(with_run(origin, run), sources)
    if origin.run and origin.identity is None:
        path = sources.artifact(origin.run, "identity.json")
        plain = parsed(json.loads, read_bytes(path)) if path else None
        origin = replace(origin, identity=identity_of(plain))
    places = dict(placed(origin, sources))
    if places and origin.sha256 is None:
        origin = with_file(origin, next(iter(places.values())))
    unknown = [*origin.unknown, *unanswered(origin, sources)]
    return replace(origin, places=list(places), unknown=unknown)


def is_same(origin: Origin, records: Records) -> bool:
    """Whether records are of this checkpoint: they name its bytes, its run or its identity."""
    run = dict_or_empty(records.run)
    names = {run.get("key"), run.get("run_id")} - {None}
    identity = identity_of(records.identity)
    return (
        (origin.md5 is not None and origin.md5 == records.md5)
        or origin.run_key in names
        or (identity is not None and origin.identity == identity)
    )


def hold(origin: Origin, sources: Sources) -> Origin:
    """Add the commits that hold a checkpoint, and what stands beside it in the newest."""
    found = history.holders(sources.root, md5=origin.md5, run=origin.run_key)
    origin = replace(origin, holders=found)
    if found and origin.records is None:
        origin = with_records(origin, sources.at_commit(found[0].commit))
    return origin


def find_run(origin: Origin, sources: Sources) -> Run | None:
    """The MLflow run of a checkpoint, by its key, its id, or the checkpoint's bytes."""
    key, md5 = origin.run_key, origin.md5
    if key and is_hexadecimal(key):
        found = sources.runs(f"tags.{RUN_KEY} = '{key}'")
        if run := next(iter(found), None) or sources.run(key):
            return run
    found = sources.runs(f"tags.{CHECKPOINT_MD5} = '{md5}'") if md5 else []
    return next(iter(found), None)


def placed(origin: Origin, sources: Sources) -> Iterator[tuple[str, Path]]:
    """Yield where the checkpoint's bytes lie, in words and as a path."""
    here = sources.root / CHECKPOINT
    if origin.target.startswith("file "):
        path = sources.root / origin.target.split(" ", 1)[1]
        if path != here:
            yield relative(path, sources.root), path
    if here.is_file() and origin.md5 == files.md5(here):
        yield f"{CHECKPOINT}, in the workspace", here
    if origin.md5 and (path := history.cached(sources.root, origin.md5)).is_file():
        yield f"{relative(path, sources.root)}, in DVC's cache", path
    if origin.run and (path_ := sources.artifact(origin.run, ARTIFACT)):
        yield f"{relative(path_, sources.root)}, an artifact of the MLflow run", path_


def relative(path: Path, root: Path) -> str:
    """A path as seen from the project's folder, or whole if it lies elsewhere."""
    path = path.absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def unanswered(origin: Origin, sources: Sources) -> Iterator[str]:
    """Yield what could not be found out, and why, a line each."""
    if origin.identity is None:
        yield "the checkpoint's identity: neither it nor a report or run beside it tells one"
    if origin.run is None:
        why = sources.failure or "no run there has its key or its bytes"
        yield f"the MLflow run: {why}"
    if not git("rev-parse", "HEAD", at=sources.root):
        yield "the commits that hold it: there is no git repository with a commit here"
