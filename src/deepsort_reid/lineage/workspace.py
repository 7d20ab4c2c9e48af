"""Whether the workspace would make a checkpoint again: its data, parameters, code, environment."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.errors import ConfigError, DeepSortReidError, LineageError
from deepsort_reid.core.machine import cores
from deepsort_reid.core.yaml_file import read_yaml, show
from deepsort_reid.data.packed import read_summary
from deepsort_reid.lineage.dvc_cli import (
    Lock,
    Status,
    outputs,
    status,
    status_since,
)
from deepsort_reid.lineage.records import PipelineRecords
from deepsort_reid.model.device import choose_device
from deepsort_reid.training import fingerprint
from deepsort_reid.training.arithmetic import has_bfloat16
from deepsort_reid.training.fingerprint import Fingerprint
from deepsort_reid.training.ranks.distributed import Process

DATA = ("download", "split")  # the stages before train
ANY_ENVIRONMENT = "this is the environment it was made in, which nobody knows"


@dataclass(frozen=True)
class WorkspaceComparison:
    """What a checkpoint was made from, beside what the workspace has now.

    Attributes:
        differences: one line each, in the order of the pipeline.
        is_sure: whether another checkpoint comes out if anything differs, and the same one if
            nothing does. Other code, or stages that run again, may do the same.
        condition: what must be true for the same checkpoint to come out, if nobody knows it.
    """

    differences: list[str]
    is_sure: bool = True
    condition: str = ""


def compare_with_workspace(
    there: Fingerprint | None, lock: Lock | None, root: Path
) -> WorkspaceComparison | None:
    """What stands between a checkpoint and the same one made anew here; None if nobody knows.

    Args:
        there: the checkpoint's identity.
        lock: the dvc.lock beside it, for the stages before train; all there is for a checkpoint
            that is older than identities.
        root: the project's folder.
    """
    try:
        params = load_params(root / "params.yaml")
        if there is None:
            return compare_locked(lock, root)
        return compare_identities(params, there, lock, root)
    except (DeepSortReidError, OSError) as error:
        return WorkspaceComparison([f"the workspace makes none: {error}"])


def compare_locked(lock: Lock | None, root: Path) -> WorkspaceComparison | None:
    """Compare a checkpoint without identity by the dvc.lock beside it; None if nobody can."""
    try:
        lines = stage_differences(lock, (*DATA, "train"), root) if lock else None
    except LineageError:
        return None
    if lines is None:
        return None
    return WorkspaceComparison(lines, is_sure=False, condition=ANY_ENVIRONMENT)


def compare_identities(
    params: Params, there: Fingerprint, lock: Lock | None, root: Path
) -> WorkspaceComparison:
    """Compare a checkpoint whose identity is known.

    Raises:
        PackedError: there is no data.
        OSError: the pretrained weights cannot be read.
    """
    stale: Status = {}
    before, condition = [], ""
    own = PipelineRecords.here(root).lock or {}
    try:
        stale = status(DATA, root)
        if lock is None or all(lock.get(stage) == own.get(stage) for stage in DATA):
            before = in_words(stale, own, root, with_outputs=lock is None)
        else:
            before = stage_differences(lock, DATA, root)
    except LineageError as error:
        condition = f"its data is what the pipeline makes here ({error})"
    # Data that would be made anew first cannot be compared, so what makes it is.
    here = identity_here(params, there, root, keep_data=bool(stale))
    if not stale and here.data == there.data:
        before = []
    certain = fingerprint.differences(there, replace(here, code=there.code))
    layout = layout_difference(there.code, here.code)
    code = [] if layout else code_differences(there.code, here.code)
    lines = [*layout, *before, *certain, *code]
    return WorkspaceComparison(
        lines, is_sure=bool(certain) or not (lines or condition), condition=condition
    )


def identity_here(
    params: Params, there: Fingerprint, root: Path, *, keep_data: bool
) -> Fingerprint:
    """The identity of what train would make here, as torchrun starts it.

    Args:
        params: the workspace's.
        there: the identity to compare with.
        root: the project's folder.
        keep_data: the data would be made anew first, so take it for the same.

    Raises:
        PackedError: there is no data.
        OSError: the pretrained weights cannot be read.
    """
    digest = there.data.get("split", "") if keep_data else read_summary(root / "data/split").digest
    count = params.train.nproc_per_node
    device = choose_device(0, count)
    process = Process(0, 0, params.train.world_size, count, device)
    on_gpu = device.type == "cuda"
    # Which one a CPU would take, a measurement tells when the training starts.
    taken = on_gpu or there.environment.get("arithmetic") == "bfloat16"
    here = fingerprint.of_training(
        params.train, process, data_digest=digest,
        bfloat16=params.train.amp and has_bfloat16(device) and taken,
    )  # fmt: skip
    threads = int(os.environ.get("OMP_NUM_THREADS", "1")) if on_gpu else max(1, cores() // count)
    return replace(here, environment={**here.environment, "threads": threads})


def layout_difference(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """One line if most files of the code have other names here: then none can be compared.

    Args:
        there: file -> SHA-256, of a checkpoint.
        here: the same of the workspace.
    """
    gone = there.keys() - here.keys()
    if 2 * len(gone) <= len(there):
        return []
    counts = f"{len(gone)} of its {len(there)} files are not here"
    return [f"it was made by another layout of the code: {counts}"]


def code_differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The files of code that differ, a line each."""
    names = sorted(there.keys() | here.keys())
    return [f"code {name} differs" for name in names if there.get(name) != here.get(name)]


