"""Where a run comes from: the commit, the DVC experiment and the data, as MLflow tags."""

import getpass
import os
import sys
from pathlib import Path

from deepsort_reid.core.files import md5
from deepsort_reid.core.git import git
from deepsort_reid.core.project import project_root

RUN_KEY = "run_key"  # by which a run is found that was made without our hearing of it
DATA_DIGEST = "data_digest"  # runs with the same one were measured on the same data
CHECKPOINT_MD5 = "checkpoint_md5"  # by which DVC's cache and every dvc.lock name the checkpoint
# DVC changes these for every experiment, and MLflow has the parameters.
CHANGED_BY_EXPERIMENTS = ("params.yaml", "dvc.lock")


def provenance_tags(*, data_digest: str, arch: str) -> dict[str, str]:
    """The tags that lead from a run to all it was made from; those nobody knows are left out.

    Args:
        data_digest: a hash of the data trained and measured on.
        arch: the network's name.

    Returns:
        `git_commit`, `git_dirty`, `dvc_experiment`, `dvc_stage` and `data_digest`, and MLflow's
        own tags, from which its pages show source, commit, user and description.
    """
    commit = git_commit()
    dirty = git_dirty(commit)
    experiment = os.environ.get("DVC_EXP_NAME")
    tags = {
        "git_commit": commit,
        "git_dirty": None if dirty is None else str(dirty).lower(),
        "dvc_experiment": experiment,
        "dvc_stage": os.environ.get("DVC_STAGE"),
        DATA_DIGEST: data_digest,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": source_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user_name(),
        "mlflow.note.content": describe(arch, data_digest, commit, experiment, dirty=bool(dirty)),
    }
    return {name: value for name, value in tags.items() if value}


def checkpoint_tags(path: Path) -> dict[str, str]:
    """The tag that leads from a run forward to its checkpoint, in DVC's cache and in commits."""
    return {CHECKPOINT_MD5: md5(path)}


def run_name(arch: str) -> str:
    """A name to tell runs apart by: the DVC experiment's, else network and commit."""
    commit = git_commit()
    return os.environ.get("DVC_EXP_NAME") or (f"{arch}-{commit[:7]}" if commit else arch)


def git_commit() -> str | None:
    """The commit of the real repository that a run starts from; None without git.

    A temporary experiment's folder is a repository of its own: there DVC names the commit.
    """
    return os.environ.get("DVC_EXP_BASELINE_REV") or git("rev-parse", "HEAD", at=project_root())


def git_dirty(commit: str | None) -> bool | None:
    """Whether the files that run here differ from the commit's, parameters aside; None: unknown."""
    if commit is None:
        return None
    others = [f":(exclude,top){name}" for name in CHANGED_BY_EXPERIMENTS]
    names = git("diff", "--name-only", commit, "--", ":/", *others, at=Path.cwd())
    return None if names is None else bool(names)


def source_name() -> str:
    """The script that runs, as seen from the repository: `pipeline/train.py`."""
    script = Path(sys.argv[0]).resolve()
    here = Path.cwd().resolve()
    return str(script.relative_to(here)) if script.is_relative_to(here) else script.name


def user_name() -> str | None:
    """Who runs this; None in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def describe(
    arch: str, data_digest: str, commit: str | None, experiment: str | None, *, dirty: bool
) -> str:
    """The run in a few words of Markdown, for the top of its page."""
    words = [f"**{arch}** trained on data `{data_digest[:12]}`"]
    if commit:
        words.append(f"commit `{commit[:7]}`{' with uncommitted changes' if dirty else ''}")
    if experiment:
        words.append(f"DVC experiment `{experiment}`")
    back = f"dvc exp apply {experiment}" if experiment else "dvc checkout"
    if commit and not experiment:
        back = f"git checkout {commit[:7]} && {back}"
    return f"{' · '.join(words)}\n\nBack to this state: `{back}`\n"
