"""Commits: which one a name means, what it holds, and which of them hold a checkpoint."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from deepsort_reid.core.git import git, git_bytes

LOCK, RECORD = "dvc.lock", "reports/record.json"  # they name a commit's checkpoint, and its run
RECORDED = ("identity", "training", "split", "run")  # the parts of the record
RUN = "reports/run.json"  # named the run in commits of earlier versions
MOST = 1000  # commits that are searched, the newest first
EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")
KINDS = {
    "refs/heads/": "branch",
    "refs/remotes/": "remote branch",
    "refs/tags/": "tag",
    "refs/exps/": "experiment",
}


@dataclass(frozen=True)
class HoldingCommit:
    """A commit that holds a checkpoint: its dvc.lock names the bytes, or its record the run."""

    commit: str
    date: str  # 2026-11-24
    subject: str
    names: Sequence[str]  # what points to it: `branch main`, `experiment misty-fox of 0a1b2c3`


def commits_named(name: str, root: Path) -> list[str]:
    """The commits that a hash, a branch, a tag or a DVC experiment's name may mean; mostly one."""
    found = [commit for commit, ref in references(root) if experiment_name(ref) == name]
    if direct := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", at=root):
        found.append(direct)
    return list(dict.fromkeys(found))


def has_commit(commit: str, root: Path) -> bool:
    """Whether the repository has this commit."""
    return git("cat-file", "-e", f"{commit}^{{commit}}", at=root) is not None


def references(root: Path) -> list[tuple[str, str]]:
    """The commit and the full name of each branch, tag and experiment; none without git."""
    columns = "--format=%(objectname) %(*objectname) %(refname)"
    found = []
    for line in (git("for-each-ref", columns, *KINDS, at=root) or "").splitlines():
        object_, tagged, ref = line.split(" ", 2)
        # DVC keeps more below refs/exps: the queue, and what runs now.
        if not ref.startswith("refs/exps/") or experiment_name(ref):
            found.append((tagged or object_, ref))  # an annotated tag is an object of its own
    return found


def experiment_name(ref: str) -> str | None:
    """The name of the DVC experiment behind a ref; None for any other ref."""
    match = EXPERIMENT.fullmatch(ref)
    return None if match is None else match[3]


def in_words(ref: str) -> str:
    """A ref in words: `branch main`, `experiment misty-fox of 0a1b2c3`."""
    if match := EXPERIMENT.fullmatch(ref):
        return f"experiment {match[3]} of {match[1]}{match[2][:5]}"
    prefix = next(prefix for prefix in KINDS if ref.startswith(prefix))
    return f"{KINDS[prefix]} {ref.removeprefix(prefix)}"


def files_at(commit: str, paths: Sequence[str], root: Path) -> list[bytes | None]:
    """The bytes of files at a commit, by one call of git.

    Args:
        commit: its hash.
        paths: the files' paths below `root`.
        root: the project's folder, which may lie below the repository's.

    Returns:
        None for a file that the commit does not have, or if git cannot answer.
    """
    asked = "".join(f"{commit}:./{path}\n" for path in paths)
    answer = git_bytes("cat-file", "--batch", at=root, stdin=asked.encode())
    if answer is None:
        return [None] * len(paths)
    stream = BytesIO(answer)
    return [next_file(stream) for _ in paths]


def next_file(stream: BytesIO) -> bytes | None:
    """Read one answer of `git cat-file --batch`: `HASH KIND SIZE`, the bytes, and a line's end."""
    header = stream.readline().split()
    if header[-1] == b"missing":
        return None
    content = stream.read(int(header[2]))
    stream.readline()
    return content if header[1] == b"blob" else None


def holding_commits(root: Path, *, md5: str | None, run: str | None) -> list[HoldingCommit]:
    """The commits, tips and experiments that hold a checkpoint, the newest first.

    The search takes the tips of all branches, tags and experiments, and the newest `MOST` commits
    that changed dvc.lock or the record. A commit in between that kept these files is left out.

    Args:
        root: the project's folder.
        md5: the checkpoint's, as dvc.lock states it.
        run: its run's key, or MLflow's id of it.
    """
    names: dict[str, list[str]] = {}
    for commit, ref in references(root):
        names.setdefault(commit, []).append(in_words(ref))
    commits = list(dict.fromkeys([*changing_commits(root), *names]))
    marks = [word for mark in (md5, run) if mark for word in ("-e", mark)]
    if not commits or not marks:
        return []
    lines = (
        git("grep", "--no-color", "-lF", *marks, *commits, "--", LOCK, RECORD, RUN, at=root) or ""
    )
    found = {line.partition(":")[0] for line in lines.splitlines()}
    if not found:
        return []
    newest_first = git("log", "--no-walk", "--format=%H %cs %s", *found, at=root) or ""
    rows = [line.split(" ", 2) for line in newest_first.splitlines()]
    return [
        HoldingCommit(commit, date, subject, names.get(commit, ()))
        for commit, date, subject in rows
    ]


def changing_commits(root: Path) -> list[str]:
    """The newest commits that changed a checkpoint, of every branch and experiment."""
    every = ("HEAD", "--branches", "--tags", "--remotes", "--glob=refs/exps")
    limits = ("--full-history", f"--max-count={MOST}", "--format=%H", "--", LOCK, RECORD, RUN)
    return (git("log", *every, *limits, at=root) or "").split()
