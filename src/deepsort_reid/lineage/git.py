"""What git and DVC's cache remember: the files of any commit, and who holds a checkpoint."""

import configparser
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepsort_reid.runs.provenance import GIT_SECONDS, git

LOCK, RUN = "dvc.lock", "reports/run.json"  # name a commit's checkpoint and its run
MOST = 1000  # commits that are looked at; the newest come first
EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")
# What git shows of a ref: the commit behind it (an annotated tag has one more step) and its name.
REF_FORMAT = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname)"
KINDS = {
    "refs/heads/": "branch",
    "refs/remotes/": "remote branch",
    "refs/tags/": "tag",
    "refs/exps/": "experiment",
}


@dataclass(frozen=True)
class Holder:
    """A commit that holds a checkpoint: its dvc.lock names the bytes, or its run.json the run."""

    commit: str
    date: str  # 2026-11-24
    subject: str
    names: Sequence[str]  # what points to it: `branch main`, `experiment misty-fox of 0a1b2c3`


def resolve(name: str, root: Path) -> list[str]:
    """The commits that a hash, a branch, a tag or a DVC experiment's name may mean; mostly one."""
    found = [target for target, ref in refs(root) if experiment_name(ref) == name]
    if direct := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", at=root):
        found.append(direct)
    return list(dict.fromkeys(found))


def exists(commit: str, root: Path) -> bool:
    """Whether the repository has this commit."""
    return git("cat-file", "-e", f"{commit}^{{commit}}", at=root) is not None


def refs(root: Path) -> list[tuple[str, str]]:
    """The commit and the full name of each branch, tag and experiment; none without git."""
    lines = git("for-each-ref", f"--format={REF_FORMAT}", *KINDS, at=root) or ""
    pairs = [tuple(line.split(" ", 1)) for line in lines.splitlines()]
    # DVC keeps more below refs/exps: what is queued, and what runs now.
    return [
        (commit, ref)
        for commit, ref in pairs
        if not ref.startswith("refs/exps/") or experiment_name(ref)
    ]


def experiment_name(ref: str) -> str | None:
    """The name of the DVC experiment behind a ref; None for any other ref."""
    match = EXPERIMENT.fullmatch(ref)
    return None if match is None else match[3]


def shown(ref: str) -> str:
    """A ref in words: `branch main`, `experiment misty-fox of 0a1b2c3`."""
    if match := EXPERIMENT.fullmatch(ref):
        return f"experiment {match[3]} of {match[1]}{match[2][:5]}"
    prefix = next(prefix for prefix in KINDS if ref.startswith(prefix))
    return f"{KINDS[prefix]} {ref.removeprefix(prefix)}"


def contents(commit_and_path: Iterable[tuple[str, str]], root: Path) -> list[bytes | None]:
    """The bytes of files at commits, in the order asked for, by one call of git.

    Args:
        commit_and_path: a commit's hash, and a path below `root`.
        root: the project's folder, which may lie below the repository's.

    Returns:
        None for a file that the commit does not have, or if git cannot be asked.
    """
    asked = [f"{commit}:./{path}" for commit, path in commit_and_path]
    try:
        done = subprocess.run(
            ["git", "cat-file", "--batch"],  # noqa: S607
            cwd=root, input="".join(f"{line}\n" for line in asked).encode(),
            capture_output=True, timeout=GIT_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return [None] * len(asked)
    return unpacked(done.stdout, len(asked))


def unpacked(answer: bytes, count: int) -> list[bytes | None]:
    """The files in what `git cat-file --batch` printed: `HASH blob SIZE`, and the bytes."""
    found: list[bytes | None] = []
    at = 0
    for _ in range(count):
        end = answer.index(b"\n", at)
        words = answer[at:end].split()
        at = end + 1
        if words[-1] == b"missing" or len(words) != 3:
            found.append(None)
            continue
        size = int(words[2])
        found.append(answer[at : at + size] if words[1] == b"blob" else None)
        at += size + 1
    return found


def holders(root: Path, *, md5: str | None, run: str | None) -> list[Holder]:
    """The commits, tips and experiments that hold a checkpoint, the newest first.

    Looked at are the tips of all branches, tags and experiments, and the newest `MOST` commits
    before them that changed dvc.lock or run.json. One that kept both files as they were, somewhere
    in between, is left out.

    Args:
        root: the project's folder.
        md5: the checkpoint's, as dvc.lock states it.
        run: its run's key, or MLflow's id of it.
    """
    marks = [(LOCK, md5), (RUN, run)]
    names: dict[str, list[str]] = {}
    for commit, ref in refs(root):
        names.setdefault(commit, []).append(shown(ref))
    commits = list(dict.fromkeys([*changes(root), *names]))
    found = set()
    for path, mark in marks:
        if mark is None:
            continue
        texts = contents([(commit, path) for commit in commits], root)
        found |= {
            c for c, text in zip(commits, texts, strict=True) if mark.encode() in (text or b"")
        }
    return told([commit for commit in commits if commit in found], names, root)


def changes(root: Path) -> list[str]:
    """The newest commits that changed a checkpoint, whatever branch or experiment they are of."""
    every = ("HEAD", "--branches", "--tags", "--remotes", "--glob=refs/exps")
    arguments = ("--full-history", f"--max-count={MOST}", "--format=%H", "--", LOCK, RUN)
    return (git("log", *every, *arguments, at=root) or "").split()


def told(commits: Sequence[str], names: Mapping[str, Sequence[str]], root: Path) -> list[Holder]:
    """Commits with their dates, subjects and names, the newest first."""
    if not commits:
        return []
    lines = git("show", "--no-patch", "--format=%ct %H %cs %s", *commits[:MOST], at=root) or ""
    newest_first = sorted(lines.splitlines(), key=lambda line: -int(line.split(" ", 1)[0]))
    rows = [line.split(" ", 3)[1:] for line in newest_first]
    return [Holder(commit, date, subject, names.get(commit, ())) for commit, date, subject in rows]


def cached(root: Path, md5: str) -> Path:
    """Where DVC's cache has, or would have, the file with these bytes."""
    folder = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        config = configparser.ConfigParser()
        try:
            config.read(root / ".dvc" / name, encoding="utf-8")
            # A relative folder counts from the file that names it.
            folder = root / ".dvc" / config.get("cache", "dir", fallback=str(folder))
        except (configparser.Error, UnicodeDecodeError):
            continue
    return folder / "files" / "md5" / md5[:2] / md5[2:]
