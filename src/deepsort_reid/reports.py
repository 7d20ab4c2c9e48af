"""The tables and pictures that the split and evaluate stages leave in reports/."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepsort_reid import files, plots
from deepsort_reid.datasets import NO_CAMERA
from deepsort_reid.evaluation import Evaluation
from deepsort_reid.packed import Part
from deepsort_reid.split import Split, Summary, images_per_identity

CMC_DEPTH = 50


def write_split(folder: Path, summary: Summary, split: Split) -> None:
    """Write the split's counts, and how many identities have how many images."""
    files.write_json(folder / "split.json", summary.counts)
    counts = {part: images_per_identity(samples) for part, samples in split.items()}
    plots.images_per_identity(folder / "images_per_identity.png", counts)
    identities = {part: Counter(values) for part, values in counts.items()}
    numbers = sorted({number for counter in identities.values() for number in counter})
    files.write_csv(
        folder / "images_per_identity.csv",
        ["images", *identities],
        [[number, *(counter[number] for counter in identities.values())] for number in numbers],
    )


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, query: Part, gallery: Part, ranked_queries: int
) -> list[str]:
    """Write the metrics, the tables behind DVC's plots, and three pictures.

    Args:
        folder: receives metrics.json, cmc.csv, distances.csv, cmc.png, distances.png, ranked.jpg.
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
    return list(names)


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


def closing_summary(metrics: Mapping[str, float], where_to_look: str) -> str:
    """What a person wants to read at the end of a run."""
    ranks = "   ".join(f"rank-{k} {metrics[f'rank{k}']:.1%}" for k in (1, 5, 10, 20))
    return "\n".join(
        [
            "",
            f"  mAP {metrics['mAP']:.1%}   mINP {metrics['mINP']:.1%}   {ranks}",
            f"  {metrics['queries']:,} queries, {metrics['gallery_images']:,} gallery images; "
            f"{protocol(metrics)}",
            f"  closed-set accuracy on val {metrics['val_accuracy']:.1%}",
            "",
            "  models/model.pth      the checkpoint",
            "  reports/train.jpg     loss and error by epoch",
            "  reports/ranked.jpg    queries and what was found for them",
            *(f"  {line}" for line in where_to_look.splitlines()),
            "  this run beside others: uv run dvc exp show --only-changed",
            "",
        ]
    )


def protocol(metrics: Mapping[str, float]) -> str:
    """What counts for a query, in a few words."""
    if metrics["same_camera_removed"]:
        return "same identity and camera removed for each query"
    if metrics["cameras_known"]:
        return "nobody is seen by two cameras: every gallery image counts"
    return "no cameras known: every gallery image counts"
