import subprocess
import sys

import pytest

from deepsort_reid.runs import provenance

NAMES = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")


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


@pytest.fixture
def repository(folder):
    (folder / ".dvc").mkdir()
    (folder / "pipeline").mkdir()
    for name in ("params.yaml", "dvc.lock", "pipeline/train.py"):
        (folder / name).write_text("one\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return folder


def tags(**options):
    return provenance.provenance_tags(data_digest="0123456789abcdef", arch="resnet18", **options)


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
    assert f"git checkout {commit[:7]} && dvc checkout" in found["mlflow.note.content"]


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [("params.yaml", "false"), ("dvc.lock", "false"), ("pipeline/train.py", "true")],
)
def test_only_changes_that_experiments_do_not_make_are_dirty(repository, changed, dirty):
    (repository / changed).write_text("two\n")
    assert tags()["git_dirty"] == dirty


def test_dirt_is_seen_from_a_folder_below(repository, monkeypatch):
    (repository / "params.yaml").write_text("two\n")
    monkeypatch.chdir(repository / "pipeline")
    assert tags()["git_dirty"] == "false"
    (repository / "pipeline" / "train.py").write_text("two\n")
    assert tags()["git_dirty"] == "true"


@pytest.mark.usefixtures("repository")
def test_an_experiment_names_its_own_commit(monkeypatch):
    baseline = git("rev-parse", "HEAD")
    git("commit", "-qm", "later", "--allow-empty")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", baseline)
    monkeypatch.setenv("DVC_EXP_NAME", "misty-fox")
    found = tags()
    assert found["git_commit"] == baseline
    assert found["dvc_experiment"] == "misty-fox"
    assert "`dvc exp apply misty-fox`" in found["mlflow.note.content"]


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
    assert "commit" not in found["mlflow.note.content"]


@pytest.mark.usefixtures("repository")
def test_run_name(monkeypatch):
    assert provenance.run_name("resnet18") == f"resnet18-{git('rev-parse', 'HEAD')[:7]}"
    monkeypatch.setenv("DVC_EXP_NAME", "misty-fox")
    assert provenance.run_name("resnet18") == "misty-fox"


@pytest.mark.usefixtures("folder")
def test_run_name_without_git():
    assert provenance.run_name("resnet18") == "resnet18"
