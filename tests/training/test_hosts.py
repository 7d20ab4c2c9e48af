"""Two hosts train as one does, and whatever happens to one of them, both end soon, and go on."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deepsort_reid.training.ranks import heartbeat
from tests.support import hosts, projects, stages
from tests.support.hosts import Host, wait_until
from tests.support.outputs import lines_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHANGES = {"nnodes": 2, "epochs": 12, "run.save_seconds": 0.1, "amp": False}
TRAIN = [sys.executable, "-m", "deepsort_reid.training.torchrun", "pipeline/train.py"]
SECOND = {"PET_NODE_RANK": "1", "PET_MASTER_ADDR": "alpha"}
SOON = 30.0  # seconds, on a machine that has nothing else to do


class Pair(NamedTuple):
    """Two hosts, and a clone of the project on each."""

    alpha: Host
    beta: Host
    folder: Path

    def start(self, *, dvc: bool = False) -> "Started":
        """Start the training on both."""
        command = ["dvc", "repro", "train"] if dvc else TRAIN
        first = self.alpha.start(command, self.folder / "alpha", self.output("alpha"))
        second = self.beta.start(TRAIN, self.folder / "beta", self.output("beta"), **SECOND)
        return Started(first, second)

    def output(self, name: str) -> Path:
        """What the command on a host has printed."""
        return self.folder / f"{name}.txt"

    def error(self, name: str) -> str:
        """The last line of it."""
        return self.output(name).read_text().rstrip().rpartition("\n")[2]

    def wait_for_epoch(self, number: int) -> None:
        """Wait until rank 0 has reported an epoch."""
        path = self.output("alpha")
        wait_until(lambda: f"\n{number:5}  " in path.read_text() if path.exists() else False)

    def checkpoint(self) -> list[str]:
        """What the training has made."""
        return lines_of(self.folder / "alpha/models/model.pth")


class Started(NamedTuple):
    """The launchers on both hosts."""

    first: "hosts.subprocess.Popen[bytes]"
    second: "hosts.subprocess.Popen[bytes]"

    def statuses(self, seconds: float = 180.0) -> tuple[int, int]:
        """Wait for both to end."""
        return self.first.wait(seconds), self.second.wait(seconds)


@pytest.fixture
def pair(prepared: Path, tmp_path: Path) -> Iterator[Pair]:
    hosts.needed()
    for name in ("alpha", "beta"):
        projects.copy(prepared, tmp_path / name)
        stages.write_params(tmp_path / name, CHANGES)
    with hosts.two_hosts(tmp_path) as (alpha, beta):
        yield Pair(alpha, beta, tmp_path)
    for name in ("alpha", "beta"):
        shutil.rmtree(tmp_path / name)


@pytest.fixture(scope="module")
def expected(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The checkpoint that one host makes with two ranks of a core each."""
    with projects.copied(prepared, tmp_path_factory.mktemp("one")) as folder:
        stages.write_params(folder, CHANGES | {"nnodes": 1, "nproc_per_node": 2})
        projects.run(folder, *TRAIN, PYTHONPATH="src")
        return lines_of(folder / "models/model.pth")


def test_dvc_on_the_first_host_records_all(pair: Pair, expected: list[str]) -> None:
    assert pair.start(dvc=True).statuses() == (0, 0)
    assert pair.checkpoint() == expected
    project = pair.folder / "alpha"
    assert "train" not in projects.run(project, "dvc", "status", "train")
    assert "nnodes: 2" in (project / "dvc.lock").read_text()
    assert len(projects.runs(pair.folder / "beta")) == 1  # the prepared one's
    assert len(projects.runs(project)) == 2


def test_a_host_with_other_parameters(pair: Pair) -> None:
    stages.write_params(pair.folder / "beta", CHANGES | {"lr": 0.5})
    assert pair.start().statuses() == (1, 1)
    for name in ("alpha", "beta"):
        assert pair.error(name).startswith(
            "error: not all ranks agree with rank 0 on alpha: rank 1 "
        )
        assert " on beta says: parameter lr is 0.5 here, 0.01 there; " in pair.error(name)


