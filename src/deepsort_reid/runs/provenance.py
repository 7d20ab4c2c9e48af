"""Where a run comes from: the commit, the DVC experiment and the data, as MLflow tags."""

import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsort_reid.core.errors import WeightsError, shortened
from deepsort_reid.core.files import md5
from deepsort_reid.runs import changes

EXPERIMENT = "DVC_EXP_NAME"  # where DVC names the experiment
FILES = 3  # changed files that are named
SEARCH = "DEEPSORT_REID_SEARCH"  # in the environment of a search's trial: the key of its run
PARENT_KEY = "parent_run_key"  # the key of the run that this one is a part of
TRIAL_TAG = "trial"  # the number of a search's trial
RUN_KEY = "run_key"  # by which a run is found that was made without our hearing of it
DATA_DIGEST = "data_digest"  # runs with the same one were measured on the same data
CHECKPOINT_MD5 = "checkpoint_md5"  # by which DVC's cache and every dvc.lock name the checkpoint


def provenance_tags(*, data_digest: str, arch: str, params: Mapping[str, Any]) -> dict[str, str]:
    """The tags that lead from a run to all it was made from; those nobody knows are left out.

    Args:
        data_digest: a hash of the data trained and measured on.
        arch: the network's name.
        params: as params.yaml states them.

    Returns:
        `git_commit`, `git_dirty` (whether a person changed files of the commit, parameters aside),
        `dvc_experiment`, `dvc_stage` and `data_digest`, and MLflow's own tags, from which its
        pages show source, commit, user and description.
    """
    commit = changes.base_commit()
    files = changes.changed_files(commit)
    different = changes.changed_params(commit, params)
    experiment = os.environ.get(EXPERIMENT)
    note = "\n\n".join(
        [describe(arch, data_digest, commit, experiment), way_back(commit, different, files)]
    )
    return tags_of(data_digest, commit, files, note)


def source_tags(data_digest: str, note: str) -> dict[str, str]:
    """The tags of `provenance_tags`, of a run that is no training.

    Args:
        data_digest: a hash of the data measured on.
        note: the description, in Markdown.
    """
    commit = changes.base_commit()
    return tags_of(data_digest, commit, changes.changed_files(commit), note)


def tags_of(
    data_digest: str, commit: str | None, files: Sequence[str] | None, note: str
) -> dict[str, str]:
    """The tags that any kind of run has; those nobody knows are left out."""
    tags = {
        "git_commit": commit,
        "git_dirty": None if files is None else str(bool(files)).lower(),
        "dvc_experiment": os.environ.get(EXPERIMENT),
        "dvc_stage": os.environ.get("DVC_STAGE"),
        DATA_DIGEST: data_digest,
        PARENT_KEY: os.environ.get(SEARCH),
        TRIAL_TAG: trial_number(),
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": source_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user_name(),
        "mlflow.note.content": note,
    }
    return {name: value for name, value in tags.items() if value}


def checkpoint_tags(path: Path) -> dict[str, str]:
    """The tag that leads from a run forward to its checkpoint, in DVC's cache and in commits."""
    return {CHECKPOINT_MD5: md5(path)}


def measured_tags(stage: str, checkpoint: Path) -> dict[str, str]:
    """The tag that says on which checkpoint a stage has measured what it adds to a run."""
    return {measured_tag(stage): md5(checkpoint)}


def measured_tag(stage: str) -> str:
    """The name of that tag: `evaluate_checkpoint_md5`."""
    return f"{stage}_{CHECKPOINT_MD5}"


def run_name(arch: str, params: Mapping[str, Any]) -> str:
    """A name that says what is run: the network, and what differs from the committed parameters.

    Args:
        arch: the network's name.
        params: as params.yaml states them.

    Returns:
        `resnet18-lr0.2`; `resnet18-0a1b2c3` with the parameters of the commit 0a1b2c3, and
        `resnet18-0a1b2c3-changed` if files of that commit were changed. `trial-7` in a search.
    """
    if number := trial_number():
        return f"trial-{number}"
    commit = changes.base_commit()
    different = changes.changed_params(commit, params)
    if different:
        others = {name: value for name, value in different.items() if name != "arch"}
        return "-".join([arch, *([changes.label(others)] if others else [])])
    if commit is None:
        return arch
    return f"{arch}-{commit[:7]}{'-changed' if changes.changed_files(commit) else ''}"


def trial_number() -> str | None:
    """The number of the search's trial that this process is a part of; None outside a search."""
    return os.environ.get(changes.TRIAL)


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


def describe(arch: str, data_digest: str, commit: str | None, experiment: str | None) -> str:
    """The run in a few words of Markdown, for the top of its page."""
    words = [f"**{arch}** trained on data `{shortened(data_digest)}`"]
    if commit:
        words.append(f"commit `{commit[:7]}`")
    if experiment:
        words.append(f"DVC experiment `{experiment}`")
    return " · ".join(words)


def way_back(
    commit: str | None, different: Mapping[str, Any] | None, files: Sequence[str] | None
) -> str:
    """The commands that bring this result back, in Markdown: from DVC's cache, or made again.

    They hold whatever is committed later. Nothing but a commit holds changed files.

    Args:
        commit: the commit that the run starts from.
        different: the parameters that the commit does not have.
        files: the files that a person changed since the commit.
    """
    if commit is None or different is None or files is None:
        return "Without a commit, nothing leads back to this state."
    again = f"dvc exp run{changes.as_options(different)}" if different else "dvc repro"
    back = f"Back to this result: `git checkout {commit[:7]} && {again}`"
    if not files:
        return back
    names = ", ".join(f"`{name}`" for name in files[:FILES])
    more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
    return f"{back}, with the uncommitted changes of {names}{more}"


def check_made_by(
    identity: Mapping[str, Any],
    params: Mapping[str, Any],
    *,
    processes: int,
    data_digest: str | None = None,
) -> None:
    """Refuse a checkpoint that other parameters or data have made than those that are here.

    DVC records whatever lies there when it is told to (`dvc commit`), and then takes it for the
    result of what params.yaml says.

    Args:
        identity: the fingerprint of the checkpoint's training; one that says nothing passes.
        params: the training's here, as `TrainConfig.determining` gives them.
        processes: that train together.
        data_digest: SHA-256 of the split; None: it is not compared.

    Raises:
        WeightsError: it was made of something else; the line names the first thing.
    """
    there, environment, data = (identity.get(part) for part in ("params", "environment", "data"))
    if not (
        isinstance(there, Mapping)
        and isinstance(environment, Mapping)
        and isinstance(data, Mapping)
    ):
        return
    number = "the number of processes"
    made_of = {**there, number: environment.get("processes"), "data/split": data.get("split")}
    here = {**params, number: processes}
    if data_digest is not None:
        here["data/split"] = data_digest
    for name in here:
        if name in made_of and made_of[name] != here[name]:
            was, now = (shortened(values[name]) for values in (made_of, here))
            raise WeightsError(
                f"models/model.pth is not what params.yaml makes: {name} was {was}, is {now} now; "
                "make its own: dvc repro -f train"
            )
