"""What git tells of commits."""

from pathlib import Path

import pytest

from deepsort_reid.lineage.commits import files_at, holding_commits
from tests.support.recorded_projects import KEY, git

pytestmark = pytest.mark.usefixtures("recorded")


def test_files_at_a_commit() -> None:
    head, train = git("rev-parse", "HEAD"), "pipeline/train.py"
    assert files_at(head, [train, "nothing", "pipeline"], Path.cwd()) == [b"one\n", None, None]
    assert files_at("0" * 40, [train], Path.cwd()) == [None]
    assert files_at(head, ["train.py"], Path("pipeline").absolute()) == [b"one\n"]


def test_a_commit_that_kept_a_checkpoint_holds_it_if_something_points_to_it() -> None:
    for number in (1, 2):
        git("commit", "-qm", f"Later {number}", "--allow-empty")
    found = holding_commits(Path.cwd(), md5=None, run=KEY)
    assert {commit.subject for commit in found} == {"First results", "Later 2"}
    assert holding_commits(Path.cwd(), md5="0" * 32, run=None) == []
    assert holding_commits(Path.cwd(), md5=None, run=None) == []


def test_outside_of_git_nothing_is_found(recorded: Path) -> None:
    (recorded / ".git").rename(recorded / "elsewhere")
    assert files_at("HEAD", ["dvc.lock"], recorded) == [None]
    assert holding_commits(recorded, md5=None, run=KEY) == []
