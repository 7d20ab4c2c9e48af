"""A run's folder: all that MLflow shall know of a run, as files that a person can read.

.runs/<key>/ at the repository's root holds

    run.json      key, name, status, and when it started and ended (milliseconds since 1970)
    params.json   parameters: name -> text
    tags.json     tags: name -> text
    inputs.json   datasets: what they are used for -> name, source, digest, counts
    metrics.csv   time_ms,step,name,value: a line for each point of a curve; a number without a
                  step is one of the finished network
    system.csv    the same for the machine's load
    artifacts/    files, as they shall lie in the MLflow run, until they do
    model/        the exported network, until the MLflow run has it
    promote       a metric's name, by which the alias `best` is to be moved, and below it what the
                  version's page is to say; until that is done
    mlflow.json   the MLflow run, and the state of the files above that it is known to equal

Any process may write to it at any time. JSON files are replaced whole, lines are appended, each
under a lock that is held for the moment, so a process that is killed leaves whole files and whole
lines. `owner.lock` is held by the training as long as it lives.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deepsort_reid.core import files
from deepsort_reid.core.project import project_root
from deepsort_reid.runs.points import Points

logger = logging.getLogger(__name__)

FOLDER = ".runs"
JOURNAL = "journal.jsonl"  # what an earlier version of this project kept there
RECORDS = ("run.json", "params.json", "tags.json", "inputs.json", "metrics.csv", "system.csv")
LINK_FROM = 1 << 20  # bytes; smaller files are copied
KEY = re.compile(r"\w[\w.+-]{0,99}")

State = dict[str, list[int]]  # a record's file -> what changes when its content does


class BusyError(Exception):
    """Another process has the lock."""


class RunFolder:
    """One run's folder. Several processes and threads may use it at once.

    Attributes:
        key: the folder's name, which no other run has.
        path: the folder.
        metrics: the points of metrics.csv.
        system: the points of system.csv.
    """

    def __init__(self, key: str, place: Path | None = None):
        """Name a folder; it is made by the first write.

        Args:
            key: letters and digits.
            place: where it lies; `.runs` at the repository's root by default.

        Raises:
            ValueError: the key cannot be the name of a folder.
        """
        if not is_key(key):
            raise ValueError(f"{key!r} is no key of a run: expected letters and digits")
        self.key = key
        self.path = (place or project_root() / FOLDER) / key
        self.metrics = Points(self.path / "metrics.csv", self.writing)
        self.system = Points(self.path / "system.csv", self.writing)

    # The run

    def begin(self, name: str) -> None:
        """Begin the run, or go on with it under the name that it has."""
        first = {"key": self.key, "name": name, "started": milliseconds()}
        self.merge("run.json", {**first, **self.read("run.json"), "status": "RUNNING"})

    def end(self, status: str, at: int | None = None) -> None:
        """End the run with one of MLflow's statuses, now or at a time in milliseconds."""
        self.merge("run.json", {"status": status, "ended": at or milliseconds()})

    def end_if_dead(self) -> None:
        """End a run as KILLED, when last heard of, if its process died without ending it."""
        if self.status != "RUNNING":
            return
        with suppress(BusyError), self.owned():
            if self.status == "RUNNING":
                points = [*self.metrics.read(), *self.system.read()]
                started = self.read("run.json").get("started", 0)
                self.end("KILLED", max([started, *(point.time for point in points)]))

    @property
    def status(self) -> str | None:
        """The run's status; None for one that was trained elsewhere."""
        return self.read("run.json").get("status")

    @property
    def name(self) -> str | None:
        """The run's name in lists."""
        return self.mlflow.get("run_name") or self.read("run.json").get("name")

    def attach(self, run_id: str | None) -> None:
        """Let the folder add to a run that was trained elsewhere, unless it has the run itself.

        Args:
            run_id: MLflow's name for the run, if that is known.
        """
        if not (self.path / "run.json").exists():
            self.merge("run.json", {"key": self.key, "run_id": run_id}, replace=False)

    # Records

    def read(self, name: str) -> dict[str, Any]:
        """The content of a JSON file; empty if it is missing, or damaged, after a warning."""
        path = self.path / name
        try:
            content = files.read_json(path)
            if isinstance(content, dict):
                return content
        except FileNotFoundError:
            return {}
        except ValueError:
            pass
        logger.warning("%s is damaged, and not used", path)
        return {}

    def merge(self, name: str, values: Mapping[str, Any], *, replace: bool = True) -> None:
        """Add values to a JSON file.

        Args:
            name: the file's.
            values: by name.
            replace: False keeps the values that are there.

        Raises:
            OSError: the disk is full.
        """
        with self.writing():
            before = self.read(name)
            after = {**before, **values} if replace else {**values, **before}
            if after != before:
                files.write_json(self.path / name, after)

    # Files

    def keep(self, source: Path, folder: str = "") -> None:
        """Keep the present content of a file, or of all files of a folder, as artifacts.

        Raises:
            OSError: it cannot be read, or the disk is full.
        """
        is_folder = source.is_dir()
        for path in files_below(source) if is_folder else [source]:
            name = path.relative_to(source) if is_folder else path.name
            target = self.path / "artifacts" / folder / name
            with files.naming(target), files.temporary(self.path / "artifact") as new:
                link_or_copy(path, new)
                with self.writing():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    new.replace(target)
                    files.sync(target.parent)

    def keep_model(self, write: Callable[[Path], None]) -> None:
        """Let a function write the model's folder, unless there is one that waits to be sent."""
        with files.temporary(self.path / "model") as new:
            write(new)
            for path in files_below(new):
                files.sync(path)
            if not (self.path / "model").exists():
                new.replace(self.path / "model")

    def artifacts(self) -> list[Path]:
        """The artifacts that wait to be sent."""
        return files_below(self.path / "artifacts")

    def pending(self) -> list[Path]:
        """All files that wait to be sent."""
        model = files_below(self.path / "model")
        promote = self.path / "promote"
        return [*self.artifacts(), *model, *([promote] if promote.exists() else [])]

    def drop(self, path: Path, seen: list[int]) -> None:
        """Remove a file that was sent, unless it was replaced meanwhile.

        Args:
            path: the file, or the model's folder.
            seen: what `state_of` said before it was sent.
        """
        with self.writing():
            if state_of(path) != seen:
                return
            files.remove(path)
            while (path := path.parent) != self.path and not any(path.iterdir()):
                path.rmdir()

    # MLflow

    @property
    def mlflow(self) -> dict[str, Any]:
        """The MLflow run (store, run_id, run_name, experiment_id), and the state it equals."""
        return self.read("mlflow.json")

    def state(self) -> State:
        """The state of all records, which changes with each of them."""
        paths = [self.path / name for name in RECORDS]
        return {path.name: state for path in paths if (state := state_of(path))}

    def unsent(self) -> str:
        """What the MLflow run may lack, in words: `records, 3 files (1.5 MB)`; empty if nothing."""
        words = [] if self.mlflow.get("mirrored", {}) == self.state() else ["records"]
        if pending := self.pending():
            size = sum(path.stat().st_size for path in pending)
            words.append(f"{len(pending)} files ({size / 1e6:.1f} MB)")
        return ", ".join(words)

    def is_settled(self) -> bool:
        """Whether nothing is left to do: it is mirrored, and the run has ended."""
        return self.status != "RUNNING" and not self.unsent()

    def give_up(self) -> None:
        """Send nothing more of what is here now, since MLflow has no such run."""
        is_guest = self.read("run.json").keys() == {"key", "run_id"} and not self.mlflow
        if is_guest and not (self.path / JOURNAL).exists():
            files.remove(self.path)
            return
        for path in (self.path / "artifacts", self.path / "model", self.path / "promote"):
            files.remove(path)
        self.merge("mlflow.json", {"mirrored": self.state()})

    # Locks

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock that every write takes for a moment."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / "write.lock", poll_interval=0.005):
            yield

    @contextmanager
    def owned(self, patience: float = 0) -> Iterator[None]:
        """Hold the lock of the process that trains, waiting at most so many seconds for it.

        Raises:
            BusyError: another process trains.
        """
        with self._lock("owner", patience):
            yield

    @contextmanager
    def mirroring(self, patience: float = 0) -> Iterator[None]:
        """Hold the lock of the process that sends, waiting at most so many seconds for it.

        Raises:
            BusyError: another process sends.
        """
        with self._lock("mirror", patience):
            yield

    def is_owned(self) -> bool:
        """Whether the process that trains is alive."""
        try:
            with self.owned():
                return False
        except BusyError:
            return True

    @contextmanager
    def _lock(self, name: str, patience: float) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise BusyError(f"run {self.key} is recorded by another process") from None
        try:
            yield
        finally:
            lock.release()


