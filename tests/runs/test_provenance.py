import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.core.yaml_file import read_yaml
from deepsort_reid.runs import changes, provenance

NAMES = (
    "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE", provenance.SEARCH,
    changes.TRIAL,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(*arguments):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


PIPELINE = """
stages:
  train:
    cmd: "true"
    outs: [models/model.pth, reports/record.json: {cache: false}]
    metrics: [reports/metrics.json: {cache: false}]
"""


def fill(folder):
    for name in ("pipeline/train.py", "dvc.lock", "reports/record.json", "reports/metrics.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("one\n")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(yaml.safe_dump(COMMITTED))


@pytest.fixture
def repository(folder):
    (folder / ".dvc").mkdir()
    fill(folder)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return folder


COMMITTED = {"lr": 0.1, "arch": "resnet18", "split": {"image_size": [64, 32], "seed": 0}}


def tags(params=COMMITTED):
    return provenance.provenance_tags(
        data_digest="0123456789abcdef", arch="resnet18", params=params
    )


def note(params=COMMITTED):
    return tags(params)["mlflow.note.content"]


def test_tags_lead_to_commit_and_data(repository, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(repository / "pipeline" / "train.py")])
    monkeypatch.setenv("DVC_STAGE", "train")
    found = tags()
    commit = git("rev-parse", "HEAD")
    assert found["git_commit"] == found["mlflow.source.git.commit"] == commit
    assert found["git_dirty"] == "false"
    assert found["data_digest"] == "0123456789abcdef"
    assert found["dvc_stage"] == "train"
    assert found["mlflow.source.name"] == "pipeline/train.py"
    assert "dvc_experiment" not in found
    assert f"`git checkout {commit[:7]} && dvc repro`" in found["mlflow.note.content"]


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("params.yaml", "false"),
        ("dvc.lock", "false"),
        ("reports/record.json", "false"),
        ("reports/metrics.json", "false"),
        ("pipeline/train.py", "true"),
        ("pipeline/new.py", "true"),
        ("notes.txt", "false"),
    ],
)
def test_only_what_a_person_changes_is_dirty(repository, name, dirty):
    (repository / name).write_text("two\n")
    assert tags()["git_dirty"] == dirty


@pytest.mark.usefixtures("repository")
def test_outputs_that_dvc_removes_before_a_stage_are_not_dirt():
    Path("reports/record.json").unlink()
    Path("reports/metrics.json").unlink()
    assert tags()["git_dirty"] == "false"


def test_a_project_below_the_repositorys_root(folder, monkeypatch):
    project = folder / "reid"
    project.mkdir()
    (folder / "other.py").write_text("one\n")
    fill(project)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (folder / "other.py").write_text("two\n")
    monkeypatch.chdir(project)
    (project / "reports/record.json").unlink()
    assert tags()["git_dirty"] == "false"
    assert provenance.run_name("resnet18", {**COMMITTED, "lr": 0.2}) == "resnet18-lr0.2"
    (project / "pipeline/train.py").write_text("two\n")
    assert tags()["git_dirty"] == "true"
    assert "with the uncommitted changes of `pipeline/train.py`" in note()


@pytest.mark.usefixtures("repository")
def test_an_experiment_names_its_own_commit(monkeypatch):
    baseline = git("rev-parse", "HEAD")
    git("commit", "-qm", "later", "--allow-empty")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", baseline)
    monkeypatch.setenv("DVC_EXP_NAME", "misty-fox")
    found = tags()
    assert found["git_commit"] == baseline
    assert found["dvc_experiment"] == "misty-fox"
    assert f"`git checkout {baseline[:7]} && dvc repro`" in found["mlflow.note.content"]


def test_a_temporary_copy_names_the_real_repositorys_commit(repository, monkeypatch):
    commit = git("rev-parse", "HEAD")
    copy = repository / ".dvc" / "tmp" / "exps" / "one"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    git("init", "-q")
    git("commit", "-qm", "of the copy", "--allow-empty")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    found = tags()
    assert found["git_commit"] == commit
    assert "git_dirty" not in found  # the copy does not know the commit: nobody can tell


@pytest.mark.parametrize("without", ["repository", "program"])
def test_without_git_its_tags_are_left_out(folder, monkeypatch, without):
    if without == "program":
        monkeypatch.setenv("PATH", str(folder))
    found = tags()
    assert not [name for name in found if "git" in name]
    assert found["data_digest"] == "0123456789abcdef"
    assert "Back to this" not in found["mlflow.note.content"]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"lr": 0.2}, "resnet18-lr0.2"),
        ({"arch": "resnet34", "lr": 0.2}, "resnet18-lr0.2"),  # the network's name is there
        ({"arch": "resnet34"}, "resnet18"),
        ({"split": {"image_size": [128, 64], "seed": 3}},
         "resnet18-split.image_size128x64-split.seed3"),
        ({"optimizer": "sgd", "weights": None}, "resnet18-optimizer-sgd-weights-null"),
        ({"source": "/data/yard.zip", "flip": True}, "resnet18-source-yard.zip-flip-true"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "resnet18-a1-b2-c3-and-2-more"),
        ({"sets": [{"name": "north"}, {"name": "shop"}]}, "resnet18-sets-north+shop"),
    ],
)  # fmt: skip
def test_a_run_is_named_by_what_differs_from_the_commit(changed, name):
    assert provenance.run_name("resnet18", {**COMMITTED, **changed}) == name


