"""The report of stage split: how many images each identity has in each part."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from deepsort_reid.core import files
from deepsort_reid.core.figure import BLUE, ORANGE, drawn
from deepsort_reid.data.packed import PARTS, Summary
from deepsort_reid.data.sample_size import LEAST, shortage
from deepsort_reid.data.samples import Dataset, Split
from deepsort_reid.data.split import images_per_identity

logger = logging.getLogger(__name__)

MAX_BARS = 60
LINES = 8  # at the end of the stage, at most


def write_report(
    folder: Path, summary: Summary, split: Split, datasets: Mapping[str, Dataset]
) -> None:
    """Write what was understood of the data, the counts of the split, and its images per identity.

    Args:
        folder: receives split.json, images_per_identity.png and images_per_identity.csv.
        summary: the summary of the parts.
        split: the images of each part.
        datasets: name -> dataset; a single one without a list has the name ''.
    """
    understood = {name: dict(dataset.understood) for name, dataset in datasets.items()}
    content: dict[str, Any] = {**summary.counts, "tuning": summary.tuning}
    content["understood"] = understood.get("", understood)
    if summary.sources:
        content["sources"] = dict(summary.sources)
    files.write_json(folder / "split.json", content)
    counts = {part: images_per_identity(samples) for part, samples in split.items()}
    draw_images_per_identity(folder / "images_per_identity.png", counts)
    identities = {part: Counter(values) for part, values in counts.items()}
    numbers = sorted({number for counter in identities.values() for number in counter})
    files.write_csv(
        folder / "images_per_identity.csv",
        ["images", *identities],
        [[number, *(counter[number] for counter in identities.values())] for number in numbers],
    )


def closing_line(summary: Summary) -> str:
    """What the parts hold, for the end of stage split: a line for each dataset, eight at most."""
    if not summary.sources:
        return line_of("", summary.counts)
    lines = [line_of(f"{name}: ", counts) for name, counts in summary.sources.items()]
    if len(lines) > LINES:
        lines[LINES - 1 :] = [f"  and {len(lines) - LINES + 1} more in reports/split.json"]
    return "\n".join(lines)


def line_of(source: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """What the parts hold of one dataset."""
    train, val, query, gallery = (counts[part] for part in PARTS)
    return (
        f"  {source}train {train['images']:,} and val {val['images']:,} images of "
        f"{train['identities']:,} identities; query {query['images']:,} and gallery "
        f"{gallery['images']:,} images of {query['identities']:,} others"
    )


def warn_of_few(summary: Summary) -> None:
    """Warn where the evaluation's numbers will mean nothing, before a network is trained."""
    lacking = shortage({"identities": (summary.counts["query"]["identities"], LEAST)})
    if lacking:
        logger.warning(
            "mAP, rank-1 and threshold will not be meaningful: query has too few %s; add "
            "identities, or raise %s",
            lacking, "split.tune_fraction" if summary.tuning else "split.test_fraction",
        )  # fmt: skip


def draw_images_per_identity(path: Path, counts_per_part: Mapping[str, ArrayLike]) -> None:
    """Draw for each part how many identities have how many images.

    Args:
        path: a .jpg or .png file.
        counts_per_part: part -> the number of images of each of its identities; junk and
            distractors do not count.
    """
    lines = (len(counts_per_part) + 1) // 2
    with drawn(path, 1000, 90 + 240 * lines) as figure:
        figure.suptitle("Images per identity", x=0.012, ha="left", fontweight="bold")
        panels = figure.subplots(lines, 2, squeeze=False).flatten()
        for axes, (part, values) in zip(panels, counts_per_part.items(), strict=False):
            _identity_panel(axes, part, np.asarray(values, dtype=np.int64))
        for axes in panels[len(counts_per_part) :]:
            axes.set_axis_off()


def _identity_panel(axes: Axes, part: str, counts: NDArray[np.int64]) -> None:
    """Draw one part's histogram of images per identity."""
    axes.set_title(f"{part}: {len(counts):,} identities, {counts.sum():,} images", fontsize=10.5)
    axes.set_xlabel("images of an identity")
    axes.set_ylabel("identities")
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    if not len(counts):
        return
    step = -(-int(counts.max()) // MAX_BARS)
    edges = np.arange(0.5, counts.max() + step + 0.5, step)
    heights = axes.hist(counts, edges.tolist(), color=BLUE, rwidth=0.85)[0]
    axes.set_ylim(0, 1.3 * np.max(heights))  # room for the legend
    median = float(np.median(counts))
    axes.axvline(median, color=ORANGE, linestyle="--", linewidth=1.2, label=f"median {median:g}")
    axes.set_xlim(0, edges[-1] + 0.5)
    axes.legend()
