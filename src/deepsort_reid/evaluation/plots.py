"""The pictures of an evaluation: what it found, and whom it mistook for whom."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from deepsort_reid.core.figure import BACKED, BLUE, FAINT, GREEN, INK, ORANGE, PINK, drawn
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.data.samples import NO_CAMERA
from deepsort_reid.evaluation.calibration import PLACES, Calibration, MatchRates
from deepsort_reid.evaluation.pairs import STEP, STEPS
from deepsort_reid.evaluation.ranking import DistanceHistograms, Neighbours, Ranking

RIGHT, WRONG = "#1A9641", "#D7191C"  # of the frames, which differ in line style too


CMC_MARKS = (1, 5, 10, 20)
PAIR_BINS = 60
DISTANCES = np.arange(STEPS) * STEP  # of the counts of pairs

# The ranked page, in pixels.
CROP_WIDTH, MAX_CROP_HEIGHT = 88, 220
COLUMN_WIDTH, QUERY_GAP = 104, 22
MARGIN, HEADER_HEIGHT, CAPTION_HEIGHT = 20, 64, 50
FRAME_WIDTH = 4


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


def distance_distributions(path: Path, histograms: DistanceHistograms) -> None:
    """Draw how far apart pairs of one identity and of two lie, each as a share of its kind.

    Args:
        path: a .jpg or .png file.
        histograms: the counts.
    """
    edges = histograms.edges
    counts = np.array([histograms.same, histograms.different], dtype=np.float64)
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


def calibration(path: Path, found: Calibration) -> None:
    """Draw the threshold among the distances of each kind of pairs, and the rates of others.

    Args:
        path: a .jpg or .png file.
        found: kinds, at most three, of which the first gives the threshold; none leaves the
            picture empty.
    """
    threshold = found.recommended.threshold.value if found.recommended else 0.0
    kinds = {PLACES[name]: kind for name, kind in found.kinds.items()}
    places = list(kinds) or ["no pairs"]
    with drawn(path, 1200, 520 if len(kinds) < 3 else 640) as figure:
        panels = figure.subplot_mosaic([[place, ""] for place in places], width_ratios=[6, 5])
        for place, kind in kinds.items():
            _pair_distances(panels[place], kind, threshold)
            panels[place].set_ylabel(place)
            panels[place].sharex(panels[places[0]])
        panels[places[0]].set_title(f"Distances:  max_cosine_distance {threshold:.3f}")
        panels[places[-1]].set_xlabel("distance, 1 − cosine")
        _set_limits(panels[places[0]], list(kinds.values()), threshold)
        _match_rates(panels[""], kinds, found.false_match_rate)


def _pair_distances(axes: Axes, kind: MatchRates, threshold: float) -> None:
    """Draw one kind's histograms, and the threshold."""
    counts = np.array([kind.same, kind.different], dtype=np.float64)
    used = DISTANCES[np.flatnonzero(counts.sum(axis=0))]
    edges = np.linspace(used[0] - 1e-3, used[-1] + 1e-3, PAIR_BINS + 1)
    for name, line, colour, count in zip(
        ("one person", "two people"), ("-", "--"), (BLUE, ORANGE), counts, strict=True
    ):
        share = np.histogram(DISTANCES, edges, weights=count)[0] / count.sum()
        near = count[threshold >= DISTANCES].sum() / count.sum()
        label = f"{name}: {count.sum():,.0f} pairs, {near:.1%} match"
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.5, label=label)
    axes.axvline(threshold, color=INK, linestyle=":", linewidth=1.4)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_ylim(0, 1.5 * axes.dataLim.ymax)  # room for the legend
    axes.legend(loc="upper left", **BACKED)


def _set_limits(axes: Axes, kinds: Sequence[MatchRates], threshold: float) -> None:
    """Show all distances that occur, and the threshold."""
    used = [DISTANCES[np.flatnonzero(kind.same + kind.different)] for kind in kinds]
    shown = np.concatenate([*used, [threshold]])
    margin = max(0.02 * (shown.max() - shown.min()), 2e-3)
    axes.set_xlim(shown.min() - margin, shown.max() + margin)


