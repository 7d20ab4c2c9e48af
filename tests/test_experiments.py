"""DVC experiments, one after the other and at the same time: one store, and nothing lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from deepsort_reid.core import files
from deepsort_reid.lineage import headline
from deepsort_reid.lineage.commits import experiment_name, files_at, references
from deepsort_reid.lineage.dvc_cli import cache_folder, cached_file
from deepsort_reid.lineage.records import CHECKPOINT, PipelineRecords
from tests.support.projects import client, commit, copied, ran, run, run_of, runs

CURVES = ("train/loss", "train/error", "val/loss", "val/error", "train/lr")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # whole pipelines, in a queue
FULL = dict.fromkeys([*headline.EVALUATED.values(), *headline.TRACKED.values()], 0.5)
RATES = (0.02, 0.03, 0.04, 0.05)  # 0.01 is committed: DVC would restore it and run nothing
APART = 0.06
QUEUE_SECONDS = 240.0


def experiments(project: Path) -> dict[str, str]:
    """The commits of the experiments, by name."""
    pairs = [(experiment_name(ref), commit) for commit, ref in references(project)]
    return {name: commit for name, commit in pairs if name}


def locked(project: Path, at: str) -> str:
    """The MD5 of the checkpoint of a commit."""
    md5 = PipelineRecords.at_commit(at, project).md5
    assert md5 is not None
    return md5


def assert_whole(project: Path, found: Any, at: str) -> None:
    """A run is finished with each point once, and its experiment leads to its checkpoint."""
    assert found.info.status == "FINISHED"
    assert "reid/mAP" in found.data.metrics
    for curve in CURVES:
        points = client(project).get_metric_history(found.info.run_id, f"by_epoch/{curve}")
        assert [point.step for point in points] == [1, 2, 3, 4], curve
    (params,) = files_at(at, ["params.yaml"], project)
    assert str(yaml.safe_load(params or b"")["lr"]) == found.data.params["lr"]
    path = cached_file(cache_folder(project), locked(project, at))
    assert torch.load(path, weights_only=True)["identity"]["params"]["lr"] == float(
        found.data.params["lr"]
    )


def test_an_experiment_adds_a_run_another_checkpoint_and_another_curve(project: Path) -> None:
    names = (CHECKPOINT, "reports/history.csv")
    before = {name: (project / name).read_bytes() for name in names}
    count = len(runs(project))
    out = run(project, "dvc", "exp", "run", "--set-param", "lr=0.2", "--name", "faster")
    assert ran(out) == ["train", "evaluate", "export", "track", "summary"]
    assert all((project / name).read_bytes() != before[name] for name in names)
    assert len(runs(project)) == count + 1
    newest = run_of(project)
    assert newest.info.run_name == "resnet10d-lr0.2"
    assert newest.data.tags["dvc_experiment"] == "faster"
    assert newest.data.tags["git_dirty"] == "false"
    assert_whole(project, newest, experiments(project)["faster"])


def test_the_table_and_the_plots_show_both(project: Path) -> None:
    """The command that the summary prints, on a screen of 120 columns."""
    wide = {"COLUMNS": "120"}
    command = ("--only-changed", "--no-pager", "--drop", headline.DROPPED)
    lines = run(project, "dvc", "exp", "show", *command, **wide).splitlines()
    name, *columns, last = next(line for line in lines if "Experiment" in line).split()
    assert (name, last) == ("Experiment", "lr")
    assert "mAP" in columns
    assert set(columns) <= headline.headline(FULL, FULL).keys()  # those that differ
    first, faster = (next(line for line in lines if name in line) for name in ("main", "[faster]"))
    assert first.split()[1:] != faster.split()[-len(first.split()) + 1 :]
    assert max(map(len, lines)) <= 120
    assert not any("…" in line for line in lines)
    run(project, "dvc", "plots", "diff", "main", "faster")
    page = (project / "dvc_plots/index.html").read_text()
    assert page.count('"rev": "faster"') == page.count('"rev": "main"') > 0


def test_going_back_restores_the_run(project: Path) -> None:
    """Old parameters bring back the old bytes, with the run that made them, and train nothing."""
    lock, (count, versions) = (project / "dvc.lock").read_bytes(), counts(project)
    run(project, "git", "restore", "params.yaml")
    out = run(project, "dvc", "repro")
    assert ran(out) == ["summary"]
    name = run_of(project).info.run_name
    assert name != "resnet10d-lr0.2"
    assert f"restored from DVC's cache: MLflow run {name}" in out
    assert run(project, "git", "status", "--short") == ""
    out = run(project, "dvc", "exp", "run", "--set-param", "lr=0.2")
    assert ran(out) == ["summary"]
    assert "restored from DVC's cache: MLflow run resnet10d-lr0.2" in out
    assert run_of(project).info.run_name == "resnet10d-lr0.2"
    assert (project / "dvc.lock").read_bytes() == lock
    assert counts(project) == (count, versions)


def counts(project: Path) -> tuple[int, int]:
    """How many runs there are, and how many versions of the model."""
    versions = client(project).search_model_versions("name='deepsort-reid'")
    return len(runs(project)), len(versions)


def test_an_older_commit_and_an_experiment_bring_back_their_bytes(project: Path) -> None:
    faster = files.md5(project / CHECKPOINT)
    commit(project, "Faster")
    run(project, "git", "checkout", "-q", "HEAD~1")
    run(project, "dvc", "checkout")
    first = files.md5(project / CHECKPOINT)
    assert first == locked(project, "HEAD") != faster
    run(project, "git", "checkout", "-q", "main~1", "--", ".")
    run(project, "dvc", "exp", "apply", "faster")
    assert files.md5(project / CHECKPOINT) == faster
    run(project, "git", "checkout", "-qf", "main")
    run(project, "dvc", "checkout")


@pytest.fixture(scope="module")
def queued(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which two workers have run four experiments, while another ran with --temp."""
    with copied(prepared, tmp_path_factory.mktemp("queued")) as project:
        rates = ",".join(map(str, RATES))
        run(project, "dvc", "exp", "run", "--queue", "--set-param", f"lr={rates}")
        run(project, "dvc", "queue", "start", "--jobs", "2")
        try:
            apart = ("--set-param", f"lr={APART}", "--name", "apart")
            run(project, "dvc", "exp", "run", "--temp", *apart)
            wait_for_queue(project)
            yield project
        finally:
            run(project, "dvc", "queue", "stop", "--kill")


