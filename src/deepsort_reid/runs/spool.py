"""Files on their way to a store: kept as they are now, whatever becomes of the originals."""

import hashlib
import os
import shutil
from pathlib import Path

from deepsort_reid.core.files import sha256, sync

LINK_FROM = 1 << 20  # bytes


def digest(path: Path) -> str:
    """A hash of a file's content, or of all names and contents below a folder.

    Raises:
        OSError: something cannot be read.
    """
    if not path.is_dir():
        return sha256(path)
    lines = [f"{sha256(file)} {file.relative_to(path)}\n" for file in files_below(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; 0 for what is not there."""
    paths = files_below(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in paths if file.exists())


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def keep(source: Path, target: Path) -> None:
    """Keep a file's or a folder's present content at `target`, in a folder that is there.

    Raises:
        OSError: the source cannot be read, or the disk is full.
    """
    if not source.is_dir():
        keep_file(source, target)
        return
    target.mkdir()
    for file in files_below(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        keep_file(file, place)


def keep_file(source: Path, target: Path) -> None:
    """Link a large file that has no other name, and copy any other.

    The stages only ever replace their files, so a link holds the old content. Small files are what
    people change in place, with an editor; and a file that has two names already may be DVC's.
    """
    status = source.lstat()
    is_ours = not source.is_symlink() and status.st_nlink == 1
    if is_ours and status.st_size >= LINK_FROM and linked(source, target):
        return
    shutil.copyfile(source, target)
    sync(target)


def take(source: Path, target: Path) -> None:
    """Move a file or a folder that nobody else needs to `target`, on the same file system.

    Raises:
        OSError: the disk is full.
    """
    for file in files_below(source) if source.is_dir() else [source]:
        sync(file)
    source.rename(target)


def linked(source: Path, target: Path) -> bool:
    """Make a hard link, where the file system has them."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True
