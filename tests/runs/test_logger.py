import json
import logging
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from deepsort_reid.core.errors import StoreError
from deepsort_reid.runs import folder, logger
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.logger import RunLogger, open_run, resume_run
from deepsort_reid.runs.mlflow import mirror, store, sync
from deepsort_reid.runs.mlflow.registry import BEST, CANDIDATE, MODEL
from deepsort_reid.runs.points import Point
from tests.support.outages import Net, images
from tests.support.stores import forget_mlflow, make_store

TAGS = {"data_digest": "d1", "mlflow.note.content": "**tiny**"}

KILLED_WHILE_TRAINING = """
import os, signal, sys, time
from deepsort_reid.runs.logger import open_run
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with open_run(key="killed", name="killed", tags={}) as tracker:
    tracker.log_metrics({"loss": 0.5}, step=1)
    while tracker.run_id is None:
        time.sleep(0.01)
    print(tracker.run_id, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A repository with a store that all tests may add to."""
    return make_store(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def root(shared, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setattr(sync, "EVERY", 0.02)
    monkeypatch.setenv("DVC_ROOT", str(shared))
    return shared


@pytest.fixture
def client(root):  # noqa: ARG001
    return store.open_store().client


@pytest.fixture
def run_id(root):  # noqa: ARG001
    with begin("a run") as tracker:
        pass
    return tracker.run_id


def begin(name, tags=TAGS):
    """Open a run with a key of its own."""
    return open_run(key=uuid.uuid4().hex, name=name, tags=tags)


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
        with begin("whole", TAGS) as tracker:
            tracker.log_params({"lr": 0.1, "dataset": {"source": "zip", "sha256": None}})
            tracker.log_params({"long": "x" * 7000, "odd@name": [1, 2]})
            tracker.log_params({f"many.{n}": n for n in range(150)})
            for epoch in (1, 2, 3):
                tracker.log_metrics({"loss": 1 / epoch, "rank@1": 0.5}, step=epoch)
            tracker.log_metrics({"kept": 0.25})  # before there is a model
            tracker.log_artifact(folder / "train.jpg")
            tracker.log_artifact(folder / "plots", "figures")
            tracker.log_dataset(
                name="market", source="https://ada:pw@host/a.zip", digest="0123456789abcdef" * 4,
                profile={"images": 10}, context="training",
            )  # fmt: skip
            tracker.log_model(net, images(2), metadata={"mean": [0.485, 0.456, 0.406]})
        with resume_run(tracker.key) as again:
            again.log_metrics({"mAP": 0.6, "track/hota": 0.5})
            again.log_dataset(
                name="videos", source="zip", digest="fedcba9876543210", profile={}, context="track"
            )
            again.promote("mAP", "trained on market: mAP 60.0%")
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
    entry, other = recorded.inputs.dataset_inputs
    assert (entry.dataset.name, other.dataset.name) == ("market", "videos")
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
    assert version.description == "trained on market: mAP 60.0%"
    assert version.tags == {"mAP": "0.6000"}
    files = {path.name for path in Path(version.source).rglob("*")}
    assert "input_example.json" in files
    assert not [name for name in files if "pickle" in name or name.endswith((".pth", ".pkl"))]
    requirements = Path(version.source, "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}\n" in requirements + "\n"


def test_the_models_page_knows_its_version_and_datasets(whole, recorded, client):
    """As MLflow's pages of logged models read them; checked by eye in 3.17.2."""
    version = client.get_model_version_by_alias(MODEL, BEST)
    (output,) = recorded.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.source_run_id == whole[0].run_id
    assert json.loads(model.tags["mlflow.modelVersions"]) == [
        {"name": MODEL, "version": str(version.version)}
    ]
    assert model.tags["mlflow.note.content"] == version.description
    found = {m.key: (m.value, m.dataset_name, m.dataset_digest) for m in model.metrics}
    assert found == {
        "kept": (0.25, "market", "0123456789ab"),
        "mAP": (0.6, "market", "0123456789ab"),
        "track/hota": (0.5, "videos", "fedcba987654"),
    }


@pytest.mark.usefixtures("root")
def test_recording_a_model_leaves_network_and_terminal_as_they_are(capfd):
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with begin("mode", {}) as tracker:
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

    with begin("stubborn", {}) as tracker:
        tracker.log_model(Stubborn(), images(2), metadata={})
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert len(warnings(caplog)) == 1
    assert "its export failed" in warnings(caplog)[0]


@pytest.mark.usefixtures("root")
def test_says_where_to_look(whole):
    tracker, _ = whole
    name, place = tracker.describe().splitlines()
    assert name == "MLflow run whole"
    assert "uv run mlflow ui, then http://127.0.0.1:5000/#/experiments/" in place
    assert tracker.run_id in place


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("uri", "place"),
    [
        (
            "sqlite:////data/other.db",
            "mlflow ui --backend-store-uri sqlite:////data/other.db, then",
        ),
        ("https://ada:pw@host/mlflow/", "https://***@host/mlflow/#/experiments/1/runs/abc?"),
    ],
)
def test_says_where_to_look_in_another_store(uri, place):
    assert place in store.where_to_look(uri, "1", "abc")
    assert store.where_to_look(uri).endswith("/#/experiments?workflowType=machine_learning")


def test_the_page_of_a_run_is_named_only_in_its_own_store(run_id, root, monkeypatch):
    key = next(path.parent.name for path in root.glob(".runs/*/mlflow.json")
               if json.loads(path.read_text())["run_id"] == run_id)  # fmt: skip
    assert run_id in RunLogger(RunFolder(key), store.tracking_uri()).describe()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert run_id not in RunLogger(RunFolder(key), store.tracking_uri()).describe()


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
    with pytest.raises(type(error)), begin("ends", {}) as tracker:
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_run_ends_only_shortens_the_wait(client, monkeypatch, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    close = sync.Sync.close

    def close_under_fire(self, seconds):
        signal.raise_signal(number)
        assert self.hurried
        self.hurried = False
        close(self, seconds)

    monkeypatch.setattr(sync.Sync, "close", close_under_fire)
    with begin("signals") as tracker:
        pass
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]


def test_a_run_measured_on_other_videos_is_said_to_be(client):
    with begin("two") as tracker:
        pass
    for digest in ("a" * 12, "b" * 12):
        with resume_run(tracker.key) as again:
            again.log_dataset(name="v", source="zip", digest=digest, profile={}, context="track")
    inputs = client.get_run(tracker.run_id).inputs.dataset_inputs
    assert {entry.dataset.digest for entry in inputs} == {"a" * 12, "b" * 12}


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


def test_without_mlflow_the_folder_alone_is_written(tmp_path, monkeypatch, caplog):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        with begin("none", {}) as tracker:
            use_everything(tracker)
        with resume_run(tracker.key):
            pass
    assert (tracker.run_id, tracker.run_name) == (None, "none")
    assert tracker.describe() == "not recorded in MLflow"
    assert warnings(caplog) == 2 * ["mlflow is not installed, so nothing is recorded in MLflow"]
    assert [path.name for path in tmp_path.iterdir()] != ["mlflow.db"]
    with resume_run(tracker.key):  # it has been installed
        pass
    run = store.open_store().client.get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})


