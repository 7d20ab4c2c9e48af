"""Seconds that the pipeline takes besides its work: to find nothing to do, and to begin to learn.

Rows: `dvc repro` in a small project of which nothing has changed, beside the same in a pipeline of
two stages that copy a file; what each stage's script imports before its main function, in seconds,
with the large libraries among it that the stage has no use for at that point; and the way from
`dvc repro` in a new project to the end of the first training step, with its parts.

    MARKET_1501=~/Market-1501-v15.09.15.zip uv run benchmarks/speed.py --only overhead

lets the first row's project hold Market-1501, of which the stages download and split are run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import kills
from speed_items.apart import timed
from speed_items.rows import ROUNDS, Row, in_turns, spread

MOST_EXTRA = 0.5  # seconds of a `dvc repro` with nothing to do beyond the empty pipeline's
TINY: dict[str, Any] = kills.CHANGES | {
    "track.synthetic.sequences": 1,
    "track.synthetic.frames": 12,
    "track.synthetic.people": 3,
    "track.synthetic.image_size": [90, 160],
    "epochs": 2,
}
EMPTY = """\
stages:
  first:
    cmd: cp given first
    deps: [given]
    outs: [first]
  second:
    cmd: cp first second
    deps: [first]
    outs: [second]
"""

NETWORK = {"torch", "torchvision", "PIL", "numpy"}
NEEDED = {  # by each stage from the beginning
    "download": {"PIL", "numpy"},
    "sequences": {"PIL", "numpy"},
    "split": {"PIL", "numpy", "matplotlib"},
    "train": NETWORK | {"matplotlib"},
    "evaluate": NETWORK | {"matplotlib", "scipy"},
    "export": NETWORK,
    "track": NETWORK | {"scipy", "cv2", "deep_sort_realtime", "trackeval"},
}
LARGE = (
    "torch", "torchvision", "mlflow", "dvc", "matplotlib", "onnx", "onnxscript", "onnxruntime",
    "scipy", "cv2", "deep_sort_realtime", "trackeval", "pandas", "requests",
)  # fmt: skip
IMPORT = """\
import json, runpy, sys, time
started = time.perf_counter()
runpy.run_path(sys.argv[1], run_name="imported")
seconds = time.perf_counter() - started
print(json.dumps([seconds, [name for name in sys.argv[2:] if name in sys.modules]]))
"""
CUMULATED = re.compile(r"import time: +\d+ \| +(\d+) \| +([\w.]+)$", re.MULTILINE)

MARK = """\
import os, time
def _mark(name):
    with open(os.environ["SPEED_MARKS"], "a") as _file:
        _file.write(f"{name} {time.time()}\\n")
_mark("NAME")
"""
MARK_STEP = """\
from torch.optim.optimizer import register_optimizer_step_post_hook
def _stepped(*_):
    _mark("step")
    _hook.remove()
_hook = register_optimizer_step_post_hook(_stepped)
"""
WAY = ("download", "split", "train", "step")  # what is marked, in this order
PARTS = (
    "dvc, until the script of stage download begins",
    "stage download, and dvc until the script of stage split begins",
    "stage split, dvc and torchrun, until a rank's script begins",
    "the rank, until its first step is done",
)


def measure(quick: bool) -> Iterator[Row]:
    """Measure the three, one after the other."""
    rounds = 1 if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        yield nothing_to_do(folder, rounds, quick)
        for stage in ("download", "split") if quick else NEEDED:
            yield imports(folder / "project", stage, rounds)
        yield from first_step(folder, rounds)


# Nothing to do


def nothing_to_do(folder: Path, rounds: int, quick: bool) -> Row:
    """`dvc repro` of which every stage is done, beside the empty pipeline's."""
    data = os.environ.get("MARKET_1501")
    if data:
        source = str(Path(data).expanduser().resolve())
        changes: Mapping[str, Any] = {"dataset.source": source}
        targets, what = ["split"], "Market-1501, stages download and split"
    else:
        changes, targets, what = TINY, [], "tiny synthetic data, all stages"
        if quick:
            targets, what = ["split"], "tiny synthetic data, stages download and split"
    project = kills.prepare(folder / "project", changes)
    empty = folder / "empty"
    empty.mkdir()
    (empty / "dvc.yaml").write_text(EMPTY)
    (empty / "given").write_text("given\n")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        run(empty, command)
    for place in (project, empty):
        repro(place, targets if place == project else [])
    found = in_turns(
        {
            "ours": lambda: timed(repro, project, targets)[1],
            "empty": lambda: timed(repro, empty)[1],
        },
        rounds,
    )
    extra = float(np.median(np.subtract(found["ours"], found["empty"])))
    return Row(
        what=f"`dvc repro` with nothing to do ({what}) and in an empty pipeline of two stages",
        ours=spread(found["ours"], "s"),
        other=spread(found["empty"], "s"),
        ratio=None,
        target=f"at most {MOST_EXTRA} s more",
        met=extra <= MOST_EXTRA,
        n=rounds,
        conditions=f"{extra:.2f} s more in the median round",
    )