def test_a_host_without_data(pair: Pair) -> None:
    shutil.rmtree(pair.folder / "beta/data/split")
    began = time.monotonic()
    assert pair.start().statuses() == (1, 1)
    assert time.monotonic() - began < 2 * SOON
    refusal = "error: another rank cannot train: rank 1 on beta: data/split/"
    assert pair.error("alpha").startswith(refusal)
    assert pair.error("beta").startswith("error: data/split/")


def test_a_killed_rank(pair: Pair, expected: list[str]) -> None:
    started = pair.start()
    pair.wait_for_epoch(2)
    (rank,) = pair.beta.ranks()
    rank.kill()
    began = time.monotonic()
    assert started.statuses() == (1, 1)
    assert time.monotonic() - began < SOON
    assert "another process of the training on beta is gone" in pair.error("alpha")
    assert pair.error("beta") == "error: rank 1 was ended by signal 9"
    goes_on(pair, expected)


def test_a_host_without_power(pair: Pair, expected: list[str]) -> None:
    started = pair.start()
    pair.wait_for_epoch(2)
    pair.beta.cut()  # first, since the kernel would say farewell for it
    pair.beta.kill()
    began = time.monotonic()
    assert started.statuses() == (1, -signal.SIGKILL)
    assert time.monotonic() - began < heartbeat.SILENCE + SOON
    assert pair.error("alpha").startswith("error: nothing was heard from beta for 60 s: ")
    pair.beta.mend()
    goes_on(pair, expected)


def test_a_link_that_is_cut_for_good(pair: Pair, expected: list[str]) -> None:
    started = pair.start()
    pair.wait_for_epoch(2)
    pair.beta.cut()
    began = time.monotonic()
    assert started.statuses() == (1, 1)
    assert time.monotonic() - began < heartbeat.SILENCE + SOON
    assert pair.error("alpha").startswith("error: nothing was heard from beta for 60 s: ")
    assert pair.error("beta").startswith("error: nothing was heard from alpha for 60 s: ")
    pair.beta.mend()
    goes_on(pair, expected)


def test_a_link_that_is_cut_for_twenty_seconds(pair: Pair, expected: list[str]) -> None:
    started = pair.start()
    pair.wait_for_epoch(2)
    pair.beta.cut()
    time.sleep(20)
    assert not started.first.poll()
    pair.beta.mend()
    assert started.statuses() == (0, 0)
    assert pair.checkpoint() == expected


def test_torchs_other_rendezvous(pair: Pair, expected: list[str]) -> None:
    """Rank 0 is on the host whose name comes first, whoever keeps the endpoint."""
    meeting = {
        "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": "beta:29500", "PET_RDZV_ID": "one"
    }  # fmt: skip
    running = [
        host.start(TRAIN, pair.folder / host.name, pair.output(host.name), **meeting)
        for host in (pair.alpha, pair.beta)
    ]
    assert [process.wait(180) for process in running] == [0, 0]
    written = [
        name
        for name in ("alpha", "beta")
        if lines_of(pair.folder / name / "models/model.pth") == expected
    ]
    assert len(written) == 1


def test_dvc_where_rank_0_is_not(pair: Pair) -> None:
    meeting = {
        "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": "alpha:29500", "PET_RDZV_ID": "one"
    }  # fmt: skip
    running = [
        host.start(["dvc", "repro", "train"], pair.folder / host.name, pair.output(host.name),
                   **meeting)
        for host in (pair.alpha, pair.beta)
    ]  # fmt: skip
    assert not any(process.wait(180) == 0 for process in running)
    for name in ("alpha", "beta"):
        assert "rank 0, which writes the checkpoint, is on another" in pair.output(name).read_text()


def goes_on(pair: Pair, expected: list[str]) -> None:
    """Start both again: the training goes on, and ends in the same bytes."""
    assert pair.start().statuses() == (0, 0)
    assert "going on with an interrupted training: epoch " in pair.output("alpha").read_text()
    assert pair.checkpoint() == expected