@pytest.mark.parametrize("uri", ["nonsense://somewhere", "file:///runs", "./runs"])
def test_an_address_that_can_be_no_store_stops_training_before_it_begins(
    tmp_path, monkeypatch, uri
):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StoreError, match="expected sqlite:///FILE"), begin("no"):
        pytest.fail("training began")
    assert contents(tmp_path) == []


@pytest.mark.usefixtures("root")
def test_a_run_that_another_process_records_is_left_to_it(monkeypatch):
    monkeypatch.setattr(logger, "OWN_SECONDS", 0.1)
    with (
        open_run(key="mine", name="one", tags={}),
        pytest.raises(StoreError, match="run mine is recorded by another process; wait"),
        open_run(key="mine", name="two", tags={}),
    ):
        pytest.fail("training began")


# Going on with a run


def test_a_run_that_was_killed_goes_on_as_one_run(client, caplog):
    for attempt, epochs in enumerate([(1, 2, 3), (2, 3, 4)]):
        with suppress(SystemExit), open_run(key="again", name="again", tags=TAGS) as tracker:
            tracker.log_params({"lr": 0.1})
            for epoch in epochs:
                tracker.log_metrics({"loss": 1 / epoch, "speed": 40.0 + attempt}, step=epoch)
            if attempt == 0:
                sys.exit(143)
    (run,) = runs_with(client, "again")
    assert run.info.status == "FINISHED"
    for name, values in (("loss", [1, 1 / 2, 1 / 3, 1 / 4]), ("speed", [40, 40, 40, 41])):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(point.step, point.value) for point in history] == list(enumerate(values, 1))
    samples = client.get_metric_history(run.info.run_id, "system/disk_usage_percentage")
    assert [sample.step for sample in samples] == [0, 1]
    assert warnings(caplog) == []


