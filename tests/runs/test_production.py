"""A model in production: promoted on a real server, which calls a service that loads it anew."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from deepsort_reid.cli.start import main
from deepsort_reid.core import files
from deepsort_reid.core.stage import set_up_log
from deepsort_reid.model import checkpoint
from deepsort_reid.runs.logger import open_run
from deepsort_reid.runs.mlflow.registry import MODEL
from deepsort_reid.runs.mlflow.store import open_store
from deepsort_reid.runs.provenance import CHECKPOINT_MD5, measured_tags
from tests.support.exports import crops, trained
from tests.support.stores import forget_mlflow

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "reload_on_promotion.py"
SECRET = "a secret of this test"
SECONDS = 120.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An MLflow server on SQLite that may call services of this machine; its address."""
    forget_mlflow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    own = {
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",  # seconds that it may not know of a new webhook
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{tmp_path}/server.db",
               "--artifacts-destination", str(tmp_path / "artifacts")]  # fmt: skip
    with running(command, os.environ | own, tmp_path / "server.log"):
        until(lambda: urllib.request.urlopen(f"{address}/health").status == 200)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        yield address


class running:  # noqa: N801
    """A process group of its own while the block runs, its output in a file."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path):
        self.command, self.environment, self.log = command, environment, log

    def __enter__(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(is_so) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if is_so():
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail("it has not come about in time")


def train(name: str, seed: int, m_ap: float) -> None:
    """Record a run as the stages do, with a network of its own."""
    made = trained("osnet_x0_25", (64, 32))
    made.net.train()(0.1 * seed + made_images())  # other statistics, so other embeddings
    made.net.eval()
    path = Path(name) / "model.pth"
    path.parent.mkdir()
    checkpoint.save(path, made.net.state_dict(), made.about)
    tags = {CHECKPOINT_MD5: files.md5(path), "data_digest": "data"}
    with open_run(key=name, name=name, tags=tags) as run:
        run.log_artifact(path, "checkpoint")
        run.log_metrics({"reid/mAP": m_ap, "track/id_switches": 19})
        run.set_tags(measured_tags("evaluate", path) | measured_tags("track", path))
        run.log_model(made.net, np.zeros((2, 3, 64, 32), np.float32), metadata={})


def made_images():
    import torch

    return torch.from_numpy(crops(8, (64, 32))).permute(0, 3, 1, 2).float() / 255


def command(*arguments: str) -> int:
    """The exit status of `deepsort-reid`."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        set_up_log(is_first=True)
    return 0


def test_promoted_refused_rolled_back_and_loaded(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("old", 1, 0.651)
    train("new", 2, 0.701)
    assert command("promote", "old") == 0
    log, port = tmp_path / "service.log", free_port()
    environment = os.environ | {"WEBHOOK_SECRET": SECRET}
    client = open_store().client
    client.create_webhook(
        "reload", f"http://127.0.0.1:{port}", ["model_version_alias.created"], secret=SECRET
    )
    with running([sys.executable, str(EXAMPLE), str(port)], environment, log):
        until(lambda: "loaded at start" in log.read_text())
        assert command("promote", "old", "--min-map", "70%") == 1
        assert "mAP is 65.1 %, --min-map asks for 70 %" in capsys.readouterr().err
        assert command("promote", "new", "--min-map", "70%", "--max-switches", "20") == 0
        until(lambda: "loaded version 2" in log.read_text())
        assert command("promote", "old") == 0  # the rollback
        until(lambda: "loaded version 1" in log.read_text())
        forged = urllib.request.Request(f"http://127.0.0.1:{port}", b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(forged)
    mlflow.set_tracking_uri(server)
    net = mlflow.pytorch.load_model(f"models:/{MODEL}@production")
    assert net(made_images()).shape[0] == 8
