import logging
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from deepsort_reid import store, tracking
from deepsort_reid.errors import StoreError
from deepsort_reid.run_writer import BEST, MODEL
from deepsort_reid.tracking import NullTracker, open_run, resume_run
from tests.stores import forget_mlflow, make_store

TAGS = {"data_digest": "d1", "mlflow.note.content": "**tiny**"}

KILLED_WHILE_TRAINING = """
import time
from deepsort_reid.tracking import open_run
with open_run(name="killed", tags={}) as tracker:
    tracker.log_metrics({"loss": 0.5}, step=1)
    print(tracker.run_id, flush=True)
    time.sleep(60)
"""


class Net(torch.nn.Module):
    """Embeds (B, 3, 16, 8) images, otherwise in training than in eval mode."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)

    def forward(self, images):
        return torch.nn.functional.normalize(self.norm(self.conv(images)).mean((2, 3)))


def images(count):
    return np.random.default_rng(count).standard_normal((count, 3, 16, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A repository with a store that all tests may add to."""
    return make_store(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def root(shared, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(shared))
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 0.0)
    return shared


@pytest.fixture
def client(root):  # noqa: ARG001
    return store.open_store().client


@pytest.fixture
def run_id(root):  # noqa: ARG001
    with open_run(name="a run", tags=TAGS) as tracker:
        pass
    return tracker.run_id


def warnings(caplog):
    """What the user is told; torch warns of its own accord when it cannot export."""
    ours = [record for record in caplog.records if record.name.startswith("deepsort_reid")]
    return [record.getMessage() for record in ours if record.levelno == logging.WARNING]


