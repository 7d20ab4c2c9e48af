"""The pictures of an evaluation: what it found, and whom it mistook for whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from deepsort_reid.core.figure import BACKED, BLUE, FAINT, GREEN, INK, ORANGE, PINK, drawn

RIGHT, WRONG = "#1A9641", "#D7191C"  # of the frames, which differ in line style too


CMC_MARKS = (1, 5, 10, 20)
MAX_BARS = 60
PAIR_BINS = 60

# The ranked page, in pixels.
CROP_WIDTH, MAX_CROP_HEIGHT = 88, 220
COLUMN_WIDTH, QUERY_GAP = 104, 22
MARGIN, HEADER_HEIGHT, CAPTION_HEIGHT = 20, 64, 50
FRAME = 4

Crop = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, eq=False)
class Answer:
    """A gallery image that was found for a query."""

    image: Crop
    pid: int  # 0 is a distractor
    camid: int | None
    distance: float
    right: bool  # shows the query's identity


@dataclass(frozen=True, eq=False)
class RankedRow:
    """A query and what was found for it, the nearest first."""

    image: Crop
    pid: int
    camid: int | None
    average_precision: float  # in [0, 1]
    answers: Sequence[Answer]


@dataclass(frozen=True, eq=False)
class PairKind:
    """What is known of one kind of pairs, `in one camera` say.

    Attributes:
        place: the kind's name.
        distances: (S,) ascending.
        same: (S,) pairs of one identity that lie so far apart.
        different: (S,) pairs of two.
        rates: (R,) ascending false-match rates in (0, 1].
        found: (R,) true-match rates.
        low: (R,) the lower ends of their 95 % intervals.
        high: (R,) the upper ends.
        eer: the equal error rate.
    """

    place: str
    distances: ArrayLike
    same: ArrayLike
    different: ArrayLike
    rates: ArrayLike
    found: ArrayLike
    low: ArrayLike
    high: ArrayLike
    eer: float


def cmc_curve(
    path: Path,
    cmc: ArrayLike,
    *,
    mAP: float,  # noqa: N803
    mINP: float | None = None,  # noqa: N803
) -> None:
    """Draw the cumulative matching characteristic, with its values at 1, 5, 10 and 20.

    Args:
        path: a .jpg or .png file.
        cmc: (R,) shares in [0, 1]; cmc[k - 1] at k.
        mAP: in [0, 1].
        mINP: in [0, 1].
    """
    shares = np.asarray(cmc, dtype=np.float64)
    places = np.arange(1, len(shares) + 1)
    marks = [k for k in CMC_MARKS if k <= len(shares)]
    with drawn(path, 800, 520) as figure:
        axes = figure.subplots()
        axes.plot(places, shares, color=BLUE)
        axes.plot(marks, shares[np.array(marks) - 1], "o", color=BLUE)
        for k in marks:
            axes.annotate(
                f"{shares[k - 1]:.1%}",
                (k, shares[k - 1]),
                xytext=(6, -15 if shares[k - 1] > 0.1 else 8),
                textcoords="offset points",
                fontsize=9,
            )
        summary = f"mAP {mAP:.1%}" + ("" if mINP is None else f",  mINP {mINP:.1%}")
        axes.set_title(f"Queries answered within the first k:  {summary}")
        axes.set_xlabel("k, gallery images looked at")
        axes.set_ylabel("queries with a right answer among them")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, len(shares) + 1)
        axes.set_xticks(
            [k for k in (*CMC_MARKS, *range(30, len(shares) + 1, 10)) if k <= len(shares)]
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def distance_distributions(
    path: Path, edges: ArrayLike, same: ArrayLike, different: ArrayLike
) -> None:
    """Draw how far apart pairs of one identity and of two lie, each as a share of its kind.

    Args:
        path: a .jpg or .png file.
        edges: (bins + 1,) ascending distances.
        same: (bins,) counts of pairs of the same identity.
        different: (bins,) counts of pairs of different identities.
    """
    edges = np.asarray(edges, dtype=np.float64)
    counts = np.array([same, different], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with drawn(path, 900, 500) as figure:
        axes = figure.subplots()
        for name, line, colour, share, count in zip(
            ("same identity", "different identities"),
            ("-", "--"),
            (BLUE, ORANGE),
            shares,
            counts,
            strict=True,
        ):
            label = f"{name}: {count.sum():,.0f} pairs"
            if count.sum():
                median = _median(edges, count)
                axes.plot([median] * 2, [0, share.max()], line, color=colour, linewidth=1.2)
                label += f", median {median:.3f}"
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.5, label=label)
        overlap = np.minimum(*shares).sum()
        axes.set_title(f"Distances of same and different identities:  overlap {overlap:.1%}")
        axes.set_xlabel("distance, 1 − cosine")
        axes.set_ylabel(f"share of pairs, in bins of {edges[1] - edges[0]:.2g}")
        used = np.flatnonzero(counts.sum(axis=0))
        if len(used):
            axes.set_xlim(edges[used[0]], edges[used[-1] + 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(0, max(1.3 * shares.max(), 1e-3))
        axes.legend(loc="upper left")


def calibration(
    path: Path, kinds: Sequence[PairKind], *, threshold: float, false_match_rate: float
) -> None:
    """Draw where a threshold lies among the distances of each kind, and which rates others give.

    Args:
        path: a .jpg or .png file.
        kinds: at most three, the one that the threshold comes from first; none leaves it empty.
        threshold: the recommended one.
        false_match_rate: the one it was chosen for.
    """
    names = [kind.place for kind in kinds] or ["no pairs"]
    with drawn(path, 1200, 520 if len(kinds) < 3 else 640) as figure:
        panels = figure.subplot_mosaic([[name, ""] for name in names], width_ratios=[6, 5])
        for kind in kinds:
            _pair_distances(panels[kind.place], kind, threshold)
            panels[kind.place].sharex(panels[names[0]])
        panels[names[0]].set_title(f"Distances:  max_cosine_distance {threshold:.3f}")
        panels[names[-1]].set_xlabel("distance, 1 − cosine")
        _set_limits(panels[names[0]], kinds, threshold)
        _match_rates(panels[""], kinds, false_match_rate)


def _pair_distances(axes: Axes, kind: PairKind, threshold: float) -> None:
    """Draw one kind's histograms, and the threshold."""
    distances = np.asarray(kind.distances, dtype=np.float64)
    counts = np.array([kind.same, kind.different], dtype=np.float64)
    used = distances[np.flatnonzero(counts.sum(axis=0))]
    edges = np.linspace(used[0] - 1e-3, used[-1] + 1e-3, PAIR_BINS + 1)
    for name, line, colour, count in zip(
        ("one person", "two people"), ("-", "--"), (BLUE, ORANGE), counts, strict=True
    ):
        share = np.histogram(distances, edges, weights=count)[0] / count.sum()
        near = count[distances <= threshold].sum() / count.sum()
        label = f"{name}: {count.sum():,.0f} pairs, {near:.1%} match"
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.5, label=label)
    axes.axvline(threshold, color=INK, linestyle=":", linewidth=1.4)
    axes.set_ylabel(kind.place)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylim(0, 1.5 * axes.dataLim.ymax)  # room for the legend
    axes.legend(loc="upper left", **BACKED)


