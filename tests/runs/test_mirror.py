"""The MLflow run is made equal to the folder, whatever it has already."""

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from deepsort_reid.core import files
from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.mlflow import mirror, store
from deepsort_reid.runs.mlflow.mirror import FailedError, Mirror, NoRunError
from deepsort_reid.runs.points import Point
from tests.support.stores import forget_mlflow, make_store

PARAMS = {f"many.{n}": str(n) for n in range(150)}
CURVES = [Point(1000 + s, s, name, s + 0.5) for s in range(700) for name in ("loss", "error")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("shared"))


@pytest.fixture(autouse=True)
def root(shared, monkeypatch):
    forget_mlflow(monkeypatch)
    monkeypatch.setenv("DVC_ROOT", str(shared))
    return shared


@pytest.fixture
def run(request, root):
    """A folder with everything in it but a model."""
    run = RunFolder(request.node.name.replace("[", ".").replace("]", ""))
    run.merge("tags.json", {"git_commit": "1"})
    run.begin("a run")
    run.merge("params.json", PARAMS)
    told = {"name": "market", "source": "zip", "digest": "0" * 12, "profile": {"images": 10}}
    run.merge("inputs.json", {"training": told})
    run.metrics.add([*CURVES, Point(2000, None, "mAP", 0.5)], sync=False)
    run.system.add([Point(3000, 0, "system/cpu", 0.5)])
    (root / "a.txt").write_text("a")
    for place in ("", "deep/er"):
        run.keep(root / "a.txt", place)
    run.end("FINISHED", 9000)
    return run


def send(run):
    """As a process does that has just begun."""
    made = Mirror(RunFolder(run.key), store.tracking_uri())
    made()
    return made


