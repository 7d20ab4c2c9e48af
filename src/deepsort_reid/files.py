"""Files that appear under their name only when they are whole."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it there when the block succeeds.

    Whatever stood at `path` stays until then, and for ever if the block fails.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: libraries choose a format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write JSON that a person can read and git can compare, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a header line, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def project_root() -> Path:
    """The repository's root, which all experiments share.

    DVC names the real repository even where it runs an experiment in a temporary copy. Without DVC
    it is the nearest folder upward that holds `.dvc`, else the current one.
    """
    if root := os.environ.get("DVC_ROOT"):
        return Path(root).resolve()
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)


def resolve(path: str) -> Path:
    """A path as params.yaml gives it: `~` is the home, relative ones begin at the root."""
    return project_root() / Path(path).expanduser()


def sha256(*paths: Path) -> str:
    """The SHA-256 of the files' bytes, one after the other, as 64 hexadecimal digits."""
    return _digest(hashlib.sha256(), *paths)


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, 32 hexadecimal digits: how DVC names it."""
    return _digest(hashlib.md5(usedforsecurity=False), path)


def _digest(digest: Any, *paths: Path) -> str:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return str(digest.hexdigest())