def _set_limits(axes: Axes, kinds: Sequence[PairKind], threshold: float) -> None:
    """Show all distances that occur, and the threshold."""
    used = [
        np.asarray(kind.distances)[np.flatnonzero(np.add(kind.same, kind.different))]
        for kind in kinds
    ]
    shown = np.concatenate([*used, [threshold]])
    margin = max(0.02 * (shown.max() - shown.min()), 2e-3)
    axes.set_xlim(shown.min() - margin, shown.max() + margin)


def _match_rates(axes: Axes, kinds: Sequence[PairKind], false_match_rate: float) -> None:
    """Draw each kind's true-match rates by false-match rate, with intervals."""
    least = min(1e-4, false_match_rate)
    for kind, colour, line in zip(kinds, (BLUE, GREEN, PINK), ("-", "--", "-."), strict=False):
        rates = np.asarray(kind.rates, dtype=np.float64)
        axes.fill_between(rates, kind.low, kind.high, color=colour, alpha=0.2, linewidth=0)
        label = f"{kind.place}, equal error rate {kind.eer:.1%}"
        axes.plot(rates, kind.found, line, color=colour, label=label)
        if kind.eer >= least:  # a logarithmic axis has no place for 0
            axes.plot([kind.eer], [1 - kind.eer], "o", color=colour, markersize=6, clip_on=False)
    axes.axvline(false_match_rate, color=INK, linestyle=":", linewidth=1.4)
    axes.set_title("Pairs of one person that match")
    axes.set_xlabel("pairs of two people that match")
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if kinds:
        axes.legend(**BACKED)


def choose_queries(average_precision: ArrayLike, count: int) -> list[int]:
    """Choose queries evenly over their average precision, from the best to the worst.

    Args:
        average_precision: (num_query,) NaN where a query has no right answer: never chosen.
        count: how many; fewer where there are fewer.

    Returns:
        their indices, the best first.
    """
    scores = np.asarray(average_precision, dtype=np.float64)
    best_first = np.argsort(-scores, kind="stable")[: np.count_nonzero(~np.isnan(scores))]
    count = min(count, len(best_first))
    positions = np.linspace(0, len(best_first) - 1, count).round().astype(np.int64)
    return [int(index) for index in best_first[positions]]