def test_a_run_that_goes_on_is_running_again(client):
    statuses = []
    with suppress(KeyboardInterrupt), open_run(key="on", name="on", tags={}) as tracker:
        raise KeyboardInterrupt
    statuses.append(client.get_run(tracker.run_id).info.status)
    with open_run(key="on", name="on", tags={}) as tracker:
        wait_for(tracker)
        statuses.append(client.get_run(tracker.run_id).info.status)
    assert statuses == ["KILLED", "RUNNING"]


def test_a_run_that_was_made_twice_is_made_one(client):
    opened = store.open_store()
    with open_run(key="twin", name="twin", tags={}) as tracker:
        wait_for(tracker)
        client.create_run(opened.experiment_id, tags={"run_key": "twin"})
        assert len(runs_with(client, "twin")) == 2
    assert [run.info.run_id for run in runs_with(client, "twin")] == [tracker.run_id]


def runs_with(client, key):
    experiment = store.open_store().experiment_id
    return client.search_runs([experiment], filter_string=f"tags.run_key = '{key}'")


def wait_for(tracker):
    """Wait until all records have arrived."""
    folder, known, deadline = tracker.folder, tracker.sync.mirror, time.monotonic() + 20
    while known.equal != folder.state():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Resuming


def test_resume_adds_to_a_run_and_leaves_the_rest(client, tmp_path):
    with suppress(SystemExit), begin("failed") as tracker:
        tracker.log_params({"lr": 0.1})
        sys.exit(1)
    before = client.get_run(tracker.run_id)
    (tmp_path / "cmc.csv").write_text("rank,share\n")
    for _ in range(2):  # an evaluation that is run again adds nothing
        with resume_run(tracker.key, tracker.run_id) as again:
            assert (again.run_id, again.run_name) == (tracker.run_id, "failed")
            again.log_metrics({"mAP": 0.7})
            again.log_artifact(tmp_path / "cmc.csv")
    after = client.get_run(tracker.run_id)
    assert after.info.status == before.info.status == "FAILED"
    assert after.info.end_time == before.info.end_time
    assert after.data.params == before.data.params
    assert [p.value for p in client.get_metric_history(tracker.run_id, "mAP")] == [0.7]
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["cmc.csv"]


@pytest.mark.parametrize("known", ["key", "run_id"])
def test_resume_finds_a_run_that_has_no_folder_here(client, root, known):
    with begin("elsewhere") as tracker:
        pass
    found = tracker.run_id
    shutil.rmtree(root / folder.FOLDER / tracker.key)
    key, run_id = (tracker.key, None) if known == "key" else (None, found)
    with resume_run(key, run_id) as again:
        again.log_metrics({"mAP": 0.7})
    assert again.run_id == found
    assert again.run_name == "elsewhere"
    run = client.get_run(found)
    assert (run.info.status, run.data.metrics["mAP"]) == ("FINISHED", 0.7)


def test_two_evaluations_of_one_run_at_once(client):
    with begin("shared") as tracker:
        pass
    with resume_run(tracker.key) as one, resume_run(tracker.key) as other:
        one.log_metrics({"mAP": 0.6})
        other.log_metrics({"rank_1": 0.7})
    metrics = client.get_run(tracker.run_id).data.metrics
    assert (metrics["mAP"], metrics["rank_1"]) == (0.6, 0.7)


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
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    monkeypatch.chdir(tmp_path)
    if run_id:
        assert not RunFolder(run_id).path.exists()
    with resume_run(run_id, run_id) as tracker:
        tracker.log_metrics({"mAP": 0.5})
        tracker.log_artifact(Path("train.jpg"))
        tracker.promote("mAP")
    (line,) = warnings(caplog)
    assert line in (
        "the training was not recorded in MLflow, so neither is this",
        f"run {run_id} is not in MLflow: nothing is added to it",
    )
    assert not tracker.folder.path.exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_resume_puts_up_with_a_dead_store(tmp_path, monkeypatch, caplog):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with resume_run("0" * 32) as tracker:
        tracker.log_metrics({"mAP": 0.7})
        (tmp_path / "a").write_bytes(bytes(10**5))
        tracker.log_artifact(tmp_path / "a")
    fails, kept = warnings(caplog)
    assert "fails (connection refused)" in fails
    assert "records, 1 files (0.1 MB) are kept in" in kept
    *_, last = tracker.describe().splitlines()
    assert last == (
        "still to be sent: records, 1 files (0.1 MB) (connection refused); "
        "the next stage sends them, or `uv run deepsort-reid deliver`"
    )


