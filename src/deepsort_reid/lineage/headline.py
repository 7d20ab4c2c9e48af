"""What a finished pipeline says of its result: the headline, the record in git, the next command.

The headline is the one metrics file that DVC's tables show. The record is what git keeps of a
result beside dvc.lock, so that a clone without DVC's cache knows the run and what it was made of.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from deepsort_reid.core import files
from deepsort_reid.core.git import git_bytes
from deepsort_reid.core.project import project_root
from deepsort_reid.lineage.commits import RECORDED
from deepsort_reid.lineage.dvc_cli import cached_file, outputs, parse_lock
from deepsort_reid.runs import changes
from deepsort_reid.runs.folder import RunFolder, is_key
from deepsort_reid.runs.mlflow.store import label, where_to_look
from deepsort_reid.runs.provenance import EXPERIMENT

DROPPED = "Created|.*/.*"  # columns of DVC's table that hide the others: paths, above all
DIGITS = 3  # of a share in the headline, so that DVC's table is narrow
SHARES = ("mAP", "rank-1", "mINP", "val_acc", "HOTA", "IDF1")
EVALUATED = {  # headline -> evaluation.json
    "mAP": "mAP",
    "rank-1": "rank1",
    "mINP": "mINP",
    "val_acc": "val_accuracy",
    "threshold": "max_cosine_distance",
}
TRACKED = {"HOTA": "hota", "IDF1": "idf1", "switches": "id_switches"}  # headline -> track.json


ELSEWHERE = {"mAP": "mAP", "rank-1": "rank1", "threshold": "max_cosine_distance"}


def headline_elsewhere(evaluation: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """The numbers on each of several datasets, and on those that are only tested on.

    Args:
        evaluation: the content of reports/evaluation.json.
    """
    return {
        group: {
            dataset: headline_of(numbers, ELSEWHERE)
            for dataset, numbers in evaluation[group].items()
        }
        for group in ("sources", "also")
        if group in evaluation
    }


def headline(evaluation: Mapping[str, Any], track: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of reports/metrics.json; those that were not measured are left out.

    Args:
        evaluation: the content of reports/evaluation.json.
        track: the content of reports/track.json.
    """
    return headline_of(evaluation, EVALUATED) | headline_of(track, TRACKED)


def headline_of(numbers: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, float]:
    """Some numbers of a report under the headline's names, shares rounded."""
    found = {name: numbers.get(key) for name, key in keys.items()}
    return {
        name: round(value, DIGITS) if name in SHARES else value
        for name, value in found.items()
        if value is not None
    }


def too_few(evaluation: Mapping[str, Any], track: Mapping[str, Any]) -> list[str]:
    """What the numbers have too little of to mean something, a line each."""
    found = {**evaluation.get("too_few", {}), **track.get("too_few", {})}
    return [f"not meaningful: {name}, {text}" for name, text in found.items()]


def table(numbers: Mapping[str, float]) -> list[str]:
    """The headline in two lines: names, and values below them."""
    values = {
        name: f"{value:.1%}" if name in SHARES else f"{value:.3g}"
        for name, value in numbers.items()
    }
    widths = {name: max(len(name), len(value)) + 2 for name, value in values.items()}
    return [
        "".join(f"{name:>{width}}" for name, width in widths.items()),
        "".join(f"{values[name]:>{width}}" for name, width in widths.items()),
    ]


def was_restored(run: Mapping[str, Any]) -> bool:
    """Whether DVC brought all results back, and nothing was trained or measured anew.

    Whatever this `dvc` process has run was recorded in the run's folder after the process began.

    Args:
        run: the content of reports/run.json.
    """
    began = dvc_began()
    if began is None or not is_key(run.get("key")):
        return False
    newest = max((point.time for point in RunFolder(run["key"]).metrics.read()), default=0)
    return newest / 1000 < began


def dvc_began() -> float | None:
    """When the `dvc` process began that runs this stage, seconds since 1970; None without one."""
    if "DVC_STAGE" not in os.environ:
        return None
    for process in psutil.Process().parents():
        try:
            if any(Path(word).name == "dvc" for word in process.cmdline()[:3]):
                return float(process.create_time())
        except psutil.Error:
            break
    return None