def ranked_page(path: Path, rows: Sequence[RankedRow]) -> None:
    """Draw a page of queries, each with its nearest gallery images in a row.

    Right answers have a solid green frame and a ✓, wrong ones a dashed red frame and a ✗.

    Args:
        path: a .jpg or .png file.
        rows: from top to bottom; crops of any size, the first one's shape sets the cells'.
    """
    columns = max((len(row.answers) for row in rows), default=0)
    crop_height = _crop_height(rows[0].image) if rows else 0
    row_height = crop_height + CAPTION_HEIGHT
    width = 2 * MARGIN + COLUMN_WIDTH * (max(columns, 5) + 1) + QUERY_GAP  # the title needs 5
    height = HEADER_HEIGHT + row_height * len(rows) + MARGIN // 2
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    with drawn(path, width, height, layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        _header(axes, columns, width)
        for number, row in enumerate(rows):
            _ranked_row(axes, page, row, HEADER_HEIGHT + number * row_height, crop_height)
        axes.imshow(page, interpolation="none", extent=(0, width, height, 0))
        axes.set(xlim=(0, width), ylim=(height, 0))


def _median(edges: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The median of a histogram, taking each bin's pairs as spread evenly over it."""
    below = np.concatenate([[0.0], counts.cumsum()])
    return float(np.interp(below[-1] / 2, below, edges))


def _crop_height(image: Crop) -> int:
    """The height of the page's cells, in pixels."""
    height, width = image.shape[:2]
    return max(1, min(round(CROP_WIDTH * int(height) / int(width)), MAX_CROP_HEIGHT))


def _cell_left(column: int) -> int:
    """The left edge of a column's crops, in pixels; column 0 is the query's."""
    return MARGIN + FRAME + COLUMN_WIDTH * column + (QUERY_GAP if column else 0)


def _header(axes: Axes, columns: int, width: int) -> None:
    """Write the page's title, what the frames mean, and the columns' names."""
    axes.text(
        _cell_left(0),
        18,
        "Queries and their nearest gallery images",
        fontsize=12,
        fontweight="bold",
        va="center",
    )
    axes.text(width - MARGIN - 90, 18, "✓ right", color=RIGHT, va="center", ha="right")
    axes.text(width - MARGIN - 10, 18, "✗ wrong", color=WRONG, va="center", ha="right")
    names = ["query", *(str(place) for place in range(1, columns + 1))]
    for column, name in enumerate(names):
        axes.text(
            _cell_left(column) + CROP_WIDTH / 2,
            HEADER_HEIGHT - 16,
            name,
            color=FAINT,
            ha="center",
            va="center",
        )


def _ranked_row(axes: Axes, page: Crop, row: RankedRow, top: int, height: int) -> None:
    """Draw a query and its answers from `top` downwards."""
    cell = _paste(page, row.image, _cell_left(0), top, height)
    axes.add_patch(Rectangle(*cell, fill=False, edgecolor=INK, linewidth=1))
    _caption(axes, 0, top + height, f"AP {row.average_precision:.1%}", _who(row.pid, row.camid))
    for column, answer in enumerate(row.answers, 1):
        cell = _paste(page, answer.image, _cell_left(column), top, height)
        colour, line, mark = (RIGHT, "-", "✓") if answer.right else (WRONG, (0, (3, 1.5)), "✗")
        axes.add_patch(
            Rectangle(*cell, fill=False, edgecolor=colour, linewidth=2.5, linestyle=line)
        )
        text = f"{mark} {answer.distance:.3f}"
        _caption(axes, column, top + height, text, _who(answer.pid, answer.camid), colour)


def _paste(
    page: Crop, image: Crop, left: int, top: int, height: int
) -> tuple[tuple[float, float], int, int]:
    """Put a crop into its cell, as large as fits; return its frame: corner, width and height."""
    scale = min(CROP_WIDTH / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    x, y = left + (CROP_WIDTH - size[0]) // 2, top + (height - size[1]) // 2
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)
    page[y : y + size[1], x : x + size[0]] = np.asarray(resized)
    half = FRAME / 2
    return (x - half, y - half), size[0] + FRAME, size[1] + FRAME


def _caption(
    axes: Axes, column: int, bottom: int, first: str, second: str, colour: str = INK
) -> None:
    """Write two lines below a crop."""
    middle = _cell_left(column) + CROP_WIDTH / 2
    axes.text(middle, bottom + 14, first, color=colour, fontsize=8.5, ha="center", va="center")
    axes.text(middle, bottom + 28, second, color=FAINT, fontsize=7.5, ha="center", va="center")


def _who(pid: int, camid: int | None) -> str:
    """Whom a crop shows, and which camera saw them."""
    person = f"id {pid}" if pid > 0 else "distractor"
    return person if camid is None else f"{person}, cam {camid}"
