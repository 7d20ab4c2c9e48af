"""A repository in which the pipeline has run, as far as its records tell, and a DVC beside it."""

from pathlib import Path

import pytest

from deepsort_reid.core import files
from deepsort_reid.lineage import dvc_cli
from deepsort_reid.training import fingerprint
from tests.support import recorded_projects, stores
from tests.support.recorded_projects import FakeDvc


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which the pipeline has run; nobody has recorded it in MLflow."""
    stores.forget_mlflow(monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)
    for folder in (".dvc", "pipeline", "data/raw"):
        Path(folder).mkdir(parents=True)
    for stage in recorded_projects.DECLARED:
        Path(f"pipeline/{stage}.py").write_text("one\n")
    Path(".gitignore").write_text(
        "/data\n/models\n/mlflow.db*\n/reports/*\n!/reports/record.json\n"
    )
    monkeypatch.setattr(
        fingerprint,
        "code_digests",
        lambda: {"pipeline/train.py": files.sha256(Path("pipeline/train.py"))},
    )
    recorded_projects.set_params()
    recorded_projects.record()
    recorded_projects.git("init", "-q", "-b", "main")
    recorded_projects.commit("First results")
    return tmp_path


@pytest.fixture
def dvc(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDvc:
    """What DVC says of the repository: nothing has changed, unless a test sets other words."""
    assert recorded.is_dir()
    fake = FakeDvc()
    monkeypatch.setattr(dvc_cli, "ask_dvc", fake.ask)
    return fake
