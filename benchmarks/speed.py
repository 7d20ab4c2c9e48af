"""How fast everything is beside what it could be: one command, tables of ratios.

    uv run benchmarks/speed.py [--only ITEM …] [--quick] [--write]

Each item is a module of `speed_items/`, whose docstring says what its rows mean. The sides of a row
take turns, so that what else the machine does falls on both; a figure is the median, with the 10th
to the 90th percentile behind it (the least to the most of fewer than ten). `--quick` goes through
everything at sizes that say nothing. `--write` puts the rows into `docs/speed.md`, a table for each
item and machine, in place of what the same item had measured on the same machine.
"""

import argparse
import importlib
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
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
COLUMNS = ("what", "ours", "other side", "ratio", "target", "n", "conditions")
UNMEASURED = "Not measured yet."
HEADING = "### "  # of a table; deeper than the page's own
SECTION = re.compile(r"(<!-- speed: begin [^\n]*-->\n)(.*?)(<!-- speed: end -->)", re.DOTALL)


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
        where, when = machine(), conditions()
        print(f"\n{name}, {where}: {when}", flush=True)
        rows = []
        for row in importlib.import_module(f"speed_items.{name}").measure(options.quick):
            print(as_text(row), flush=True)
            rows.append(row)
        if options.write:
            write(name, where, when, rows)


def machine() -> str:
    """What it is measured on."""
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{processor()}, {cores()} cores"


def conditions() -> str:
    """What all rows of an item share: the day, versions, and how busy the machine was before."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} before"
    )


def as_text(row: Row) -> str:
    """A row as it is shown on the screen."""
    lines = [row.what, f"  ours   {row.ours}"]
    if row.other:
        lines.append(f"  other  {row.other}")
    if row.ratio is not None:
        lines.append(f"  ratio  {row.ratio:.3f}{target(row)}")
    return "\n".join([*lines, f"  n={row.n}; {row.conditions}"])


def target(row: Row) -> str:
    """`, at least 0.97: met`, or nothing."""
    return f", {row.target}: {'met' if row.met else 'missed'}" if row.target else ""


# The page


def write(name: str, where: str, when: str, rows: Sequence[Row]) -> None:
    """Put an item's table into the page, in place of its earlier one of the same machine.

    Args:
        name: of the item.
        where: the machine.
        when: what all rows share.
        rows: in the order of the table.
    """
    text = PAGE.read_text("utf-8")
    tables = {**tables_in(text), f"`{name}`, {where}": table(when, rows)}
    PAGE.write_text(with_tables(text, tables), "utf-8")


def table(when: str, rows: Iterable[Row]) -> str:
    """What all rows share, and the rows in Markdown."""
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([f"{when}.", "", *head, *map(as_line, rows)])


def as_line(row: Row) -> str:
    """A row of the Markdown table, without line breaks."""
    verdict = f"{row.target}: {'met' if row.met else '**missed**'}" if row.target else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    cells = (row.what, row.ours, row.other, ratio, verdict, str(row.n), row.conditions)
    return f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |"


def tables_in(text: str) -> dict[str, str]:
    """The tables between the page's markers, each by its heading: the item, and the machine."""
    section = SECTION.search(text)
    parts = re.split(f"^{HEADING}", section[2] if section else "", flags=re.MULTILINE)[1:]
    return {head: body.strip() for head, _, body in (part.partition("\n") for part in parts)}


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The text with other tables between its markers, in the order of `ITEMS`."""
    ordered = sorted(tables, key=lambda heading: ITEMS.index(heading.split("`")[1]))
    parts = [f"{HEADING}{heading}\n\n{tables[heading]}\n" for heading in ordered]
    content = "\n".join(parts) or f"{UNMEASURED}\n"
    return SECTION.sub(lambda match: f"{match[1]}{content}{match[3]}", text)


if __name__ == "__main__":
    main()
