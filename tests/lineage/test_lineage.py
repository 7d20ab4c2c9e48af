"""Every way leads to a checkpoint, and the first thing that differs here is named."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from deepsort_reid.core import files
from deepsort_reid.core.errors import LineageError, WeightsError
from deepsort_reid.lineage import __main__ as lineage
from deepsort_reid.lineage import dvc_cli
from deepsort_reid.lineage.records import CHECKPOINT
from deepsort_reid.runs import provenance
from deepsort_reid.runs.mlflow import store
from tests.support import stores
from tests.support.recorded_projects import (
    DATA,
    KEY,
    FakeDvc,
    commit,
    git,
    params_changed,
    record,
    set_params,
)

pytestmark = pytest.mark.usefixtures("dvc")


def tell(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    lineage.main(arguments)
    return capsys.readouterr().out


def status(*arguments: str) -> object:
    """The command's exit status."""
    try:
        lineage.main(arguments)
    except SystemExit as end:
        return end.code
    return 0


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What the command prints for machines."""
    content: dict[str, Any] = json.loads(tell(capsys, "--json", *arguments))
    return content


def test_the_workspaces_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    out = tell(capsys)
    head = git("rev-parse", "--short=7", "HEAD")
    for words in (
        "checkpoint   file models/model.pth\n",
        "epoch 3, accuracy on val 75.0 %\n",
        f"md5 {files.md5(Path(CHECKPOINT))}\n",
        f"sha256 {files.sha256(Path(CHECKPOINT))}\n",
        "models/model.pth, in the workspace\n",
        "source synthetic\n",
        f"split sha256 {DATA}\n",
        "train 20 images   val 4 images\n",
        "query and gallery of people held out to choose parameters by\n",
        "split.val_fraction 0.2",
        f"1 files, all as in commit {head}\n",
        "processes 1",
        f"misty key {KEY}\n",
        f"{head} ",
        "First results   branch main\n",
        "there is no MLflow store",
    ):
        assert words in out
    assert out.endswith("\nThe workspace would make the same checkpoint.\n")
    assert not Path("mlflow.db").exists()
    assert status("--check") == 0


def test_the_first_difference_is_named_and_all_on_demand(
    dvc: FakeDvc, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(lr=0.2, split__seed=1)
    dvc.status = params_changed(split="split")
    out = tell(capsys)
    line = "stage split would run again: split.seed is 1 here, 0 there"
    first = f"The workspace would make another one: {line}\n"
    assert first in out
    assert "and 1 more differences; --all lists them\n" in out
    assert "* lr 0.01 (0.2 here)" in out
    assert tell(capsys, "--all").endswith(f"{first}  parameter lr is 0.2 here, 0.01 there\n")
    assert status("--check") == 1


def test_a_file_of_nowhere_is_compared_by_the_data_that_is_here(
    dvc: FakeDvc, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stray = tmp_path / "stray.pth"
    content = torch.load(CHECKPOINT, weights_only=True)
    torch.save({**content, "epoch": 4}, stray)
    Path("reports/identity.json").unlink()
    assert answer(capsys, str(stray))["differences"] == []
    set_params(split__seed=1)
    dvc.status = params_changed(split="split")
    found = answer(capsys, str(stray))
    assert found["differences"] == ["stage split would run again: split.seed is 1 here, 0 there"]
    assert (found["same"], found["sure"]) == (False, False)
    assert found["held_by"] == []


def test_other_code_that_leaves_the_same_data_is_no_difference(
    dvc: FakeDvc, capsys: pytest.CaptureFixture[str]
) -> None:
    dvc.status = {"split": [{"changed deps": {"pipeline/split.py": "modified"}}]}
    assert "may make another one: stage split would run again: pipeline/split.py differs" in tell(
        capsys, "main"
    )
    dvc.status, dvc.since = {}, dvc.status  # as after `dvc repro`
    assert answer(capsys, "main")["same"] is True


def test_the_data_of_another_commit_is_not_the_pipelines(
    dvc: FakeDvc, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_json(Path("data/split/summary.json"), {})
    dvc.status = {"split": [{"changed outs": {"data/split": "modified"}}]}
    assert answer(capsys)["same"] is True  # DVC would bring back the right one


def test_without_data_nobody_knows_what_would_be_learned_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("data/split/summary.json").unlink()
    assert "summary.json: cannot be read" in answer(capsys)["differences"][0]
    Path("params.yaml").write_text("lr: abc\n")
    assert "the workspace makes none: " in answer(capsys)["differences"][0]


def test_where_dvc_cannot_tell_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dvc_cli, "ask_dvc", Mock(side_effect=LineageError("DVC is not installed")))
    found = answer(capsys)
    assert (found["same"], found["sure"]) == (True, False)
    assert found["unknown"][0] == "whether DVC's cache has it: DVC is not installed"
    assert tell(capsys).endswith(
        "would make the same checkpoint if its data is what the pipeline makes here "
        "(DVC is not installed).\n"
    )
    set_params(lr=0.2)
    assert answer(capsys)["sure"] is True
    record(identity=None)
    Path("reports/identity.json").unlink()
    assert "Nobody can tell" in tell(capsys)


def test_every_name_of_a_commit_leads_to_its_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, md5 = git("rev-parse", "HEAD"), files.md5(Path(CHECKPOINT))
    git("tag", "-am", "a version", "v1")
    git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/misty-fox", first)
    cached = dvc_cli.cached_file(Path.cwd() / ".dvc/cache", md5)
    cached.parent.mkdir(parents=True)
    Path(CHECKPOINT).rename(cached)
    set_params(lr=0.2)
    record(key="f" * 32)
    commit("Faster")
    for name in (first, first[:7], "v1", "misty-fox", "HEAD~1", "commit:v1"):
        found = answer(capsys, name)
        assert found["checkpoint"]["md5"] == md5
        assert found["checkpoint"]["places"] == [
            f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}, in DVC's cache"
        ]
        assert found["parameters"]["lr"] == 0.01
        assert found["differing_parameters"] == ["lr"]
        assert found["differences"] == ["parameter lr is 0.2 here, 0.01 there"]
        (holder,) = found["held_by"]
        assert holder["commit"] == first
        assert sorted(holder["names"]) == [f"experiment misty-fox of {first[:7]}", "tag v1"]
    cached.unlink()
    out = tell(capsys, "v1")
    assert f"from a DVC remote: git checkout {first[:7]} && dvc pull models/model.pth; " in out
    assert f"to make them again: git checkout {first[:7]} && dvc repro" in out
    assert "epoch 3, accuracy on val 75.0 %" in out


def test_a_name_of_two_things_is_asked_back(capsys: pytest.CaptureFixture[str]) -> None:
    first = git("rev-parse", "HEAD")
    set_params(lr=0.2)
    record(key="f" * 32)
    second = commit("Faster")
    git("branch", "misty-fox", second)
    git("update-ref", f"refs/exps/{first[:2]}/{first[2:]}/misty-fox", first)
    with pytest.raises(LineageError, match=f"say which: commit:{first[:10]} .*{second[:10]}"):
        lineage.main(["misty-fox"])
    assert answer(capsys, f"commit:{first[:10]}")["parameters"]["lr"] == 0.01


@pytest.mark.parametrize("target", ["nothing", "file:nothing", "run:main", "HEAD~7", "", "-x:"])
def test_what_leads_nowhere(target: str) -> None:
    with pytest.raises((LineageError, SystemExit), match=r"no such|2"):
        lineage.main([target])


def test_a_file_that_is_no_checkpoint() -> None:
    with pytest.raises(WeightsError, match=r"no file of torch\.save"):
        lineage.main(["params.yaml"])
    torch.save({"weight": torch.zeros(1)}, "other.pth")
    with pytest.raises(LineageError, match="no checkpoint of this project"):
        lineage.main(["other.pth"])
    Path(CHECKPOINT).unlink()
    with pytest.raises(LineageError, match="missing here: bring it back"):
        lineage.main([])
    git("rm", "-q", "dvc.lock")
    with pytest.raises(LineageError, match="holds no checkpoint"):
        lineage.main([commit("Nothing")])


def test_without_git(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recorded / ".git").rename(recorded / "elsewhere")
    found = answer(capsys)
    assert found["same"] is True
    assert any("no git repository" in line for line in found["unknown"])


def test_a_checkpoint_older_than_identities(
    dvc: FakeDvc, capsys: pytest.CaptureFixture[str]
) -> None:
    record(identity=None)
    assert "if this is the environment it was made in" in tell(capsys)
    set_params(lr=0.2)
    dvc.status = params_changed(train="lr")
    assert "may make another one: stage train would run again: lr is 0.2 here" in tell(capsys)
    Path("dvc.lock").unlink()
    Path("reports/run.json").unlink()
    assert "Nobody can tell" in tell(capsys)
    assert status("--check") == 1


def test_a_commit_of_earlier_versions_holds_the_single_reports(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(".gitignore").write_text("/data\n/models\n/mlflow.db*\n")
    Path("reports/record.json").unlink()
    old = commit("As it was once")
    set_params(lr=0.2)
    record(key="f" * 32)
    commit("Later")
    found = answer(capsys, f"commit:{old}")
    assert found["identity"]["params"]["lr"] != 0.2
    assert found["checkpoint"]["epoch"] == 3
    assert KEY in tell(capsys, f"commit:{old}")


def test_a_record_of_another_checkpoint_does_not_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As after `dvc repro train` and a commit, without the stage that writes the record."""
    before = Path("reports/record.json").read_bytes()
    set_params(lr=0.2)
    record(key="f" * 32)
    Path("reports/record.json").write_bytes(before)
    assert KEY not in tell(capsys, f"commit:{commit('Only trained')}")


