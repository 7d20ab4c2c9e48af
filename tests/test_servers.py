"""The pipeline on servers: MLflow with a password on PostgreSQL and S3, DVC's cache in S3.

The servers are those of `cluster/compose.yaml`, without containers; see tests/support/servers.py.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from deepsort_reid.core.files import sha256
from deepsort_reid.runs import logger
from deepsort_reid.runs.mlflow.store import import_mlflow, quiet
from tests.support import outages, projects, stages
from tests.support.outputs import lines_of
from tests.support.servers import Stack, servers
from tests.support.stores import forget_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EPOCHS = 12
PATIENCE = "15"  # seconds for an answer: the servers have two processors, beside other tests
USERS, GROUP = {"ada": 20001, "bob": 20002}, 20000
Check = Callable[..., None]
BEST = "models:/deepsort-reid@best"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with servers() as stack:
        yield stack


@pytest.fixture(scope="module")
def project(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline has run; MLflow was away from the first epoch to the last."""
    folder = tmp_path_factory.mktemp("on_servers")
    projects.begin(folder, {"epochs": EPOCHS})
    repro = started(folder, "dvc", "repro", **stack.environment)
    wait_for_epoch(folder, 1, repro)
    stack.mlflow.stop()
    wait_for_epoch(folder, EPOCHS, repro)
    stack.mlflow.start()
    out, _ = repro.communicate(timeout=600)
    assert repro.returncode == 0, out
    assert (
        out.count(f"MLflow store {stack.mlflow.uri} fails (connection refused); work goes on") == 1
    )
    projects.commit(folder, "First results")
    return folder


def started(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """A command in a project, with these variables too, that runs."""
    environ = projects.environment() | variables
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, cwd=folder, env=environ, text=True, stdout=pipe, stderr=both)


def wait_for_epoch(folder: Path, epoch: int, process: subprocess.Popen[str]) -> None:
    """Wait until the training has recorded an epoch."""
    while not any(
        f",{epoch},by_epoch/train/loss," in path.read_text()
        for path in folder.glob(".runs/*/metrics.csv")
    ):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.fixture
