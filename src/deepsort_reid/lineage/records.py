"""The small files that lie beside a checkpoint, in the workspace or at a commit."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from deepsort_reid.lineage.commits import LOCK, RECORD, RECORDED, RUN, files_at
from deepsort_reid.lineage.dvc_cli import Lock, outputs, parse_lock
from deepsort_reid.model.checkpoint import dict_or_empty
from deepsort_reid.training.fingerprint import Fingerprint

CHECKPOINT = "models/model.pth"
REPORTS = ("reports/identity.json", "reports/train.json", "reports/split.json", RUN)


@dataclass(frozen=True)
class PipelineRecords:
    """What a pipeline has recorded of its checkpoint; None or empty where a file is missing."""

    lock: Lock | None  # dvc.lock
    identity: Fingerprint | None  # reports/identity.json
    training: dict[str, Any]  # reports/train.json
    counts: dict[str, Any]  # reports/split.json
    run: dict[str, Any]  # reports/run.json

    @classmethod
    def here(cls, root: Path) -> Self:
        """The records of the workspace."""
        return cls._read([read_bytes(root / path) for path in (LOCK, *REPORTS)])

    @classmethod
    def at_commit(cls, commit: str, root: Path) -> Self:
        """The records at a commit.

        They stand in reports/record.json, which counts if it is of dvc.lock's checkpoint. Commits
        of earlier versions have the single reports in git.
        """
        record, *older = files_at(commit, (RECORD, LOCK, *REPORTS), root)
        lock = parsed(parse_lock, older[0])
        found = dict_or_empty(parsed(json.loads, record))
        if found and found.get("checkpoint") == outputs(lock or {}, "train").get(CHECKPOINT):
            return cls._of(lock, *(found.get(name) for name in RECORDED))
        return cls._read(older)

    @classmethod
    def _read(cls, contents: Sequence[bytes | None]) -> Self:
        lock, *reports = contents
        return cls._of(parsed(parse_lock, lock), *(parsed(json.loads, one) for one in reports))

    @classmethod
    def _of(cls, lock: Lock | None, identity: Any, training: Any, counts: Any, run: Any) -> Self:
        return cls(
            lock=lock,
            identity=identity_of(identity),
            training=dict_or_empty(training),
            counts=dict_or_empty(counts),
            run=dict_or_empty(run),
        )

    @property
    def md5(self) -> str | None:
        """The checkpoint's MD5, as dvc.lock states it."""
        return outputs(self.lock or {}, "train").get(CHECKPOINT)


def parsed(parse: Callable[[bytes], Any], content: bytes | None) -> Any:
    """A file's content; None if it is missing or damaged."""
    try:
        return None if content is None else parse(content)
    except ValueError:  # wrong bytes and wrong JSON are both of this kind
        return None


def identity_of(plain: Any) -> Fingerprint | None:
    """An identity as a file states it; None if that is none."""
    try:
        return Fingerprint.from_plain(plain)
    except ValueError:
        return None


def read_bytes(path: Path) -> bytes | None:
    """A file's bytes; None if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