# A whole run


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """A run with everything in it, and the network it recorded."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "train.jpg").write_bytes(b"jpg")
    (folder / "plots").mkdir()
    (folder / "plots" / "cmc.csv").write_text("rank,share\n")
    torch.manual_seed(0)
    net = Net().train()
    with pytest.MonkeyPatch.context() as monkeypatch:
        forget_mlflow(monkeypatch)
        monkeypatch.setenv("DVC_ROOT", str(shared))
        with open_run(name="whole", tags=TAGS) as tracker:
            tracker.log_params({"lr": 0.1, "dataset": {"source": "zip", "sha256": None}})
            tracker.log_params({"long": "x" * 7000, "odd@name": [1, 2]})
            tracker.log_params({f"many.{n}": n for n in range(150)})
            for epoch in (1, 2, 3):
                tracker.log_metrics({"loss": 1 / epoch, "rank@1": 0.5}, step=epoch)
            tracker.log_artifact(folder / "train.jpg")
            tracker.log_artifact(folder / "plots", "figures")
            tracker.log_dataset(
                name="market", source="https://ada:pw@host/a.zip", digest="0123456789abcdef" * 4,
                profile={"images": 10}, context="training",
            )  # fmt: skip
            tracker.log_model(net, images(2), metadata={"mean": [0.485, 0.456, 0.406]})
        with resume_run(tracker.run_id) as again:
            again.log_metrics({"mAP": 0.6})
            again.promote("mAP")
    return tracker, net


@pytest.fixture
def recorded(whole, client):
    return client.get_run(whole[0].run_id)


def test_records_params(recorded):
    params = recorded.data.params
    assert params["lr"] == "0.1"
    assert params["dataset.source"] == "zip"
    assert params["odd_name"] == "[1, 2]"
    assert len(params["long"]) == 6000
    assert params["many.149"] == "149"


def test_records_metrics(recorded, client):
    points = [(m.step, m.value) for m in client.get_metric_history(recorded.info.run_id, "loss")]
    assert points == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert recorded.data.metrics["rank_1"] == 0.5


def test_the_shortest_run_has_system_metrics(recorded):
    assert recorded.data.metrics["system/system_memory_usage_megabytes"] > 0


def test_records_artifacts(recorded, client):
    run_id = recorded.info.run_id
    assert [file.path for file in client.list_artifacts(run_id)] == ["figures", "train.jpg"]
    assert [file.path for file in client.list_artifacts(run_id, "figures")] == ["figures/cmc.csv"]


def test_records_the_dataset(recorded):
    (entry,) = recorded.inputs.dataset_inputs
    assert entry.dataset.name == "market"
    assert entry.dataset.digest == "0123456789ab"
    assert entry.dataset.source == '{"url": "https://***@host/a.zip"}'
    assert entry.dataset.profile == '{"images": 10}'
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "training"}


def test_ends_finished_and_evaluation_leaves_it_so(recorded):
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags["data_digest"] == "d1"
    assert recorded.data.metrics["mAP"] == 0.6
    first_end = recorded.info.end_time
    assert recorded.info.start_time <= first_end <= time.time() * 1000


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("moved", [False, True])
def test_the_model_gives_the_same_embeddings(whole, root, tmp_path, monkeypatch, count, moved):
    if moved:  # the repository may lie elsewhere by then
        shutil.copytree(root, tmp_path / "moved")
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / "moved"))
    import mlflow.pytorch

    client = store.open_store().client
    version = client.get_model_version_by_alias(MODEL, BEST)
    assert version.run_id == whole[0].run_id
    with store.quiet():
        loaded = mlflow.pytorch.load_model(version.source)
        expected = whole[1].eval()(torch.from_numpy(images(count)))
        embeddings = loaded(torch.from_numpy(images(count)))
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=1e-6)


def test_the_model_describes_itself(whole, client):
    from mlflow.models import Model

    version = client.get_model_version_by_alias(MODEL, BEST)
    model = Model.load(version.source)
    assert model.signature.inputs.inputs[0].shape == (-1, 3, 16, 8)
    assert model.signature.outputs.inputs[0].shape == (-1, 4)
    assert model.metadata == {"mean": [0.485, 0.456, 0.406]}
    assert model.run_id == whole[0].run_id
    assert version.description == "whole"
    assert version.tags == {"mAP": "0.6000"}
    files = {path.name for path in Path(version.source).rglob("*")}
    assert "input_example.json" in files
    assert not [name for name in files if "pickle" in name or name.endswith((".pth", ".pkl"))]
    requirements = Path(version.source, "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in requirements + "\n"


@pytest.mark.usefixtures("root")
def test_recording_a_model_leaves_network_and_terminal_as_they_are(capfd):
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with open_run(name="mode", tags={}) as tracker:
        tracker.log_model(net, images(2), metadata={})
    assert net.training
    assert net.norm.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_exported_stops_nothing(client, caplog):
    class Stubborn(Net):
        def forward(self, images):
            return images if float(images.sum()) > 0 else -images

    with open_run(name="stubborn", tags={}) as tracker:
        tracker.log_model(Stubborn(), images(2), metadata={})
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert len(warnings(caplog)) == 1
    assert "its export failed" in warnings(caplog)[0]


def test_says_where_to_look(whole, root, monkeypatch):
    tracker, _ = whole
    name, place = tracker.describe().splitlines()
    assert name == "MLflow run whole"
    assert "uv run mlflow ui, then http://127.0.0.1:5000/#/experiments/" in place
    assert tracker.run_id in place
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/other.db")
    assert f"--backend-store-uri sqlite:///{root}/other.db" in tracker.describe()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:pw@host/mlflow/")
    assert "https://***@host/mlflow/#/experiments/" in tracker.describe()


# How a run ends


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("loss is nan"), "FAILED"),
        (SystemExit(1), "FAILED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(143), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_status(client, error, status):
    with pytest.raises(type(error)), open_run(name="ends", tags={}) as tracker:
        raise error
    run = client.get_run(tracker.run_id)
    assert run.info.status == status
    assert run.info.end_time is not None
    assert ("failure" in run.data.tags) == (status == "FAILED")
    if isinstance(error, ValueError):
        assert run.data.tags["failure"] == "ValueError: loss is nan"


def test_sigterm_kills_the_run_and_the_process_quietly(root, client):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_TRAINING],
        cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    run_id = process.stdout.readline().strip()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 143
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.metrics["loss"] == 0.5


@pytest.mark.usefixtures("root")
def test_sigterm_is_handled_as_before_after_the_run():
    before = signal.getsignal(signal.SIGTERM)
    with open_run(name="signals", tags={}):
        assert signal.getsignal(signal.SIGTERM) is tracking.terminate
    assert signal.getsignal(signal.SIGTERM) is before


# Runs that are not recorded


def contents(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def use_everything(tracker):
    tracker.log_params({"lr": 0.1})
    tracker.log_metrics({"loss": 0.5}, step=1)
    tracker.log_artifact(Path("train.jpg"))
    tracker.log_dataset(name="a", source="b", digest="c", profile={}, context="training")
    tracker.log_model(Net(), images(2), metadata={})
    tracker.set_tags({"a": "b"})
    tracker.promote("mAP")


def test_a_null_tracker_writes_nothing(tmp_path, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with open_run(name="not mine", tags={}, enabled=False) as tracker:
        use_everything(tracker)
    assert isinstance(tracker, NullTracker)
    assert (tracker.run_id, tracker.run_name) == (None, None)
    assert tracker.describe() == "not recorded in MLflow"
    assert contents(tmp_path) == []


def test_training_goes_on_without_mlflow(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with open_run(name="none", tags={}) as tracker:
        use_everything(tracker)
    assert isinstance(tracker, NullTracker)
    assert warnings(caplog) == ["mlflow is not installed, so nothing is recorded in MLflow"]
    assert contents(tmp_path) == []


def test_a_store_that_cannot_be_opened_stops_training_before_it_begins(monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with (
        pytest.raises(StoreError, match="connection refused"),
        open_run(name="no", tags={}),
    ):
        pytest.fail("training began")


@pytest.mark.usefixtures("root")
def test_a_store_that_cannot_be_written_does_too(monkeypatch):
    opened = store.open_store()
    monkeypatch.setattr(opened.client, "create_run", full_disk)
    monkeypatch.setattr(tracking, "open_store", lambda: opened)
    with (
        pytest.raises(StoreError, match="takes no new run: no space left on device"),
        open_run(name="no", tags={}),
    ):
        pytest.fail("training began")


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")


# Resuming


def test_resume_adds_to_a_run_and_leaves_the_rest(client, tmp_path):
    with suppress(SystemExit), open_run(name="failed", tags=TAGS) as tracker:
        tracker.log_params({"lr": 0.1})
        sys.exit(1)
    before = client.get_run(tracker.run_id)
    (tmp_path / "cmc.csv").write_text("rank,share\n")
    with resume_run(tracker.run_id) as again:
        assert (again.run_id, again.run_name) == (tracker.run_id, "failed")
        again.log_metrics({"mAP": 0.7})
        again.log_artifact(tmp_path / "cmc.csv")
    after = client.get_run(tracker.run_id)
    assert after.info.status == before.info.status == "FAILED"
    assert after.info.end_time == before.info.end_time
    assert after.data.params == before.data.params
    assert after.data.metrics["mAP"] == 0.7
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["cmc.csv"]


@pytest.mark.parametrize("why", ["unknown", "deleted", "not recorded", "no store"])
def test_resume_without_a_run_warns_and_records_nothing(
    why, run_id, client, tmp_path, monkeypatch, caplog
):
    if why == "unknown":
        run_id = "0" * 32
    elif why == "deleted":
        client.delete_run(run_id)
    elif why == "not recorded":
        run_id = None
    else:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with resume_run(run_id) as tracker:
        use_everything(tracker)
    assert isinstance(tracker, NullTracker)
    assert len(warnings(caplog)) == 1
    assert contents(tmp_path) == []


@pytest.mark.usefixtures("root")
def test_resume_puts_up_with_a_dead_store(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with resume_run("0" * 32) as tracker:
        tracker.log_metrics({"mAP": 0.7})
    fails, lost = warnings(caplog)
    assert "fails (connection refused)" in fails
    assert "did not take: metrics (1)" in lost


# Promotion


def version_of(client, run_id):
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    return versions[0].version


def measured_run(client, digest, value):
    """A run with a model version, as training leaves it, and then evaluated and promoted."""
    with open_run(name=f"{digest}-{value}", tags={"data_digest": digest}) as tracker:
        pass
    client.create_model_version(MODEL, "file:///nowhere", run_id=tracker.run_id)
    with resume_run(tracker.run_id) as again:
        again.log_metrics({"mAP": value})
        again.promote("mAP")
    return version_of(client, tracker.run_id)


def test_the_best_version_is_the_best_on_the_same_data(whole, client):
    def best():
        return client.get_model_version_by_alias(MODEL, BEST).version

    first = version_of(client, whole[0].run_id)
    try:
        worse = measured_run(client, "d2", 0.3)
        assert best() == worse  # nothing else was measured on d2
        better = measured_run(client, "d2", 0.5)
        assert best() == better
        measured_run(client, "d2", 0.4)
        assert best() == better
        measured_run(client, "d2", 0.5)
        assert best() == better  # the older of equals
    finally:
        client.set_registered_model_alias(MODEL, BEST, first)


def test_promoting_a_run_without_a_model_changes_nothing(whole, client):
    with open_run(name="no model", tags={"data_digest": "d3"}) as tracker:
        tracker.log_metrics({"mAP": 0.9})
        tracker.promote("mAP")
    version = client.get_model_version_by_alias(MODEL, BEST)
    assert version.run_id == whole[0].run_id


# A store that fails while the run goes on


@pytest.fixture
def failing(root, monkeypatch):  # noqa: ARG001
    """A run's store whose `switch` lets every call fail."""
    opened = store.open_store()
    switch = {"dead": False}

    def breakable(call):
        def attempt(*arguments, **options):
            if switch["dead"]:
                raise ConnectionError(111, "Connection refused")
            return call(*arguments, **options)

        return attempt

    for name in ("log_batch", "log_artifact", "set_terminated", "log_inputs"):
        monkeypatch.setattr(opened.client, name, breakable(getattr(opened.client, name)))
    monkeypatch.setattr(tracking, "open_store", lambda: opened)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    return switch