def repro(project: Path, targets: Sequence[str] = ()) -> None:
    """Run `dvc repro` in a project."""
    run(project, ["dvc", "repro", *targets])


def run(project: Path, command: Sequence[str], **variables: str) -> None:
    """Run a command, and show what it said if it fails.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        command,
        cwd=project,
        env=kills.ENVIRON | {"DVC_NO_ANALYTICS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {project} failed:\n{done.stdout[-3000:]}")


# Imports


def imports(project: Path, stage: str, rounds: int) -> Row:
    """What a stage's script imports before its main function."""
    script = project / "pipeline" / f"{stage}.py"
    seconds, loaded = [], []
    for _ in range(rounds + 1):  # the first one brings the files into memory
        line = python(project, "-c", IMPORT, str(script), *LARGE).stdout
        second, loaded = json.loads(line)
        seconds.append(second)
    idle = [name for name in loaded if name not in NEEDED[stage]]
    costs = cumulated(project, script)
    named = ", ".join(f"{name} {costs.get(name, 0):.2f} s" for name in loaded)
    return Row(
        what=f"imports of stage {stage}",
        ours=spread(seconds[1:], "s"),
        other="",
        ratio=None,
        target="",
        met=None,
        n=rounds,
        conditions=(
            f"by importtime, which slows it down: {named or 'no large library'}; "
            f"not needed yet: {', '.join(idle) or 'none'}"
        ),
    )


def cumulated(project: Path, script: Path) -> dict[str, float]:
    """Seconds that each module took with what it imports first, by `python -X importtime`."""
    code = f"import runpy; runpy.run_path({str(script)!r}, run_name='imported')"
    lines = CUMULATED.findall(python(project, "-X", "importtime", "-c", code).stderr)
    return {name: int(microseconds) / 1e6 for microseconds, name in lines}


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a stage does."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=kills.ENVIRON | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )


# The first step


def first_step(folder: Path, rounds: int) -> Iterator[Row]:
    """The way from `dvc repro` to the first step, and its parts."""
    prepared = kills.prepare(folder / "marked", TINY)
    for name in WAY[:-1]:
        script = prepared / "pipeline" / f"{name}.py"
        mark = MARK.replace("NAME", name) + (MARK_STEP if name == "train" else "")
        script.write_text(mark + script.read_text())
    ways = np.array([one_way(prepared, folder / "fresh") for _ in range(rounds)])
    steps = np.diff(ways, axis=1)
    yield way("from `dvc repro` to the end of the first training step", ways[:, -1] - ways[:, 0])
    for what, seconds in zip(PARTS, steps.T, strict=True):
        yield way(f"of it: {what}", seconds)


def way(what: str, seconds: Sequence[float]) -> Row:
    """A row of the way to the first step."""
    return Row(
        what=what,
        ours=spread(seconds, "s"),
        other="",
        ratio=None,
        target="",
        met=None,
        n=len(seconds),
        conditions=f"tiny synthetic data, {TINY['epochs']} epochs, a new project each time",
    )


def one_way(prepared: Path, project: Path) -> list[float]:
    """Run the pipeline of a copy up to stage train; when it began, and when each mark was first."""
    kills.copy(prepared, project)
    marks = project / "marks.txt"
    started = time.time()
    run(project, ["dvc", "repro", "train"], SPEED_MARKS=str(marks))
    first: dict[str, float] = {}
    for line in marks.read_text().splitlines():
        name, moment = line.split()
        first[name] = min(float(moment), first.get(name, float("inf")))
    shutil.rmtree(project)
    return [started, *(first[name] for name in WAY)]