def test_a_run_that_was_deleted_refuses_what_is_added(client, caplog):
    with begin("deleted") as tracker:
        pass
    client.delete_run(tracker.run_id)
    with resume_run(tracker.key) as again:
        again.log_metrics({"mAP": 0.7})
        again.set_tags({"a": "b"})
    assert warnings(caplog) == ["run deleted was deleted in MLflow: nothing is added to it"]
    assert again.describe() == "not recorded in MLflow"
    with resume_run(tracker.key) as again:  # it may have been restored
        client.restore_run(tracker.run_id)
        again.log_metrics({"mAP": 0.8})
    history = client.get_metric_history(tracker.run_id, "mAP")
    assert [point.value for point in history] == [0.7, 0.8]


@pytest.mark.parametrize(
    ("content", "reference"),
    [
        ('{"key": "a1", "run_id": "b2", "run_name": "c"}', ("a1", "b2")),
        ('{"key": "a1", "run_id": null}', ("a1", None)),
        ('{"run_id": "b2"}', (None, "b2")),
        ('{"key": "a1"', (None, None)),
        ("[]", (None, None)),
        ("\x00", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_damaged_reference_is_no_reference(tmp_path, caplog, content, reference):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert logger.read_reference(tmp_path / "run.json") == reference
    assert len(warnings(caplog)) == (reference == (None, None))


def test_a_reference_is_not_trusted(tmp_path):
    (tmp_path / "run.json").write_text('{"key": "../../a", "run_id": 3}')
    assert logger.read_reference(tmp_path / "run.json") == (None, None)


# Promotion


def version_of(client, run_id):
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    return versions[0].version


def measured_run(client, digest, value):
    """A run with a model version, as training leaves it, and then evaluated and promoted."""
    with begin(f"{digest}-{value}", {"data_digest": digest}) as tracker:
        pass
    client.create_model_version(MODEL, "file:///nowhere", run_id=tracker.run_id)
    with resume_run(tracker.key) as again:
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


def test_the_newest_version_is_the_candidate(whole, client):
    candidate = client.get_model_version_by_alias(MODEL, CANDIDATE)
    newest = max(int(v.version) for v in client.search_model_versions(f"name = '{MODEL}'"))
    assert int(candidate.version) <= newest  # other tests register versions without a model
    with begin("candidate", {"data_digest": "d9"}) as tracker:
        tracker.log_model(whole[1], images(2), metadata={})
    candidate = client.get_model_version_by_alias(MODEL, CANDIDATE)
    assert candidate.run_id == tracker.run_id
    assert int(candidate.version) == newest + 1
    assert client.get_model_version_by_alias(MODEL, BEST).run_id == whole[0].run_id


def test_a_run_of_an_earlier_version_may_still_be_the_best(whole, client):
    """Its metric had no section then."""
    first = version_of(client, whole[0].run_id)
    try:
        older = measured_run(client, "d8", 0.5)
        for value, best in ((0.4, older), (0.6, None)):
            with begin(f"new-{value}", {"data_digest": "d8"}) as tracker:
                pass
            client.create_model_version(MODEL, "file:///nowhere", run_id=tracker.run_id)
            with resume_run(tracker.key) as again:
                again.log_metrics({"reid/mAP": value})
                again.promote("reid/mAP")
            found = client.get_model_version_by_alias(MODEL, BEST).version
            assert found == (best or version_of(client, tracker.run_id))
    finally:
        client.set_registered_model_alias(MODEL, BEST, first)


def test_promoting_a_run_without_a_model_changes_nothing(whole, client):
    with begin("no model", {"data_digest": "d3"}) as tracker:
        tracker.log_metrics({"mAP": 0.9})
        tracker.promote("mAP")
    version = client.get_model_version_by_alias(MODEL, BEST)
    assert version.run_id == whole[0].run_id


# A store that fails while the run goes on


@pytest.fixture
def failing(root, monkeypatch):  # noqa: ARG001
    """A store whose `switch` lets calls fail, by name."""
    opened = store.open_store()
    dead = set()

    def breakable(name, call):
        def attempt(*arguments, **options):
            if name in dead:
                raise ConnectionError(111, "Connection refused")
            return call(*arguments, **options)

        return attempt

    for name in ("create_run", "log_batch", "log_artifact", "set_terminated", "log_inputs"):
        monkeypatch.setattr(opened.client, name, breakable(name, getattr(opened.client, name)))
    monkeypatch.setattr(mirror, "open_store", lambda _: opened)
    monkeypatch.setattr(sync, "FIRST_PAUSE", 0.1)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    return dead


EVERYTHING = {"create_run", "log_batch", "log_artifact", "set_terminated", "log_inputs"}


def test_what_a_failing_store_misses_arrives_later(failing, client, tmp_path, caplog):
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    with begin("outage") as tracker:
        tracker.log_metrics({"loss": 1.0}, step=1)
        wait_for(tracker)
        failing |= EVERYTHING
        before = int(time.time() * 1000)
        for epoch in (2, 3):
            tracker.log_metrics({"loss": 1 / epoch}, step=epoch)
        after = int(time.time() * 1000)
        tracker.set_tags({"late": "yes"})
        tracker.log_artifact(tmp_path / "train.jpg")
        time.sleep(0.2)
        failing.clear()
        wait_for(tracker)
        deadline = time.monotonic() + 20  # the thread says so just after the records have arrived
        while tracker.sync.trouble is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    run = client.get_run(tracker.run_id)
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert all(before <= point.timestamp <= after for point in history[1:])  # not of the sending
    assert run.data.tags["late"] == "yes"
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["train.jpg"]
    assert len(warnings(caplog)) == 1
    assert "fails (connection refused)" in warnings(caplog)[0]


def test_a_store_that_takes_no_run_gets_it_later(failing, client, caplog):
    failing |= EVERYTHING
    with begin("late") as tracker:
        tracker.log_metrics({"loss": 0.5}, step=1)
        assert tracker.run_id is None
        assert tracker.run_name == "late"
    assert "records are kept in" in warnings(caplog)[-1]
    failing.clear()
    with begin("later"):  # the next stage sends what is left of earlier ones
        pass
    (run,) = runs_with(client, tracker.key)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "late")
    assert run.data.metrics == {"loss": 0.5}


def test_a_run_whose_process_was_killed_does_not_run_for_ever(client):
    dead = RunFolder("dead")
    dead.begin("dead")
    dead.metrics.add([Point(dead.read("run.json")["started"] + 5, 1, "loss", 0.5)])
    with begin("the next"):
        pass
    (run,) = runs_with(client, "dead")
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"loss": 0.5}
    assert run.info.end_time == run.info.start_time + 5  # when last heard of


def test_records_arrive_where_files_do_not(failing, client, tmp_path, caplog):
    (tmp_path / "train.jpg").write_bytes(b"jpg")
    failing.add("log_artifact")
    with begin("no bucket") as tracker:
        tracker.log_artifact(tmp_path / "train.jpg")
        tracker.log_metrics({"loss": 0.5}, step=1)
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert "for files, fails (connection refused)" in warnings(caplog)[0]
    assert ": 1 files (0.0 MB) are kept in" in warnings(caplog)[1]


def test_what_is_refused_holds_nothing_up(client, tmp_path, caplog, monkeypatch):
    log_batch = MlflowClient.log_batch

    def choosy(self, run_id, metrics=(), **others):
        if any(metric.key.startswith("bad") for metric in metrics):
            raise MlflowException("not that one", INVALID_PARAMETER_VALUE)
        log_batch(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", choosy)
    with begin("refused") as tracker:
        tracker.log_params({"lr": 0.1, "epochs": 3})
        tracker.log_params({"lr": 0.2, "epochs": 3})  # a parameter cannot change
        tracker.log_artifact(tmp_path / "train.jpg")
        tracker.log_metrics({"bad": 0.1, "loss": 0.5, "bad/too": 0.1}, step=1)
    run = client.get_run(tracker.run_id)
    assert run.data.params == {"lr": "0.1", "epochs": "3"}
    assert run.data.metrics["loss"] == 0.5
    first, second, *refused = warnings(caplog)
    assert first == "the run keeps the first values of lr"
    assert "train.jpg is not in MLflow: no such file" in second
    assert "refuses metrics: not that one" in refused[0]
    assert refused[1].endswith("has refused: metrics (2)")
    assert len(refused) == 2


def test_a_run_stays_in_its_store(client, tmp_path, monkeypatch, caplog):
    with begin("at home") as tracker:
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with resume_run(tracker.key) as again:
        again.log_metrics({"mAP": 0.5})
    assert "fails (its run is in sqlite:///mlflow.db)" in warnings(caplog)[0]
    assert not (tmp_path / "other.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with resume_run(tracker.key):
        pass
    assert client.get_run(tracker.run_id).data.metrics["mAP"] == 0.5


def test_a_run_moves_with_its_repository(root, tmp_path, monkeypatch):
    with begin("moved") as tracker:
        pass
    shutil.copytree(root, tmp_path / "elsewhere")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))
    with resume_run(tracker.key) as again:
        again.log_metrics({"mAP": 0.5})
    assert store.open_store().client.get_run(tracker.run_id).data.metrics["mAP"] == 0.5
