"""Kills a running `dvc repro` again and again, and compares what it ends in with the undisturbed.

    uv run benchmarks/kills.py [KILLS] [--seed SEED] [--again SHARE] [--target STAGE]
        [--keep FOLDER]

Each attempt ends by a signal, drawn among SIGKILL, SIGTERM and SIGINT, that one process gets at a
random moment: a rank, the launcher, a stage's script, or dvc. The same command is then run again,
until one attempt is let through; a share of the pipelines is killed once more before. Then every
output has the bytes of an undisturbed run (run.json aside, which names the run), and the MLflow
store holds one run, finished, with each point of each curve exactly once and the same artifacts.
Any difference is printed, and the exit status is 1.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHANGES: dict[str, Any] = {  # a training of some seconds, with a state every half
    "dataset.synthetic.train_identities": 8,
    "dataset.synthetic.test_identities": 4,
    "dataset.synthetic.images_per_identity": 8,
    "dataset.synthetic.distractors": 4,
    "dataset.synthetic.junk": 2,
    "dataset.synthetic.image_size": [32, 16],
    "split.image_size": [32, 16],
    "nproc_per_node": 2,
    "epochs": 8,
    "batch_size": 4,
    "erase": 0.5,
    "run.save_seconds": 0.5,
    "track.synthetic.sequences": 1,
    "track.synthetic.frames": 40,
    "track.synthetic.image_size": [180, 320],
}
OUTPUTS = ("data/split", "models", "reports", "data/raw")
APART = {"run.json", "record.json"}  # name the run
OF_DVC = re.compile(r"\.[\w-]{22}\.tmp")  # empty: what a killed dvc has tried links with
TIMINGS = (
    "by_epoch/train/images_per_second",
    "by_epoch/train/data_wait",
    "track/fps",
    "track/fps_embedding",
)
TARGETS = ("rank 0", "rank 1", "launcher", "script", "dvc")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
GONE_SECONDS = 40.0  # after a signal, for all processes of the project to end


class Hit(NamedTuple):
    """A process that got a signal, and how long all the project's processes took to end."""

    target: str
    signal: str
    seconds: float


ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
    **{f"GIT_{who}_NAME": "Kills" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "kills@localhost" for who in ("AUTHOR", "COMMITTER")},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def main() -> None:
    """Run it all, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", type=float, default=0.3, help="share that is killed once more")
    parser.add_argument("--target", default="", help="the last stage to run; all by default")
    parser.add_argument("--keep", type=Path, help="folder for the projects; a temporary one else")
    options = parser.parse_args()
    print(
        f"{options.kills} kills, seed {options.seed}, again {options.again}, "
        f"up to stage {options.target or 'summary'}; "
        f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores",
        flush=True,
    )
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sys.exit(run(folder, options))


def run(folder: Path, options: argparse.Namespace) -> int:
    """Kill so many times; return the exit status."""
    chance = random.Random(options.seed)
    prepared = prepare(folder / "prepared")
    command = ["dvc", "repro", *filter(None, [options.target])]
    started = time.monotonic()
    expected = outcome(repro(copy(prepared, folder / "undisturbed"), command))
    duration = time.monotonic() - started
    print(f"undisturbed: {duration:.1f} s, {len(expected['files'])} files", flush=True)
    hits: list[Hit] = []
    number, faults = 0, 0
    for attempt in itertools.count():
        if len(hits) >= options.kills:
            break
        # Each has a path of its own, since MLflow keeps connections to stores that it has read.
        project = copy(prepared, folder / f"project-{attempt}")
        # A pipeline that is faster than the next signal has ended by itself, or was never killed.
        found = [hit] if (hit := kill_once(project, command, chance, duration)) else []
        while found and chance.random() < options.again:
            if not (hit := kill_once(project, command, chance, duration)):
                break
            found.append(hit)
        if not found:
            shutil.rmtree(project)
            continue
        number += 1
        hits += found
        differences = compare(expected, outcome(repro(project, command)))
        done = ", ".join(f"{hit.target} {hit.signal}" for hit in found)
        print(f"{number:3}  {done}: {differences or 'same'}", flush=True)
        faults += bool(differences)
        if not differences:
            shutil.rmtree(project)
    table = Counter((hit.target, hit.signal) for hit in hits)
    print("\nkilled           " + "".join(f"{s.name:>9}" for s in SIGNALS))
    for target in TARGETS:
        print(f"{target:15}  " + "".join(f"{table[target, s.name]:9}" for s in SIGNALS))
    print(f"{len(hits)} kills in {number} pipelines; {faults} ended in anything but the same")
    print(f"slowest end of all processes after a signal: {max(hit.seconds for hit in hits):.1f} s")
    return int(faults > 0)


def prepare(folder: Path, changes: Mapping[str, Any] = CHANGES) -> Path:
    """A project of this one's files with changed parameters, small ones by default, committed."""
    names = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    ).split("\n")
    for name in filter(None, names):
        if name.startswith(("src/", "pipeline/", ".dvc", "dvc.yaml", "params.yaml", ".gitignore")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in changes.items():
        *sections, last = key.split(".")
        target = params
        for section in sections:
            target = target[section]
        target[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for command in ("git init -q", "git add .", "git commit -qm Begin"):
        subprocess.run(command.split(), cwd=folder, env=ENVIRON, check=True)
    return folder


def copy(source: Path, target: Path) -> Path:
    """A copy of a project."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))


def start(project: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The command, its output in a file."""
    with (project / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command, cwd=project, env=ENVIRON, stdout=output, stderr=subprocess.STDOUT
        )


def repro(project: Path, command: Sequence[str]) -> Path:
    """Let `dvc repro` go through."""
    if start(project, command).wait(600) != 0:
        raise RuntimeError(f"dvc repro failed: {project / 'output.txt'}")
    return project


def kill_once(
    project: Path, command: Sequence[str], chance: random.Random, duration: float
) -> Hit | None:
    """Start the pipeline and send one process a signal at a random moment.

    Returns:
        what was hit; None if the pipeline ended before.
    """
    number = chance.choice(SIGNALS)
    process = start(project, command)
    time.sleep(chance.uniform(0.5, 1.0 * duration))
    victims = processes(project)
    if process.poll() is not None or not victims:
        process.wait()
        return None
    target = chance.choice(sorted(victims))
    with contextlib.suppress(psutil.NoSuchProcess):
        victims[target].send_signal(number)
    sent = time.monotonic()
    if target == "dvc" and number == signal.SIGINT:
        process.wait(600)  # it ignores that while a stage runs
        return Hit(target, number.name, 0.0)
    while processes(project) and time.monotonic() - sent < GONE_SECONDS:
        process.poll()  # else a dead dvc would stay as a zombie
        time.sleep(0.02)
    if left := processes(project):
        raise RuntimeError(f"still there after {target} got {number.name}: {left}")
    process.wait()
    return Hit(target, number.name, time.monotonic() - sent)


def processes(project: Path) -> dict[str, psutil.Process]:
    """The project's processes by role."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE or process.cwd() != str(project):
                continue
            words = " ".join(process.cmdline())
            if "deepsort_reid.training.torchrun" in words:
                role = "launcher"
            elif "pipeline/train.py" in words:
                role = f"rank {process.environ().get('LOCAL_RANK', '0')}"
            elif "pipeline/" in words:
                role = "script"
            else:
                role = "dvc" if "dvc" in words else f"other: {words[:80]}"
            found[role] = process
    return found


def outcome(project: Path) -> dict[str, Any]:
    """All that a pipeline has left: bytes, and what the store says."""
    contents = {
        str(path.relative_to(project)): path.read_bytes()
        for name in OUTPUTS
        for path in sorted((project / name).rglob("*"))
        if path.is_file() and path.name not in APART and not OF_DVC.fullmatch(path.name)
    }
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("deepsort-reid")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    described = [describe(client, run) for run in runs]
    named = json.loads((project / "reports/run.json").read_text())["run_id"]
    return {
        "files": contents,
        "runs": described,
        "named": [run.info.run_id for run in runs] == [named],
        "versions": len(client.search_model_versions("name='deepsort-reid'")),
    }


def describe(client: Any, run: Any) -> dict[str, Any]:
    """What of a run is the same at every attempt: clocks and machine loads left out."""
    curves = {}
    for name in run.data.metrics:
        if name.startswith("system/"):
            continue
        points = client.get_metric_history(run.info.run_id, name)
        is_timing = name in TIMINGS
        curves[name] = [(point.step, None if is_timing else point.value) for point in points]
    return {
        "status": run.info.status,
        "curves": curves,
        "params": run.data.params,
        "artifacts": sorted(paths(client, run.info.run_id)),
    }


def paths(client: Any, run_id: str, folder: str | None = None) -> list[str]:
    """All artifacts of a run."""
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += paths(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs, in words."""
    names = sorted(expected["files"].keys() | found["files"].keys())
    differences = [
        f"{name} differs"
        for name in names
        if expected["files"].get(name) != found["files"].get(name)
    ]
    if len(found["runs"]) != 1 or not found["named"]:
        differences.append(f"{len(found['runs'])} runs, named by run.json: {found['named']}")
    if found["versions"] != expected["versions"]:
        differences.append(f"{found['versions']} model versions")
    for run in found["runs"]:
        for key, value in expected["runs"][0].items():
            if run[key] != value:
                differences.append(f"MLflow's {key}: {run[key]} for {value}"[:600])
    return differences


if __name__ == "__main__":
    main()
