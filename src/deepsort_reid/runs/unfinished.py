"""Folders of trainings that may still be resumed: `.resume/<key>` at the repository's root.

The key is that of the training's fingerprint, so that a training with other data, parameters, code
or environment has another folder. The folder lies outside the outputs of every stage. In it,
`run.json` names the run under which the training is recorded, however often it is interrupted, and
`finished.json` says that it has left all its outputs. DVC may be killed between a stage's end and
its own record of it, and then runs the stage again: until DVC has recorded the outputs, the folder
stays, and the training ends in the same bytes once more.
"""

import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from deepsort_reid.core import files
from deepsort_reid.core.project import project_root

logger = logging.getLogger(__name__)

FOLDER = ".resume"
LOCK_SECONDS = 30.0  # for an earlier attempt to leave
MAX_AGE = 30.0  # days
DIGITS = 16  # of a fingerprint's key, in a folder's name


def is_there(key: str) -> bool:
    """Whether a training with this key was interrupted, or has not been recorded yet."""
    return (project_root() / FOLDER / key[:DIGITS] / "identity.json").is_file()


def is_held(folder: Path) -> bool:
    """Whether a process uses a training's folder now."""
    try:
        with lock_of(folder, 0):
            return False
    except Timeout:
        return True


@contextmanager
def hold(key: str) -> Iterator[Path | None]:
    """Hold a training's folder, so that no other process uses it while the block runs.

    A folder whose training DVC has recorded is emptied first: the training is to be done anew.
    Folders of other trainings that nobody has come back to for a month are removed.

    Args:
        key: of the training's fingerprint.

    Yields:
        the folder; None, after a warning, if another process does the same training.
    """
    root = project_root() / FOLDER
    folder = root / key[:DIGITS]
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_of(folder, LOCK_SECONDS))
        except Timeout:
            logger.warning("another process does the same training: no resume state of this one")
            yield None
            return
        forget_old(root, but=folder)
        if is_recorded(folder):
            shutil.rmtree(folder)
            folder.mkdir()
        yield folder


def run_key_of(folder: Path | None) -> str:
    """The key of a training's run, which its folder keeps; a new one if it has none.

    Args:
        folder: the training's; None if it has none.
    """
    if folder and (known := read_run_key(folder)):
        return known
    key = uuid.uuid4().hex
    if folder:
        files.write_json(folder / "run.json", {"key": key})
    return key


def read_run_key(folder: Path) -> str | None:
    """The key of the run that a training's folder names; None if it names none."""
    try:
        key = files.read_json(folder / "run.json")["key"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    # It becomes the name of a folder: a damaged one must not be used.
    return key if isinstance(key, str) and re.fullmatch("[0-9a-f]{32}", key) else None


def finish(folder: Path, run_report: Path) -> None:
    """Remove a training's folder, or leave it until DVC has recorded the training's outputs.

    Args:
        folder: the training's.
        run_report: an output that names the run, so that no other training's is the same.
    """
    if "DVC_STAGE" in os.environ:
        files.write_json(folder / "finished.json", {"md5": files.md5(run_report)})
    else:
        shutil.rmtree(folder)


def is_recorded(folder: Path) -> bool:
    """Whether dvc.lock has the outputs of a finished training."""
    try:
        md5 = files.read_json(folder / "finished.json")["md5"]
        lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
        outs = lock["stages"][os.environ["DVC_STAGE"]]["outs"]
        return any(out.get("md5") == md5 for out in outs)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return False


def forget(run_key: str | None) -> None:
    """Remove the folder of a training whose outputs DVC has recorded.

    Args:
        run_key: of the training's run; None if it is not known.
    """
    for path in (project_root() / FOLDER).glob("*/run.json"):
        if run_key and read_run_key(path.parent) == run_key:
            remove(path.parent)


def forget_old(root: Path, but: Path) -> None:
    """Remove folders that nobody has come back to for a month."""
    for path in root.iterdir():
        is_old = time.time() - path.stat().st_mtime > MAX_AGE * 86_400
        if is_old and path.is_dir() and path != but:
            remove(path)


def remove(folder: Path) -> None:
    """Remove a training's folder unless a process uses it."""
    try:
        with lock_of(folder, 0):
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        return


def lock_of(folder: Path, seconds: float) -> FileLock:
    """The lock of a training's folder; it lies beside it, so that the folder can be removed."""
    return FileLock(folder.with_suffix(".lock"), timeout=seconds)