def test_what_a_failing_store_misses_arrives_later(failing, client, tmp_path, caplog):
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    with open_run(name="outage", tags={}) as tracker:
        tracker.log_metrics({"loss": 1.0}, step=1)
        failing["dead"] = True
        before = int(time.time() * 1000)
        for epoch in (2, 3):
            tracker.log_metrics({"loss": 1 / epoch}, step=epoch)
        after = int(time.time() * 1000)
        tracker.set_tags({"late": "yes"})
        tracker.log_artifact(tmp_path / "train.jpg")
        failing["dead"] = False
    run = client.get_run(tracker.run_id)
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert all(before <= point.timestamp <= after for point in history[1:])  # not of the sending
    assert run.data.tags["late"] == "yes"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["train.jpg"]
    assert len(warnings(caplog)) == 1
    assert "fails (connection refused)" in warnings(caplog)[0]


def test_what_never_arrives_is_named_once(failing, client, tmp_path, caplog):
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    with open_run(name="dead", tags={}) as tracker:
        failing["dead"] = True
        for epoch in (1, 2, 3):
            tracker.log_metrics({"loss": 1 / epoch}, step=epoch)
        tracker.log_artifact(tmp_path / "train.jpg")
    fails, lost = warnings(caplog)
    assert "fails" in fails
    assert lost.endswith("did not take: artifact (1), end (1), metrics (3)")
    assert client.get_run(tracker.run_id).info.status == "RUNNING"


