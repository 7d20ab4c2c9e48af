"""Runs a stage in a process of its own, on a disk of its own that fills at a chosen moment.

The disk is a tmpfs in a mount namespace of the process: nobody else sees it, and it is gone with
the process. Processes are forked from a server that has imported torch and MLflow already.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import stages

CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
MS_REC, MS_PRIVATE = 0x4000, 0x4_0000
SIZE = 512 << 20  # bytes; a tmpfs takes memory only for what is in it
# Folders: what MLflow shall know, what a training goes on from, what the next evaluation reads,
# and what was measured on this machine.
NOTES = (".runs", ".resume", ".embeddings", ".arithmetic")
TIMEOUT = 60.0  # seconds, for a stage
IMPORTED = [
    "tests.support.small_disk",
    "deepsort_reid.evaluation.report",
    "deepsort_reid.training.report",
    "mlflow.pytorch",
]


@dataclass(frozen=True)
class Job:
    """A stage to run on a small disk.

    Attributes:
        stage: its name.
        older: a project whose outputs are there before.
        changes: parameters that differ from those, so that its outputs would be other ones.
        after: how many files the stage finishes before the disk is filled; None: it never is.
        leaving: bytes left on the disk when it is filled.
    """

    stage: str
    older: Path
    changes: Mapping[str, Any]
    after: int | None
    leaving: int = 0


@dataclass(frozen=True)
class Result:
    """What became of a stage.

    Attributes:
        status: the process's exit status.
        text: what it printed.
        before: the project's files and their checksums, hidden ones too.
        now: the same, when it had ended.
        finished: how many files it had finished, renames of whole folders' files included.
    """

    status: int
    text: str
    before: Mapping[str, str]
    now: Mapping[str, str]
    finished: int


def run(job: Job, folder: Path) -> Result:
    """Run a stage.

    Args:
        job: which one, and when its disk fills.
        folder: an empty one on the ordinary disk.

    Raises:
        PermissionError: this system does not let the process mount a disk of its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=in_a_process_of_its_own, args=(job, folder))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
    found = json.loads((folder / "result.json").read_text())
    if "refused" in found:
        raise PermissionError(found["refused"])
    text = (folder / "output.txt").read_text()
    return Result(status=process.exitcode or 0, text=text, **found)


def in_a_process_of_its_own(job: Job, folder: Path) -> None:
    """Mount a disk, bring the older outputs, run the stage, write down what became of them."""
    disk = folder / "disk"
    disk.mkdir()
    try:
        mount_disk(disk)
    except OSError as error:
        (folder / "result.json").write_text(json.dumps({"refused": str(error)}))
        return
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    project = disk / "project"
    project.mkdir()
    os.chdir(project)
    os.environ["DVC_ROOT"] = str(project)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{job.older}/mlflow.db"
    stages.copy_outputs(job.older, project)
    stages.write_params(project, dict(job.changes))
    before = checksums(project)
    try:
        with filling(disk, job) as finished:
            stages.run(job.stage)
        status = 0
    except SystemExit as end:
        status = int(str(end.code))
    except BaseException:
        traceback.print_exc()
        status = 70
    found = {"before": before, "now": checksums(project), "finished": len(finished)}
    (folder / "result.json").write_text(json.dumps(found))
    os._exit(status)


def mount_disk(folder: Path) -> None:
    """Mount a tmpfs that this process alone sees, as root or in a namespace where it is root."""
    user, group = os.getuid(), os.getgid()
    if system_call("unshare", CLONE_NEWNS) != 0:
        check(system_call("unshare", CLONE_NEWNS | CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    check(system_call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    size = f"size={SIZE}".encode()
    check(system_call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, size))


def system_call(name: str, *arguments: object) -> int:
    """Call a function of the C library."""
    library = ctypes.CDLL(None, use_errno=True)
    function: Callable[..., int] = getattr(library, name)
    return function(*arguments)


def check(status: int) -> None:
    """Raise where a system call has failed."""
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def filling(disk: Path, job: Job) -> Iterator[list[Path]]:
    """Fill the disk when the stage has finished so many files; yield those finished so far."""
    finished: list[Path] = []
    replace = Path.replace

    def counting(self: Path, target: Path) -> Path:
        result = replace(self, target)
        finished.append(target)
        if job.after is not None and len(finished) >= job.after:
            fill(disk, job.leaving)
        return result

    Path.replace = counting  # type: ignore[method-assign]
    try:
        if job.after == 0:
            fill(disk, job.leaving)
        yield finished
    finally:
        Path.replace = replace  # type: ignore[method-assign]


def fill(disk: Path, leaving: int) -> None:
    """Leave no more than so many bytes free."""
    state = os.statvfs(disk)
    rest = state.f_bavail * state.f_frsize - leaving
    if rest > 0:
        with (disk / "filler").open("ab") as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), rest)


def checksums(project: Path) -> dict[str, str]:
    """Each file's checksum, by its name; those of the notes aside that change at every attempt."""
    return {
        str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(project.rglob("*"))
        if path.is_file() and path.relative_to(project).parts[0] not in NOTES
    }
