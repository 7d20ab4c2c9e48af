"""Ranks and launchers that are killed: what they leave ends quickly, and is gone on with alike."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support import outputs, projects, stages
from tests.support.projects import PREPARED

RESTARTED = {"run.save_seconds": 0.1, "run.max_restarts": 1}
LONGER = PREPARED | {"epochs": 6} | RESTARTED
COMMAND = [
    sys.executable,
    "-m",
    "deepsort_reid.training.torchrun",
    "--standalone",
    "pipeline/train.py",
]
OUTPUTS = ("models/model.pth", "reports/history.csv", "reports/train.jpg", "reports/train.json")


@pytest.fixture(scope="module")
def split(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose training takes some seconds, from which tests begin."""
    with projects.copied(prepared, tmp_path_factory.mktemp("split")) as folder:
        stages.write_params(folder, LONGER)
        yield folder


@contextmanager
def training(project: Path) -> Iterator[subprocess.Popen[str]]:
    """The train stage, its output in `output.txt`; it is ended with the block, whatever happens."""
    with (project / "output.txt").open("w") as output:
        process = subprocess.Popen(
            COMMAND,
            cwd=project,
            env=projects.environment() | {"PYTHONPATH": "src"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        with suppress(psutil.Error):
            for child in [*ranks(project).values(), process]:
                child.kill()
        process.wait()


def finish(project: Path) -> dict[str, list[str]]:
    """Let the training go through; return what it leaves."""
    with training(project) as process:
        assert process.wait(150) == 0, text_of(project)
    return outputs.of(project, OUTPUTS)


def text_of(project: Path) -> str:
    return (project / "output.txt").read_text()


def wait_for(project: Path, words: str, process: subprocess.Popen[str]) -> None:
    """Wait until the training has printed something."""
    deadline = time.monotonic() + 100
    while words not in text_of(project):
        assert process.poll() is None, text_of(project)
        assert time.monotonic() < deadline, text_of(project)
        time.sleep(0.02)


def ranks(project: Path) -> dict[int, psutil.Process]:
    """The project's ranks that are alive, whoever their parent is."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(project) and process.status() != psutil.STATUS_ZOMBIE:
                rank = process.environ().get("LOCAL_RANK")
                found |= {int(rank): process} if rank is not None else {}
    return found


def seconds_until_gone(project: Path) -> float:
    started = time.monotonic()
    while ranks(project) and time.monotonic() - started < 60:
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def undisturbed(split: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    with projects.copied(split, tmp_path_factory.mktemp("undisturbed")) as folder:
        return finish(folder)


def line_of(epoch: int) -> str:
    """How the line begins that says that an epoch is done."""
    return f"\n{epoch:5}  "


def kill_a_rank(project: Path, epoch: int) -> None:
    """Train in a project; kill rank 1 after an epoch; wait until all is done nevertheless."""
    with training(project) as process:
        while 1 not in (found := ranks(project)):
            assert process.poll() is None, text_of(project)
        wait_for(project, line_of(epoch), process)
        found[1].kill()
        assert process.wait(150) == 0, text_of(project)
    assert "going on with an interrupted training: epoch " in text_of(project)


def test_a_pipeline_whose_rank_is_killed_ends_in_the_same_bytes(
    prepared: Path, tmp_path: Path
) -> None:
    with projects.copied(prepared, tmp_path / "project") as project:
        stages.write_params(project, PREPARED | RESTARTED)
        kill_a_rank(project, 1)
        assert outputs.of(project, OUTPUTS) == outputs.of(prepared, OUTPUTS)


@pytest.mark.slow
def test_torchrun_starts_ranks_again_that_died(
    split: Path, undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    project = projects.copy(split, tmp_path / "project")
    kill_a_rank(project, 2)
    assert outputs.of(project, OUTPUTS) == undisturbed


@pytest.mark.slow
def test_killed_and_stopped_and_gone_on_with(
    split: Path, undisturbed: dict[str, list[str]], tmp_path: Path
) -> None:
    project = projects.copy(split, tmp_path / "project")
    with training(project) as process:
        wait_for(project, line_of(1), process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert seconds_until_gone(project) < 15
    with training(project) as process:
        wait_for(project, line_of(3), process)
        process.terminate()
        started = time.monotonic()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 15
    assert "stopped in epoch " in text_of(project)
    assert "Traceback" not in text_of(project)
    assert finish(project) == undisturbed


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_with_it(split: Path, tmp_path: Path) -> None:
    project = projects.copy(split, tmp_path / "project")
    stages.write_params(project, LONGER | {"run.max_restarts": 0})
    with training(project) as process:
        wait_for(project, line_of(1), process)
        ranks(project)[0].kill()
        started = time.monotonic()
        assert process.wait(60) == 1
        assert time.monotonic() - started < 15
    assert text_of(project).endswith("error: rank 0 was ended by signal 9\n"), text_of(project)
    assert "Traceback" not in text_of(project)
