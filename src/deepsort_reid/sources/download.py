"""Downloads that resume, retry and end whole, from a web server or another remote store."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.files import naming
from deepsort_reid.core.progress import Progress, quantity
from deepsort_reid.core.secrets import without_secrets
from deepsort_reid.sources.archive import require_space
from deepsort_reid.sources.remote import Incoming, TransferError, open_url

log = logging.getLogger(__name__)

ATTEMPTS = 5  # failures in a row before we give up, 15 s of pauses between them
FIRST_PAUSE = 1.0  # seconds; each further one takes twice as long
LONGEST_PAUSE = 60.0  # seconds, also where a server asks for more
HEADWAY = 1 << 20  # bytes; a failure after so many new ones counts as the first


class Partial:
    """The part of a file that is here, and the version of the file that it belongs to."""

    def __init__(self, folder: Path, url: str):
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.path = folder / f"{key}.part"
        self.note = folder / f"{key}.version"

    def held(self) -> tuple[int, str | None]:
        """How many bytes can be continued, and the version they belong to; (0, None) if none."""
        if not (self.path.is_file() and self.note.is_file()):
            return 0, None
        return self.path.stat().st_size, self.note.read_text(encoding="utf-8")

    @contextmanager
    def open_for(self, incoming: Incoming) -> Iterator[IO[bytes]]:
        """Open the file where the incoming blocks belong, empty where they start over."""
        if incoming.offset == 0:
            self.discard()
            self.path.touch()
            if incoming.version is not None:
                self.note.write_text(incoming.version, encoding="utf-8")
        with self.path.open("r+b") as file:
            file.seek(incoming.offset)
            yield file

    def discard(self) -> None:
        """Forget everything, the note first: bytes without one are never continued."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def downloaded(url: str, folder: Path, pause: Callable[[float], None]) -> Iterator[Path]:
    """Download a file into `folder`, and yield its path for the block to check and move away.

    What was downloaded stays for the next attempt if this one is interrupted. It is discarded when
    the block is done, or when the block raises SourceError because it is not what it should be.

    Args:
        url: what to download.
        folder: keeps unfinished downloads, under names made from their URLs.
        pause: waits so many seconds.

    Raises:
        SourceError: there is no such file, or it did not come after several attempts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Partial(folder, url)
    with alone(partial.path, url):
        download(url, partial, pause)
        try:
            yield partial.path
        except SourceError:
            partial.discard()
            raise
        partial.discard()


def download(url: str, partial: Partial, pause: Callable[[float], None]) -> None:
    """Bring the rest of a file, however often it takes while it makes headway."""
    failures, best = 0, 0
    while True:
        try:
            transfer(url, partial)
        except TransferError as interruption:
            held, _ = partial.held()
            if held >= best + HEADWAY:
                failures, best = 0, held
            failures += 1
            if failures == ATTEMPTS:
                if not held:
                    partial.discard()
                raise SourceError(gave_up(url, interruption, held)) from interruption
            wait = min(max(FIRST_PAUSE * 2 ** (failures - 1), interruption.wait), LONGEST_PAUSE)
            log.warning("%s: %s; trying again in %.0f s", without_secrets(url), interruption, wait)
            pause(wait)
        else:
            return


def gave_up(url: str, reason: TransferError, held: int) -> str:
    """The last line about a download that did not come."""
    kept = f"; {quantity(held, 'B')} are kept, and the next run goes on from there" if held else ""
    return (
        f"{without_secrets(url)}: gave up after {ATTEMPTS} attempts ({reason}); "
        f"check the address and the network, and run the same command again{kept}"
    )


def transfer(url: str, partial: Partial) -> None:
    """Bring the rest of a file in one attempt.

    Raises:
        TransferError: it stopped before its end.
        SourceError: it cannot be had at all.
        OSError: the disk is full.
    """
    with open_url(url, *partial.held()) as incoming:
        left = None if incoming.size is None else incoming.size - incoming.offset
        require_space(partial.path.parent, left or 0)
        what = "download the rest" if incoming.offset else "download"
        with (
            naming(partial.path),
            partial.open_for(incoming) as file,
            Progress(what, left, "B") as progress,
        ):
            for block in incoming.blocks:
                file.write(block)
                progress.advance(len(block))
    came = partial.path.stat().st_size
    if incoming.size not in (None, came):
        raise TransferError(f"{came:,} of {incoming.size:,} bytes came")


@contextmanager
def alone(path: Path, url: str) -> Iterator[None]:
    """Let one process at a time download the same file."""
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("%s: another process downloads it; waiting", without_secrets(url))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
