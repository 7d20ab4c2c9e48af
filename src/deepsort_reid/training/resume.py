"""What it takes to go on with an interrupted training: its states, found by what it is made of.

A training's folder lies under `.resume` at the repository's root, outside the outputs of any stage,
under its identity's key: a training of other data, parameters, code or environment never meets it.
In it, `000012-3.pth` is the twelfth state, whose best epoch so far is the third; `best-3.pth` is
that epoch's checkpoint; `run.json` names the run under which it is recorded. All appear whole or
not at all, and the two newest states are kept, so there is a good one at any moment.
"""

import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.core.project import project_root
from deepsort_reid.model import network
from deepsort_reid.training.fingerprint import Identity, differences

logger = logging.getLogger(__name__)

FOLDER = ".resume"
KEPT = 2  # states
LOCK_SECONDS = 30.0  # for an earlier attempt to leave
FORGOTTEN_AFTER = 30.0  # days
DIGITS = 16  # of an identity's key, in a folder's name


class States:
    """Resume states of a training. This one, the base of the other, keeps none.

    Attributes:
        run_key: names the run under which the training is recorded, however often it is
            interrupted.
    """

    def __init__(self) -> None:
        """Give the run a name of its own."""
        self.run_key = uuid.uuid4().hex

    def newest(self) -> bytes:
        """The newest state that is whole and belongs to this training; empty if there is none."""
        return b""

    def is_due(self) -> bool:
        """Whether it is time to save a state."""
        return False

    def save(self, state: Mapping[str, Any], *, best: int) -> None:
        """Save a state without waiting for the disk.

        Args:
            state: plain data and CPU tensors, which nobody changes any more.
            best: the best epoch so far, 0 before the first has ended; `keep_best` has had it.
        """

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            OSError: the best checkpoint could not be written.
        """

    def keep_best(self, write: Callable[[], None], checkpoint: Path, epoch: int) -> None:  # noqa: ARG002
        """Write the best checkpoint so far, and keep a copy: who is interrupted may lose outputs.

        Args:
            write: makes `checkpoint`, on a thread.
            checkpoint: what it writes.
            epoch: the best.

        Raises:
            OSError: this one, or the one before, could not be written.
        """
        write()

    def bring_back_best(self, checkpoint: Path, epoch: int) -> None:
        """Put the checkpoint of a best epoch back to where it was."""

    def finish(self, run_report: Path) -> None:
        """Say that the training has left all its outputs, of which this one names its run."""


class FolderStates(States):
    """The resume states in a folder that no other process uses meanwhile."""

    def __init__(self, folder: Path, identity: Identity, every: float):
        """Find what an interrupted training has left.

        Args:
            folder: the training's own.
            identity: the training's.
            every: seconds between two states.
        """
        super().__init__()
        self.folder, self.identity, self.every = folder, identity, every
        self.saved_at = time.monotonic()
        self.number = max((number for number, _ in map(parsed, self.paths())), default=0)
        # One thread: a state, and the checkpoint that it counts on, are written in this order.
        self.pool, self.pending, self.best = ThreadPoolExecutor(1), Future[None](), Future[None]()
        self.pending.set_result(None)
        self.best.set_result(None)
        if known := run_key_in(folder):
            self.run_key = known
        else:
            files.write_json(folder / "run.json", {"key": self.run_key})
            files.write_json(folder / "identity.json", identity.as_plain())

    def paths(self) -> list[Path]:
        """The states, the newest first."""
        found = [path for path in self.folder.glob("*-*.pth") if parsed(path)[0]]
        return sorted(found, key=parsed, reverse=True)

    def newest(self) -> bytes:
        """The newest good state; a damaged one is set aside, and the one before it used."""
        for path in self.paths():
            try:
                return self.read(path)
            except WeightsError as error:
                logger.warning("%s; it is set aside", error)
                path.replace(path.with_suffix(".damaged"))
        return b""

    def read(self, path: Path) -> bytes:
        """A state's bytes, once it and the checkpoint it counts on were found whole and ours.

        Raises:
            WeightsError: they are not.
        """
        content = network.read_safely(path)
        try:
            identity, _ = Identity.from_plain(content["identity"]), content["state"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(f"{path}: no resume state ({error})") from None
        if others := differences(identity, self.identity):
            raise WeightsError(f"{path}: the state of another training ({others[0]})")
        _, best = parsed(path)
        if best:
            network.read_safely(self.best_path(best))
        return path.read_bytes()

    def is_due(self) -> bool:
        """Whether the last state is old enough, and on the disk."""
        return time.monotonic() - self.saved_at >= self.every and self.pending.done()

    def save(self, state: Mapping[str, Any], *, best: int) -> None:
        """Save a state on a thread."""
        self.wait()
        self.number += 1
        self.saved_at = time.monotonic()
        path = self.folder / f"{self.number:06}-{best}.pth"
        self.pending = self.pool.submit(self.write, path, state)

    def write(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write a state, and drop those that are no longer needed."""
        try:
            with files.replacing(path) as temporary, temporary.open("wb") as file:
                torch.save({"identity": self.identity.as_plain(), "state": state}, file)
        except (OSError, RuntimeError) as error:  # a training that can go on, should
            logger.warning("no resume state could be saved: %s", error)
            return
        states = self.paths()
        for old in states[KEPT:]:
            old.unlink()
        needed = {self.best_path(best) for _, best in map(parsed, states[:KEPT])}
        for old in set(self.folder.glob("best-*.pth")) - needed:
            if parsed(old)[1] < parsed(path)[1]:
                old.unlink()

    def wait(self) -> None:
        """Wait for the thread."""
        self.best.result()
        self.pending.result()

    def best_path(self, epoch: int) -> Path:
        """Where an epoch's checkpoint is kept."""
        return self.folder / f"best-{epoch}.pth"

    def keep_best(self, write: Callable[[], None], checkpoint: Path, epoch: int) -> None:
        """Write and link on the thread, when it is through with the one before."""
        self.best.result()
        self.best = self.pool.submit(self.write_best, write, checkpoint, epoch)

    def write_best(self, write: Callable[[], None], checkpoint: Path, epoch: int) -> None:
        """Write the checkpoint, and link it, which is only ever replaced."""
        write()
        with files.temporary(self.best_path(epoch)) as link:
            try:
                link.hardlink_to(checkpoint)
            except OSError:  # another disk, or one without links
                shutil.copyfile(checkpoint, link)
            link.replace(self.best_path(epoch))

    def bring_back_best(self, checkpoint: Path, epoch: int) -> None:
        """Copy it back."""
        with files.replacing(checkpoint) as temporary:
            shutil.copyfile(self.best_path(epoch), temporary)

    def finish(self, run_report: Path) -> None:
        """Forget the training, or leave that to the moment when DVC has recorded its outputs.

        DVC may be killed between a stage's end and its own record of it, and then runs it again.
        """
        self.wait()
        if "DVC_STAGE" in os.environ:
            files.write_json(self.folder / "finished.json", {"md5": files.md5(run_report)})
        else:
            shutil.rmtree(self.folder)

    def is_recorded(self) -> bool:
        """Whether DVC knows the outputs of this training, which is thus to be done anew."""
        try:
            md5 = files.read_json(self.folder / "finished.json")["md5"]
            lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
            outs = lock["stages"][os.environ["DVC_STAGE"]]["outs"]
            return any(out.get("md5") == md5 for out in outs)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            return False

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown()


