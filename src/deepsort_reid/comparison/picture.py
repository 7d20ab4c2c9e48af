"""The picture of a comparison: what each network finds, tracks, costs and weighs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import Formatter, FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from deepsort_reid.comparison.measuring import NO_APPEARANCE, Comparison, Measured
from deepsort_reid.comparison.verdict import SPEED_OF
from deepsort_reid.core.figure import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PINK, drawn
from deepsort_reid.tracking.score import Scores

WIDTH = 1200  # pixels
ROW = 46  # for each network
BARS, BUBBLES = 130, 430  # pixels of the two halves, without the rows
LONGEST_NAME = 26  # characters of a line; a name has two
LARGEST = 1600  # of the bubbles, points²
SMALLEST = 120


def draw(path: Path, found: Comparison) -> None:
    """Draw bars of what each network finds and tracks, and mAP against speed.

    Args:
        path: a .png or .jpg file.
        found: what was measured.
    """
    rows = len(found.networks) + (found.tracking is not None)
    bars = BARS + ROW * rows
    with drawn(path, WIDTH, bars + BUBBLES) as figure:
        parts: Any = figure.subfigures(2, 1, height_ratios=[bars, BUBBLES])
        above, below = parts
        if found.tracking:
            panels = above.subplots(1, 3, sharey=True, width_ratios=[3, 3, 2])
            in_tracker(panels[1], panels[2], found)
        else:
            panels = [above.subplots()]
        finds(panels[0], found)
        bubbles(below.subplots(), found.networks)


def finds(axes: Axes, found: Comparison) -> None:
    """Bars of mAP and rank-1, with the names of the networks."""
    numbers = [one.numbers for one in found.networks]
    names = [named(k, one.network.name) for k, one in enumerate(found.networks, start=1)]
    two_bars(axes, {
        "mAP": (BLUE, [one["mAP"] for one in numbers]),
        "rank-1": (GREEN, [one["rank1"] for one in numbers]),
    })  # fmt: skip
    if found.tracking:
        names.append("no appearance")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params("y", colors=INK, length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)
    queries, people = numbers[0]["queries"], numbers[0]["query_identities"]
    axes.set_title("Finding people")
    axes.set_xlabel(f"{queries:,} queries of {people:,} identities")


def in_tracker(shares: Axes, switches: Axes, found: Comparison) -> None:
    """Bars of HOTA and IDF1, and of identity switches; a line where no appearance stands."""
    assert found.tracking  # noqa: S101 (asked for where there is)
    tracking = found.tracking
    scores = [tracking.scores[one.network.name] for one in found.networks]
    without = tracking.scores[NO_APPEARANCE]
    everybody = [*scores, without]
    two_bars(shares, {
        "HOTA": (ORANGE, [one.hota for one in everybody]),
        "IDF1": (PINK, [one.idf1 for one in everybody]),
    })  # fmt: skip
    shares.axvline(without.hota, color=GREY, linestyle="--", linewidth=1.2)
    shares.set_title("In the tracker")
    shares.set_xlabel(
        f"{tracking.frames:,} frames, {tracking.people:,} people; dashed: no appearance"
    )
    count_bars(switches, everybody, without)


def count_bars(axes: Axes, scores: Sequence[Scores], without: Scores) -> None:
    """Bars of identity switches."""
    counts = [one.id_switches for one in scores]
    axes.barh(range(len(counts)), counts, height=0.4, color=GREY)
    for row, count in enumerate(counts):
        written(axes, count, row, f"{count:,}")
    axes.set_xlim(0, 1.25 * max(*counts, 4))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.axvline(without.id_switches, color=GREY, linestyle="--", linewidth=1.2)
    axes.grid(visible=False, axis="y")
    axes.tick_params("y", length=0)
    axes.set_title("Identity switches")
    axes.set_xlabel("fewer are better")


def two_bars(axes: Axes, series: dict[str, tuple[str, list[float]]]) -> None:
    """Two bars of shares in each row, one below the other."""
    for place, (label, (colour, values)) in enumerate(series.items()):
        rows = np.arange(len(values)) + (-0.2, 0.2)[place]
        axes.barh(rows, values, height=0.36, color=colour, label=label)
        for row, value in zip(rows, values, strict=True):
            written(axes, value, row, f"{value:.1%}")
    axes.set_xlim(0, 1.18)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False, axis="y")
    axes.tick_params("y", length=0)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2, handlelength=1,
        handletextpad=0.5, columnspacing=1,
    )  # fmt: skip


def written(axes: Axes, value: float, row: float, text: str) -> None:
    """A bar's number beside its end."""
    axes.annotate(
        text, (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        color=INK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def bubbles(axes: Axes, networks: Sequence[Measured]) -> None:
    """Draw mAP against crops a second, bubbles as large as the files, numbered as the bars are."""
    speeds = [one.speeds[SPEED_OF] for one in networks]
    scores = [one.mean_average_precision for one in networks]
    sizes = np.array([one.network.file_bytes for one in networks], float)
    areas = np.maximum(LARGEST * sizes / max(sizes.max(), 1), SMALLEST)
    # The large ones first, so that no small one is hidden.
    for k in np.argsort(-sizes, kind="stable").tolist():
        axes.scatter(speeds[k], scores[k], areas[k], color=BLUE if k == 0 else ORANGE,
                     alpha=0.55, edgecolor="white")  # fmt: skip
        axes.annotate(str(k + 1), (speeds[k], scores[k]), ha="center", va="center", fontsize=9,
                      fontweight="bold", color=INK)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.xaxis.set_minor_formatter(minor(speeds))
    axes.set_xlim(min(speeds) / 1.6, max(speeds) * 1.6)
    room = max(0.15 * (max(scores) - min(scores)), 0.05)
    axes.set_ylim(max(min(scores) - room, -0.04), max(scores) + room)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"crops a second, {SPEED_OF} at a time")
    axes.set_ylabel("mAP")
    axes.set_title("What it costs: the larger the bubble, the larger the file")
    listed(axes, networks)


def listed(axes: Axes, networks: Sequence[Measured]) -> None:
    """Beside the bubbles: the number, size and speed of each network."""
    lines = [
        f"{k:2}  {shortened(one.network.name)}\n      {one.network.file_bytes / 1e6:,.1f} MB, "
        f"{one.speeds[SPEED_OF]:,.0f} crops/s"
        for k, one in enumerate(networks, start=1)
    ]
    axes.annotate(
        "\n".join(lines), (1.02, 1), xycoords="axes fraction", va="top", fontsize=8, color=FAINT
    )


def minor(speeds: Sequence[float]) -> Formatter:
    """Labels between the powers of ten, where there would be one or none of these."""
    wide = max(speeds) / min(speeds) > 30
    return NullFormatter() if wide else FuncFormatter(halves)


def halves(value: float, _: int) -> str:
    """2 and 5 times a power of ten."""
    first = round(value / 10 ** np.floor(np.log10(value)))
    return thousands(value, _) if first in (2, 5) else ""


def thousands(value: float, _: int) -> str:
    """1,000."""
    return f"{value:,.0f}"


def named(number: int, name: str) -> str:
    """A network's number and name, in two lines if need be."""
    if len(name) > LONGEST_NAME:
        name = shortened(name, 2 * LONGEST_NAME)
        name = f"{name[:LONGEST_NAME]}\n{name[LONGEST_NAME:]}"
    return f"{name}  {number}"


def shortened(name: str, most: int = LONGEST_NAME) -> str:
    """A name without its middle, if it is too long."""
    half = most // 2
    return name if len(name) <= most else f"{name[: most - half - 1]}…{name[-half:]}"
