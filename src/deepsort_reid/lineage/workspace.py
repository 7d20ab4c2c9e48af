"""What the workspace would make now: its data, parameters, code and environment."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from deepsort_reid.core import files
from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.errors import ConfigError, DeepSortReidError
from deepsort_reid.core.machine import cores
from deepsort_reid.core.yaml_file import read_yaml, show
from deepsort_reid.data.split import read_summary
from deepsort_reid.lineage import git
from deepsort_reid.training import fingerprint
from deepsort_reid.training.distributed import Process, choose_device
from deepsort_reid.training.fingerprint import Identity

DATA = ("download", "split")  # the stages before train
CHECKPOINT = "models/model.pth"
Lock = Mapping[str, Any]  # dvc.lock's stages: name -> cmd, deps, params, outs


@dataclass(frozen=True)
class Comparison:
    """What a checkpoint was made from, beside what the workspace has now.

    Attributes:
        differences: one line each, in the order of the pipeline.
        is_sure: False if only code differs, or what runs before train, so that the same may come
            out all the same.
    """

    differences: list[str]
    is_sure: bool = True


def compare(there: Identity | None, lock: Lock | None, root: Path) -> Comparison | None:
    """What stands between a checkpoint and the same one made anew here; None if nobody knows.

    Args:
        there: the checkpoint's identity.
        lock: the dvc.lock beside it, for the stages before train; all there is for a checkpoint
            that is older than identities.
        root: the project's folder.
    """
    if there is None:
        stages = (*DATA, "train")
        lines = None if lock is None else stage_differences(lock, stages, root)
        return None if lines is None else Comparison(lines, is_sure=False)
    stale = data_is_stale(root)
    before = stale if lock is None else stage_differences(lock, DATA, root)
    try:
        here = would_be(load_params(root / "params.yaml"), there, root, keep_data=bool(stale))
    except (DeepSortReidError, OSError) as error:
        return Comparison([f"the workspace makes none: {error}"])
    lines = fingerprint.differences(there, here)
    if not stale and here.data == there.data:
        before = []  # other code or parameters, and the same images all the same
    # Other code may well do the same.
    is_sure = not before + lines or any(not line.startswith("code ") for line in lines)
    return Comparison(before + lines, is_sure=is_sure)


def would_be(params: Params, there: Identity, root: Path, *, keep_data: bool) -> Identity:
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
    device, _ = choose_device(0, count)
    process = Process(0, 0, count, count, device)
    here = fingerprint.of_training(params.train, process, data_digest=digest)
    on_gpu = device.type == "cuda"
    threads = int(os.environ.get("OMP_NUM_THREADS", "1")) if on_gpu else max(1, cores() // count)
    return replace(here, environment={**here.environment, "threads": threads})


def data_is_stale(root: Path) -> list[str]:
    """Why data/split is not what the pipeline would make now, a line each; none if it is."""
    try:
        lock = parse_lock((root / git.LOCK).read_bytes())
    except (OSError, ValueError):
        return ["stage download would run: there is no dvc.lock here that can be read"]
    lines = stage_differences(lock, DATA, root)
    missing = [name for name in ("data/raw", "data/split") if not (root / name).exists()]
    lines += [
        f"stage {DATA[name != 'data/raw']} would run: {name} is missing here" for name in missing
    ]
    if not lines and not is_checked_out(lock, root):
        lines.append("stage split would run again: data/split is not the one of dvc.lock")
    return lines


def is_checked_out(lock: Lock, root: Path) -> bool:
    """Whether data/split/summary.json, which tells all parts' checksum, is the one of dvc.lock."""
    listing = git.cached(root, outputs(lock, "split").get("data/split", "none"))
    try:
        md5s = {entry["relpath"]: entry["md5"] for entry in files.read_json(listing)}
        return bool(md5s["summary.json"] == files.md5(root / "data/split/summary.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return True  # the cache is elsewhere; `dvc status` can tell


def parse_lock(text: bytes) -> Lock:
    """The stages of a dvc.lock.

    Raises:
        ValueError: it is none.
    """
    try:
        content = yaml.safe_load(text)
        stages = content["stages"]
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is no dvc.lock") from error
    if not isinstance(stages, dict):
        raise ValueError("it is no dvc.lock")
    return stages


def outputs(lock: Lock, stage: str) -> dict[str, str]:
    """The outputs of a stage -> their MD5 as DVC has it."""
    return {out["path"]: out.get("md5", "") for out in lock.get(stage, {}).get("outs", [])}


def stage_differences(lock: Lock, stages: tuple[str, ...], root: Path) -> list[str]:
    """Why stages would not run as they ran for a dvc.lock, a line each, in their order."""
    try:
        params = read_yaml(root / "params.yaml")
        declared = read_yaml(root / "dvc.yaml")["stages"]
    except (ConfigError, KeyError) as error:
        return [f"the workspace makes none: {error}"]
    lines = []
    for stage in stages:
        if stage not in lock:
            lines.append(f"stage {stage} would run: dvc.lock has nothing of it")
            continue
        of_stage = [
            *command_differences(lock[stage], declared.get(stage, {})),
            *parameter_differences(lock[stage], params),
            *file_differences(lock[stage], declared.get(stage, {}), root),
        ]
        lines += [f"stage {stage} would run again: {line}" for line in of_stage]
    return lines


def command_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line if the command in dvc.yaml is another one."""
    if "${" not in now.get("cmd", "") and then.get("cmd") != now.get("cmd"):
        yield "its command differs"


def parameter_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each parameter in dvc.lock that params.yaml states otherwise."""
    locked = then.get("params", {}).get("params.yaml", {})
    # A stage may depend on a whole section or on a part of one: `split`, `dataset.mot`.
    stated = tuple(f"{key}." for key in locked)
    old = flat(locked)
    new = {name: value for name, value in flat(now).items() if f"{name}.".startswith(stated)}
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name] != new[name]:
            here, there = (show(t[name]) if name in t else "missing" for t in (new, old))
            yield f"{name} is {here} here, {there} there"


def file_differences(then: Mapping[str, Any], now: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield a line for each file that a stage depends on and that differs."""
    locked = {dep["path"]: dep for dep in then.get("deps", [])}
    made = [path for path, dep in locked.items() if "nfiles" in dep or path == CHECKPOINT]
    for path in sorted({*locked, *now.get("deps", [])} - set(made)):
        if path not in now.get("deps", []):
            yield f"{path} is no dependency any more"
        elif path not in locked:
            if not (root / path).is_dir():
                yield f"{path} is a new dependency"
        elif not (root / path).is_file():
            yield f"{path} is missing here"
        elif files.md5(root / path) != locked[path].get("md5"):
            yield f"{path} differs"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one table, with dots in the names: `split.seed`."""
    table: dict[str, Any] = {}
    for name, value in values.items():
        table |= (
            flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {prefix + name: value}
        )
    return table


def parameters(root: Path) -> dict[str, Any]:
    """The workspace's parameters with dots in their names; none if they cannot be read."""
    try:
        return flat(read_yaml(root / "params.yaml"))
    except ConfigError:
        return {}
