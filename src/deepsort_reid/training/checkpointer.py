"""Writes the best checkpoint, the history beside it, and the states that a training resumes from.

A training's states lie in its folder (see runs/unfinished.py): `000012-3.pth` is the twelfth state,
whose best epoch so far is the third; `best-3.pth` is that epoch's checkpoint, since an interrupted
stage may lose its outputs; `identity.json` is the training's fingerprint. Each file appears whole
or not at all, and the two newest states are kept, so that there is a good one at any moment.

One thread writes everything, in this order: an epoch's checkpoint, the history that tells of the
epoch, the checkpoint's copy, a state that refers to the copy. Where epochs end faster than it
writes, it passes over all but the newest.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model import checkpoint
from deepsort_reid.model.weights import read_safely
from deepsort_reid.runs import unfinished
from deepsort_reid.training.fingerprint import Fingerprint, differences
from deepsort_reid.training.history import EpochResult, write_history
from deepsort_reid.training.observers import Observer

logger = logging.getLogger(__name__)

KEPT = 2  # states


class States:
    """The resume states in a training's folder."""

    def __init__(self, folder: Path, fingerprint: Fingerprint):
        """Find the states that an interrupted training has left.

        Args:
            folder: the training's, which no other process uses meanwhile.
            fingerprint: the training's.
        """
        self.folder, self.fingerprint = folder, fingerprint
        if not (folder / "identity.json").exists():
            files.write_json(folder / "identity.json", fingerprint.as_plain())
        self.number = max((number for number, _ in map(parsed, self.paths())), default=0)

    def paths(self) -> list[Path]:
        """The states, the newest first."""
        found = [path for path in self.folder.glob("*-*.pth") if parsed(path)[0]]
        return sorted(found, key=parsed, reverse=True)

    def best_path(self, epoch: int) -> Path:
        """The copy of an epoch's checkpoint."""
        return self.folder / f"best-{epoch}.pth"

    def newest(self) -> bytes:
        """The newest good state, empty if there is none; damaged ones are set aside."""
        for path in self.paths():
            try:
                return self.read(path)
            except WeightsError as error:
                logger.warning("%s; it is set aside", error)
                path.replace(path.with_suffix(".damaged"))
        return b""

    def read(self, path: Path) -> bytes:
        """The bytes of a state.

        Raises:
            WeightsError: the state or the checkpoint that it refers to is damaged, or it is the
                state of another training.
        """
        content = read_safely(path)
        try:
            there, _ = Fingerprint.from_plain(content["identity"]), content["state"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WeightsError(f"{path}: no resume state ({error})") from None
        if others := differences(there, self.fingerprint):
            raise WeightsError(f"{path}: the state of another training ({others[0]})")
        _, best = parsed(path)
        if best:
            read_safely(self.best_path(best))
        return path.read_bytes()

    def write(self, state: Mapping[str, Any], *, best: int) -> None:
        """Write a state, and remove what is no longer needed.

        A state that cannot be written is a warning: the training itself can go on.
        """
        self.number += 1
        path = self.folder / f"{self.number:06}-{best}.pth"
        try:
            with files.replacing(path) as temporary, temporary.open("wb") as file:
                torch.save({"identity": self.fingerprint.as_plain(), "state": state}, file)
        except (OSError, RuntimeError) as error:
            logger.warning("no resume state could be saved: %s", error)
            return
        states = self.paths()
        for old in states[KEPT:]:
            old.unlink()
        needed = {self.best_path(epoch) for _, epoch in map(parsed, states[:KEPT])}
        for old in set(self.folder.glob("best-*.pth")) - needed:
            if parsed(old)[1] < best:
                old.unlink()

    def copy_best(self, path: Path, epoch: int) -> None:
        """Keep a copy of an epoch's checkpoint; a link will do, since checkpoints are replaced."""
        with files.temporary(self.best_path(epoch)) as link:
            try:
                link.hardlink_to(path)
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, link)
            link.replace(self.best_path(epoch))

    def bring_back_best(self, path: Path, epoch: int) -> None:
        """Copy an epoch's checkpoint back."""
        with files.replacing(path) as temporary:
            shutil.copyfile(self.best_path(epoch), temporary)


