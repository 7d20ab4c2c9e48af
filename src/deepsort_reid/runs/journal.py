"""A run's journal on disk: all that MLflow shall know of it, and what of that it knows already.

`.runs/<key>/journal.jsonl` holds a line for each thing put into it, and for each one struck off:
the CRC-32 of some JSON, a blank, the JSON. Lines are only ever appended, each by one write, so
whatever ends the process leaves whole lines and at most one torn one, the last.
"""

import json
import logging
import os
import re
import shutil
import threading
import time
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from filelock import FileLock, Timeout

from deepsort_reid.core import files
from deepsort_reid.core.project import project_root
from deepsort_reid.runs import spool

logger = logging.getLogger(__name__)

FOLDER = ".runs"  # at the repository's root
WANTED = "wanted"  # an empty file: somebody waits for the journal
SETTLED = "settled"  # an empty file: nothing waits here, so there is no need to read the journal


class BusyError(Exception):
    """Another process, or another part of this one, holds the journal."""


class Entry(NamedTuple):
    """One thing to record, as plain data."""

    number: int  # counts from 0 in a journal
    kind: str
    time: int  # milliseconds since 1970
    payload: dict[str, Any]


@dataclass(frozen=True)
class Binding:
    """The MLflow run that a journal belongs to, once it has one.

    Attributes:
        store: the store's address without credentials, `store.label`.
        run_id: MLflow's name for the run.
        run_name: the name it has in lists.
        experiment_id: the experiment it lies in.
    """

    store: str
    run_id: str
    run_name: str
    experiment_id: str


