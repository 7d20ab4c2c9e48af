"""What every test shares: one thread, since tests and their ranks run side by side."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.fuzz.harness import TABLE

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever a test has done to the number of threads."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the pipeline has run, with two ranks; tests change copies of it alone."""
    from tests.support import projects  # imports mlflow, which takes seconds

    folder = tmp_path_factory.mktemp("prepared")
    out = projects.make(folder, projects.PREPARED)
    assert "mAP" in out
    assert "uv run mlflow ui" in out
    return folder


@pytest.fixture(scope="module")
def project(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the prepared project for the tests of a module."""
    from tests.support import projects

    with projects.copied(prepared, tmp_path_factory.mktemp("project")) as folder:
        yield folder


@pytest.fixture(scope="module")
def narrow_networks() -> Iterator[None]:
    """ResNets of an eighth of the channels, wherever this process builds one."""
    from tests.support.networks import narrow

    with narrow():
        yield


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, the current folder, whose store is its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for longer runs of the fuzz suite."""
    parser.addoption(
        "--fuzz-cases",
        type=int,
        default=150,
        metavar="N",
        help="random cases for each kind of file and fault in tests/test_fuzz.py (default: 150)",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fuzz suite's table."""
    if TABLE.counts:
        terminalreporter.section("damaged files")
        for line in TABLE.lines():
            terminalreporter.write_line(line)