def run_in_words(run: Mapping[str, Any], uri: str | None) -> list[str]:
    """The run of a result, whether it was restored, and where to look at it.

    Args:
        run: the content of reports/run.json.
        uri: the address of MLflow's store; None where there is none.
    """
    name = run.get("run_name") or run.get("key") or "without a record"
    how = "restored from DVC's cache: " if was_restored(run) else ""
    known = RunFolder(run["key"]).mlflow if is_key(run.get("key")) else {}
    if uri is None or known.get("store") != label(uri) or "run_id" not in known:
        return [f"{how}run {name}, which this MLflow store does not have"]
    page = where_to_look(uri, known["experiment_id"], known["run_id"])
    return [f"{how}MLflow run {name}", f"to see it: {page}"]


# The next command


class Standing(NamedTuple):
    """How a result stands to git and DVC.

    Attributes:
        commit: the last commit; None without one.
        committed: whether that commit holds this result.
        has_result: whether it holds any result.
        is_cached: whether DVC's cache has that result, so that `dvc checkout` brings it.
        experiment: the DVC experiment that made the result; None outside of one.
        is_elsewhere: whether the experiment runs in a folder of its own.
        differs: the parameters that differ from the commit's, by name.
    """

    commit: str | None
    committed: bool
    has_result: bool
    is_cached: bool
    experiment: str | None
    is_elsewhere: bool
    differs: Mapping[str, Any]


def standing(params: Mapping[str, Any], record: Path) -> Standing:
    """Ask git how the result in the workspace stands.

    Args:
        params: as params.yaml states them.
        record: the path of record.json, just written.
    """
    commit = changes.base_commit()
    here = Path.cwd()
    there = git_bytes("show", f"{commit}:./{record}", at=here) if commit else None
    lock = git_bytes("show", f"{commit}:./{changes.LOCK}", at=here) if commit else None
    return Standing(
        commit=commit,
        committed=there == record.read_bytes(),
        has_result=bool(lock),
        is_cached=bool(lock) and is_cached(lock or b""),
        experiment=os.environ.get(EXPERIMENT),
        is_elsewhere=here.resolve() != Path(os.environ.get("DVC_ROOT", here)).resolve(),
        differs=changes.changed_params(commit, params) or {},
    )


def is_cached(lock: bytes) -> bool:
    """Whether DVC's cache, in its usual place, has all that stage train made for a dvc.lock."""
    try:
        made = outputs(parse_lock(lock), "train").values()
    except ValueError:
        return False
    cache = project_root() / ".dvc" / "cache"
    return bool(made) and all(cached_file(cache, md5).exists() for md5 in made)


def next_commands(state: Standing) -> list[tuple[str, str]]:
    """What one does next with a result: pairs of purpose and command."""
    run = "uv run " if "UV" in os.environ else ""  # uv names itself to what it runs
    show = f"{run}dvc exp show --only-changed --drop '{DROPPED}'"
    title = changes.label(state.differs) or state.experiment or "New result"
    keep = f"git add params.yaml dvc.lock reports && git commit -m {shlex.quote(title)}"
    first = "git add params.yaml dvc.lock reports && git commit -m 'First result'"
    if state.commit is None:
        begin = "git init -q && git add . && git commit -m 'First result'"
        return [("keep it, to compare with", begin)]
    if state.experiment and state.is_elsewhere:
        return [
            ("beside the others", show),
            ("bring it here", f"{run}dvc exp apply {state.experiment}"),
        ]
    if state.experiment and not state.has_result:
        return [
            (
                "the last commit has no result; bring it",
                f"git restore params.yaml && {run}dvc repro",
            ),
            ("keep it, to compare with", first),
            ("this one again, in seconds", f"{run}dvc exp run{changes.as_options(state.differs)}"),
        ]
    if state.experiment:
        return [
            ("beside the others", show),
            ("keep it", keep),
            ("go back", f"git restore . && {run}dvc {'checkout' if state.is_cached else 'repro'}"),
        ]
    if state.committed:
        return [
            ("it is commit", state.commit[:7]),
            ("try something", f"{run}dvc exp run --set-param lr=0.002"),
        ]
    if not state.has_result:
        return [
            ("keep it, to compare with", first),
            ("then try something", f"{run}dvc exp run --set-param lr=0.002"),
        ]
    return [
        ("beside the last commit", f"{run}dvc metrics diff"),
        ("keep it", keep),
    ]


def record(parts: Mapping[str, Mapping[str, Any]], checkpoint: Path) -> dict[str, Any]:
    """The content of reports/record.json.

    Args:
        parts: the contents of the stages' reports, by the names in `RECORDED`.
        checkpoint: the path of the checkpoint that they are of.
    """
    return {"checkpoint": files.md5(checkpoint), **{name: parts[name] for name in RECORDED}}