def client(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """What talks to MLflow's server as its admin; so does this process."""
    forget_mlflow(monkeypatch)
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    import_mlflow()
    return MlflowClient()


def run_with_key(client: MlflowClient, key: str) -> Run:
    experiment = client.get_experiment_by_name("deepsort-reid")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.run_key = '{key}'")
    return run


def key_of(folder: Path) -> str:
    return str(projects.read(folder / "reports/run.json")["key"])


# The pipeline


def test_a_pipeline_whose_server_was_away_loses_and_doubles_nothing(
    project: Path, stack: Stack, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects.run(project, "deepsort-reid", "deliver", **stack.environment)  # status 0: all is there
    run = run_with_key(client, key_of(project))
    assert run.info.status == "FINISHED"
    monkeypatch.setenv("DVC_ROOT", str(project))
    points = outages.points_of(key_of(project))
    found = [
        (name, point.step)
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    assert sorted(found) == sorted(points)
    assert len([name for name, _ in found if name == "by_epoch/train/loss"]) == EPOCHS
    artifacts = outages.below(client, run.info.run_id, "")
    assert "checkpoint/model.pth" in artifacts
    kept = stack.s3.folder / "mlflow" / run.info.experiment_id / run.info.run_id / "artifacts"
    assert lines_of(kept / "checkpoint/model.pth") == lines_of(project / "models/model.pth")
    assert sorted(artifacts) == sorted(
        path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()
    )


@pytest.mark.usefixtures("client")
def test_the_best_model_comes_back(project: Path, stack: Stack, tmp_path: Path) -> None:
    with quiet():
        network = mlflow.pytorch.load_model(BEST)
    with torch.no_grad():
        embeddings = network(torch.rand(3, 3, 32, 16))
    np.testing.assert_allclose(embeddings.norm(dim=1), 1, atol=1e-5)
    with projects.copied(project, tmp_path / "weights") as folder:
        stages.write_params(folder, {"epochs": EPOCHS, "weights": BEST})
        projects.run(folder, "dvc", "repro", "weights", **stack.environment)
        assert sha256(folder / "data/weights") == sha256(project / "models/model.pth")


def test_two_pipelines_at_once(
    project: Path, stack: Stack, client: MlflowClient, tmp_path: Path
) -> None:
    keys = set()
    with (
        projects.copied(project, tmp_path / "one") as one,
        projects.copied(project, tmp_path / "two") as two,
    ):
        trainings = []
        for seed, folder in enumerate((one, two), start=100):
            stages.write_params(folder, {"seed": seed})
            trainings.append(started(folder, "dvc", "repro", "train", **stack.environment))
        for training, folder in zip(trainings, (one, two), strict=True):
            out, _ = training.communicate(timeout=600)
            assert training.returncode == 0, out
            projects.run_all(folder, "deepsort-reid", "deliver", **stack.environment)
            run = run_with_key(client, key_of(folder))
            assert run.info.status == "FINISHED"
            assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 1
            keys.add(key_of(folder))
    assert len(keys) == 2


# What the server refuses


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of `outages.work` records."""
    folder = tmp_path_factory.mktemp("files") / "files"
    outages.make_files(folder)
    import_mlflow()
    with quiet():
        logger.export_model(outages.Net(), outages.images(2), folder / "model", {})
    return folder


def work(files: Path, root: Path, key: str, **variables: str) -> str:
    """Record a run in a process of its own; return what that says."""
    return projects.run_all(
        projects.ROOT, sys.executable, "-m", "tests.support.outages", str(files), key, PATIENCE,
        DVC_ROOT=str(root), **variables,
    )  # fmt: skip


def deliver(root: Path, **variables: str) -> tuple[int, str]:
    """Run the command; its status and what it says."""
    done = subprocess.run(
        ["deepsort-reid", "deliver"], cwd=root, capture_output=True, text=True, check=False,
        env=projects.environment() | {"DVC_ROOT": str(root)} | variables, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.fixture
def check(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Deliver a run that waits, and find it whole."""

    def deliver_and_find(key: str, **variables: str) -> None:
        assert deliver(tmp_path, **variables) == (0, f"{key}: delivered\n")
        monkeypatch.setenv("DVC_ROOT", str(tmp_path))
        assert client
        found = outages.find(key)
        assert (found.status, found.points, found.doubled) == ("FINISHED", found.put, 0)
        assert (found.artifacts, found.models) == (outages.ARTIFACTS, 1)

    return deliver_and_find


def test_a_wrong_password_costs_a_line_and_nothing_else(
    stack: Stack, files: Path, tmp_path: Path, check: Check
) -> None:
    wrong = stack.environment | {"MLFLOW_TRACKING_PASSWORD": "s3cret"}
    said = work(files, tmp_path, "wrong", **wrong)
    line = (
        "it answers 401 unauthorized to experiments/get-by-name; correct MLFLOW_TRACKING_USERNAME "
        "and MLFLOW_TRACKING_PASSWORD"
    )
    first, last = said.splitlines()
    assert first == (
        f"MLflow store {stack.mlflow.uri} fails ({line}); work goes on, and what it misses is kept "
        "and sent later"
    )
    assert last.startswith("MLflow run wrong: records, 11 files (2.2 MB) are kept in")
    status, told = deliver(tmp_path, **wrong)
    assert status == 1
    assert told.endswith(f" wait: {line}\n")
    check("wrong", **stack.environment)


def test_a_user_who_may_only_read(stack: Stack, files: Path, tmp_path: Path, check: Check) -> None:
    reader = stack.add_user("reader")
    said = work(files, tmp_path, "reader", **reader)
    line = (
        "it answers 403 forbidden to runs/create (Permission denied); give the user of "
        "MLFLOW_TRACKING_USERNAME the permission EDIT on the experiment and the registered model"
    )
    assert f"fails ({line}); work goes on" in said
    check("reader", **stack.add_user("writer", "EDIT"))


@pytest.mark.parametrize("away", ["postgres", "s3"])
def test_what_stands_behind_the_server_is_away(
    stack: Stack, files: Path, tmp_path: Path, check: Check, away: str
) -> None:
    server = getattr(stack, away)
    server.stop()
    try:
        said = work(files, tmp_path, away, MLFLOW_HTTP_REQUEST_TIMEOUT="10", **stack.environment)
    finally:
        server.start()
    assert " fails (" in said
    check(away, **stack.environment)


def test_artifacts_that_clients_bring_to_s3_themselves(
    stack: Stack, files: Path, tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = stack.server("--no-serve-artifacts", "--default-artifact-root", "s3://mlflow")
    direct.start()
    try:
        user = stack.environment | {
            "MLFLOW_TRACKING_URI": direct.uri, "MLFLOW_EXPERIMENT_NAME": "direct"
        }  # fmt: skip
        wrong = stack.s3.variables | {"AWS_SECRET_ACCESS_KEY": "s3cret"}
        said = work(files, tmp_path, "direct", **user, **wrong)
        assert f"MLflow store {direct.uri}, for files, fails (S3: SignatureDoesNotMatch: " in said
        assert "; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); work goes on" in said
        assert "s3cret" not in said
        for name, value in (user | stack.s3.variables).items():
            monkeypatch.setenv(name, value)
        check("direct", **user, **stack.s3.variables)
    finally:
        direct.stop()


# DVC


@pytest.fixture(scope="module")
def shared(project: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with a DVC remote in S3, and a git repository that others clone."""
    folder = projects.copy(project, tmp_path_factory.mktemp("shared") / "project")
    projects.run(folder, "dvc", "remote", "add", "-d", "storage", "s3://dvc/cache")
    projects.commit(folder, "A remote")
    projects.run(folder, "git", "clone", "-q", "--bare", ".", "../origin.git")
    projects.run(folder, "git", "remote", "add", "origin", "../origin.git")
    projects.run(folder, "dvc", "push", **stack.s3.variables)
    return folder


def clone(shared: Path, place: Path) -> Path:
    projects.run(shared.parent, "git", "clone", "-q", "origin.git", str(place))
    return place


def test_a_fresh_clone_pulls_and_trains_nothing(shared: Path, stack: Stack, tmp_path: Path) -> None:
    folder = clone(shared, tmp_path / "clone")
    projects.run(folder, "dvc", "pull", **stack.s3.variables)
    for name in ("models/model.pth", "reports/evaluation.json", "data/split/query.npy"):
        assert lines_of(folder / name) == lines_of(shared / name)
    out = projects.run_all(folder, "dvc", "repro", **stack.environment)
    assert projects.ran(out) == ["weights"]  # a link or a word, which is in no cache
    assert projects.run(folder, "git", "status", "--porcelain") == ""


def test_an_experiment_travels(shared: Path, stack: Stack, tmp_path: Path) -> None:
    variables = stack.environment | stack.s3.variables
    projects.run(shared, "dvc", "exp", "run", "-n", "older", "-S", "track.max_age=7", **variables)
    projects.run(shared, "dvc", "exp", "push", "origin", "older", **variables)
    folder = clone(shared, tmp_path / "clone")
    projects.run(folder, "dvc", "exp", "pull", "origin", "older", **variables)
    projects.run(folder, "dvc", "exp", "apply", "older")
    assert (folder / "reports/track.json").read_bytes() == (
        shared / "reports/track.json"
    ).read_bytes()
    assert projects.read(folder / "reports/run.json")["key"] == key_of(shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_cache_that_two_users_share() -> None:
    """Each finds what the other has made, and adds to it."""
    with tempfile.TemporaryDirectory(prefix="cache-") as place:
        root, cache = Path(place), Path(place) / "cache"
        root.chmod(0o755)
        cache.mkdir()
        os.chown(cache, 0, GROUP)
        cache.chmod(0o2775)  # what is made in it belongs to the group
        python = python_for_all(root / "python")
        first, second = (make_home(root / name, uid, cache) for name, uid in USERS.items())
        assert "split" in projects.ran(as_user(first, python, "repro", "split"))
        out = as_user(second, python, "repro", "split", "sequences")
        assert projects.ran(out) == ["sequences"]  # the rest was in the cache
        out = as_user(first, python, "repro", "sequences")
        assert projects.ran(out) == []
        owners = {path.stat().st_uid for path in cache.rglob("*") if path.is_file()}
        assert owners == set(USERS.values())


def python_for_all(place: Path) -> Path:
    """This environment's packages, on Debian's Python: ours may lie where only root may go."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    debian = Path("/usr/bin") / name
    if not debian.exists():
        pytest.skip(f"there is no {debian}, which every user may run")
    for folder in ("bin", f"lib/{name}"):
        (place / folder).mkdir(parents=True)
    (place / "bin/python").symlink_to(debian)
    (place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (place / f"lib/{name}/site-packages").symlink_to(sysconfig.get_path("purelib"))
    return place / "bin"


def make_home(place: Path, uid: int, cache: Path) -> Path:
    """A project of that user's, whose cache is the shared one."""
    place.mkdir()
    projects.begin(place, {})
    projects.run(place, "dvc", "cache", "dir", str(cache))
    projects.run(place, "dvc", "config", "cache.shared", "group")
    projects.commit(place, "A shared cache")
    for path in [place, *place.rglob("*")]:
        os.lchown(path, uid, GROUP)
    return place


def as_user(place: Path, python: Path, *arguments: str) -> str:
    """Run dvc in a project as the user to whom it belongs."""
    uid = str(place.stat().st_uid)
    setpriv = ("setpriv", "--reuid", uid, "--regid", str(GROUP), "--clear-groups")
    dvc = ("sh", "-c", 'umask 002 && exec python -m dvc "$@"', "dvc", *arguments)
    path = f"{python}{os.pathsep}{os.environ['PATH']}"
    return projects.run(place, *setpriv, *dvc, HOME=str(place), USER=f"user{uid}", PATH=path)