@dataclass
class Waiting:
    """What an epoch has left to write; weights and result are those of the best one."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    best: EpochResult | None = None
    history: Sequence[EpochResult] = ()


class Checkpointer(Observer):
    """Writes checkpoint, history and states on a thread, while the training goes on.

    Attributes:
        run_key: names the run under which the training is recorded, however often it is
            interrupted.
    """

    def __init__(
        self,
        path: Path,
        history: Path,
        description: Mapping[str, Any],
        *,
        states: States | None,
        every: float,
    ):
        """Write nothing yet.

        Args:
            path: of the checkpoint.
            history: path of the CSV table.
            description: the fields of `checkpoint.Description` besides epoch and accuracy.
            states: None keeps no resume states.
            every: seconds between two states.
        """
        self.path, self.history, self.description = path, history, description
        self.states, self.every, self.saved_at = states, every, time.monotonic()
        self.run_key = unfinished.run_key_of(states.folder if states else None)
        self.thread = ThreadPoolExecutor(1)
        self.jobs: list[Future[None]] = []  # the thread's, those that may not have ended
        self.waiting = Waiting()
        self.lock = Lock()

    def newest(self) -> bytes:
        """The newest good state, for `Trainer.load`; empty if there is none."""
        return self.states.newest() if self.states else b""

    def on_start(self, history: Sequence[EpochResult], best: int) -> None:
        """Put back what an interrupted training had written."""
        if history and self.states:
            self.states.bring_back_best(self.path, best)
            write_history(self.history, history)

    def on_epoch_end(
        self, history: Sequence[EpochResult], net: nn.Module, *, is_best: bool
    ) -> None:
        """Have the history written, after the checkpoint if the epoch is the best.

        Raises:
            OSError: the checkpoint or history of an epoch before could not be written.
        """
        weights = copied(net.state_dict()) if is_best else None
        with self.lock:
            self.waiting.history = list(history)
            if weights:
                self.waiting.weights, self.waiting.best = weights, history[-1]
        self.submit(self.write_waiting)

    def write_waiting(self) -> None:
        """Write the checkpoint, then the history, then the checkpoint's copy, as far as they wait.

        An earlier call may have written what this one was submitted for. A checkpoint that could
        not be written waits on, so that no history tells of it.
        """
        with self.lock:
            now = replace(self.waiting)
        if now.best:
            self.write_best(now.weights, now.best)
        if now.history:
            write_history(self.history, now.history)
        if now.best and self.states:
            self.states.copy_best(self.path, now.best.epoch)
        with self.lock:
            if self.waiting.history is now.history:
                self.waiting.history = ()
            if self.waiting.best is now.best:
                self.waiting.weights, self.waiting.best = {}, None

    def write_best(self, weights: Mapping[str, Tensor], best: EpochResult) -> None:
        """Write the checkpoint."""
        description = checkpoint.Description(
            epoch=best.epoch, acc=100 * (1 - best.val_error), **self.description
        )
        checkpoint.save(self.path, weights, description)

    def wants_state(self) -> bool:
        """Whether the last state is old enough, and on the disk."""
        is_old = time.monotonic() - self.saved_at >= self.every
        return self.states is not None and is_old and all(job.done() for job in self.jobs)

    def on_state(self, state: Mapping[str, Any], *, best: int) -> None:
        """Write a state, if the best checkpoint that it refers to was written.

        Raises:
            OSError: it was not.
        """
        self.wait()
        self.saved_at = time.monotonic()
        if self.states:
            self.submit(self.states.write, copied(state), best=best)

    def on_end(self) -> None:
        """Wait until everything is on the disk."""
        self.wait()

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            OSError: the best checkpoint or the history could not be written.
        """
        for job in self.jobs:
            job.result()
        self.jobs.clear()

    def submit(self, write: Callable[..., None], *what: Any, **options: Any) -> None:
        """Have the thread write something.

        Raises:
            OSError: something before could not be written.
        """
        for job in self.jobs:
            if job.done():
                job.result()
        self.jobs = [job for job in self.jobs if not job.done()]
        self.jobs.append(self.thread.submit(write, *what, **options))

    def finish(self, run_report: Path) -> None:
        """Give up the states, since the training has left all its outputs.

        Args:
            run_report: the output that names its run.
        """
        self.wait()
        if self.states:
            unfinished.finish(self.states.folder, run_report)


@contextmanager
def open_checkpointer(
    path: Path,
    history: Path,
    description: Mapping[str, Any],
    *,
    fingerprint: Fingerprint,
    every: float,
) -> Iterator[Checkpointer]:
    """Write a training's files while the block runs; see `Checkpointer`.

    No states are kept, after a warning, where another process does the same training.

    Raises:
        OSError: a file cannot be written where it belongs.
    """
    files.check_writable(path)
    files.check_writable(history)
    with unfinished.hold(fingerprint.key()) as folder:
        states = States(folder, fingerprint) if folder else None
        if states and not states.paths():
            explain_others(states)
        checkpointer = Checkpointer(path, history, description, states=states, every=every)
        try:
            yield checkpointer
        finally:
            checkpointer.thread.shutdown()


def explain_others(states: States) -> None:
    """Log why the newest state of another interrupted training is not used."""
    found = [path for path in states.folder.parent.glob("*/*-*.pth") if parsed(path)[0]]
    interrupted = [path for path in found if not unfinished.is_held(path.parent)]
    if not interrupted:
        return
    newest = max(interrupted, key=lambda path: path.stat().st_mtime)
    try:
        there = Fingerprint.from_plain(files.read_json(newest.parent / "identity.json"))
    except (OSError, ValueError):
        return
    if reasons := differences(there, states.fingerprint):
        more = f", and {len(reasons) - 1} more" if reasons[1:] else ""
        logger.info("not going on with an interrupted training: %s%s", reasons[0], more)


def parsed(path: Path) -> tuple[int, int]:
    """A state's number and best epoch; number 0 for any other file."""
    number, _, best = path.stem.partition("-")
    return (int(number) if number.isdigit() else 0, int(best) if best.isdigit() else 0)


def copied(value: Any) -> Any:
    """A copy on the CPU of all tensors in nested dictionaries and lists, in their memory format.

    The format matters to a training that goes on: vector instructions round differently from
    scalar ones, which take over at the end of a row, and the format decides where rows end.
    """
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value