def test_uncommitted_code_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline/train.py").write_text("two\n")
    record()
    head, digest = git("rev-parse", "--short=7", "HEAD"), files.sha256(Path("pipeline/train.py"))
    out = tell(capsys)
    assert f"1 files, 1 of them other than in commit {head}:\n" in out
    assert f"pipeline/train.py sha256 {digest}\n" in out


def test_a_checkpoint_of_an_earlier_layout_is_told_in_few_lines(
    recorded: Path, dvc: FakeDvc, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flat = [f"src/deepsort_reid/module{number}.py" for number in range(40)]
    for name in flat:
        (recorded / name).parent.mkdir(parents=True, exist_ok=True)
        (recorded / name).write_text(name)
    code = {name: files.sha256(recorded / name) for name in ("pipeline/train.py", *flat)}
    identity = torch.load(CHECKPOINT, weights_only=True)["identity"]
    record(key="f" * 32, identity=identity | {"code": code})
    old = commit("Old layout")
    git("rm", "-rq", "src")
    new = commit("New layout")
    dvc.status = {"split": [{"changed deps": {"src/deepsort_reid/data": "modified"}}]}
    line = "it was made by another layout of the code: 40 of its 41 files are not here"
    out = tell(capsys, "--all")
    assert f"code         41 files, all as in commit {old[:7]}\n" in out
    assert f"The workspace may make another one: {line}\n" in out
    assert out.endswith("split would run again: src/deepsort_reid/data is a new dependency\n")
    names = [holder["commit"] for holder in answer(capsys, old)["held_by"]]
    assert sorted(names) == sorted([old, new])

    code["pipeline/train.py"] = "0" * 64  # as in no commit
    stray = tmp_path / "stray.pth"
    torch.save(torch.load(CHECKPOINT) | {"identity": identity | {"code": code}}, stray)
    git("checkout", "-q", "--orphan", "alone")
    for path in ("dvc.lock", "reports"):
        git("rm", "-rq", "--cached", path)
    git("commit", "-qm", "Nothing of it")
    git("branch", "-D", "main")
    out = tell(capsys, str(stray))
    assert "41 files, 41 of them other than in commit" in out
    assert "and 31 files more; --json has all digests\n" in out


def test_a_run_leads_to_its_checkpoint_by_id_key_and_name(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.make_store(recorded)
    opened = store.open_store()
    md5 = files.md5(Path(CHECKPOINT))
    tags = {"run_key": KEY, **provenance.checkpoint_tags(Path(CHECKPOINT))}
    run = opened.client.create_run(opened.experiment_id, run_name="misty", tags=tags)
    opened.client.log_artifact(run.info.run_id, CHECKPOINT, "checkpoint")
    for target in (run.info.run_id, KEY, "misty", "run:misty", CHECKPOINT, "main"):
        found = answer(capsys, target)
        assert found["run"]["run_id"] == run.info.run_id, target
        assert found["checkpoint"]["md5"] == md5
        assert found["same"] is True
        assert any("artifact of the MLflow run" in place for place in found["checkpoint"]["places"])
    git("branch", "misty")  # which holds this run's checkpoint: no other thing
    assert answer(capsys, "misty")["run_key"] == KEY
    opened.client.create_run(opened.experiment_id, run_name="twin")
    other = opened.client.create_run(opened.experiment_id, run_name="twin")
    with pytest.raises(LineageError, match=f"run:{other.info.run_id}"):
        lineage.main(["twin"])
    assert "Nobody can tell" in tell(capsys, f"run:{other.info.run_id}")


def test_a_store_that_is_down_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = answer(capsys)
    assert found["same"] is True
    assert "127.0.0.1:9 cannot be opened" in found["unknown"][0]
