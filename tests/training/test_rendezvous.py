"""Ranks that wait say for whom, give up in one line, and need no name server on one machine."""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch.distributed as dist

from deepsort_reid.core.errors import ConfigError, TrainingError
from deepsort_reid.core.launch import Launch
from deepsort_reid.training import torchrun
from deepsort_reid.training.ranks import interface, rendezvous
from tests.support import stages
from tests.support.ports import free_port

SCRIPT = """
import os
import torch
from deepsort_reid.core.stage import run_stage
from deepsort_reid.training.ranks.distributed import joined, sum_over_ranks

def main():
    with joined() as process:
        total = int(sum_over_ranks(torch.tensor(process.rank + 1)))
        os.write(1, f"{process.rank} of {process.world_size}: {total}\\n".encode())

run_stage(main, (), environ=os.environ)
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that speak and give up at once."""
    monkeypatch.setattr(rendezvous, "FIRST_WORD", 0.2)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.8)


@pytest.mark.usefixtures("impatient")
def test_the_host_says_who_is_missing_and_gives_up(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with pytest.raises(TrainingError) as caught:
        rendezvous.meet(Launch(0, 0, 3, 3, "127.0.0.1", port), "gloo")
    whom = f"2 of 3 ranks (1, 2) at 127.0.0.1:{port}"
    assert capsys.readouterr().err == f"waiting for {whom}\n"
    assert str(caught.value).startswith(f"waited 1 s for {whom}; see that every process")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("address", "why"), [("127.0.0.1", "connection refused"), ("nowhere.invalid", "name")]
)
def test_a_guest_says_that_nobody_answers(
    address: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with pytest.raises(TrainingError, match="waited 1 s for rank 0 of 2 ranks at") as caught:
        rendezvous.meet(Launch(1, 0, 2, 1, address, port), "gloo")
    assert f"{address}:{port} (" in str(caught.value)
    err = capsys.readouterr().err
    assert err.startswith(f"waiting for rank 0 of 2 ranks at {address}:{port} (")
    assert why in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("impatient")
def test_a_guest_of_something_else_gives_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(TrainingError, match="what listens there is silent"),
    ):
        rendezvous.meet(Launch(1, 0, 2, 1, "127.0.0.1", server.getsockname()[1]), "gloo")


@pytest.mark.usefixtures("impatient")
def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TrainingError, match=f"head:{port} cannot be used: .*EADDRINUSE"):
            rendezvous.meet(Launch(0, 0, 2, 1, "head", port), "gloo")


def test_one_voice_on_each_machine(capsys: pytest.CaptureFixture[str]) -> None:
    for rank, local_rank in ((0, 0), (1, 1), (2, 0), (3, 1)):
        waiting = rendezvous.Waiting(Launch(rank, local_rank, 4, 2, "head", 1))
        waiting.began -= 6
        waiting.pause(lambda: "somebody")
    assert capsys.readouterr().err == 2 * "waiting for somebody at head:1\n"


@pytest.mark.parametrize(
    ("own", "first", "told"),
    [
        ("10.0.0.2", "10.0.0.1", ("10.0.0.2", "10.0.0.1")),
        ("fe80::2%eth0", "fe80::1%eth0", ("fe80::2%eth0", "fe80::1%eth0")),
        ("10.0.0.1", "10.0.0.1", ("", None)),  # rank 0's own machine
        ("127.0.0.1", "127.0.1.1", ("", None)),  # the same, as Debian's /etc/hosts names it
        ("::1", "::1%lo", ("", None)),
    ],
)
def test_only_another_machine_tells_how_the_first_is_reached(
    own: str, first: str, told: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = MagicMock()
    connection.__enter__.return_value = connection
    connection.getsockname.return_value, connection.getpeername.return_value = (own, 1), (first, 2)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: connection)
    store = dist.HashStore()
    assert interface.own_address("head", 2, store) == told[0]
    assert store.check([interface.FIRST]) == (told[1] is not None)
    if told[1]:
        assert interface.address_of_first(store) == told[1]


def test_machines_that_are_one_need_no_address() -> None:
    """As two nodes of a cluster whose daemons run on one host."""
    port = free_port()

    def meet(rank: int) -> rendezvous.Meeting:
        return rendezvous.meet(Launch(rank, 0, 2, 1, "127.0.0.1", port), "gloo")

    with ThreadPoolExecutor() as pool:
        meetings = list(pool.map(meet, range(2)))
    assert [member.address for one in meetings for member in one.members] == 4 * ["127.0.0.1"]


def test_a_standalone_launch_is_of_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert torchrun.defaults(["--standalone", "x.py"], KUBEFLOW) == [
        "--nnodes=1", "--local-addr=127.0.0.1"
    ]  # fmt: skip
    assert torchrun.defaults(["--standalone", "--local_addr=a", "x.py"], {}) == ["--nnodes=1"]
    assert torchrun.defaults(["x.py"], {}) == ["--rdzv-conf=join_timeout=120,timeout=120"]
    assert torchrun.defaults(["--rdzv_conf", "timeout=9", "x.py"], {}) == []
    assert torchrun.defaults(["x.py"], {"PET_RDZV_CONF": "timeout=9"}) == []


