"""The project's root is the same in every folder below it, and in every experiment."""

from pathlib import Path

import pytest

from deepsort_reid.core import project
from deepsort_reid.core.project import resolve


def test_where_relative_paths_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert resolve("w.pth") == tmp_path / "w.pth"
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert resolve("w.pth") == Path("/elsewhere/w.pth")
    assert resolve("/abs/w.pth") == Path("/abs/w.pth")
    assert resolve("~/w.pth") == Path.home() / "w.pth"


def test_home_is_the_clone_or_what_the_wheel_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (project.home() / "pipeline" / "train.py").is_file()
    package = tmp_path / "site-packages" / "deepsort_reid"
    (package / "project").mkdir(parents=True)
    monkeypatch.setattr(project, "PACKAGE", package)
    assert project.home() == package / "project"
