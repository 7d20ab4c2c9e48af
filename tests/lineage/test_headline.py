import json
import re
import time
from pathlib import Path

import pytest

from deepsort_reid.core import files
from deepsort_reid.lineage import headline
from deepsort_reid.lineage.headline import Standing
from deepsort_reid.runs.folder import RunFolder, milliseconds
from deepsort_reid.runs.mlflow.store import label, tracking_uri
from deepsort_reid.runs.points import Point

EVALUATION = {"mAP": 0.60649, "rank1": 0.7345, "mINP": 0.33684, "val_accuracy": 0.78385,
              "max_cosine_distance": 0.21044921875, "queries": 113}  # fmt: skip
TRACK = {"hota": 0.5222, "idf1": 0.6167, "id_switches": 30, "threshold": 0.21}


def test_the_headline_is_short_and_its_threshold_exact() -> None:
    assert headline.headline(EVALUATION, TRACK) == {
        "mAP": 0.606,
        "rank-1": 0.735,
        "mINP": 0.337,
        "val_acc": 0.784,
        "threshold": 0.21044921875,
        "HOTA": 0.522,
        "IDF1": 0.617,
        "switches": 30,
    }


def test_what_was_not_measured_is_left_out() -> None:
    without = {name: value for name, value in EVALUATION.items() if name != "max_cosine_distance"}
    assert "threshold" not in headline.headline(without, TRACK)
    assert "HOTA" not in headline.headline(EVALUATION, {"sequences": 2})


def test_the_table_lines_up() -> None:
    names, values = headline.table(headline.headline(EVALUATION, TRACK))
    assert values.split() == ["60.6%", "73.5%", "33.7%", "78.4%", "0.21", "52.2%", "61.7%", "30"]
    ends = [match.end() for match in re.finditer(r"\S+", names)]
    assert ends == [match.end() for match in re.finditer(r"\S+", values)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The reference of a run that was measured and has ended just now, in a project of its own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "summary")
    folder = RunFolder("0a" * 16)
    folder.begin("resnet18-lr0.2")
    folder.end("FINISHED")
    folder.metrics.add([Point(milliseconds(), None, "reid/mAP", 0.5)])
    return {"key": folder.key, "run_name": "resnet18-lr0.2"}


def began(monkeypatch: pytest.MonkeyPatch, seconds_ago: float | None) -> None:
    when = None if seconds_ago is None else time.time() - seconds_ago
    monkeypatch.setattr(headline, "dvc_began", lambda: when)


@pytest.mark.parametrize(("ago", "restored"), [(60.0, False), (-60.0, True), (None, False)])
def test_what_was_measured_before_dvc_began_was_restored(
    monkeypatch: pytest.MonkeyPatch, run: dict[str, str], ago: float | None, restored: bool
) -> None:
    began(monkeypatch, ago)
    assert headline.was_restored(run) is restored


def test_an_old_training_that_is_tracked_anew_is_not_restored(
    monkeypatch: pytest.MonkeyPatch, run: dict[str, str]
) -> None:
    began(monkeypatch, -60.0)
    soon = milliseconds() + 90_000
    RunFolder(run["key"]).metrics.add([Point(soon, None, "track/hota", 0.5)])
    assert not headline.was_restored(run)


def test_a_run_of_another_machine_was_restored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    began(monkeypatch, 60.0)
    assert headline.was_restored({"key": "0b" * 16, "run_name": "there"})


def test_without_dvc_nothing_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert headline.dvc_began() is None


def test_the_run_in_words(monkeypatch: pytest.MonkeyPatch, run: dict[str, str]) -> None:
    began(monkeypatch, -60.0)
    uri = tracking_uri()
    assert headline.run_in_words(run, uri) == [
        "restored from DVC's cache: run resnet18-lr0.2, which this MLflow store does not have"
    ]
    known = {"store": label(uri), "run_id": "abc", "experiment_id": "1"}
    RunFolder(run["key"]).merge("mlflow.json", known)
    first, second = headline.run_in_words(run, uri)
    assert first == "restored from DVC's cache: MLflow run resnet18-lr0.2"
    assert "/#/experiments/1/runs/abc?workflowType=machine_learning" in second
    assert headline.run_in_words({"key": None, "run_name": None}, None) == [
        "run without a record, which this MLflow store does not have"
    ]


STATE = Standing(
    commit="0a1b2c3d4e", committed=False, has_result=True, is_cached=True,
    experiment=None, is_elsewhere=False, differs={"lr": 0.2},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "commands"),
    [
        ({"commit": None}, ["git init"]),
        ({"has_result": False}, ["git add params.yaml dvc.lock reports && git commit", "lr=0.002"]),
        ({}, ["dvc metrics diff", "git commit -m lr0.2"]),
        ({"differs": {}}, ["dvc metrics diff", "git commit -m 'New result'"]),
        ({"committed": True}, ["0a1b2c3", "dvc exp run --set-param lr=0.002"]),
        ({"experiment": "misty-fox"},
         ["dvc exp show", "git commit -m lr0.2", "git restore . && dvc checkout"]),
        ({"experiment": "misty-fox", "is_cached": False},
         ["dvc exp show", "git commit -m lr0.2", "git restore . && dvc repro"]),
        ({"experiment": "misty-fox", "is_elsewhere": True},
         ["dvc exp show", "dvc exp apply misty-fox"]),
        ({"experiment": "misty-fox", "has_result": False},
         ["git restore params.yaml && dvc repro", "'First result'", "dvc exp run -S lr=0.2"]),
        ({"differs": {"source": "ada's.zip"}}, ["dvc metrics diff", """'source-ada'"'"'s.zip'"""]),
    ],
)  # fmt: skip
def test_the_next_command_is_right_in_each_state(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], commands: list[str]
) -> None:
    monkeypatch.delenv("UV", raising=False)
    found = [command for _, command in headline.next_commands(STATE._replace(**changes))]
    assert len(found) >= len(commands)
    for command, there in zip(commands, found, strict=False):
        assert command in there


def test_commands_name_uv_where_uv_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    assert headline.next_commands(STATE)[0][1] == "dvc metrics diff"
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert headline.next_commands(STATE)[0][1] == "uv run dvc metrics diff"


def test_the_record_names_the_bytes_that_it_is_of(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pth"
    checkpoint.write_bytes(b"weights")
    parts: dict[str, dict[str, object]] = {name: {"of": name} for name in headline.RECORDED}
    record = headline.record(parts, checkpoint)
    assert record["checkpoint"] == files.md5(checkpoint)
    assert json.loads(json.dumps(record))["identity"] == {"of": "identity"}


def test_what_rests_on_too_little_is_named() -> None:
    short = {"too_few": {"ranking": "queries: 2 (needs 20)"}}
    assert headline.too_few(short, {"too_few": {"scores": "people: 2 (needs 10)"}}) == [
        "not meaningful: ranking, queries: 2 (needs 20)",
        "not meaningful: scores, people: 2 (needs 10)",
    ]
    assert headline.too_few({"too_few": {}}, {"sequences": 2}) == []
