"""The headline metrics of several runs beside each other."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepsort_reid.core import files
from deepsort_reid.core.errors import ReportError

METRICS = "reports/metrics.json", "reports/evaluation.json"  # the headline, or else the source
FEW = 12  # metrics that are shown unless all are asked for


def read_metrics(run: str) -> dict[str, float]:
    """The numbers of a run, nested ones under names with a point.

    Args:
        run: a JSON file; a folder of a run; or a commit, branch or tag of git.

    Raises:
        ReportError: there is no such thing, or it is no JSON of metrics.
    """
    places = [Path(run), *(Path(run) / name for name in METRICS)]
    path = next((path for path in places if path.is_file()), None)
    try:
        content = files.read_json(path) if path else committed(run)
    except (OSError, ValueError) as error:
        raise ReportError(f"{run}: cannot be read ({error}); expected metrics in JSON") from None
    if not isinstance(content, dict):
        raise ReportError(f"{run}: holds no metrics; expected names and numbers in JSON")
    return dict(flat(content))


def committed(revision: str) -> Any:
    """A run's metrics as a commit has them.

    Raises:
        ReportError: there is no such commit, or it has none.
    """
    if revision.startswith("-"):
        raise ReportError(f"{revision}: no file, folder or commit")
    for name in METRICS:
        asked = ["git", "show", f"{revision}:{name}"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError:
            raise ReportError(f"{revision}: no such file or folder, and no git here") from None
        if not done.returncode:
            return json.loads(done.stdout)
    raise ReportError(
        f"{revision}: no metrics there; expected a JSON file, or a folder or commit that holds "
        f"{' or '.join(METRICS)}"
    )


def flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of nested mappings; texts and lists are left out."""
    found: list[tuple[str, float]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found.append((prefix + name, value))
    return found


def table(runs: Sequence[str], *, list_all: bool) -> str:
    """A line for each metric, a column for each run.

    Args:
        runs: see `read_metrics`.
        list_all: whether to show all metrics, not the first few.
    """
    found = [read_metrics(run) for run in runs]
    names = list(dict.fromkeys(name for metrics in found for name in metrics))
    left_out = 0 if list_all else max(0, len(names) - FEW)
    rows = [["", *runs]]
    rows += [
        [name, *(shown(metrics.get(name)) for metrics in found)]
        for name in names[: len(names) - left_out]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *([f"… and {left_out} more: --all"] if left_out else [])])


def shown(value: float | None) -> str:
    """A number of at most four decimals; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