def content(run):
    """What the store has."""
    client = store.open_store().client
    found = client.get_run(run.mlflow["run_id"])
    assert len(found.inputs.dataset_inputs) == 1
    artifacts = [
        item.path
        for place in ("", "deep/er")
        for item in client.list_artifacts(found.info.run_id, place)
    ]
    curves = {
        name: [(point.step, point.timestamp, point.value) for point in
               client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }  # fmt: skip
    return found.info.status, found.info.end_time, found.data.params, curves, sorted(artifacts)


def expected():
    curves = {
        name: [(p.step, p.time, p.value) for p in CURVES if p.name == name]
        for name in ("loss", "error")
    }
    curves |= {"mAP": [(0, 2000, 0.5)], "system/cpu": [(0, 3000, 0.5)]}
    return "FINISHED", 9000, PARAMS, curves, ["a.txt", "deep", "deep/er/a.txt"]


def test_everything_arrives_once(run):
    for _ in range(2):
        send(run)
        assert content(run) == expected()
        assert run.is_settled()
        files.remove(run.path / "mlflow.json")  # all is asked for again


def test_a_settled_run_is_not_written_to(run, monkeypatch):
    send(run)
    for name in ("log_batch", "set_terminated", "log_inputs", "log_artifact", "create_run"):
        monkeypatch.setattr(MlflowClient, name, lambda *_, **__: pytest.fail("it has all"))
    send(run)


def test_what_a_person_has_changed_in_mlflow_stays(run):
    send(run)
    client, run_id = store.open_store().client, run.mlflow["run_id"]
    client.set_tag(run_id, "git_commit", "2")
    client.set_terminated(run_id, "FAILED", 1)
    run.metrics.add([Point(4000, None, "later", 0.5)])
    send(run)
    found = client.get_run(run_id)
    assert (found.data.tags["git_commit"], found.info.status) == ("2", "FAILED")
    assert found.data.metrics["later"] == 0.5


CALLS = ("create_run", "log_batch", "log_inputs", "set_terminated", "log_artifact")


@pytest.mark.parametrize("was_done", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_fails_costs_nothing(run, monkeypatch, name, was_done):
    """Whether it was carried out all the same, as after a timeout, or not."""
    call, failed = getattr(MlflowClient, name), []

    def attempt(*arguments, **options):
        done = call(*arguments, **options) if was_done or failed else None
        if not failed:
            failed.append(name)
            raise ConnectionError(111, "Connection refused")
        return done

    monkeypatch.setattr(MlflowClient, name, attempt)
    made = Mirror(run, store.tracking_uri())
    with pytest.raises(FailedError, match="connection refused"):
        made()
    assert not run.is_settled()
    assert run.unsent()
    made()
    assert run.is_settled()
    assert content(run) == expected()
    opened = store.open_store()
    found = opened.client.search_runs([opened.experiment_id], f"tags.run_key = '{run.key}'")
    assert len(found) == 1


def test_records_arrive_where_files_do_not(run, monkeypatch):
    def broken(*_):
        raise ConnectionError(111, "Connection refused")

    monkeypatch.setattr(MlflowClient, "log_artifact", broken)
    with pytest.raises(FailedError) as caught:
        send(run)
    assert caught.value.what.endswith("mlflow.db, for files,")
    assert content(run)[:4] == expected()[:4]
    assert run.unsent() == "2 files (0.0 MB)"


def refuse(monkeypatch, name, is_bad):
    """Let the store refuse some calls; returns those it got."""
    call, calls = getattr(MlflowClient, name), []

    def choosy(*arguments, **options):
        calls.append((arguments, options))
        if is_bad(arguments, options):
            raise MlflowException("not that one", INVALID_PARAMETER_VALUE)
        return call(*arguments, **options)

    monkeypatch.setattr(MlflowClient, name, choosy)
    return calls


def test_what_is_refused_does_not_take_the_others_with_it(run, monkeypatch, caplog):
    def has_bad(_, options):
        return any(metric.step == 3 for metric in options.get("metrics", ()))

    calls = refuse(monkeypatch, "log_batch", has_bad)
    made = send(run)
    assert made.refused == {"metrics": 2}
    curves = content(run)[3]
    assert [step for step, _, _ in curves["loss"]] == [s for s in range(700) if s != 3]
    assert len([line for line in caplog.messages if "refuses" in line]) == 1
    assert run.is_settled()  # it is not sent again and again
    count = len(calls)
    made()
    assert len(calls) == count


def test_a_refused_file_is_dropped(run, monkeypatch, caplog):
    refuse(monkeypatch, "log_artifact", lambda arguments, _: arguments[3] is None)
    made = send(run)
    assert made.refused == {"artifact": 1}
    assert "refuses artifact: not that one" in caplog.text
    assert content(run)[4] == ["deep", "deep/er/a.txt"]
    assert run.is_settled()


def test_a_run_that_is_refused_is_no_run(run, monkeypatch):
    refuse(monkeypatch, "create_run", lambda *_: True)
    with pytest.raises(NoRunError, match=r"was refused \(not that one\)"):
        send(run)


def test_a_sick_store_refuses_nothing(run, monkeypatch):
    def sick(*_, **__):
        raise MlflowException("(sqlite3.OperationalError) disk full", INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "log_batch", sick)
    with pytest.raises(FailedError, match="disk full"):
        send(run)
    assert len(run.artifacts()) == 2


def test_points_go_a_thousand_a_call(run, monkeypatch):
    calls = refuse(monkeypatch, "log_batch", lambda *_: False)
    send(run)
    sizes = [len(options.get("metrics", ())) for _, options in calls]
    assert [size for size in sizes if size] == [1000, 401, 1]
    assert [len(options["params"]) for _, options in calls if "params" in options] == [100, 50]


def test_histories_are_asked_for_once(run, monkeypatch):
    send(run)
    files.remove(run.path / "mlflow.json")
    asked = refuse(monkeypatch, "get_metric_history", lambda *_: False)
    made = send(run)
    assert len(asked) == 4
    run.metrics.add([Point(5000, 700, "loss", 0.5), Point(5000, 1, "new", 0.5)])
    made()
    assert len(asked) == 4
    assert content(run)[3]["new"] == [(1, 5000, 0.5)]


def test_a_file_that_is_replaced_while_it_is_sent_is_sent_again(run, root, monkeypatch):
    (root / "a.txt").write_text("b")

    def replace(*_):
        if monkeypatch:
            run.keep(root / "a.txt")

    refuse(monkeypatch, "log_artifact", replace)
    send(run)
    assert [path.read_text() for path in run.artifacts()] == ["b"]
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(root))
    send(run)
    place = root / "mlruns" / run.mlflow["run_id"] / "artifacts" / "a.txt"
    assert place.read_text() == "b"
    assert run.is_settled()


def test_an_upload_that_was_torn_leaves_no_file(run, root):
    send(run)
    place = root / "mlruns" / run.mlflow["run_id"] / "artifacts"
    torn = place / "deep" / ".artifact.uploading.sx1r3pci"  # MLflow's, of a process that was killed
    torn.write_bytes(b"half")
    run.keep(root / "a.txt")
    send(run)
    assert not torn.exists()
    assert content(run) == expected()


def test_a_guest_makes_neither_run_nor_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(mirror, "open_store", lambda _: pytest.fail("a store was made"))
    guest = RunFolder("guest")
    guest.attach("0" * 32)
    with pytest.raises(NoRunError, match="run guest is not in MLflow"):
        send(guest)


def test_a_run_in_another_store_waits_for_that(run, tmp_path, monkeypatch):
    send(run)
    run.metrics.add([Point(4000, None, "later", 0.5)])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(FailedError, match=r"its run is in sqlite:///mlflow\.db"):
        send(run)
    assert not (tmp_path / "other.db").exists()


# A run that is a part of another


@pytest.mark.parametrize("is_first", [True, False])
def test_a_part_shows_below_the_whole_whichever_is_sent_first(is_first):
    whole, part = RunFolder(f"whole{is_first}"), RunFolder(f"part{is_first}")
    whole.begin("search")
    part.merge("tags.json", {"parent_run_key": whole.key})
    part.begin("trial")
    for folder in (part, whole) if is_first else (whole, part):
        send(folder)
    found = store.open_store().client.get_run(part.mlflow["run_id"])
    assert found.data.tags["mlflow.parentRunId"] == whole.mlflow["run_id"]
    assert len(Mirror(whole, store.tracking_uri())._runs()) == 1


def test_a_part_of_a_deleted_run_stands_alone():
    whole, part = RunFolder("deletedwhole"), RunFolder("orphan")
    whole.begin("search")
    send(whole)
    client = store.open_store().client
    client.delete_run(whole.mlflow["run_id"])
    files.remove(whole.path / "mlflow.json")
    files.remove(whole.path / "run.json")
    part.merge("tags.json", {"parent_run_key": whole.key})
    part.begin("trial")
    send(part)
    assert "mlflow.parentRunId" not in client.get_run(part.mlflow["run_id"]).data.tags
