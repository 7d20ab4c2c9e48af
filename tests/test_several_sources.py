"""Two datasets learned jointly, and a third that is only tested on: through the real stages."""

import json
from pathlib import Path

import pytest

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.data.packed import open_part, read_summary
from tests.support import projects, stages

SOURCES = [
    {"name": "north", "source": "synthetic", "synthetic": {"seed": 1}},
    {"name": "south", "source": "synthetic", "synthetic": {"seed": 2, "train_identities": 6}},
]
ALSO = [{"name": "west", "source": "synthetic", "synthetic": {"seed": 3}}]


@pytest.fixture
def joint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    changes = {"dataset.source": SOURCES, "evaluate.also": ALSO, "balance_sources": True}
    stages.write_params(tmp_path, changes)
    for stage in ("download", "also", "split"):
        stages.run(stage)
    return tmp_path


def test_the_parts_and_the_report_of_several_sources(joint: Path) -> None:
    train = open_part(joint / "data/split", "train")
    assert {name.partition("/")[0] for name in train.names} == {"north", "south"}
    assert len(train.classes) == 10
    summary = read_summary(joint / "data/split")
    assert summary.layout == "market1501 + market1501"
    report = json.loads((joint / "reports/split.json").read_text())
    assert report["sources"]["south"]["train"]["identities"] == 6
    assert report["understood"]["north"]["layout"] == "market1501"
    also = read_summary(joint / "data/also/west").counts
    assert also["query"]["identities"] == 3
    assert also["train"]["images"] == 0


def test_without_also_the_stages_list_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stages.write_params(tmp_path, {})
    for stage in ("download", "also", "split"):
        stages.run(stage)
    for folder in ("data/also", "data/also-raw"):
        (only,) = (tmp_path / folder).iterdir()  # DVC warns of an empty folder
        assert (only.name, json.loads(only.read_text())) == ("datasets.json", [])


def test_a_source_that_is_missing_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [SOURCES[0], {"name": "south", "source": "nowhere.zip"}]
    stages.write_params(tmp_path, {"dataset.source": wrong})
    with pytest.raises(SystemExit):
        stages.run("download")
    assert "nowhere.zip: no such file or folder" in capfd.readouterr().err


@pytest.mark.slow
def test_numbers_by_source_and_elsewhere(joint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{joint / 'mlflow.db'}")
    for stage in ("train", "evaluate"):
        stages.run(stage)
    found = json.loads((joint / "reports/evaluation.json").read_text())
    assert set(found["sources"]) == {"north", "south"}
    assert found["sources"]["north"]["queries"] + found["sources"]["south"]["queries"] == (
        found["queries"] - found["queries_without_match"]
    )
    assert 0 <= found["also"]["west"]["mAP"] <= 1
    metrics = projects.run_of(joint).data.metrics
    assert metrics["also-west/mAP"] == pytest.approx(found["also"]["west"]["mAP"])
    assert metrics["source-north/rank-1"] == pytest.approx(found["sources"]["north"]["rank1"])


def test_a_balance_needs_several(tmp_path: Path) -> None:
    from deepsort_reid.core.config import load_params

    stages.write_params(tmp_path, {"balance_sources": True})
    with pytest.raises(ConfigError, match="balance_sources=true needs a list of datasets"):
        load_params(tmp_path / "params.yaml")
