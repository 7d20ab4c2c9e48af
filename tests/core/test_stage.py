"""Every stage ends as it should: one line and status 1 for what a user can mend."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepsort_reid.core import stage
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.runs import deliver
from deepsort_reid.training import torchrun
from tests.support import stages

PIPELINE = Path(__file__).parents[2] / "pipeline"


def end(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Run a stage that fails; return its exit status and what it printed."""

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.run_stage(main, ())
    return caught.value.code, capsys.readouterr().err


def test_a_users_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(ConfigError("lr=abc must be a number"), capsys) == (
        1,
        "error: lr=abc must be a number\n",
    )


def test_a_full_disk_is_a_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = end(OSError(errno.ENOSPC, "No space left on device", "data/x.npy"), capsys)
    assert status == 1
    assert text.startswith("error: data/x.npy: no space left on the disk; free some")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EROFS, errno.EISDIR, errno.EEXIST, errno.ENOTDIR]
)
def test_what_is_in_the_way_of_a_file_is_a_users_error(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = os.strerror(number)
    status, text = end(OSError(number, reason, "models/model.pth"), capsys)
    assert status == 1
    assert text == (
        f"error: models/model.pth: cannot be used ({reason.lower()}); mend that and run the same "
        "command again\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_quietly_by_way_of_finally(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = []

    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            cleaned.append(True)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught:
        stage.run_stage(main, ())
    assert (caught.value.code, capsys.readouterr().err) == (128 + number, "")
    assert cleaned
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("defect", [OSError(errno.EIO, "I/O error"), ValueError("a bug")])
def test_a_defect_keeps_its_traceback(defect: Exception) -> None:
    def main() -> None:
        raise defect

    with pytest.raises(type(defect)):
        stage.run_stage(main, ())


HELPED = ["--help"], ["-h"], ["--lr", "--help"]


@pytest.mark.parametrize("arguments", HELPED, ids=" ".join)
def test_a_stage_that_is_asked_for_help_does_nothing_else(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    module = stages.load("train")
    with pytest.raises(SystemExit) as caught:
        stage.run_stage(module.main, arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for told in (
        "Stage train: models/model.pth", "reads:\n  data/split\n", "  reports/train.json\n",
        "  epochs            passes over the training part\n", "`dvc repro train` runs it",
    ):  # fmt: skip
        assert told in out
    assert "src/" not in out


def test_only_the_first_rank_prints_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        stage.run_stage(stages.load("train").main, ["--help"], environ=os.environ)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [path.stem for path in sorted(PIPELINE.glob("*.py"))])
def test_every_stage_refuses_arguments_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = stages.load(name)
    monkeypatch.setattr(sys, "argv", [f"pipeline/{name}.py", "--lr=3"])
    with pytest.raises(SystemExit) as caught:
        stage.run_stage(module.main)
    assert (caught.value.code, capsys.readouterr().err) == (
        1,
        f"error: {name}.py: unknown argument '--lr=3'; expected none, or --help; parameters stand "
        "in params.yaml\n",
    )


def test_other_programs_take_help_alone_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        stage.run_stage(deliver.main, ["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"{(deliver.__doc__ or '').strip()}\n"
    with pytest.raises(SystemExit) as caught:
        stage.run_stage(deliver.main, ["all"])
    assert capsys.readouterr().err.endswith(
        "error: deliver.py: unknown argument 'all'; expected none, or --help\n"
    )


LEFT = {
    "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "TORCHELASTIC_ERROR_FILE": "x",
    "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "OMPI_COMM_WORLD_RANK": "one",
}  # fmt: skip


def test_what_a_launcher_has_left_is_nothing_to_a_stage_of_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in LEFT.items():
        monkeypatch.setenv(name, value)

    def main() -> None:
        logging.getLogger("deepsort_reid.stage").info("it talks")
        raise ConfigError("and fails")

    with pytest.raises(SystemExit):
        stage.run_stage(main, ())
    assert capsys.readouterr().err == "it talks\nerror: and fails\n"


@pytest.mark.parametrize("name", [path.stem for path in sorted(PIPELINE.glob("*.py"))])
def test_train_alone_runs_in_several_processes(name: str) -> None:
    text = (PIPELINE / f"{name}.py").read_text()
    joins = ["environ=os.environ" in text, "distributed.joined" in text]
    assert joins == [name == "train"] * 2


SCRIPT = """
import os, sys
from deepsort_reid.core.stage import run_stage
from deepsort_reid.core.errors import TrainingError

def main():
    if "{rank}" in (os.environ["RANK"], "all"):
        {action}

run_stage(main, environ=os.environ)
"""


def launch(tmp_path: Path, rank: str, action: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(rank=rank, action=action))
    command = [sys.executable, "-m", "deepsort_reid.training.torchrun", "--standalone"]
    return subprocess.run(
        [*command, "--nproc-per-node=2", str(script)],
        capture_output=True, text=True, timeout=120, check=False, env=os.environ,
    )  # fmt: skip


@pytest.mark.parametrize(
    "rank",
    ["all", pytest.param("0", marks=pytest.mark.slow), pytest.param("1", marks=pytest.mark.slow)],
)
def test_a_ranks_error_is_the_launchers_one_line(tmp_path: Path, rank: str) -> None:
    done = launch(tmp_path, rank, "raise TrainingError('the loss: is gone')")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the loss: is gone\n"


def test_a_ranks_defect_shows_its_traceback_once(tmp_path: Path) -> None:
    done = launch(tmp_path, "1", "raise ValueError('a bug')")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("error: rank 1 ended with status 1; its report is above\n")


@pytest.mark.parametrize(
    ("argument", "status", "out", "err"),
    [
        ("--help", 0, "Stage train: models/model.pth", ""),
        ("--lr=3", 1, "", "error: train.py: unknown argument '--lr=3'; expected none, or --help"),
    ],
)
@pytest.mark.slow
def test_a_launched_script_takes_help_alone(
    tmp_path: Path, argument: str, status: int, out: str, err: str
) -> None:
    command = [sys.executable, "-m", "deepsort_reid.training.torchrun", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(PIPELINE / "train.py"), argument],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == status
    assert (done.stdout.startswith(out), done.stdout.count("Stage train")) == (True, 1 - status)
    assert (done.stderr.startswith(err), done.stderr.count("\n")) == (True, status)
    assert not list(tmp_path.iterdir())


def test_torchruns_own_arguments_and_success(tmp_path: Path) -> None:
    # At once, with its line's end: the other rank prints at the same moment.
    done = launch(tmp_path, "all", "os.write(1, os.environ['WORLD_SIZE'].encode() + b'\\n')")
    assert (done.returncode, done.stdout.split()) == (0, ["2", "2"])


def test_a_killed_rank_is_named() -> None:
    class Failure:
        message = "Signal 9 (SIGKILL) received by PID 17"
        exitcode = -9

    assert torchrun.explain(1, Failure()) == "rank 1 was ended by signal 9"
