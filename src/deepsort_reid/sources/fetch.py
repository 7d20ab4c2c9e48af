"""The dataset that a path or a URL names, brought home as one verified archive."""

import difflib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import move
from urllib.parse import urlsplit
from urllib.request import url2pathname

from deepsort_reid.core import files
from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import Progress
from deepsort_reid.core.secrets import without_secrets
from deepsort_reid.sources.archive import Archive, pack, pour, require_space
from deepsort_reid.sources.download import downloaded
from deepsort_reid.sources.remote import require_filesystem, scheme_of

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def fetch(
    source: str,
    folder: Path,
    *,
    sha256: str | None,
    root: Path,
    section: str = "dataset",
    partial_folder: Path | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Put the dataset that `source` names into `folder` as one archive, checked from end to end.

    What stood in `folder` stays there until the new archive is whole.

    Args:
        source: a folder, or a zip or tar (plain, gz, bz2 or xz), given by a path (`~` is the home)
            or by a URL: file, http(s), or what fsspec reaches (s3, gs, ssh, …).
        folder: receives `dataset.zip` or `dataset.tar`, still compressed as it was.
        sha256: the archive's checksum, if it is known; for a folder, that of the zip made of it,
            which depends on the names and contents of its files alone.
        root: where relative paths begin.
        section: of params.yaml, whose `source` and `sha256` errors name.
        partial_folder: keeps unfinished downloads from one run to the next; must not be an output
            of a DVC stage, which are deleted before it runs. `root/.downloads` by default.
        pause: waits so many seconds before a download is tried again.

    Returns:
        The archive's path in `folder`.

    Raises:
        SourceError: the source cannot be reached, is no archive, is damaged, has another checksum,
            or holds a member that is not safe.
        OSError: the disk is full.
    """
    expected = parse_sha256(sha256, section)
    if not source.strip():
        raise SourceError(f"{section}.source is empty; expected 'synthetic', a path or a URL")
    with brought(source, folder, root, partial_folder or root / ".downloads", pause) as candidate:
        label = without_secrets(source) if URL.match(source) else source
        check_sha256(candidate, expected, label, section)
        archive = Archive(candidate, label)
        archive.check()
        target = folder / f"dataset.{archive.kind}"
        with files.replacing(target) as temporary:
            move(candidate, temporary)
    other = folder / ("dataset.tar" if archive.kind == "zip" else "dataset.zip")
    other.unlink(missing_ok=True)
    return target


def fetch_file(
    url: str, folder: Path, *, sha256: str | None, pause: Callable[[float], None] = time.sleep
) -> Path:
    """Download one file, whatever it holds, and keep it under its checksum.

    Args:
        url: http(s), or what fsspec reaches.
        folder: keeps the file, and unfinished downloads; a file that is there is not asked for.
        sha256: the file's checksum.
        pause: waits so many seconds before a download is tried again.

    Returns:
        The file's path in `folder`.

    Raises:
        SourceError: the file cannot be had or is another one; or no checksum is given, which the
            error then tells.
        OSError: the disk is full.
    """
    if sha256 and (folder / sha256).is_file() and files.sha256(folder / sha256) == sha256:
        return folder / sha256
    require_filesystem(url)
    with downloaded(url, folder, pause) as path:
        actual = files.sha256(path)
        kept = folder / actual
        if sha256 in (None, actual):
            path.replace(kept)
    if sha256 is None:
        raise SourceError(
            f"{without_secrets(url)}: the file that came has the SHA-256 {actual}; if you trust "
            f"it, say so behind the URL: #sha256={actual}"
        )
    if sha256 != actual:
        raise SourceError(
            f"{without_secrets(url)}: its SHA-256 is {actual}, expected {sha256}; "
            "check which of them is right"
        )
    return kept


@contextmanager
def brought(
    source: str,
    folder: Path,
    root: Path,
    partial_folder: Path,
    pause: Callable[[float], None],
) -> Iterator[Path]:
    """Bring the source here as one file, whole and not yet trusted, which the block moves away."""
    if URL.match(source) and scheme_of(source) != "file":
        require_filesystem(source)
        with downloaded(source, partial_folder, pause) as path:
            yield path
    else:
        with gathered(local_path(source, root), folder) as path:
            yield path


@contextmanager
def gathered(origin: Path, folder: Path) -> Iterator[Path]:
    """Copy a local archive, or pack a local folder, into a temporary file in `folder`."""
    if folder.resolve().is_relative_to(origin.resolve()) and origin.is_dir():
        raise SourceError(f"{origin}: holds {folder}, where its archive goes; name another source")
    with files.temporary(folder / "incoming") as temporary:
        with permission_in_one_line(), files.naming(folder):
            (pack if origin.is_dir() else copy)(origin, temporary)
        yield temporary


def copy(origin: Path, target: Path) -> None:
    """Copy a file."""
    size = origin.stat().st_size
    require_space(target.parent, size)
    with (
        origin.open("rb") as source,
        target.open("wb") as copied,
        Progress("copy", size, "B") as progress,
    ):
        pour(source, copied, progress)


def local_path(source: str, root: Path) -> Path:
    """The file or folder that `source` names.

    Raises:
        SourceError: there is none.
    """
    given = Path(path_of_url(source) if URL.match(source) else source)
    path = root / os.path.expanduser(given)  # noqa: PTH111 - leaves `~nobody` as it is
    if not os.path.exists(path):  # noqa: PTH110 - is False also for names that no disk can hold
        raise SourceError(
            f"{path}: no such file or folder;{near_miss(path)} "
            "expected 'synthetic', a folder, an archive or a URL"
        )
    if not (path.is_file() or path.is_dir()):
        raise SourceError(f"{path}: a device or the like; expected a folder or an archive")
    return path


def path_of_url(url: str) -> str:
    """The path in a URL of a local file, `file:///home/me/a%20b.zip`."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"{url}: expected an absolute path after file://, as in file:///data.zip")
    return url2pathname(parts.path)


def near_miss(path: Path) -> str:
    """A question about the most similar name beside a path that does not exist."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, 1)
    return f" did you mean '{close[0]}'?" if close else ""


def parse_sha256(text: str | None, section: str) -> str | None:
    """A checksum in small letters, None where none is given; errors name the section.

    Raises:
        SourceError: it is no SHA-256.
    """
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise SourceError(
            f"{section}.sha256: {text!r} is no SHA-256; expected 64 hexadecimal digits, "
            "as `sha256sum` prints them"
        )
    return text.lower()


def check_sha256(path: Path, expected: str | None, label: str, section: str) -> None:
    """Raise where a file is not the one that the section of params.yaml expects."""
    if expected is None:
        return
    actual = files.sha256(path)
    if actual != expected:
        raise SourceError(
            f"{label}: its SHA-256 is {actual}, {section}.sha256 expects {expected}; "
            "check which of them is right"
        )


@contextmanager
def permission_in_one_line() -> Iterator[None]:
    """Turn a file that may not be read into one line."""
    try:
        yield
    except PermissionError as error:
        raise SourceError(f"{error.filename}: permission denied; make it readable") from error
