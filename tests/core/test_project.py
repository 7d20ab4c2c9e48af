"""The project's root is the same in every folder below it, and in every experiment."""

from pathlib import Path

import pytest

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
