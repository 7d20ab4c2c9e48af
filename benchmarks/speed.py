"""How fast everything is beside what it could be: one command, a table of ratios.

    uv run benchmarks/speed.py [--only ITEM …] [--quick] [--write]

Each item is a module of `speed_items/`, whose docstring says what its rows mean. The sides of a row
take turns, so that what else the machine does falls on both; a figure is the median, with the 10th
to the 90th percentile behind it (the least to the most of fewer than ten). `--quick` goes through
everything at sizes that say nothing. `--write` puts the rows into `docs/speed.md`; rows of items
that were not asked for stay there as they are.
"""

import argparse
import importlib
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from deepsort_reid.core.machine import cores, processor
from speed_items.rows import Row

ITEMS = (
    "step", "bare", "arithmetic", "ranks", "split", "ranking", "evaluation", "scale", "runs",
    "meeting", "overhead",
)  # fmt: skip
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "speed.md"
COLUMNS = ("by", "item", "what", "ours", "other side", "ratio", "target", "n", "conditions")
UNMEASURED = "Not measured yet."
SECTION = re.compile(r"(<!-- speed: begin [^\n]*-->\n).*?(<!-- speed: end -->)", re.DOTALL)


def main() -> None:
    """Measure the items asked for, print each row as it comes, and write them down if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ITEMS, default=ITEMS, metavar="ITEM")
    parser.add_argument("--quick", action="store_true", help="sizes that say nothing")
    parser.add_argument("--write", action="store_true", help="into docs/speed.md")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--quick measures nothing that is worth writing down: leave out one of both")
    for name in options.only:
        where = conditions()
        print(f"\n{name}: {where}", flush=True)
        rows = []
        for row in importlib.import_module(f"speed_items.{name}").measure(options.quick):
            print(as_text(row), flush=True)
            rows.append(row)
        if options.write:
            write({name: [as_line(name, row, where) for row in rows]})


def conditions() -> str:
    """What it is measured with, and what the machine was busy with before."""
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {gpu}{processor()}, {cores()} cores, "
        f"torch {torch.__version__}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} before"
    )


def as_text(row: Row) -> str:
    """A row as it is shown on the screen."""
    lines = [f"{row.item}: {row.what}", f"  ours   {row.ours}"]
    if row.other:
        lines.append(f"  other  {row.other}")
    if row.ratio is not None:
        lines.append(f"  ratio  {row.ratio:.3f}{target(row)}")
    return "\n".join([*lines, f"  n={row.n}; {row.conditions}"])


def target(row: Row) -> str:
    """`, at least 0.97: met`, or nothing."""
    return f", {row.target}: {'met' if row.met else 'missed'}" if row.target else ""


# The table


def as_line(name: str, row: Row, where: str) -> str:
    """A row of the Markdown table, without line breaks."""
    verdict = f"{row.target}: {'met' if row.met else '**missed**'}" if row.target else ""
    cells = (
        f"`{name}`", row.item, row.what, row.ours, row.other,
        "" if row.ratio is None else f"{row.ratio:.3f}", verdict, str(row.n),
        f"{row.conditions}; {where}",
    )  # fmt: skip
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def table(lines: Iterable[str]) -> str:
    """The Markdown table of rows, in the order of `ITEMS`; a word where there are none."""
    ordered = sorted(lines, key=lambda line: ITEMS.index(item_of(line)))
    if not ordered:
        return UNMEASURED
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, *ordered])


def item_of(line: str) -> str:
    """Which item a row of the table was measured by."""
    return line.split("`")[1]


def origin_of(line: str) -> tuple[str, str]:
    """By which item a row was measured, and on which machine."""
    machine = re.search(r"; \d{4}-\d\d-\d\d, (.+?), torch ", line)
    return item_of(line), machine[1] if machine else ""


def rows_in(text: str) -> Iterator[str]:
    """Yield the rows of the table between the markers; the page has other tables too."""
    section = SECTION.search(text)
    lines = section[0].splitlines() if section else []
    yield from (line for line in lines if line.startswith("| `"))


def write(measured: Mapping[str, list[str]]) -> None:
    """Put rows into the page, in place of what the same items had measured on the same machine.

    Args:
        measured: item -> its rows of the table.
    """
    again = {origin_of(line) for lines in measured.values() for line in lines}
    text = PAGE.read_text("utf-8")
    kept = [line for line in rows_in(text) if origin_of(line) not in again]
    content = table([*kept, *(line for lines in measured.values() for line in lines)])
    PAGE.write_text(with_table(text, content), "utf-8")


def with_table(text: str, content: str) -> str:
    """The text with another table between its markers."""
    return SECTION.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


if __name__ == "__main__":
    main()
