"""Asks DVC, in a process of its own, which stages would run, and where its cache lies."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsort_reid.core.errors import ConfigError, LineageError
from deepsort_reid.core.yaml_file import parse_yaml

DVC_SECONDS = 60.0  # it hashes what has changed
Lock = Mapping[str, Any]  # dvc.lock's stages: name -> cmd, deps, params, outs
# As `dvc status --json` prints it: stage -> `changed command`, or what has changed -> path -> how.
Status = Mapping[str, Sequence[str | Mapping[str, Mapping[str, Any]]]]
# A project without git, whose cache is empty.
ELSEWHERE = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"


def status(stages: Sequence[str], folder: Path) -> Status:
    """What has changed since stages ran for the dvc.lock of a folder; empty if nothing has.

    Raises:
        LineageError: DVC cannot tell.
    """
    found: Status = json.loads(ask_dvc("status", "--json", *stages, at=folder))
    return found


def status_since(lock: Lock, stages: Sequence[str], root: Path) -> Status:
    """What the workspace has changed since stages ran for another dvc.lock.

    `dvc status` knows one dvc.lock, the workspace's. So it is asked in a folder that holds the
    other one, and links to the workspace's files. All outputs are missing there.

    Raises:
        LineageError: DVC cannot tell.
    """
    with tempfile.TemporaryDirectory(prefix="lineage-") as name:
        folder = Path(name)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text(ELSEWHERE, encoding="utf-8")
        text = json.dumps({"schema": "2.0", "stages": lock})  # which is YAML too
        (folder / "dvc.lock").write_text(text, encoding="utf-8")
        made = {path.partition("/")[0] for stage in lock for path in outputs(lock, stage)}
        for entry in root.iterdir():
            if entry.name not in {".dvc", ".git", "dvc.lock", *made}:
                (folder / entry.name).symlink_to(entry.absolute())
        return status(stages, folder)


def parse_lock(text: bytes) -> Lock:
    """The stages of a dvc.lock.

    Raises:
        ValueError: it is no dvc.lock.
    """
    try:
        stages = parse_yaml(text.decode())["stages"]
    except (ConfigError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is no dvc.lock") from error
    if not isinstance(stages, dict):
        raise ValueError("it is no dvc.lock")
    return stages


def outputs(lock: Lock, stage: str) -> dict[str, str]:
    """The outputs of a stage -> their MD5 as DVC has it."""
    return {out["path"]: out.get("md5", "") for out in lock.get(stage, {}).get("outs", [])}


def cache_folder(root: Path) -> Path:
    """The folder of DVC's cache, wherever the configuration has put it.

    Raises:
        LineageError: DVC cannot tell.
    """
    return Path(ask_dvc("cache", "dir", at=root).strip())


def cached_file(cache: Path, md5: str) -> Path:
    """Where the cache has, or would have, the file with this MD5.

    No command of DVC tells that; the names have been the same since DVC 3.0.
    """
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def ask_dvc(*arguments: str, at: Path) -> str:
    """What a command of DVC prints.

    The interpreter starts it: DVC's own program may not be on the PATH.

    Raises:
        LineageError: DVC is not installed, fails or does not end in time; one line.
    """
    if not (at / ".dvc").is_dir():
        raise LineageError("there is no DVC repository here")
    command = f"dvc {arguments[0]}"
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "dvc", *arguments],
            cwd=at, capture_output=True, text=True, timeout=DVC_SECONDS, check=False,
        )  # fmt: skip
    except OSError as error:
        raise LineageError(f"{command}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LineageError(f"{command}: no answer within {DVC_SECONDS:.0f} s") from None
    if "No module named dvc" in done.stderr:
        raise LineageError("DVC is not installed")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it failed"]
        raise LineageError(f"{command}: {lines[0].removeprefix('ERROR: ')}")
    return done.stdout