def all_folders() -> list[RunFolder]:
    """The folders of all runs, sorted by key."""
    place = project_root() / FOLDER
    paths = sorted(place.iterdir()) if place.is_dir() else []
    return [RunFolder(path.name) for path in paths if path.is_dir() and is_key(path.name)]


def is_key(key: object) -> bool:
    """Whether something can be a run's key, which is the name of a folder."""
    return isinstance(key, str) and KEY.fullmatch(key) is not None


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted; none if it is not there."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def remove_torn_uploads(folder: Path) -> None:
    """Remove what MLflow leaves below a folder where a process died while it copied a file."""
    for path in folder.rglob(".artifact.uploading.*"):
        files.remove(path)


def share_with_cache(folder: Path) -> None:
    """Let large files below a folder be links to DVC's cache, where it has the same bytes.

    MLflow's folder then takes no room for them, and keeps them when DVC forgets them. DVC fills
    its cache at the end of a stage, so a file is found there from the next stage on. A file that
    cannot be read, or linked from another disk, stays as it is.
    """
    cache = dvc_cache()
    for path in files_below(folder):
        with suppress(OSError):
            if (status := path.lstat()).st_nlink > 1 or status.st_size < LINK_FROM:
                continue
            digest = files.md5(path)
            cached = cache / digest[:2] / digest[2:]
            if cached.is_file() and files.md5(cached) == digest:
                with files.temporary(path) as new:
                    os.link(cached, new)
                    new.replace(path)


def dvc_cache() -> Path:
    """Where DVC keeps files by their MD5, as far as the project's own settings say."""
    settings, place = ConfigParser(interpolation=None), project_root() / ".dvc"
    with suppress(ConfigParserError):
        settings.read([place / "config", place / "config.local"])
    return place / settings.get("cache", "dir", fallback="cache") / "files" / "md5"


def link_or_copy(source: Path, target: Path) -> None:
    """Link a large file that has no other name, and copy any other.

    The stages only ever replace their files, so a link holds the old content. Small files are what
    people change in place, with an editor; a file that has two names already may be DVC's.
    """
    status = source.lstat()
    is_ours = not source.is_symlink() and status.st_nlink == 1
    if is_ours and status.st_size >= LINK_FROM:
        with suppress(OSError):  # a file system without links, or another one
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    files.sync(target)


def state_of(path: Path) -> list[int]:
    """What tells whether a file or folder was replaced or added to; empty if it is missing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def milliseconds() -> int:
    """The time since 1970 in milliseconds."""
    return time.time_ns() // 1_000_000
