"""A SLURM cluster on this machine: a controller and two nodes, which are two daemons of one host.

The programs are Debian's packages slurm-wlm and munge. Everything is in a folder, with a key of its
own; the machine's own SLURM, if it has one, is left alone.
"""

import getpass
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import projects
from tests.support.ports import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "scancel", "scontrol")
SBIN = "/usr/sbin"  # not in every user's PATH
NODES = (platform.node(), f"{platform.node()}-2")  # in the order of SLURM, by name

# The ranks meet at the first node, whose name must be known: it is this machine's own.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
ReturnToService=2
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8
NodeName={host}-2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8
PartitionName=all Nodes=ALL Default=YES
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    path = f"{os.environ['PATH']}{os.pathsep}{SBIN}"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


class Cluster:
    """What talks to the cluster in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environ = projects.environment() | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.environ["PATH"] += f"{os.pathsep}{SBIN}"

    def start(self, *daemon: str) -> subprocess.Popen[bytes]:
        """Start a daemon in the foreground; what it says is in the folder's logs."""
        return subprocess.Popen(
            daemon, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def command(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run a command of SLURM's to its good end; return what it printed."""
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def nodes(self) -> list[str]:
        """The state of each node; nothing if the controller does not answer."""
        with suppress(AssertionError):
            return self.command("sinfo", "--noheader", "--Node", "--format=%T").split()
        return []

    def submit(self, project: Path, *options: str) -> str:
        """Submit the project's script, in a project of its own; return the job's number."""
        script = str(projects.ROOT / "cluster/slurm.sbatch")
        output = ("--output=output.txt", "--cpus-per-task=2")
        return self.command("sbatch", "--parsable", *output, *options, script, cwd=project).strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, ExitCode, Restarts, …"""
        words = self.command("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.partition("=")[::2] for word in words)

    def wait(self, number: str, *states: str, seconds: float = 200) -> dict[str, str]:
        """Wait until a job is in one of the states."""
        self.wait_for(lambda: self.job(number)["JobState"] in states, seconds)
        return self.job(number)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """The last lines of all daemons."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in logs)

    def end_jobs(self) -> None:
        """End all jobs, so that no process of them outlives the cluster."""
        with suppress(AssertionError):
            self.command("scancel", "--full", "--signal=KILL", "--state=RUNNING")
            self.command("scancel", f"--user={getpass.getuser()}")
            self.wait_for(lambda: self.nodes() == ["idle", "idle"])


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster that is stopped, with all its jobs, when the block ends."""
    cluster = Cluster(folder)
    (folder / "state").mkdir()
    ports = [free_port() for _ in range(3)]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=platform.node(), user=getpass.getuser(), folder=folder, ports=ports
        )
    )
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    munge = [
        f"--{option}={folder}/munge.{end}"
        for option, end in [
            ("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
            ("seed-file", "seed"),
        ]
    ]  # fmt: skip
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        # --force: a folder that only this user can enter will do.
        daemons.append(cluster.start("munged", "--foreground", "--force", *munge))
        cluster.wait_for(lambda: (folder / "munge.socket").exists())
        daemons.append(cluster.start("slurmctld", "-D"))
        # A core for each node: the number of threads follows from it, and the bytes from that.
        cores = sorted(os.sched_getaffinity(0))
        for node, core in zip(NODES, (cores[0], cores[-1]), strict=True):
            pinned = ("taskset", "--cpu-list", str(core), "slurmd")
            daemons.append(cluster.start(*pinned, "-D", "-N", node))
        cluster.wait_for(lambda: cluster.nodes() == ["idle", "idle"])
        yield cluster
    finally:
        cluster.end_jobs()
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
