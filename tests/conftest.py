"""What every test shares: one thread, since tests and their ranks run side by side."""

import pytest
import torch

from tests.fuzz.harness import TABLE

torch.set_num_threads(1)


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
