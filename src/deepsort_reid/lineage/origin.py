"""Where a checkpoint comes from, pieced together from files, git, DVC's cache and MLflow."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.errors import LineageError, WeightsError
from deepsort_reid.core.git import git
from deepsort_reid.lineage.commits import HoldingCommit, commits_named, holding_commits
from deepsort_reid.lineage.dvc_cli import cache_folder, cached_file
from deepsort_reid.lineage.recorded_run import RecordedRun, RunSearch
from deepsort_reid.lineage.records import (
    CHECKPOINT,
    PipelineRecords,
    identity_of,
    parsed,
    read_bytes,
)
from deepsort_reid.model.checkpoint import dict_or_empty
from deepsort_reid.model.weights import read_safely
from deepsort_reid.training.fingerprint import Fingerprint

ARTIFACT = "checkpoint/model.pth"  # where a run keeps its checkpoint
KINDS = {"file": "file", "commit": "commit, branch, tag or experiment", "run": "MLflow run"}


@dataclass(kw_only=True)
class CheckpointOrigin:
    """A checkpoint, and what is known of how it was made; None or empty where nobody knows.

    Each `add_` keeps what is known already.
    """

    target: str  # `file models/model.pth`, `commit 0a1b2c3`, `MLflow run misty-fox`
    exact: str  # how to ask for this one and no other: `file:…`, `commit:…`, `run:…`
    commit: str | None = None  # if a commit was asked for
    file: Path | None = None  # if a file was asked for
    md5: str | None = None
    sha256: str | None = None
    epoch: int | None = None
    accuracy: float | None = None  # on val, per cent
    places: dict[str, Path] = field(default_factory=dict)  # in words -> path
    identity: Fingerprint | None = None
    records: PipelineRecords | None = None
    run: RecordedRun | None = None
    run_key: str | None = None  # or the run's id, in what was recorded before there were keys
    run_name: str | None = None
    holders: Sequence[HoldingCommit] = ()
    unknown: list[str] = field(default_factory=list)  # what could not be found out, and why

    @property
    def names_of_run(self) -> set[str]:
        """The key and the id of its MLflow run, as far as they are known."""
        return {name for name in (self.run_key, self.run and self.run.run_id) if name}

    def add_file(self, path: Path) -> None:
        """Add what the checkpoint's file says of itself.

        Raises:
            LineageError: it is no checkpoint of this project.
            WeightsError: it cannot be read.
        """
        about = dict_or_empty(read_safely(path))
        if "net_dict" not in about:
            raise LineageError(
                f"{path}: no checkpoint of this project; expected {CHECKPOINT}'s like"
            )
        self.md5, self.sha256 = files.md5(path), files.sha256(path)
        self.epoch, self.accuracy = about.get("epoch"), about.get("acc")
        self.identity = identity_of(about.get("identity"))

    def add_records(self, records: PipelineRecords) -> None:
        """Add what the files beside the checkpoint say."""
        error = records.training.get("best_val_error")
        if self.accuracy is None and error is not None:
            self.accuracy = 100 * (1 - error)
        self.records = records
        self.md5 = self.md5 or records.md5
        self.epoch = self.epoch or records.training.get("best_epoch")
        self.identity = self.identity or records.identity
        self.run_key = self.run_key or records.run.get("key") or records.run.get("run_id")
        self.run_name = self.run_name or records.run.get("run_name")

    def add_run(self, run: RecordedRun) -> None:
        """Add what its MLflow run says."""
        self.run, self.run_key, self.run_name = run, run.key, run.name
        self.md5 = self.md5 or run.checkpoint_md5

    def add_holders(self, root: Path) -> None:
        """Add the commits that hold the checkpoint, and what lies beside it in the newest."""
        self.holders = holding_commits(root, md5=self.md5, run=self.run_key)
        if self.holders and self.records is None:
            self.add_records(PipelineRecords.at_commit(self.holders[0].commit, root))

    def is_recorded_by(self, records: PipelineRecords) -> bool:
        """Whether records are of this checkpoint: they name its bytes, its run or its identity."""
        keys = {records.run.get("key"), records.run.get("run_id")} - {None}
        return (
            (self.md5 is not None and self.md5 == records.md5)
            or self.run_key in keys
            or (records.identity is not None and self.identity == records.identity)
        )


def find_origin(target: str | None, root: Path) -> CheckpointOrigin:
    """The one checkpoint that a text means, and all that is known of it.

    Args:
        target: a file, a commit, branch, tag or experiment, or an MLflow run's id, key or name;
            with `file:`, `commit:` or `run:` before it, that kind alone. None: the workspace's
            checkpoint.
        root: the project's folder.

    Raises:
        LineageError: it means nothing, or more than one thing.
        WeightsError: the file is no checkpoint.
    """
    search = RunSearch()
    kind, text = kind_and_text(f"file:{root / CHECKPOINT}" if target is None else target)
    found: list[CheckpointOrigin] = []
    if kind in (None, "file"):
        found += from_file(Path(text), root)
    if kind in (None, "commit"):
        found += from_commits(text, root)
    if kind in (None, "run"):
        # An experiment and its run have one name, and are one thing.
        keys = {origin.run_key for origin in found}
        found += [run for run in from_runs(text, search) if not keys & run.names_of_run]
    if not found:
        failure = f" ({search.failure})" if search.failure else ""
        kinds = KINDS[kind] if kind else ", ".join(KINDS.values())
        raise LineageError(f"{text}: no such {kinds}{failure}; --help says what can be asked")
    if len(found) > 1:
        ways = ", ".join(f"{origin.exact} ({origin.target})" for origin in found)
        raise LineageError(f"{text} may mean several things; say which: {ways}")
    complete(found[0], root, search)
    return found[0]


def kind_and_text(target: str) -> tuple[str | None, str]:
    """The kind of thing that a target says it is, and the rest of it."""
    kind, colon, rest = target.partition(":")
    return (kind, rest) if colon and kind in KINDS else (None, target)


def from_file(path: Path, root: Path) -> Iterator[CheckpointOrigin]:
    """Yield what a file says of itself, if there is one."""
    if path.is_file():
        shown = relative(path, root)
        origin = CheckpointOrigin(target=f"file {shown}", exact=f"file:{shown}", file=path)
        origin.add_file(path)
        yield origin
    elif path == root / CHECKPOINT:
        raise LineageError(
            f"{CHECKPOINT} is missing here: bring it back (dvc checkout), make it (dvc repro), "
            "or ask for a commit or a run"
        )


def from_commits(text: str, root: Path) -> Iterator[CheckpointOrigin]:
    """Yield what each commit that a name means has recorded."""
    for commit in commits_named(text, root):
        records = PipelineRecords.at_commit(commit, root)
        if records.md5 is None:
            raise LineageError(f"commit {commit[:7]} holds no checkpoint: its dvc.lock has none")
        name = "" if commit.startswith(text) else f" ({text})"
        origin = CheckpointOrigin(
            target=f"commit {commit[:7]}{name}", exact=f"commit:{commit[:10]}", commit=commit
        )
        origin.add_records(records)
        yield origin


def from_runs(text: str, search: RunSearch) -> Iterator[CheckpointOrigin]:
    """Yield what MLflow has recorded of each run that a text means."""
    for run in search.named(text):
        origin = CheckpointOrigin(
            target=f"MLflow run {run.name}, {run.started}", exact=f"run:{run.run_id}"
        )
        origin.add_run(run)
        yield origin


def complete(origin: CheckpointOrigin, root: Path, search: RunSearch) -> None:
    """Follow what is known of a checkpoint to all the rest."""
    here = PipelineRecords.here(root)
    if origin.records is None and origin.is_recorded_by(here):
        origin.add_records(here)
    origin.add_holders(root)
    if origin.run is None:
        run = search.of_checkpoint(key=origin.run_key, md5=origin.md5)
        if run:
            origin.add_run(run)
            origin.add_holders(root)
    if origin.run and origin.identity is None:
        path = search.artifact(origin.run, "identity.json")
        origin.identity = identity_of(parsed(json.loads, read_bytes(path))) if path else None
    add_places(origin, root, search)
    if origin.identity is None:
        origin.unknown.append(
            "the checkpoint's identity: neither it nor a report or run beside it tells one"
        )
    if origin.run is None:
        why = search.failure or "no run there has its key or its bytes"
        origin.unknown.append(f"the MLflow run: {why}")
    if not git("rev-parse", "HEAD", at=root):
        origin.unknown.append(
            "the commits that hold it: there is no git repository with a commit here"
        )


def add_places(origin: CheckpointOrigin, root: Path, search: RunSearch) -> None:
    """Add where the checkpoint's bytes lie, and what the first of these files says of itself."""
    here = root / CHECKPOINT
    if origin.file and origin.file.absolute() != here:
        origin.places[relative(origin.file, root)] = origin.file
    if here.is_file() and origin.md5 == files.md5(here):
        origin.places[f"{CHECKPOINT}, in the workspace"] = here
    try:
        cached = cached_file(cache_folder(root), origin.md5) if origin.md5 else None
        if cached and cached.is_file():
            origin.places[f"{relative(cached, root)}, in DVC's cache"] = cached
    except LineageError as error:
        origin.unknown.append(f"whether DVC's cache has it: {error}")
    if origin.run and (path := search.artifact(origin.run, ARTIFACT)):
        origin.places[f"{relative(path, root)}, an artifact of the MLflow run"] = path
    if origin.places and origin.sha256 is None:
        try:
            origin.add_file(next(iter(origin.places.values())))
        except (LineageError, WeightsError) as error:
            origin.unknown.append(str(error))


def relative(path: Path, root: Path) -> str:
    """A path as seen from the project's folder, or whole if it lies elsewhere."""
    path = path.absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