class Journal:
    """One run's journal, held by one process at a time; any thread may use it.

    Nothing is put twice: a training that goes on after it was killed, or an evaluation that is run
    again, says once more what the journal has already.

    Attributes:
        key: the folder's name.
        waiting: what the store has not taken yet, by number, in order.
        binding: the MLflow run; None before the store has answered.
        ended: whether the run has ended; None if it is not this journal that begins it.
        changed: held while the journal changes, notified when it has.
    """

    waiting: dict[int, Entry]
    binding: Binding | None
    ended: bool | None

    def __init__(self, key: str, patience: float = 0.0):
        """Take hold of a journal, and read what is there.

        Args:
            key: names it.
            patience: seconds to wait for whoever holds it, who can see that somebody waits.

        Raises:
            BusyError: somebody else holds it.
            OSError: it cannot be read or written.
        """
        self.key, self.folder = key, folder_of(key)
        self.path = self.folder / "journal.jsonl"
        self.changed = threading.Condition(threading.RLock())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder / "lock", thread_local=False)
        wanted = self.folder / WANTED
        try:
            if patience:
                wanted.touch()
            self.lock.acquire(timeout=patience)
        except Timeout:
            if patience:
                wanted.unlink(missing_ok=True)
            raise BusyError(f"run {key} is recorded by another process") from None
        try:
            self._read()
            self.file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._tidy()
        except BaseException:
            self.lock.release()
            raise

    def __enter__(self) -> Self:
        """Hold it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.close()

    def put(self, kind: str, *, sync: bool = True, **payload: Any) -> bool:
        """Put an entry in, to stay whatever happens from then on.

        Args:
            kind: one that `RunWriter` has a method for.
            sync: False for what is not worth waiting for the disk.
            payload: plain data, not larger than a line should be.

        Returns:
            False if it is there already.

        Raises:
            OSError: the disk is full.
        """
        with self.changed:
            known = mark(kind, payload)
            if known is not None and self.marks.get(known[0]) == known[1]:
                return False
            entry = Entry(self.next_number, kind, milliseconds(), payload)
            line = encode(entry._asdict())
            # First, since a signal's handler may raise SystemExit while the disk is written to: the
            # entry is then delivered all the same.
            self._take(entry)
            try:
                self._write(line, sync=sync)
            except OSError:
                self._read()
                raise
            self.changed.notify_all()
            return True

    def put_file(self, kind: str, file: Path, *, move: bool = False, **payload: Any) -> bool:
        """Put an entry in that is about a file or a folder, and keep its content for it.

        Args:
            kind: as for `put`.
            file: what to keep.
            move: take the file itself, which nobody else needs.
            payload: as for `put`; gains `path`, below the journal's folder, and `digest`.

        Raises:
            OSError: the file cannot be read, or the disk is full.
        """
        payload |= {"path": file.name, "digest": spool.digest(file)}
        with self.changed:
            known = mark(kind, payload)
            if known is not None and self.marks.get(known[0]) == known[1]:
                return False
            number = self.next_number
            place = self.folder / "files" / str(number)
            place.mkdir(parents=True)
            try:
                (spool.take if move else spool.keep)(file, place / file.name)
                files.sync(place)
                payload["path"] = str((place / file.name).relative_to(self.folder))
                return self.put(kind, **payload)
            finally:
                if number not in self.waiting:
                    shutil.rmtree(place, ignore_errors=True)

    def strike(self, entries: Sequence[Entry], refusal: str | None = None) -> None:
        """Strike entries off: the store has them, or has refused them for this reason.

        Raises:
            OSError: the disk is full.
        """
        numbers = [entry.number for entry in entries]
        line = {"delivered": numbers} if refusal is None else {"refused": numbers, "why": refusal}
        has_files = any("path" in entry.payload for entry in entries)
        with self.changed:
            # A line that is lost lets an entry be sent again, which is harmless; not so its file.
            self._write(encode(line), sync=has_files)
            self._strike(numbers, refused=refusal is not None)
            self.changed.notify_all()
        for number in numbers if has_files else ():
            shutil.rmtree(self.folder / "files" / str(number), ignore_errors=True)

    def bind(self, binding: Binding) -> None:
        """Remember which MLflow run this is.

        Raises:
            OSError: the disk is full.
        """
        with self.changed:
            self._write(encode({"bound": asdict(binding)}), sync=True)
            self.binding = binding
            self.changed.notify_all()

    def has(self, kind: str) -> bool:
        """Whether there is an entry of a kind of which there is only one."""
        return kind in self.marks

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it."""
        return (self.folder / WANTED).exists()

    @property
    def has_run(self) -> bool:
        """Whether it knows its MLflow run, or will when the store answers."""
        waits = self.begun is not None and self.begun.number in self.waiting
        return waits or self.binding is not None

    def size(self) -> tuple[int, int]:
        """How many entries wait, and how many bytes they hold with their files."""
        with self.changed:
            waiting = list(self.waiting.values())
        paths = [self.folder / entry.payload["path"] for entry in waiting if has_path(entry)]
        texts = sum(len(json.dumps(entry.payload)) for entry in waiting)
        return len(waiting), texts + sum(map(spool.size, paths))

    def discard(self) -> None:
        """Let go of it, and remove it, for it was not needed."""
        self.close()
        shutil.rmtree(self.folder)
        with suppress(OSError):  # other runs are in it
            self.folder.parent.rmdir()

    def close(self) -> None:
        """Let go of it, for whoever comes next."""
        with self.changed:
            if not self.lock.is_locked:
                return
            if not self.waiting and self.ended is not False:
                with suppress(OSError):  # it only saves time
                    (self.folder / SETTLED).touch()
            os.close(self.file)
            self.file = -1  # whoever still writes shall not write into another file
            self.lock.release()

    def _read(self) -> None:
        """Read the lines, and cut a torn last one off."""
        self.waiting = {}
        self.marks: dict[Hashable, str] = {}
        self.binding, self.ended = None, None
        self.begun: Entry | None = None  # the entry that says which run this is
        self.next_number = self.next_sample = self.last_time = 0
        data = self.path.read_bytes() if self.path.exists() else b""
        lines = data.splitlines(keepends=True)
        parsed = [parse(line) for line in lines]
        whole = len(parsed)
        while whole and parsed[whole - 1] is None:
            whole -= 1
        if whole < len(lines):
            os.truncate(self.path, sum(map(len, lines[:whole])))
        for line in parsed[:whole]:
            if line is not None:
                self._replay(line)
        if damaged := parsed[:whole].count(None):
            logger.warning("%s: %d of its lines are damaged, and skipped", self.path, damaged)
            if self.begun is None and self.binding is None:
                begin = {"key": self.key, "name": self.key, "tags": {}}
                self.begun = Entry(0, "begin", self.last_time, begin)
                self.waiting = {0: self.begun} | self.waiting

    def _replay(self, line: dict[str, Any]) -> None:
        if "kind" in line:
            self._take(Entry(**line))
        elif "bound" in line:
            self.binding = Binding(**line["bound"])
        else:
            self._strike(line.get("delivered") or line["refused"], refused="refused" in line)

    def _take(self, entry: Entry) -> None:
        self.waiting[entry.number] = entry
        self.next_number = max(self.next_number, entry.number + 1)
        self.last_time = max(self.last_time, entry.time)
        if (known := mark(entry.kind, entry.payload)) is not None:
            self.marks[known[0]] = known[1]
        if entry.kind in ("begin", "attach"):
            self.begun = entry
        if entry.kind in ("begin", "restart", "end"):
            self.ended = entry.kind == "end"
        if entry.kind == "system":
            self.next_sample = max(self.next_sample, entry.payload["step"] + 1)

    def _strike(self, numbers: Sequence[int], *, refused: bool) -> None:
        for number in numbers:
            entry = self.waiting.pop(number, None)
            known = mark(entry.kind, entry.payload) if entry and refused else None
            if known is not None:  # another attempt may fare better
                self.marks.pop(known[0], None)

    def _write(self, line: bytes, *, sync: bool) -> None:
        """Append a line, whole or not at all."""
        before = os.fstat(self.file).st_size
        try:
            if os.write(self.file, line) < len(line):
                raise OSError(28, os.strerror(28))
            if sync:
                os.fsync(self.file)
        except OSError as error:
            os.ftruncate(self.file, before)
            error.filename = error.filename or str(self.path)
            raise

    def _tidy(self) -> None:
        """Remove what is no longer true, and files whose process was killed before their entry."""
        for name in (SETTLED, WANTED):
            (self.folder / name).unlink(missing_ok=True)
        files.sync(self.folder)
        for path in self.folder.glob("export-*"):
            shutil.rmtree(path, ignore_errors=True)
        place = self.folder / "files"
        for path in place.iterdir() if place.exists() else ():
            if not (path.name.isdigit() and int(path.name) in self.waiting):
                shutil.rmtree(path, ignore_errors=True)