PATIENCE = "--rdzv-conf=join_timeout=120,timeout=120"
RANKS = ["--nproc-per-node=3", "--max-restarts=0"]


@pytest.mark.parametrize(
    ("nnodes", "environ", "options"),
    [
        (1, {}, ["--standalone", "--nnodes=1", "--local-addr=127.0.0.1"]),
        (1, {"PET_NNODES": "1"}, ["--standalone", "--nnodes=1", "--local-addr=127.0.0.1"]),
        (2, {}, ["--nnodes=2", "--master-addr=127.0.0.1", PATIENCE]),
        (2, {"PET_NODE_RANK": "1", "PET_MASTER_ADDR": "a"}, ["--nnodes=2", PATIENCE]),
        (2, {"PET_RDZV_ENDPOINT": "a:1"}, ["--nnodes=2", PATIENCE]),
    ],
)
def test_the_launcher_starts_as_many_as_the_parameters_say(
    nnodes: int,
    environ: dict[str, str],
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stages.write_params(tmp_path, {"nnodes": nnodes, "nproc_per_node": 3})
    assert torchrun.defaults(["x.py"], environ) == [*RANKS, *options]
    assert torchrun.defaults(["--nnodes=5", "x.py"], environ) == [*RANKS, PATIENCE]


@pytest.mark.parametrize(
    ("nnodes", "environ", "message"),
    [
        (1, {"PET_NNODES": "2"}, "PET_NNODES=2, but params.yaml says nnodes: 1; state there"),
        (3, {"PET_NNODES": "1:3"}, "PET_NNODES=1:3, but params.yaml says nnodes: 3"),
        (1, {"PET_NODE_RANK": "1"}, "PET_NODE_RANK=1, but .* nnodes: 1; it is the only machine"),
        (2, {"PET_NODE_RANK": "2"}, "PET_NODE_RANK=2, but .* nnodes: 2; expected 0 to 1"),
        (2, {"PET_NODE_RANK": "one"}, "PET_NODE_RANK=one, but .* expected 0 to 1"),
        (2, {"PET_NODE_RANK": "1"}, "PET_NODE_RANK=1, but PET_MASTER_ADDR is not set"),
        (2, {"PET_NODE_RANK": "1", "DVC_STAGE": "train"}, "so DVC runs there; here, run `python"),
    ],
)
def test_machines_that_the_parameters_do_not_state(
    nnodes: int, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        torchrun.machines(nnodes, environ)


# Real processes


@pytest.mark.parametrize("machines", ["3", "3:3", "1:3"])
def test_who_waits_says_what_to_run_elsewhere(machines: str) -> None:
    options = argparse.Namespace(
        rdzv_endpoint="", master_addr="127.0.0.1", master_port=None, nnodes=machines
    )
    told = torchrun.waiting_for_machines(options, "127.0.0.1:29500")
    assert "PET_NODE_RANK=1 … 2 PET_MASTER_ADDR=" in told


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


LAUNCHER = [sys.executable, "-m", "deepsort_reid.training.torchrun"]
BOTH = ["0 of 2: 3", "1 of 2: 3"]
KUBEFLOW = {
    "MASTER_ADDR": "job-master-0.invalid", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1",
    "PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-master-0.invalid",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("left", [{}, KUBEFLOW], ids=["nothing", "kubeflow"])
def test_a_host_whose_name_nobody_resolves(script: str, left: dict[str, str]) -> None:
    command = [*LAUNCHER, "--standalone", "--nproc-per-node=2", script]
    if shutil.which("unshare") and os.geteuid() == 0:
        named = ["unshare", "--uts", "sh", "-c", 'hostname worker-7f.nowhere.invalid && exec "$@"']
        command = [*named, "sh", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=os.environ | left
    )
    assert (done.stderr, sorted(done.stdout.splitlines())) == ("", BOTH)


SRUN = {
    "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NODEID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_NODELIST": "nowhere-3.invalid",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["srun", "kubeflow"])
def test_processes_that_a_cluster_starts(script: str, launcher: str) -> None:
    port = {"MASTER_PORT": str(free_port())}
    running = []
    for rank in ("1", "0"):  # whoever comes first waits
        ours = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} | SRUN
        if launcher == "kubeflow":
            ours = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": socket.gethostname()}
            # Two pods, which reach each other by name; here both have this machine's.
            ours["GLOO_SOCKET_IFNAME"] = "lo"
        running.append(
            subprocess.Popen(
                [sys.executable, script], env=os.environ | ours | port,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        time.sleep(1)
    out = [process.communicate(timeout=100) for process in running]
    assert sorted(line for text, _ in out for line in text.splitlines()) == BOTH


@pytest.mark.slow
def test_a_launcher_says_where_it_waits_for_the_other_machines(script: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [*LAUNCHER, "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=a",
         f"--rdzv-endpoint={address}", "--rdzv-conf=join_timeout=9", script],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ,
    )  # fmt: skip
    waits, gives_up = done.stderr.splitlines()
    assert waits == f"waiting for the other machines of 2 at {address}"
    assert gives_up.startswith(f"error: not all of 2 machines have come to {address} (nobody else")
    assert done.returncode == 1