def stage_differences(lock: Lock, stages: Sequence[str], root: Path) -> list[str]:
    """Why stages would not run as they ran for a dvc.lock, a line each, in their order.

    Raises:
        LineageError: DVC cannot tell.
    """
    return in_words(status_since(lock, stages, root), lock, root, with_outputs=False)


def in_words(found: Status, lock: Lock, root: Path, *, with_outputs: bool) -> list[str]:
    """What DVC has found changed since a dvc.lock, a line each.

    Args:
        found: DVC's answer.
        lock: the dvc.lock.
        root: the project's folder.
        with_outputs: whether an output counts that is missing, or another one.
    """
    params = parameters(root)
    made = {path for stage in lock for path in outputs(lock, stage)}
    lines = []
    for stage, reasons in found.items():
        if stage not in lock:
            lines.append(f"stage {stage} would run: dvc.lock has nothing of it")
            continue
        for reason in reasons:
            if isinstance(reason, str):
                lines.append(f"stage {stage} would run again: its command differs")
                continue
            words = [
                *dependencies_in_words(reason.get("changed deps", {}), lock[stage], made, params),
                *(outputs_in_words(reason.get("changed outs", {})) if with_outputs else ()),
            ]
            lines += [f"stage {stage} would run again: {word}" for word in words]
    return lines


def dependencies_in_words(
    changes: Mapping[str, Any],
    locked: Mapping[str, Any],
    made: Collection[str],
    params: Mapping[str, Any],
) -> Iterator[str]:
    """Yield the changed parameters, then the files; not what another stage makes.

    Args:
        changes: path -> state; of a file of parameters: path -> name -> state.
        locked: the stage, as dvc.lock has it.
        made: the outputs of all stages.
        params: the workspace's, with dots in their names.
    """
    known = {dependency["path"] for dependency in locked.get("deps", [])}
    for path, names in changes.items():
        if isinstance(names, Mapping):
            yield from parameter_differences(names, locked.get("params", {}).get(path, {}), params)
    for path, state in changes.items():
        if path in made:
            continue
        if state == "deleted":
            yield f"{path} is missing here"
        elif isinstance(state, str):
            yield f"{path} differs" if path in known else f"{path} is a new dependency"


def outputs_in_words(changes: Mapping[str, str]) -> Iterator[str]:
    """Yield the outputs that are not as dvc.lock has them."""
    states = {"deleted": "is missing here", "not in cache": "is not in DVC's cache"}
    for path, state in changes.items():
        yield f"{path} {states.get(state, 'is not the one of dvc.lock')}"


def parameter_differences(
    names: Iterable[str], locked: Mapping[str, Any], params: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a line for each parameter that is another here than in dvc.lock.

    Args:
        names: parameters or whole sections: `lr`, `split`, `dataset.mot`.
        locked: as dvc.lock has them.
        params: the workspace's, with dots in their names.
    """
    stated = tuple(f"{name}." for name in names)
    old, new = (
        {name: value for name, value in table.items() if f"{name}.".startswith(stated)}
        for table in (flat(locked), params)
    )
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name] != new[name]:
            here, there = (show(t[name]) if name in t else "missing" for t in (new, old))
            yield f"{name} is {here} here, {there} there"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one table, with dots in the names: `split.seed`."""
    table: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            table |= flat(value, f"{prefix}{name}.")
        else:
            table[prefix + name] = value
    return table


def parameters(root: Path) -> dict[str, Any]:
    """The workspace's parameters with dots in their names; none if they cannot be read."""
    try:
        return flat(read_yaml(root / "params.yaml"))
    except ConfigError:
        return {}
