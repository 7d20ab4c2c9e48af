"""MLflow stores of their own for tests."""

import os
from pathlib import Path

import pytest

from deepsort_reid.runs.mlflow import store


def forget_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the user's environment says of MLflow and DVC."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)


def make_store(root: Path) -> Path:
    """Make an empty store in a folder, as if that were the repository's root."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        forget_mlflow(monkeypatch)
        monkeypatch.setenv("DVC_ROOT", str(root))
        store.open_store()
    return root