@pytest.mark.usefixtures("repository")
def test_a_run_of_the_committed_parameters_is_named_by_the_commit():
    commit = git("rev-parse", "HEAD")
    assert provenance.run_name("resnet18", COMMITTED) == f"resnet18-{commit[:7]}"
    Path("pipeline/train.py").write_text("two\n")
    assert provenance.run_name("resnet18", COMMITTED) == f"resnet18-{commit[:7]}-changed"


@pytest.mark.usefixtures("repository")
def test_what_a_recipe_changed_is_called_by_its_name():
    Path("recipes").mkdir()
    values = {"a": 1, "b": 2, "split": {"c": 3, "d": [4, 5]}}
    Path("recipes/large.yaml").write_text(json.dumps(values))
    Path("recipes/other.yaml").write_text(json.dumps(values | {"a": 7}))
    assert provenance.run_name("resnet18", {**COMMITTED, **values}) == "resnet18-large"
    own = {**COMMITTED, **values, "lr": 0.2}
    assert provenance.run_name("resnet18", own) == "resnet18-large-lr0.2"


@pytest.mark.usefixtures("folder")
def test_run_name_without_git():
    assert provenance.run_name("resnet18", COMMITTED) == "resnet18"


@pytest.mark.usefixtures("repository")
def test_the_way_back_can_be_pasted():
    words = note({**COMMITTED, "lr": 0.2, "source": "my yard.zip", "layers": ["a", "b"]})
    back = re.search(r"`(git checkout .*)`", words)[1]
    assert back.endswith("dvc exp run -S lr=0.2 -S 'source=my yard.zip' -S 'layers=[a, b]'")


@pytest.mark.parametrize(
    "value",
    [
        "my yard.zip", "a%20b", "a#b?c", "it's", 'a"b', "c\\", "c\\'d", "ü", "~/x", "${x}$y",
        " lead", "", "null", "true", "123", "http://h/a.zip?x=1&y=2", "a,b=c:(d){e}[f]", "x" * 200,
        ["a", "b#'"], [{"name": "ä", "source": "x y#", "sha256": None}], 0.0001, None, True,
    ],
)  # fmt: skip
def test_dvc_reads_the_value_that_a_printed_command_has(tmp_path, value):
    params = tmp_path / "params.yaml"
    params.write_text("dataset: {source: before}\n")
    option, text = shlex.split(changes.as_options({"dataset.source": value}))
    assert option == "-S"
    apply_overrides(str(params), [text])
    assert read_yaml(params) == {"dataset": {"source": value}}


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("name", ["pipeline/Straße 7.py", "pipeline/a'b\"c\\d.py"])
def test_changed_files_have_their_own_names(name):
    Path(name).write_text("two\n")
    assert changes.changed_files(git("rev-parse", "HEAD")) == [name]


def test_a_trial_leads_back_from_a_folder_that_git_ignores(repository, monkeypatch):
    """Its own folder holds nothing that git knows: the project's is compared."""
    monkeypatch.setenv(changes.TRIAL, "7")
    monkeypatch.setenv(provenance.SEARCH, "0a1b")
    folder = repository / ".search" / "trials" / "0007"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    params = {**COMMITTED, "lr": 0.4}
    told = provenance.provenance_tags(data_digest="d", arch="resnet18", params=params)
    assert provenance.run_name("resnet18", params) == "trial-7"
    assert (told["parent_run_key"], told["trial"], told["git_dirty"]) == ("0a1b", "7", "false")
    assert told["mlflow.note.content"].endswith("dvc exp run -S lr=0.4`")
    (repository / "pipeline/train.py").write_text("two\n")
    told = provenance.provenance_tags(data_digest="d", arch="resnet18", params=params)
    assert told["git_dirty"] == "true"


MADE_OF = {
    "params": {"lr": 0.1, "freeze_layers": []},
    "environment": {"processes": 2},
    "data": {"split": "ab"},
}


@pytest.mark.parametrize(
    ("changes", "processes", "digest", "message"),
    [
        ({"lr": 0.2}, 2, "ab", "lr was 0.1, is 0.2 now; make its own: dvc repro -f train"),
        ({"freeze_layers": ["conv1"]}, 2, "ab", r"freeze_layers was \[\], is \['conv1'\]"),
        ({}, 4, "ab", "the number of processes was 2, is 4"),
        ({}, 2, "cd" * 32, "data/split was ab, is cdcdcdcdcdcd now"),
    ],
)
def test_a_checkpoint_that_something_else_has_made(
    changes: dict[str, object], processes: int, digest: str, message: str
) -> None:
    params = MADE_OF["params"]
    for same in (params, {**params, "newer": 1}):
        provenance.check_made_by(MADE_OF, same, processes=2, data_digest="ab")
        provenance.check_made_by(MADE_OF, same, processes=2)
    with pytest.raises(WeightsError, match=message):
        provenance.check_made_by(
            MADE_OF, {**params, **changes}, processes=processes, data_digest=digest
        )


@pytest.mark.parametrize("identity", [{}, {"params": 7}, {"params": {"lr": 1}, "environment": []}])
def test_a_checkpoint_that_says_nothing_passes(identity: dict[str, object]) -> None:
    provenance.check_made_by(identity, {"lr": 2}, processes=1, data_digest="ab")