@contextmanager
def kept(identity: Identity, *, every: float, enabled: bool = True) -> Iterator[States]:
    """Keep resume states of a training while the block runs.

    Args:
        identity: the training's.
        every: seconds between two states.
        enabled: False, for ranks other than the first, keeps none.

    Yields:
        the states; none are kept, after a warning, where another process does the same training.
    """
    if not enabled:
        yield States()
        return
    root = project_root() / FOLDER
    folder = root / identity.key()[:DIGITS]
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_of(folder, LOCK_SECONDS))
        except Timeout:
            logger.warning("another process does the same training: no resume state of this one")
            yield States()
            return
        forget_old(root, but=folder)
        states = FolderStates(folder, identity, every)
        if states.is_recorded():
            states.close()
            empty(folder)
            states = FolderStates(folder, identity, every)
        if not states.paths():
            explain_others(root, identity, but=folder)
        stack.callback(states.close)
        yield states


def lock_of(folder: Path, seconds: float) -> FileLock:
    """The lock of a training's folder; it lies beside it, so that the folder can be removed."""
    return FileLock(folder.with_suffix(".lock"), timeout=seconds)


def explain_others(root: Path, identity: Identity, but: Path) -> None:
    """Log why the newest state of any other training is not used."""
    others = [path for path in root.glob("*/*-*.pth") if path.parent != but and parsed(path)[0]]
    if not others:
        return
    newest = max(others, key=lambda path: path.stat().st_mtime)
    try:
        there = Identity.from_plain(files.read_json(newest.parent / "identity.json"))
    except (OSError, ValueError):
        return
    if reasons := differences(there, identity):
        more = f", and {len(reasons) - 1} more" if reasons[1:] else ""
        logger.info("not going on with an interrupted training: %s%s", reasons[0], more)


def run_key_in(folder: Path) -> str | None:
    """The name of the run that a training's folder tells; None if it tells none."""
    try:
        key = files.read_json(folder / "run.json")["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    # It becomes the name of a folder, so that a damaged one must not be taken for a name.
    return key if isinstance(key, str) and re.fullmatch("[0-9a-f]{32}", key) else None


def forget(run_key: str | None) -> None:
    """Remove what is left of a training whose outputs DVC has recorded.

    Args:
        run_key: of the training's run; None if nobody knows.
    """
    for path in (project_root() / FOLDER).glob("*/run.json"):
        if run_key and run_key_in(path.parent) == run_key:
            remove(path.parent)


def forget_old(root: Path, but: Path) -> None:
    """Remove what nobody has come back to for a month."""
    for path in root.iterdir():
        is_old = time.time() - path.stat().st_mtime > FORGOTTEN_AFTER * 86_400
        if is_old and path.is_dir() and path != but:
            remove(path)


def remove(folder: Path) -> None:
    """Remove a training's folder unless a process uses it."""
    try:
        with lock_of(folder, 0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return


def empty(folder: Path) -> None:
    """Remove what is in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def parsed(path: Path) -> tuple[int, int]:
    """A state's number and best epoch; number 0 for any other file."""
    number, _, best = path.stem.partition("-")
    return (int(number) if number.isdigit() else 0, int(best) if best.isdigit() else 0)
