"""A search of real trainings: killed, gone on with, recorded, and its best one trained again."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from deepsort_reid.core import files
from tests.support.projects import begin, client, commit, environment, run, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # a dozen trainings of seconds each
TRIALS = 3
SMALL = {"dataset.synthetic.train_identities": 12, "dataset.synthetic.images_per_identity": 8,
         "epochs": 3, "run.save_seconds": 0.1}  # fmt: skip
SEARCH: dict[str, Any] = {
    "tune_fraction": 0.4,
    "pruning": True,
    "seed": 0,
    "parameters": {
        "lr": {"low": 0.001, "high": 0.1, "log": True},
        "batch_size": [4, 8],
    },
}
START = "from deepsort_reid.cli.start import main; main()"
COMMAND = (sys.executable, "-c", START, "search", "--trials", str(TRIALS))


class Searched(NamedTuple):
    """A project, and what a search of it has printed."""

    project: Path
    out: str


def started(project: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        COMMAND, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(path: str, project: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until a file of the search is there."""
    end = time.monotonic() + 300
    while not list(project.glob(path)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, path
        time.sleep(0.05)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search that got SIGKILL in its first training and SIGTERM in its second, then ended."""
    project = tmp_path_factory.mktemp("searched")
    begin(project, SMALL)
    (project / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    commit(project, "Begin")
    for number, how in enumerate((signal.SIGKILL, signal.SIGTERM)):
        process = started(project)
        wait_for(f".search/search/trials/000{number}/reports/history.csv", project, process)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
    process = started(project)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return Searched(project, out)


def test_each_trial_is_there_once_and_the_killed_ones_went_on(searched: Searched) -> None:
    assert f"{TRIALS} trials of study 'search'" in searched.out
    assert "trial 1 goes on" in searched.out
    lines = (searched.project / ".search/search/trials.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["trial", *map(str, range(TRIALS))]
    assert not list((searched.project / ".resume").glob("*/"))
    for log in searched.project.glob(".search/search/trials/*/log.txt"):
        assert "is not in MLflow" not in log.read_text()


def test_mlflow_has_the_trials_below_the_search(searched: Searched) -> None:
    found = {one.info.run_name: one for one in runs(searched.project)}
    assert sorted(found) == ["search", *(f"trial-{n}" for n in range(TRIALS))]
    assert len(runs(searched.project)) == len(found)
    parent = found.pop("search")
    for one in found.values():
        assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert one.data.tags["trial_state"] == "complete"
        assert one.info.status == "FINISHED"
        kept = {file.path for file in client(searched.project).list_artifacts(one.info.run_id)}
        assert {"evaluation.json", "images_per_identity.png"} <= kept
        assert "checkpoint" not in kept
        curve = client(searched.project).get_metric_history(
            one.info.run_id, "by_epoch/reid/mAP"
        )  # fmt: skip
        assert [point.step for point in curve] == [0, 1, 2, 3]
    artifacts = client(searched.project).list_artifacts(parent.info.run_id)
    assert {"history.png", "trials.csv", "search.yaml"} <= {one.path for one in artifacts}
    assert parent.info.status == "FINISHED"
    assert [one.dataset.name for one in parent.inputs.dataset_inputs] == ["synthetic"]
    history = client(searched.project).get_metric_history(parent.info.run_id, "search/mAP")
    assert [point.step for point in history] == list(range(TRIALS))
    assert not client(searched.project).search_model_versions()


def test_the_printed_line_gives_exactly_the_number(searched: Searched) -> None:
    promised = re.search(r"to a mAP of (\S+):\n\s+uv run (dvc exp run .*)\n", searched.out)
    assert promised is not None
    run(searched.project, *shlex.split(promised[2]))
    reported = files.read_json(searched.project / "reports/evaluation.json")
    assert repr(reported["mAP"]) == promised[1]
    assert reported["tuning"]
    checkpoint = files.md5(searched.project / "models/model.pth")
    twins = [
        one for one in runs(searched.project) if one.data.tags.get("checkpoint_md5") == checkpoint
    ]
    assert {one.data.metrics["reid/mAP"] for one in twins} == {reported["mAP"]}


def test_begun_once_more_it_trains_nothing(searched: Searched) -> None:
    """Also after the printed line has changed params.yaml."""
    before = len(runs(searched.project))
    out = run(searched.project, *COMMAND)
    told = [text for text in (out, searched.out) if "trials of study" in text]
    tables = [
        re.search(r"\d+ trials of study.*?on the test part", text, re.DOTALL) for text in told
    ]
    assert len({found and found[0] for found in tables}) == 1
    assert len(runs(searched.project)) == before
