"""The tables and pictures that the evaluate stage leaves in reports/."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deepsort_reid.core import files
from deepsort_reid.data.packed import Part
from deepsort_reid.data.sample_size import as_tag, verdict
from deepsort_reid.evaluation import elsewhere, plots
from deepsort_reid.evaluation.calibration import CURVE, PLACES, Calibration, Estimate, MatchRates
from deepsort_reid.evaluation.evaluate import RANKS, Evaluation
from deepsort_reid.evaluation.pairs import STEP
from deepsort_reid.runs.names import Numbers

CMC_DEPTH = 50
LINES = 8  # at the end of the stage, at most
COUNTS = ("queries", "query_identities", "gallery_images")  # of other datasets
SETTINGS = (  # of `Evaluation.metrics`: counts and answers, which are no measured numbers
    "val_images",
    "queries",
    "queries_without_match",
    "query_identities",
    "gallery_images",
    "pairs_of_one_person",
    "pairs_of_two_people",
    "same_camera_removed",
    "cameras_known",
    "tuning",
    "reranked_flip",
)


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, query: Part, gallery: Part, ranked_queries: int
) -> list[str]:
    """Write the metrics, the tables behind DVC's plots, and four pictures.

    Args:
        folder: receives evaluation.json, cmc.csv, distances.csv, cmc.png, distances.png,
            ranked.jpg, and calibration.json, .csv and .png.
        evaluation: what to write.
        query: the part, for its images.
        gallery: likewise.
        ranked_queries: rows of ranked.jpg, from the best average precision to the worst.

    Returns:
        the names of what was written, the metrics first.
    """
    ranking, histograms = evaluation.ranking, evaluation.histograms
    names = (
        "evaluation.json",
        "cmc.csv",
        "distances.csv",
        "cmc.png",
        "distances.png",
        "ranked.jpg",
    )
    paths = {name: folder / name for name in names}
    files.write_json(paths["evaluation.json"], contents(evaluation))
    files.write_csv(
        paths["cmc.csv"], ["k", "found"], enumerate(ranking.cmc[:CMC_DEPTH].tolist(), start=1)
    )
    centres = (histograms.edges[:-1] + histograms.edges[1:]) / 2
    shares = [side / max(side.sum(), 1) for side in (histograms.same, histograms.different)]
    files.write_csv(
        paths["distances.csv"],
        ["distance", "same", "different"],
        zip(np.round(centres, 6).tolist(), *(share.tolist() for share in shares), strict=True),
    )
    plots.cmc_curve(paths["cmc.png"], ranking.cmc[:CMC_DEPTH], mAP=ranking.mAP, mINP=ranking.mINP)
    plots.distance_distributions(paths["distances.png"], histograms)
    plots.ranked_page(
        paths["ranked.jpg"],
        query,
        gallery,
        ranking=ranking,
        neighbours=evaluation.neighbours,
        chosen=plots.best_to_worst(ranking.average_precision, ranked_queries),
    )
    return [*names, *write_calibration(folder, evaluation.calibration)]


def contents(evaluation: Evaluation) -> dict[str, Any]:
    """The content of evaluation.json: the numbers, and what they have too little of."""
    return {
        **evaluation.metrics(),
        **verdict(evaluation.too_few()),
        **evaluation.elsewhere(),
    }


def write_calibration(folder: Path, found: Calibration) -> list[str]:
    """Write the thresholds and rates with their intervals, as a table, a curve and a picture.

    Returns:
        the names of what was written.
    """
    names = [f"calibration.{suffix}" for suffix in ("json", "csv", "png")]
    table, curve, picture = (folder / name for name in names)
    recommended = found.recommended
    threshold = recommended.threshold.value if recommended else 0.0
    content = {
        "max_cosine_distance": threshold if recommended else None,
        "false_match_rate": found.false_match_rate,
        "resolution": STEP,
        "kinds": {name: kind_numbers(kind, threshold) for name, kind in found.kinds.items()},
        "notes": [*found.doubts, *found.untold],
    }
    files.write_json(table, content)
    files.write_csv(curve, *rates_table(found.kinds))
    plots.calibration(picture, found)
    return names


def kind_numbers(kind: MatchRates, recommended: float) -> dict[str, object]:
    """The numbers of one kind of pairs in calibration.json."""
    false, matched = kind.rates_at(recommended)

    def numbers(estimate: Estimate | None) -> dict[str, float | None] | None:
        return None if estimate is None else asdict(estimate)

    return {
        "pairs_of_two_people": kind.count_different,
        "pairs_of_one_person": kind.count_same,
        "resampled_groups": kind.groups,
        "threshold": numbers(kind.threshold),
        "true_match_rate": numbers(kind.true_match),
        "equal_error_rate": numbers(kind.eer),
        "true_match_rate_at": {rate: numbers(estimate) for rate, estimate in kind.at.items()},
        "at_max_cosine_distance": {"false_match_rate": false, "true_match_rate": matched},
    }


def rates_table(kinds: Mapping[str, MatchRates]) -> tuple[list[str], list[Sequence[object]]]:
    """The columns and rows of calibration.csv, empty where a kind has no pairs or too few."""
    rates = CURVE
    columns: dict[str, list[object]] = {"log10_false_match_rate": np.log10(rates).round(6).tolist()}
    for name in PLACES:
        curve = kinds[name].curve if name in kinds else None
        told = {} if curve is None else {"": curve.value, "_low": curve.low, "_high": curve.high}
        for end in ("", "_low", "_high"):
            values = told[end].tolist() if end in told else []
            columns[name + end] = [""] * (len(rates) - len(values)) + values
    return list(columns), list(zip(*columns.values(), strict=True))


def numbers_of_run(metrics: Mapping[str, float | int | bool]) -> Numbers:
    """The numbers of `Evaluation.metrics` as the training's run records them."""
    measured: dict[str, float] = {}
    told: dict[str, object] = {}
    for name, value in metrics.items():
        if name in SETTINGS:
            told[f"reid.{name}"] = value
        elif name == "val_accuracy":
            measured["val/accuracy"] = value
        elif name.startswith(("mAP", "mINP", "rank")):
            measured["reid/" + re.sub(r"^rank(\d)", r"rank-\1", name)] = value
        else:
            measured[f"calibration/{name}"] = value
    return Numbers(measured, told)


