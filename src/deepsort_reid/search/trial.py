"""A trial: a folder of a run in which the network is trained and evaluated."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deepsort_reid.core import files, signals
from deepsort_reid.core.errors import one_line
from deepsort_reid.core.project import stage_command
from deepsort_reid.runs import unfinished
from deepsort_reid.runs.changes import TRIAL
from deepsort_reid.runs.folder import RunFolder, all_folders
from deepsort_reid.runs.logger import read_reference
from deepsort_reid.runs.provenance import PARENT_KEY, SEARCH, TRIAL_TAG
from deepsort_reid.search import devices
from deepsort_reid.training.arithmetic import has_bfloat16

CURVE = "by_epoch/reid/mAP"
LOG, RUN, EVALUATION = "log.txt", Path("reports/run.json"), Path("reports/evaluation.json")
DIVERGED = "no longer a finite number"
# As torch says it of a GPU and of a CPU, numpy, the system, and Python.
NO_MEMORY = ("out of memory", "can't allocate memory", "Unable to allocate",
             "Cannot allocate memory", "MemoryError")  # fmt: skip
KILL_AFTER = 30.0  # seconds that a process has to leave
TAIL = 8192  # bytes of the log in which the reason is looked for
OF_WEIGHTS = ("weights", "teacher", "arch")  # parameters of stage weights

Points = list[tuple[int, float]]  # epoch, mAP


class Failure(NamedTuple):
    """Why a trial has no score.

    Attributes:
        reason: one line.
        is_result: whether the parameters are at fault, as of a loss that grows without bounds.
        is_memory: whether there was too little memory, which others may have taken too.
    """

    reason: str
    is_result: bool
    is_memory: bool = False


@dataclass
class Place:
    """Where the trials of a search run.

    Attributes:
        folder: of the search; each trial has one in it.
        base: a folder of a run with the split that all share.
        root: of the project.
        run_key: of the search's run.
        keys: the parameters that vary.
    """

    folder: Path
    base: Path
    root: Path
    run_key: str
    keys: list[str]

    def of(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / f"{number:04}"


@dataclass
class Running:
    """A trial whose stages run one after the other, each in a process of its own."""

    number: int
    slot: devices.Slot
    place: Place
    process: subprocess.Popen[bytes] | None = None
    stages: list[str] = field(default_factory=list)  # that are left
    runs: list[RunFolder] = field(default_factory=list)  # the last one trains
    seen: set[str] = field(default_factory=set)  # keys of all runs that were looked at
    log_began: int = 0  # the log's bytes before this stage
    failure: Failure | None = None
    told_at: float | None = None  # when it was told to end
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        return self.place.of(self.number)

    @property
    def seconds(self) -> float:
        """How long it has run, since it was begun or taken up."""
        return time.monotonic() - self.began

    def advance(self) -> bool:
        """Start the next stage if none runs; return whether all are over, well or not."""
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                self.insist()
                return False
            self.process = None
            if status or self.told_at is not None:
                self.failure = failure(self.folder / LOG, status, self.log_began)
                self.stages.clear()
        if not self.stages:
            return True
        self.process = self.start(self.stages.pop(0))
        return False

    def start(self, stage: str) -> subprocess.Popen[bytes]:
        """Start a stage, which ends when this process does."""
        environ = {
            **os.environ,
            **devices.environment(self.slot),
            "DVC_ROOT": str(self.place.root),
            signals.LAUNCHER: str(os.getpid()),
            SEARCH: self.place.run_key,
            TRIAL: str(self.number),
        }
        # A session of its own: Ctrl-C is for the search, which ends its trials.
        with (self.folder / LOG).open("ab") as log:
            self.log_began = log.tell()
            return subprocess.Popen(  # noqa: S603
                stage_command(stage), cwd=self.folder, env=environ, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def curve(self) -> Points:
        """The mAP of each epoch so far; epoch 0 is the network before training."""
        self.find_runs()
        points = self.runs[-1].metrics.read() if self.runs else []
        return [
            (one.step, one.value) for one in points if one.name == CURVE and one.step is not None
        ]

    def find_runs(self) -> None:
        """Look among the runs that were begun since the last look.

        A trial has several if code or environment have changed while it was interrupted.
        """
        for folder in all_folders():
            if folder.key not in self.seen and (folder.path / "tags.json").exists():
                self.seen.add(folder.key)
                tags = folder.read("tags.json")
                whose = tags.get(PARENT_KEY), tags.get(TRIAL_TAG)
                if whose == (self.place.run_key, str(self.number)):
                    self.runs.append(folder)
                    self.runs.sort(key=lambda run: run.read("run.json").get("started", 0))

    def score(self) -> float | None:
        """The mAP of the finished network; None where nothing was found to measure."""
        value = files.read_json(self.folder / EVALUATION).get("mAP")
        return None if value is None else float(value)

    def chosen(self) -> str | None:
        """The arithmetic that a CPU has chosen by a measurement; None: there was no choice."""
        on_cpu = not self.slot and has_bfloat16(torch.device("cpu"))
        if not (on_cpu and files.read_json(self.folder / "params.yaml")["amp"]):
            return None
        identity = files.read_json(self.folder / "reports/identity.json")
        return str(identity["environment"]["arithmetic"])

    def stop(self) -> None:
        """Tell the stage to end; a training keeps a state to go on from."""
        self.stages.clear()
        if self.told_at is None:
            self.told_at = time.monotonic()
            if self.process is not None:
                self.process.terminate()

    def insist(self) -> None:
        """Kill what was told to end and does not."""
        if self.process and self.told_at and time.monotonic() - self.told_at > KILL_AFTER:
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> None:
        """Wait at most so long until the stage has ended."""
        if self.process is not None:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                return

    def conclude(self, tags: Mapping[str, object]) -> None:
        """Tell the trial's run what became of it, and remove what nobody needs any more."""
        self.find_runs()
        if self.runs:
            self.runs[-1].merge("tags.json", {name: str(value) for name, value in tags.items()})
        for run in self.runs:
            unfinished.forget(run.key)
        for name in ("data", "models"):
            files.remove(self.folder / name)