def wait_for_queue(project: Path) -> None:
    """Wait until all experiments have ended; fail if they take too long."""
    end = time.monotonic() + QUEUE_SECONDS
    while time.monotonic() < end:
        status = run(project, "dvc", "queue", "status")
        if not any(word in status for word in ("Queued", "Running")):
            return
        time.sleep(1)
    pytest.fail(f"the queue is not done after {QUEUE_SECONDS:.0f} s:\n{status}")


def test_experiments_at_the_same_time_lose_nothing(queued: Path) -> None:
    by_name = {found.data.tags.get("dvc_experiment"): found for found in runs(queued)}
    assert {found.info.run_name for found in by_name.values()} >= {
        f"resnet10d-lr{rate}" for rate in (*RATES, APART)
    }
    commits = experiments(queued)
    assert len(commits) == len(RATES) + 1
    assert len(by_name) == len(runs(queued)) == len(commits) + 1  # the one before them
    assert {by_name[name].data.params["lr"] for name in commits} == set(map(str, (*RATES, APART)))
    for name, at in commits.items():
        assert_whole(queued, by_name[name], at)
    assert len({locked(queued, at) for at in commits.values()}) == len(commits)


def test_nothing_is_left_of_their_folders(queued: Path) -> None:
    # With --temp and in the queue DVC works in .dvc/tmp/exps/tmp… and standalone/tmp….
    assert not list((queued / ".dvc/tmp/exps").rglob("params.yaml"))
