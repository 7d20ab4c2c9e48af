"""PostgreSQL, an S3 server and MLflow's, which a test starts, stops and starts again.

They are what `cluster/compose.yaml` starts, without containers: Debian's PostgreSQL, `rclone serve
s3` on a folder, and `mlflow server` with a password and its artifacts in S3.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.server import get_app_client

from deepsort_reid.runs.mlflow.registry import MODEL
from deepsort_reid.runs.mlflow.store import EXPERIMENT, quiet
from tests.support.ports import free_port

CLUSTER = Path(__file__).parents[2] / "cluster"
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
START_SECONDS = 90.0
ADMIN, SECRET = "admin", "a password of the admin's"
KEY, SECRET_KEY = "minted", "s3-secret-s3-secret"
BUCKETS = ("mlflow", "dvc")
QUIET = {  # for MLflow's server
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "1",
}


class Process:
    """A program that serves a port of this machine, and can be stopped and started again."""

    def __init__(self, folder: Path):
        self.log = folder / f"{type(self).__name__}.log"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What is run."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The variables it is run with, beside those of this process that do not concern it."""
        return {}

    def user(self) -> str | None:
        """The user who runs it; None for this process's own."""
        return None

    def answers(self) -> bool:
        """Whether it serves by now."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def start(self) -> None:
        unwanted = ("MLFLOW_", "AWS_", "DVC_", "PG")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=environ | self.environment(), user=self.user(), cwd="/",
                start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it, as a crash does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Server(Process):
    """`mlflow server`, with a database and artifacts that stay when it is stopped."""

    def __init__(self, folder: Path, *options: str, **variables: str):
        """Take options in place of those for a database and artifacts in a folder."""
        super().__init__(folder)
        self.options, self.variables = options, variables
        if not options:
            self.options = (
                "--backend-store-uri", f"sqlite:///{folder}/server.db",
                "--artifacts-destination", str(folder / "artifacts"),
            )  # fmt: skip

    def command(self) -> list[str]:
        start = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        return [*start, "--port", str(self.port), "--workers", "1", *self.options]

    def environment(self) -> dict[str, str]:
        return QUIET | self.variables

    def answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
            return True
        return False


class Postgres(Process):
    """PostgreSQL in a folder of its own, with one database, `mlflow`."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.data = folder / "postgres"
        self.variables = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "mlflow"}
        self.variables |= {"PGPASSWORD": "postgres-secret", "PGDATABASE": "mlflow"}

    def user(self) -> str | None:
        """It refuses to be run by root."""
        return None if os.geteuid() else "postgres"

    def command(self) -> list[str]:
        options = {"port": self.port, "unix_socket_directories": self.data, "fsync": "off"}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(PROGRAMS[-1] / "postgres"), "-D", str(self.data), *settings]

    def answers(self) -> bool:
        import psycopg

        with suppress(psycopg.OperationalError):
            psycopg.connect("", **self.arguments("postgres")).close()
            return True
        return False

    def arguments(self, database: str = "mlflow") -> dict[str, str]:
        """What psycopg is called with."""
        told = self.variables
        return {
            "host": told["PGHOST"], "port": told["PGPORT"], "user": told["PGUSER"],
            "password": told["PGPASSWORD"], "dbname": database,
        }  # fmt: skip

    def make(self) -> None:
        """Make the database, and leave the server running."""
        self.data.mkdir()
        if user := self.user():
            shutil.chown(self.data, user, pwd.getpwnam(user).pw_gid)
        password = self.data.parent / "password"
        password.write_text(self.variables["PGPASSWORD"])
        self._run("initdb", "-D", self.data, "-U", "mlflow", "-A", "scram-sha-256",
                  f"--pwfile={password}", "--no-sync")  # fmt: skip
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "mlflow")

    def _run(self, program: str, *arguments: object) -> None:
        environ = os.environ | self.variables
        command = [str(PROGRAMS[-1] / program), *map(str, arguments)]
        done = subprocess.run(
            command, user=self.user(), env=environ, cwd="/", capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


class S3(Process):
    """`rclone serve s3`: each folder in its folder is a bucket."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.folder = folder / "s3"
        for bucket in BUCKETS:
            (self.folder / bucket).mkdir(parents=True)
        # What boto3 and s3fs read. They would ask the cloud's own address for keys otherwise.
        self.variables = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_S3": self.uri,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def command(self) -> list[str]:
        rclone = str(Path(sys.executable).parent / "rclone")
        return [rclone, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", str(self.folder)]

    def environment(self) -> dict[str, str]:
        return {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET_KEY}"', "RCLONE_CONFIG": "/dev/null"}


class Stack:
    """All three: MLflow's server with its records in PostgreSQL and its artifacts in S3.

    Attributes:
        environment: what a user has to set who records runs in it, as the admin.
    """

    def __init__(self, folder: Path):
        """Start nothing yet; PostgreSQL's user must be able to enter the folder."""
        self.folder, self.postgres, self.s3 = folder, Postgres(folder), S3(folder)
        self.mlflow = self.server("--artifacts-destination", "s3://mlflow")
        self.environment = {
            "MLFLOW_TRACKING_URI": self.mlflow.uri,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": SECRET,
        }

    def server(self, *place: str) -> Server:
        """MLflow's server, with options that say where artifacts go."""
        return Server(
            self.folder,
            "--app-name", "basic-auth", "--backend-store-uri", "postgresql:///mlflow", *place,
            MLFLOW_AUTH_CONFIG_PATH=str(CLUSTER / "basic_auth.ini"),
            MLFLOW_AUTH_ADMIN_PASSWORD=SECRET,
            MLFLOW_FLASK_SERVER_SECRET_KEY="signs the forms",
            **self.postgres.variables, **self.s3.variables,
        )  # fmt: skip

    def start(self) -> None:
        self.postgres.make()
        self.s3.start()
        self.mlflow.start()

    def stop(self) -> None:
        for server in (self.mlflow, self.s3, self.postgres):
            server.stop()

    def add_user(self, name: str, permission: str | None = None) -> dict[str, str]:
        """Make a user of MLflow's, who may do that in our experiment beside what all may do.

        Returns:
            what that user has to set.
        """
        password = f"a password of {name}'s"
        user = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
        with pytest.MonkeyPatch.context() as patch, quiet():
            for variable, value in self.environment.items():
                patch.setenv(variable, value)
            admin = get_app_client("basic-auth", self.mlflow.uri)
            admin.create_user(name, password)
            if permission:
                experiment = MlflowClient(self.mlflow.uri).get_experiment_by_name(EXPERIMENT)
                for kind, which in (
                    ("experiment", experiment.experiment_id), ("registered_model", MODEL)
                ):  # fmt: skip
                    admin.grant_user_permission(name, kind, which, permission)
        return self.environment | user


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter, removed in the end.

    Where PostgreSQL is missing the test is skipped, or fails in CI, which has to install it.
    """
    if not PROGRAMS:
        told = "there is no PostgreSQL: apt-get install postgresql"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    with tempfile.TemporaryDirectory(prefix="servers-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL alone, running."""
    with open_folder() as folder:
        server = Postgres(folder)
        try:
            server.make()
            yield server
        finally:
            server.stop()


@contextmanager
def servers() -> Iterator[Stack]:
    """All three, running."""
    with open_folder() as folder:
        stack = Stack(folder)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