def begin(number: int, params: Mapping[str, Any], slot: devices.Slot, place: Place) -> Running:
    """Begin a trial, or go on with it where it was interrupted.

    Args:
        number: the trial's.
        params: all parameters, nested as in params.yaml.
        slot: the GPUs that it may use.
        place: where the trials run.
    """
    running = Running(number, slot, place)
    folder = running.folder
    written = folder / "params.yaml"
    if not files.holds(written, params):
        files.remove(folder)
        for name in ("data", "reports"):
            link(place.base / name, folder / name)
        files.write_json(written, params)  # JSON is YAML too; last, since it says that all is here
    running.stages = list(stages(folder, place.keys))
    return running


def link(base: Path, folder: Path) -> None:
    """Let a trial have what all share in a folder; stage weights may replace its own links."""
    folder.mkdir(parents=True)
    for path in sorted(base.iterdir()):
        (folder / path.name).symlink_to(path.resolve() if path.is_dir() else path)


def stages(folder: Path, keys: list[str]) -> Iterator[str]:
    """The stages that a trial has left; a training that has ended is not done again."""
    key, _ = read_reference(folder / RUN) if (folder / RUN).exists() else (None, None)
    if key is None or RunFolder(key).status != "FINISHED":
        if set(keys) & set(OF_WEIGHTS):
            yield "weights"
        yield "train"
    yield "evaluate"


def failure(log: Path, status: int, begin: int = 0) -> Failure:
    """Why a stage has failed: its error's line, or how its process has ended.

    Args:
        log: of the trial, to which each of its stages has added.
        status: of the stage's process.
        begin: the log's bytes before the stage.
    """
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
    error = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    reason = error.removeprefix("error: ") or f"its process ended with {ended}"
    is_memory = any(word in line for line in lines for word in NO_MEMORY)
    is_result = is_memory or any(DIVERGED in line for line in lines)
    return Failure(one_line(f"{reason}; see {log}"), is_result, is_memory)