def numbers_elsewhere(content: Mapping[str, Any]) -> Numbers:
    """The numbers on other datasets as the training's run records them: `also-msmt17/mAP`.

    Args:
        content: of evaluation.json.
    """
    measured: dict[str, float] = {}
    told: dict[str, object] = {}
    for group in ("sources", "also"):
        for dataset, numbers in content.get(group, {}).items():
            section = f"{group.removesuffix('s')}-{dataset}"
            told[f"{section}.too_few"] = as_tag(numbers["too_few"])
            for name, value in numbers.items():
                if name in COUNTS:
                    told[f"{section}.{name}"] = value
                elif isinstance(value, float):
                    measured[f"{section}/{name.replace('rank', 'rank-')}"] = value
    return Numbers(measured, told)


def describe_version(
    metrics: Mapping[str, float | int | bool], *, data: str, too_few: Mapping[str, str]
) -> str:
    """A registered model's version in a few words: its data, mAP and threshold.

    Args:
        metrics: of `Evaluation.metrics`.
        data: what the network was trained on.
        too_few: of `Evaluation.too_few`.
    """
    words = [
        f"Trained on {data}",
        f"mAP {metrics['mAP']:.1%}, rank-1 {metrics['rank1']:.1%} "
        f"({metrics['queries']:,} queries, {metrics['gallery_images']:,} gallery images)",
        f"max_cosine_distance {metrics['max_cosine_distance']:.3f}"
        if "max_cosine_distance" in metrics
        else "no max_cosine_distance could be recommended",
        *(f"{group} not meaningful, too few {text}" for group, text in too_few.items() if text),
    ]
    return "; ".join(words)


def closing_summary(metrics: Mapping[str, Any], threshold: str) -> str:
    """The closing lines of stage evaluate, eight at most.

    Args:
        metrics: as reports/evaluation.json has them.
        threshold: the text of `Calibration.summary`.
    """
    too_few = metrics["too_few"]
    queries = metrics["queries"] - metrics["queries_without_match"]
    held_out = " held out for tuning" if metrics["tuning"] else ""
    accuracy = f"accuracy on val {metrics['val_accuracy']:.1%} of {metrics['val_images']:,} images"
    lines = [
        *rankings(metrics),
        f"{queries:,} queries of {metrics['query_identities']:,} identities{held_out}, "
        f"{metrics['gallery_images']:,} gallery images; {protocol(metrics)}",
        *not_meaningful(too_few.get("ranking")),
        "; ".join([accuracy, *not_meaningful(too_few.get("val_accuracy"))]),
        threshold,
        *not_meaningful(too_few.get("threshold")),
    ]
    others = {**metrics.get("sources", {}), **metrics.get("also", {})}
    lines += elsewhere.lines(others, max(1, LINES - 1 - len(lines)))
    return "\n".join(f"  {line}" for line in lines)


def not_meaningful(too_few: str | None) -> list[str]:
    """The mark of numbers that rest on too little; none where nothing is lacking."""
    return [f"not meaningful, too few {too_few}"] if too_few else []


def rankings(metrics: Mapping[str, Any]) -> list[str]:
    """A line of shares, and one more for mirror images and for re-ranking if they were measured."""

    def found(suffix: str) -> str:
        numbers = {"mAP": "mAP", "mINP": "mINP"} | {f"rank{k}": f"rank-{k}" for k in RANKS}
        return "   ".join(f"{shown} {metrics[key + suffix]:.1%}" for key, shown in numbers.items())

    lines = [found("")]
    if "mAP_flip" in metrics:
        lines.append(f"{found('_flip')}   with mirror images")
    if "mAP_reranked" in metrics:
        of = " with mirror images" if metrics["reranked_flip"] else ""
        lines.append(f"{found('_reranked')}   re-ranked{of}")
    return lines


def protocol(metrics: Mapping[str, Any]) -> str:
    """Which images are right answers, in a few words."""
    if metrics["same_camera_removed"]:
        return "matches under another camera"
    if metrics["cameras_known"]:
        return "nobody is seen by two cameras"
    return "cameras unknown"
