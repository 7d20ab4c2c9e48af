"""Files that appear under their name only when they are whole."""

import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import Progress

BLOCK = 1 << 20  # bytes read at a time
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk says that is
IN_THE_WAY = (  # of a user's files and folders: rights, a medium, a folder where a file should be
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
    errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip
THREADS = 4  # files hashed at a time; disks give no more


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it there when the block succeeds.

    Whatever stood at `path` stays until then, and for ever if the block fails.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    with naming(path), temporary(path) as new:
        yield new
        sync(new)
        new.replace(path)


def check_writable(path: Path) -> None:
    """Refuse a place where no file can be written, before hours have gone into its content.

    Raises:
        OSError: it is a folder, or its own folder cannot be made or written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with naming(path), temporary(path) as new:
        new.touch()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` that is this process's own, and remove what is there at the end.

    What a killed process left is removed too: it would stay for ever, in a folder that DVC hashes.

    Raises:
        OSError: the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path)
    # The suffix stays last: libraries choose a format by it.
    own = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield own
    finally:
        remove(own)


@contextmanager
def together(folder: Path) -> Iterator[Path]:
    """Yield an empty folder inside `folder`, and move what is in it up when the block succeeds.

    If the block fails, all that stood in `folder` is as it was: no new file beside an older one
    that does not belong to it.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    with naming(folder), temporary(folder / "new") as new:
        new.mkdir()
        yield new
        for path in sorted(new.iterdir()):
            if path.is_dir():  # takes no place that is taken
                remove(folder / path.name)
            path.replace(folder / path.name)


def remove_stale(path: Path) -> None:
    """Remove temporaries of `path` whose process is no longer alive."""
    pattern = re.compile(
        rf"\.{re.escape(path.stem)}\.([1-9][0-9]{{0,8}})\.tmp{re.escape(path.suffix)}"
    )
    for beside in path.parent.iterdir():
        match = pattern.fullmatch(beside.name)
        if match and not is_alive(int(match[1])):
            remove(beside)


def remove(path: Path) -> None:
    """Remove a file, or a folder and all in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether a process of this number exists, whoever owns it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the error of a disk name what was being written: `path`, not its temporaries."""
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if error.filename else path
        own = named.is_relative_to(path) or named.name.startswith(f".{path.stem}.")
        if own and error.errno in (*FULL, *IN_THE_WAY):
            error.filename = str(path)
        raise


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
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def holds(path: Path, content: object) -> bool:
    """Whether a file is there, and is this content as JSON."""
    try:
        return bool(read_json(path) == content)
    except (OSError, ValueError):
        return False


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a header line, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    return checksums([path])[path]


def md5(path: Path) -> str:
    """The MD5 of a file's bytes, 32 hexadecimal digits: how DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def checksums(paths: Sequence[Path]) -> Mapping[Path, str]:
    """The SHA-256 of each file, as 64 hexadecimal digits, several files at a time.

    hashlib releases the interpreter's lock, so threads suffice.

    Raises:
        OSError: a file cannot be read.
    """
    total = sum(path.stat().st_size for path in paths)
    lock = Lock()
    with (
        Progress("checksum", total, "B") as progress,
        ThreadPoolExecutor(min(cores(), THREADS)) as pool,
    ):

        def checksum(path: Path) -> str:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
                    with lock:
                        progress.advance(len(block))
            return digest.hexdigest()

        return dict(zip(paths, pool.map(checksum, paths), strict=True))
