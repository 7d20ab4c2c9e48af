"""DVC runs again what a change touches, and no more; and what runs again gives the same bytes.

That another `lr` runs train, evaluate and export alone is seen in test_experiments.py.
"""

import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from deepsort_reid.core import files
from tests.support.projects import ROOT, client, environment, ran, run, run_of, runs

PACKAGE = ROOT / "src" / "deepsort_reid"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
STAGES = (
    "also", "download", "split", "weights", "train", "evaluate", "export", "sequences", "track",
    "summary",
)  # fmt: skip


def repro(project: Path, *arguments: str) -> list[str]:
    """Run the pipeline; return the stages that ran."""
    return ran(run(project, "dvc", "repro", *arguments))


def state(project: Path) -> dict[str, bytes]:
    """The bytes of all outputs but those that name the run."""
    declared = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    outs = [
        project / (out if isinstance(out, str) else next(iter(out)))
        for stage in declared.values()
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]
    ]
    paths = [path for out in outs for path in (sorted(out.rglob("*")) if out.is_dir() else [out])]
    found = {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}
    del found["reports/run.json"], found["reports/record.json"]
    return found


def test_a_touched_file_runs_nothing(project: Path) -> None:
    for name in ("src/deepsort_reid/core/stage.py", "params.yaml", "data/raw/dataset.zip"):
        os.utime(project / name)
    assert "Data and pipelines are up to date." in run(project, "dvc", "repro")


def test_an_edited_room_changes_exactly_the_stages_that_enter_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    monkeypatch.chdir(project)
    changed = {}
    with Repo() as repo, repo.lock:
        for room in ROOMS:
            path = Path("src/deepsort_reid", room, "__init__.py")
            before = path.read_bytes()
            path.write_bytes(before + b"# another line\n")
            changed[room] = {
                stage.name for stage in repo.index.stages if stage.changed_deps(allow_missing=False)
            }
            path.write_bytes(before)
    expected = {
        room: {stage for stage in STAGES if f"src/deepsort_reid/{room}" in declared[stage]["deps"]}
        for room in ROOMS
    }
    assert changed == expected


def test_what_was_made_before_comes_back_without_being_made_again(project: Path) -> None:
    """As when one goes back to old parameters: DVC's run cache has every stage but the last."""
    before, versions = {run_of(project).info.run_id}, model_versions(project)
    outputs = state(project)
    for name in ("models", "reports", "dvc.lock", "data"):
        files.remove(project / name)
    began = time.monotonic()
    out = run(project, "dvc", "repro")
    assert ran(out) == ["weights", "summary"]  # neither has an output in the cache
    assert time.monotonic() - began < 30  # a few seconds on a quiet machine
    assert f"restored from DVC's cache: MLflow run {run_of(project).info.run_name}" in out
    assert {found.info.run_id for found in runs(project)} == before
    assert {run_of(project).info.run_id} == before
    assert model_versions(project) == versions
    assert state(project) == outputs
    assert run(project, "git", "status", "--short") == ""


def test_a_change_of_the_weights_behind_a_path_is_noticed(project: Path) -> None:
    params = (project / "params.yaml").read_text()
    try:
        change(project, "weights: null", "weights: w.pth")
        (project / "w.pth").write_bytes(b"some weights")
        assert repro(project, "weights") == ["weights"]
        assert (project / "data/weights").read_bytes() == b"some weights"
        (project / "w.pth").unlink()
        (project / "w.pth").write_bytes(b"better weights")  # a file of its own, as downloads are
        assert repro(project, "weights") == ["weights"]
        assert "data/weights" in run(project, "dvc", "status", "--json", "train")
        assert (project / "w.pth").read_bytes() == b"better weights"  # DVC has not touched it
    finally:
        (project / "params.yaml").write_text(params)
    assert repro(project, "weights") == ["weights"]


def model_versions(project: Path) -> list[str]:
    """The versions of the registered model."""
    return [
        found.version for found in client(project).search_model_versions("name='deepsort-reid'")
    ]


@pytest.mark.slow
def test_an_edit_runs_the_stages_that_enter_the_room(project: Path) -> None:
    for file, stages in (
        ("tracking/report.py", ["track"]),
        ("evaluation/report.py", ["evaluate", "export", "track"]),
    ):
        path = project / "src/deepsort_reid" / file
        path.write_text(path.read_text() + "# another line\n")
        assert repro(project) == stages


@pytest.mark.slow
def test_a_parameter_of_evaluate_runs_evaluate(project: Path) -> None:
    change(project, "  ranked_queries: 8", "  ranked_queries: 3")
    assert repro(project) == ["evaluate"]


@pytest.mark.slow
def test_every_stage_gives_the_same_bytes_again(project: Path) -> None:
    before = state(project)
    assert sorted(repro(project, "--force")) == sorted(STAGES)
    after = state(project)
    assert after.keys() == before.keys()
    assert [name for name, content in after.items() if content != before[name]] == []


@pytest.mark.slow
def test_a_commit_of_what_these_parameters_did_not_make_is_found_out(project: Path) -> None:
    change(project, "\nseed: 0\n", "\nseed: 7\n")
    run(project, "dvc", "commit", "-f", "train")
    done = subprocess.run(
        ["dvc", "repro"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "what params.yaml makes: seed was 0, is 7 now; make its own: dvc repro -f" in done.stderr
    assert "train" in repro(project, "-f", "train")
    assert "summary" in repro(project)


def change(project: Path, old: str, new: str) -> None:
    """Change a line of params.yaml."""
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))
