"""Two hosts on this machine: network namespaces with a cable between them, and names of their own.

Needs root, and the commands `ip` (Debian's iproute2), `unshare`, `mount` and
`taskset` (util-linux).
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import projects

# Debian's installer writes a line like the last one, and gloo would tell the others 127.0.1.1.
ETC_HOSTS = "127.0.0.1 localhost\n10.213.0.1 alpha\n10.213.0.2 beta\n"
IN_HOST = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'


def needed() -> None:
    """Skip a test where there can be no hosts; in CI, where there must be, fail."""
    if os.geteuid() == 0 and all(map(shutil.which, ("ip", "unshare", "mount", "taskset"))):
        return
    reason = "hosts of their own need root and the commands ip, unshare, mount, taskset"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def ip(*arguments: str) -> None:
    """Run iproute2's command."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


class Host:
    """A network namespace that plays a machine."""

    def __init__(self, name: str, address: str, core: int, folder: Path):
        """Make it, with one core and a loopback interface."""
        self.name, self.address, self.core = name, address, core
        self.namespace = f"dsr-{name}-{os.getpid()}"
        self.hosts_file = folder / f"hosts-{name}"
        self.hosts_file.write_text(f"127.0.1.1 {name}\n{ETC_HOSTS}")
        ip("netns", "add", self.namespace)
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def start(
        self, command: Sequence[str], folder: Path, output: Path, **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a command on the host; both its streams go to a file."""
        prefix = ["ip", "netns", "exec", self.namespace, "taskset", "--cpu-list", f"{self.core}",
                  "unshare", "--uts", "--mount", "sh", "-c"]  # fmt: skip
        own = {"PYTHONPATH": "src", **variables}
        with output.open("w") as stream:
            return subprocess.Popen(
                [*prefix, IN_HOST, self.name, str(self.hosts_file), *command],
                cwd=folder, env=projects.environment() | own, stdout=stream,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """All that run on it."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.namespace], check=True, capture_output=True, text=True
        )
        found = []
        for pid in done.stdout.split():
            try:
                found.append(psutil.Process(int(pid)))
            except psutil.NoSuchProcess:
                continue
        return found

    def ranks(self) -> list[psutil.Process]:
        """The training processes on it."""
        return [process for process in self.processes() if is_rank(process)]

    def kill(self) -> None:
        """Kill all that runs on it at once."""
        for process in self.processes():
            os.kill(process.pid, signal.SIGKILL)

    def cut(self) -> None:
        """Pull its cable."""
        ip("-n", self.namespace, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Plug it in again."""
        ip("-n", self.namespace, "link", "set", "cable", "up")


def is_rank(process: psutil.Process) -> bool:
    """Whether a process is one that trains, and not its launcher."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "pipeline/train.py" in words and "deepsort_reid.training.torchrun" not in words


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other; all that runs on them ends with the block."""
    cores = sorted(os.sched_getaffinity(0))
    both = first, second = (
        Host("alpha", "10.213.0.1", cores[0], folder), Host("beta", "10.213.0.2", cores[-1], folder)
    )  # fmt: skip
    try:
        ip("-n", first.namespace, "link", "add", "cable", "type", "veth", "peer", "name", "cable",
           "netns", second.namespace)  # fmt: skip
        for host in both:
            ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "cable")
            host.mend()
        yield both
    finally:
        for host in both:
            host.kill()
            ip("netns", "del", host.namespace)


def wait_until(condition: object, seconds: float = 60.0) -> None:
    """Wait for a condition, a function without arguments.

    Raises:
        AssertionError: it did not come true in time.
    """
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