def mark(kind: str, payload: Mapping[str, Any]) -> tuple[Hashable, str] | None:
    """What an entry is about, and what it says of that; None if it may always be said again.

    Points of a curve say nothing, so that there is only one for each step: a training that goes on
    from an earlier epoch measures the same, but for its speed.
    """
    if kind in ("dataset", "model"):
        return kind, ""
    if kind == "artifact":
        return (kind, payload["folder"], Path(payload["path"]).name), payload["digest"]
    if kind == "metrics" and payload["step"] is not None:
        return (kind, payload["step"], *sorted(payload["values"])), ""
    if kind in ("metrics", "params", "tags"):
        values = payload["values"]
        return (kind, *sorted(values)), json.dumps(values, sort_keys=True)
    if kind == "begin":
        return mark("tags", {"values": payload["tags"]})
    return None


def has_path(entry: Entry) -> bool:
    """Whether an entry is about a file."""
    return "path" in entry.payload


def encode(line: Mapping[str, Any]) -> bytes:
    """A line of a journal."""
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def parse(line: bytes) -> dict[str, Any] | None:
    """What a line of a journal says; None if it is damaged."""
    crc, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text[:-1]):
        return None
    return json.loads(text)  # type: ignore[no-any-return]


def is_key(key: object) -> bool:
    """Whether something can be a journal's key, which is the name of a folder."""
    return isinstance(key, str) and re.fullmatch(r"\w[\w.+-]{0,99}", key) is not None


def folder_of(key: str) -> Path:
    """The folder of a journal."""
    if not is_key(key):
        raise ValueError(f"{key!r} is no key of a run: expected letters and digits")
    return project_root() / FOLDER / key


def exists(key: str) -> bool:
    """Whether there is a journal with this key."""
    return (folder_of(key) / "journal.jsonl").exists()


def may_still_arrive(key: str, *, besides: Journal) -> bool:
    """Whether another journal with this key may still make its run."""
    return key != besides.key and exists(key) and not (folder_of(key) / SETTLED).exists()


def unsettled() -> Iterator[str]:
    """The keys of the journals in which something may wait, or whose run has not ended."""
    place = project_root() / FOLDER
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        if is_key(folder.name) and exists(folder.name) and not (folder / SETTLED).exists():
            yield folder.name


def milliseconds() -> int:
    """The time since 1970 in milliseconds."""
    return time.time_ns() // 1_000_000
