"""A model in production: promoted on a real server, which calls a service that loads it anew."""

import base64
import os
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
from tests.support.servers import Process, Server
from tests.support.stores import forget_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "reload_on_promotion.py"
SECRET = "a secret of this test"
SECONDS = 120.0


class Service(Process):
    """The example, which serves the network that is in production."""

    def command(self) -> list[str]:
        return [sys.executable, str(EXAMPLE), str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"WEBHOOK_SECRET": SECRET, "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}

    def has_said(self, words: str) -> bool:
        return words in self.log.read_text()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An MLflow server on SQLite that may call services of this machine."""
    forget_mlflow(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    server = Server(
        tmp_path,
        MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=base64.urlsafe_b64encode(bytes(32)).decode(),
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true",
        MLFLOW_WEBHOOK_CACHE_TTL="1",  # seconds that it may not know of a new webhook
    )
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        yield server
    finally:
        server.stop()


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


@pytest.mark.usefixtures("server")
def test_promoted_refused_rolled_back_and_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("old", 1, 0.651)
    train("new", 2, 0.701)
    assert command("promote", "old") == 0
    service = Service(tmp_path)
    open_store().client.create_webhook(
        "reload", service.uri, ["model_version_alias.created"], secret=SECRET
    )
    service.start()
    try:
        until(lambda: service.has_said("loaded at start"))
        assert command("promote", "old", "--min-map", "70%") == 1
        assert "mAP is 65.1 %, --min-map asks for 70 %" in capsys.readouterr().err
        assert command("promote", "new", "--min-map", "70%", "--max-switches", "20") == 0
        until(lambda: service.has_said("loaded version 2"))
        assert command("promote", "old") == 0  # the rollback
        until(lambda: service.has_said("loaded version 1"))
        forged = urllib.request.Request(service.uri, b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(forged)
    finally:
        service.stop()
    net = mlflow.pytorch.load_model(f"models:/{MODEL}@production")
    assert net(made_images()).shape[0] == 8