@pytest.mark.usefixtures("failing")
def test_records_arrive_where_files_do_not(client, tmp_path, monkeypatch, caplog):
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    with open_run(name="no bucket", tags={}) as tracker:
        monkeypatch.setattr(tracker.writer.client, "log_artifact", full_disk)
        tracker.log_artifact(tmp_path / "train.jpg")
        tracker.log_metrics({"loss": 0.5}, step=1)
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert "for files, fails (no space left on device)" in warnings(caplog)[0]
    assert warnings(caplog)[1].endswith("did not take: artifact (1)")


def test_what_is_refused_holds_nothing_up(client, caplog):
    with open_run(name="refused", tags={}) as tracker:
        tracker.log_params({"lr": 0.1})
        tracker.log_params({"lr": 0.2})  # a parameter cannot change
        tracker.log_artifact(Path("/nowhere/train.jpg"))
        tracker.log_metrics({"loss": 0.5}, step=1)
    run = client.get_run(tracker.run_id)
    assert run.data.params == {"lr": "0.1"}
    assert run.data.metrics["loss"] == 0.5
    assert "refuses params: " in warnings(caplog)[0]
    assert "refuses artifact: " in warnings(caplog)[1]
    assert warnings(caplog)[-1].endswith("did not take: artifact (1), params (1)")


# Names and values


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("train_loss", "train_loss"),
        ("rank@1", "rank_1"),
        ("val/mAP[0]", "val/mAP_0_"),
        ("/a//../b", "a/b"),
        ("..", "_"),
        ("images per second: all", "images per second: all"),
    ],
)
def test_valid_name(name, valid):
    assert tracking.valid_name(name) == valid


def test_every_valid_name_is_one_mlflow_takes(client, run_id):
    from mlflow.entities import Metric

    characters = [chr(code) for code in range(1, 400)]
    names = {tracking.valid_name(name) for name in [*characters, "a/./b", "/", "", "./", "a//"]}
    client.log_batch(run_id, metrics=[Metric(name, 1.0, 0, 0) for name in sorted(names)])


def test_flattened():
    nested = {"lr": 0.1, "split": {"seed": 0, "deep": {"er": None}}, "empty": {}}
    assert tracking.flattened(nested) == {"lr": 0.1, "split.seed": 0, "split.deep.er": None}
