"""The tables and pictures that the evaluate stage leaves in reports/."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deepsort_reid.core import files
from deepsort_reid.data.packed import Part
from deepsort_reid.data.samples import NO_CAMERA
from deepsort_reid.evaluation import calibration, plots
from deepsort_reid.evaluation.calibration import Calibration, Estimate, Kind
from deepsort_reid.evaluation.evaluate import RANKS, Evaluation

CMC_DEPTH = 50


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, query: Part, gallery: Part, ranked_queries: int
) -> list[str]:
    """Write the metrics, the tables behind DVC's plots, and four pictures.

    Args:
        folder: receives metrics.json, cmc.csv, distances.csv, cmc.png, distances.png, ranked.jpg,
            and calibration.json, .csv and .png.
        evaluation: what to write.
        query: the part, for its images.
        gallery: likewise.
        ranked_queries: rows of ranked.jpg, from the query found best to the one found worst.

    Returns:
        the names of what was written, the metrics first.
    """
    ranking, histograms = evaluation.ranking, evaluation.histograms
    names = ("metrics.json", "cmc.csv", "distances.csv", "cmc.png", "distances.png", "ranked.jpg")
    paths = {name: folder / name for name in names}
    files.write_json(paths["metrics.json"], evaluation.metrics())
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
    plots.distance_distributions(
        paths["distances.png"], histograms.edges, histograms.same, histograms.different
    )
    chosen = plots.choose_queries(ranking.average_precision, ranked_queries)
    rows = [ranked_row(evaluation, query, gallery, number) for number in chosen]
    plots.ranked_page(paths["ranked.jpg"], rows)
    return [*names, *write_calibration(folder, evaluation.calibration)]


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
        "resolution": calibration.STEP,
        "kinds": {name: kind_numbers(kind, threshold) for name, kind in found.kinds.items()},
        "notes": [*found.doubts, *found.untold],
    }
    files.write_json(table, content)
    files.write_csv(curve, *rates_table(found.kinds))
    plots.calibration(
        picture,
        [pair_kind(name, kind) for name, kind in found.kinds.items()],
        threshold=threshold,
        false_match_rate=found.false_match_rate,
    )
    return names


def kind_numbers(kind: Kind, recommended: float) -> dict[str, object]:
    """What calibration.json says of one kind of pairs."""
    false, matched = kind.rates_at(recommended)

    def numbers(estimate: Estimate | None) -> dict[str, float | None] | None:
        return None if estimate is None else asdict(estimate)

    return {
        "pairs_of_two_people": int(kind.different.sum()),
        "pairs_of_one_person": int(kind.same.sum()),
        "resampled_groups": kind.groups,
        "threshold": numbers(kind.threshold),
        "true_match_rate": numbers(kind.true_match),
        "equal_error_rate": numbers(kind.eer),
        "true_match_rate_at": {rate: numbers(estimate) for rate, estimate in kind.at.items()},
        "at_max_cosine_distance": {"false_match_rate": false, "true_match_rate": matched},
    }


def rates_table(kinds: Mapping[str, Kind]) -> tuple[list[str], list[Sequence[object]]]:
    """The columns and rows of calibration.csv; a kind that is not there, or too small, is empty."""
    rates = calibration.CURVE
    columns: dict[str, list[object]] = {"log10_false_match_rate": np.log10(rates).round(6).tolist()}
    for name in calibration.PLACES:
        curve = kinds[name].curve if name in kinds else None
        told = {} if curve is None else {"": curve.value, "_low": curve.low, "_high": curve.high}
        for end in ("", "_low", "_high"):
            values = told[end].tolist() if end in told else []
            columns[name + end] = [""] * (len(rates) - len(values)) + values
    return list(columns), list(zip(*columns.values(), strict=True))


def pair_kind(name: str, kind: Kind) -> plots.PairKind:
    """One kind of pairs, as the picture shows it."""
    return plots.PairKind(
        place=calibration.PLACES[name],
        distances=np.arange(calibration.STEPS) * calibration.STEP,
        same=kind.same,
        different=kind.different,
        rates=kind.curve.rates,
        found=kind.curve.value,
        low=kind.curve.low,
        high=kind.curve.high,
        eer=kind.eer.value,
    )


def ranked_row(evaluation: Evaluation, query: Part, gallery: Part, number: int) -> plots.RankedRow:
    """One query and its nearest gallery images, as the page of ranked queries shows them."""
    neighbours = evaluation.neighbours
    found = zip(neighbours.indices[number], neighbours.distances[number], strict=True)
    return plots.RankedRow(
        image=query.images[number],
        pid=int(query.pids[number]),
        camid=known_camera(query, number),
        average_precision=float(evaluation.ranking.average_precision[number]),
        answers=[
            plots.Answer(
                image=gallery.images[index],
                pid=int(gallery.pids[index]),
                camid=known_camera(gallery, index),
                distance=float(distance),
                right=bool(gallery.pids[index] == query.pids[number]),
            )
            for index, distance in found
            if index >= 0
        ],
    )


def known_camera(part: Part, number: int) -> int | None:
    """The camera of one image, None where the dataset tells none."""
    camid = int(part.camids[number])
    return None if camid == NO_CAMERA else camid


def closing_summary(metrics: Mapping[str, float], threshold: str, where_to_look: str) -> str:
    """What a person wants to read at the end of a run.

    Args:
        metrics: as reports/metrics.json has them.
        threshold: what `Calibration.summary` says.
        where_to_look: what the tracker says of the MLflow run.
    """
    tuning = bool(metrics["tuning"])
    return "\n".join(
        [
            "",
            *(f"  {line}" for line in rankings(metrics)),
            f"  {metrics['queries']:,} queries, {metrics['gallery_images']:,} gallery images; "
            f"{protocol(metrics)}",
            *(["  of people held out to choose parameters by, not of the test part"] * tuning),
            f"  closed-set accuracy on val {metrics['val_accuracy']:.1%}",
            *(f"  {line}" for line in threshold.splitlines()),
            "",
            "  models/model.pth      the checkpoint",
            "  reports/train.jpg     loss and error by epoch",
            "  reports/ranked.jpg    queries and what was found for them",
            *(f"  {line}" for line in where_to_look.splitlines()),
            "  this run beside others: uv run dvc exp show --only-changed",
            "",
        ]
    )


def rankings(metrics: Mapping[str, float]) -> list[str]:
    """The shares found, in a line, and a line for each way to find more that was measured."""

    def found(ending: str) -> str:
        numbers = {"mAP": "mAP", "mINP": "mINP"} | {f"rank{k}": f"rank-{k}" for k in RANKS}
        return "   ".join(f"{shown} {metrics[key + ending]:.1%}" for key, shown in numbers.items())

    lines = [found("")]
    if "mAP_flip" in metrics:
        lines.append(f"{found('_flip')}   with mirror images")
    if "mAP_reranked" in metrics:
        of = " with mirror images" if metrics["reranked_flip"] else ""
        lines.append(f"{found('_reranked')}   re-ranked{of}")
    return lines


def protocol(metrics: Mapping[str, float]) -> str:
    """What counts for a query, in a few words."""
    if metrics["same_camera_removed"]:
        return "same identity and camera removed for each query"
    if metrics["cameras_known"]:
        return "nobody is seen by two cameras: every gallery image counts"
    return "no cameras known: every gallery image counts"
