"""What every test shares: one thread, since tests and their ranks run side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuzz.harness import TABLE

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# The files that use the pipeline which `prepared` runs: one worker runs it, and these.
PIPELINE = {
    f"tests/{name}.py"
    for name in (
        "test_experiments", "test_pipeline", "test_reruns",
        "training/test_kills",
    )
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two workers for folders unless -n says otherwise; none for files, whose prints are seen."""
    if hasattr(config, "workerinput") or all(".py" in argument for argument in config.args):
        return
    if getattr(config.option, "numprocesses", 0) is None:
        config.option.numprocesses = 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    """Hand out whole files, and those of PIPELINE as if they were one."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "pipeline" if file in PIPELINE else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in PIPELINE)


@pytest.fixture(scope="session", autouse=True)
def one_thread_from_the_beginning() -> None:
    """One thread for each process of tests."""
    import torch  # not in the process that only hands out tests

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever a test has done to the number of threads."""
    import torch

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
        help="random cases for each kind of file and fault in the slow test of damaged files "
        "(default: 150)",
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the fuzz suite's table from a worker to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = [
            [*key, dict(counts)] for key, counts in TABLE.counts.items()
        ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's table."""
    for target, kind, counts in getattr(node, "workeroutput", {}).get("fuzz", []):
        TABLE.counts[target, kind].update(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fuzz suite's table."""
    if TABLE.counts:
        terminalreporter.section("damaged files")
        for line in TABLE.lines():
            terminalreporter.write_line(line)