def _match_rates(axes: Axes, kinds: Mapping[str, MatchRates], false_match_rate: float) -> None:
    """Draw each kind's true-match rates by false-match rate, with intervals."""
    least = min(1e-4, false_match_rate)
    colours, lines = (BLUE, GREEN, PINK), ("-", "--", "-.")
    for (place, kind), colour, line in zip(kinds.items(), colours, lines, strict=False):
        curve, eer = kind.curve, kind.eer.value
        axes.fill_between(curve.rates, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        label = f"{place}, equal error rate {eer:.1%}"
        axes.plot(curve.rates, curve.value, line, color=colour, label=label)
        if eer >= least:  # a logarithmic axis has no place for 0
            axes.plot([eer], [1 - eer], "o", color=colour, markersize=6, clip_on=False)
    axes.axvline(false_match_rate, color=INK, linestyle=":", linewidth=1.4)
    axes.set_title("Pairs of one person that match")
    axes.set_xlabel("pairs of two people that match")
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if kinds:
        axes.legend(**BACKED)


def best_to_worst(average_precision: ArrayLike, count: int) -> list[int]:
    """Choose queries evenly over their average precision, from the best to the worst.

    Args:
        average_precision: (num_query,) NaN where a query has no match: never chosen.
        count: how many; fewer where there are fewer.

    Returns:
        their positions, the best first.
    """
    scores = np.asarray(average_precision, dtype=np.float64)
    best_first = np.argsort(-scores, kind="stable")[: np.count_nonzero(~np.isnan(scores))]
    count = min(count, len(best_first))
    positions = np.linspace(0, len(best_first) - 1, count).round().astype(np.int64)
    return [int(index) for index in best_first[positions]]


def ranked_page(
    path: Path,
    query: Part,
    gallery: Part,
    *,
    ranking: Ranking,
    neighbours: Neighbours,
    chosen: Sequence[int],
) -> None:
    """Draw a page of queries, each with its nearest gallery images in a row.

    Matches have a solid green frame and a ✓, other images a dashed red frame and a ✗.

    Args:
        path: a .jpg or .png file.
        query: the queries' images.
        gallery: the gallery's images.
        ranking: the queries' average precision.
        neighbours: the nearest gallery images of each query.
        chosen: positions of the queries shown, from top to bottom.
    """
    shown = neighbours.indices[chosen] >= 0
    columns = int(shown.sum(axis=1).max(initial=0))
    crop_height = _crop_height(query.image_size) if chosen else 0
    row_height = crop_height + CAPTION_HEIGHT
    width = 2 * MARGIN + COLUMN_WIDTH * (max(columns, 5) + 1) + QUERY_GAP  # the title needs 5
    height = HEADER_HEIGHT + row_height * len(chosen) + MARGIN // 2
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    with drawn(path, width, height, layout=None) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        _header(axes, columns, width)
        for row, number in enumerate(chosen):
            top = HEADER_HEIGHT + row * row_height
            precision = float(ranking.average_precision[number])
            _query_cell(axes, page, query, number, top, crop_height, precision)
            found = zip(neighbours.indices[number], neighbours.distances[number], strict=True)
            for column, (index, distance) in enumerate(found, 1):
                if index >= 0:
                    right = bool(gallery.pids[index] == query.pids[number])
                    cell = column, top, crop_height
                    _gallery_cell(axes, page, gallery, int(index), cell, float(distance), right)
        axes.imshow(page, interpolation="none", extent=(0, width, height, 0))
        axes.set(xlim=(0, width), ylim=(height, 0))


def _median(edges: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The median of a histogram, taking each bin's pairs as spread evenly over it."""
    below = np.concatenate([[0.0], counts.cumsum()])
    return float(np.interp(below[-1] / 2, below, edges))


def _crop_height(image_size: tuple[int, int]) -> int:
    """The height of the page's cells, in pixels, for images of a height and a width."""
    height, width = image_size
    return max(1, min(round(CROP_WIDTH * height / width), MAX_CROP_HEIGHT))


def _cell_left(column: int) -> int:
    """The left edge of a column's crops, in pixels; column 0 is the query's."""
    return MARGIN + FRAME_WIDTH + COLUMN_WIDTH * column + (QUERY_GAP if column else 0)


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


def _query_cell(
    axes: Axes, page: Images, query: Part, number: int, top: int, height: int, precision: float
) -> None:
    """Draw a query at the left of its row, with its average precision."""
    frame = _paste(page, query.images[number], _cell_left(0), top, height)
    axes.add_patch(Rectangle(*frame, fill=False, edgecolor=INK, linewidth=1))
    _caption(axes, 0, top + height, f"AP {precision:.1%}", _who(query, number))


def _gallery_cell(
    axes: Axes,
    page: Images,
    gallery: Part,
    index: int,
    cell: tuple[int, int, int],
    distance: float,
    right: bool,
) -> None:
    """Draw a gallery image into a cell: its column, top and height."""
    column, top, height = cell
    frame = _paste(page, gallery.images[index], _cell_left(column), top, height)
    colour, line, mark = (RIGHT, "-", "✓") if right else (WRONG, (0, (3, 1.5)), "✗")
    axes.add_patch(Rectangle(*frame, fill=False, edgecolor=colour, linewidth=2.5, linestyle=line))
    text = f"{mark} {distance:.3f}"
    _caption(axes, column, top + height, text, _who(gallery, index), colour)


def _paste(
    page: Images, image: Images, left: int, top: int, height: int
) -> tuple[tuple[float, float], int, int]:
    """Put a crop into its cell, as large as fits; return its frame: corner, width and height."""
    scale = min(CROP_WIDTH / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    x, y = left + (CROP_WIDTH - size[0]) // 2, top + (height - size[1]) // 2
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)
    page[y : y + size[1], x : x + size[0]] = np.asarray(resized)
    half = FRAME_WIDTH / 2
    return (x - half, y - half), size[0] + FRAME_WIDTH, size[1] + FRAME_WIDTH


def _caption(
    axes: Axes, column: int, bottom: int, first: str, second: str, colour: str = INK
) -> None:
    """Write two lines below a crop."""
    middle = _cell_left(column) + CROP_WIDTH / 2
    axes.text(middle, bottom + 14, first, color=colour, fontsize=8.5, ha="center", va="center")
    axes.text(middle, bottom + 28, second, color=FAINT, fontsize=7.5, ha="center", va="center")


def _who(part: Part, index: int) -> str:
    """The identity that an image shows, and its camera if it is known."""
    pid, camid = int(part.pids[index]), int(part.camids[index])
    person = f"id {pid}" if pid > 0 else "distractor"
    return person if camid == NO_CAMERA else f"{person}, cam {camid}"
