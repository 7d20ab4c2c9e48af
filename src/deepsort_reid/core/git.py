"""Asks git, in a process of its own."""

import subprocess
from pathlib import Path

GIT_SECONDS = 10.0


def git(*arguments: str, at: Path) -> str | None:
    """What git prints, without the white space around it; None if git cannot answer."""
    answer = git_bytes(*arguments, at=at)
    return None if answer is None else answer.decode(errors="replace").strip()


def git_bytes(*arguments: str, at: Path, stdin: bytes = b"") -> bytes | None:
    """What git prints; None where there is no git, no repository, or no such commit.

    Args:
        arguments: the command and its options, without the word `git`.
        at: the folder in which git runs.
        stdin: what the command reads.
    """
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=at, input=stdin, capture_output=True, timeout=GIT_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
