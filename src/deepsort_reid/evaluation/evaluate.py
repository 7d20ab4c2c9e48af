"""How well a network finds people it has not seen, and classifies those it has learned.

Trackers embed a crop once, so all that they use rests on plain embeddings, and so do the main
numbers. Two usual ways to find more are measured beside them on request. *Flip* takes the mean of
the embeddings of an image and its mirror image, which Ni and Rahtu call common practice ("FlipReID:
Closing the Gap between Training and Inference in Person Re-Identification", EUVIP 2021).
*Re-ranking* replaces the distances by those of reranking.py.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deepsort_reid.core.config import EvaluateConfig
from deepsort_reid.core.errors import DatasetError, PackedError
from deepsort_reid.data.packed import Part
from deepsort_reid.data.sample_size import LEAST, shortage
from deepsort_reid.data.samples import DISTRACTOR, NO_CAMERA, read_moments
from deepsort_reid.evaluation.calibration import Calibration, calibrate
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.elsewhere import Scores, of_source
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.evaluation.pairs import PairCounter, Sightings
from deepsort_reid.evaluation.ranking import (
    DistanceHistograms,
    Neighbours,
    Ranking,
    Search,
    ranking,
    ranking_by,
    search,
)

logger = logging.getLogger(__name__)

RANKS = (1, 5, 10, 20)
NEAREST = 10  # gallery images shown for a query
BINS = 200  # of the distances' histograms

Embed = Callable[[Part, str], Tensor]  # a part and its name -> (N, D), in the part's order


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of stage evaluate."""

    ranking: Ranking
    neighbours: Neighbours
    histograms: DistanceHistograms
    calibration: Calibration
    val_accuracy: float  # closed set, top-1, in [0, 1]
    val_images: int
    cameras_known: bool  # whether the dataset says which camera took an image
    tuning: bool  # whether the test identities are held out of the training part
    flipped: Ranking | None = None  # by the mean embeddings of images and mirror images
    reranked: Ranking | None = None  # of those embeddings if there are any, else of the plain ones
    sources: Mapping[str, Scores] = field(default_factory=dict)  # of several datasets each
    also: Mapping[str, Scores] = field(default_factory=dict)  # datasets that are only tested on

    def elsewhere(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The numbers on each of several datasets, and on those that are only tested on."""
        recommended = self.calibration.recommended
        threshold = recommended.threshold.value if recommended else None
        groups = {"sources": self.sources, "also": self.also}
        return {
            group: {name: scores.numbers(threshold) for name, scores in found.items()}
            for group, found in groups.items()
            if found
        }

    def metrics(self) -> dict[str, float | int | bool]:
        """The numbers of reports/evaluation.json: flat, shares in [0, 1], each with its count."""
        ranking = self.ranking
        return {
            **shares(ranking),
            **({} if self.flipped is None else shares(self.flipped, "_flip")),
            **({} if self.reranked is None else self.reranked_shares(self.reranked)),
            "val_accuracy": self.val_accuracy,
            "val_images": self.val_images,
            "queries": ranking.num_query,
            "queries_without_match": ranking.num_unmatched,
            "query_identities": ranking.num_identities,
            "gallery_images": ranking.num_gallery,
            "same_camera_removed": ranking.same_camera_removed,
            "cameras_known": self.cameras_known,
            "tuning": self.tuning,
            **self.calibration.metrics(),
        }

    def too_few(self) -> dict[str, str]:
        """What each group of numbers has too little of to mean something; "" if of nothing."""
        ranking = self.ranking
        queries = ranking.num_query - ranking.num_unmatched
        return {
            "ranking": shortage(
                {"queries": (queries, LEAST), "identities": (ranking.num_identities, LEAST)}
            ),
            "threshold": self.calibration.too_few,
            "val_accuracy": shortage({"images": (self.val_images, LEAST)}),
        }

    def reranked_shares(self, ranking: Ranking) -> dict[str, float | int | bool]:
        """The numbers of a re-ranked ranking, and whether it took mirror images into account."""
        return {**shares(ranking, "_reranked"), "reranked_flip": self.flipped is not None}


def shares(ranking: Ranking, suffix: str = "") -> dict[str, float | int | bool]:
    """A ranking's numbers by name, each name with a suffix."""
    return {
        f"mAP{suffix}": ranking.mAP,
        f"mINP{suffix}": ranking.mINP,
        **{f"rank{k}{suffix}": float(ranking.cmc[k - 1]) for k in RANKS},
    }


def evaluate(
    embed: Embedder,
    query: Part,
    gallery: Part,
    val: Part,
    *,
    classes: Sequence[str],
    config: EvaluateConfig,
    tuning: bool,
    sources: Sequence[str] = (),
    also: Mapping[str, tuple[Part, Part]] | None = None,
) -> Evaluation:
    """Rank the gallery for each query, calibrate a threshold, classify the validation part.

    Args:
        embed: the network.
        query: the images to find.
        gallery: the images to find them in, junk and distractors included.
        val: images of the training identities.
        classes: the network's, which must be those of this split.
        config: the section `evaluate`.
        tuning: whether query and gallery are held out of the training part.
        sources: of several datasets the names, with which the names of their images begin.
        also: name -> query and gallery of a dataset that is only tested on.

    Raises:
        PackedError: the network was trained on other identities.
        DatasetError: no query has a match.
        WeightsError: the network's embeddings are not finite.
    """
    check_classes(classes, val)
    embed.expect(len(query) + len(gallery), query.image_size)
    seen = embedded_sides(embed, query, gallery)
    found, calibration = searched(*seen, config, k=NEAREST, bins=BINS)
    best, flipped = with_mirror_images(embed, seen, (query, gallery), config)
    return Evaluation(
        ranking=found.ranking(),
        neighbours=found.neighbours(),
        histograms=found.histograms(),
        calibration=told(calibration),
        val_accuracy=embed.accuracy(val),
        val_images=len(val),
        cameras_known=seen[0].images.camids is not None,
        tuning=tuning,
        flipped=flipped,
        reranked=reranking_of(*best, config) if config.rerank else None,
        sources=scores_by_source(seen, (query, gallery), sources, config),
        also=scores_on_others(embed, also or {}, config),
    )


def told(calibration: Calibration) -> Calibration:
    """A calibration, of which what to know before trusting it is logged."""
    for doubt in calibration.doubts:
        logger.warning("calibration, %s", doubt)
    return calibration


def with_mirror_images(
    embed: Embedder,
    seen: tuple[Sightings, Sightings],
    parts: tuple[Part, Part],
    config: EvaluateConfig,
) -> tuple[tuple[Embedded, Embedded], Ranking | None]:
    """Query and gallery with mirror images, and their ranking; as they are if not asked for."""
    sides = sides_to_rank(*(side.images for side in seen))
    if not config.flip:
        return sides, None
    query, gallery = (
        embed(part, name, mirrored=True)
        for part, name in zip(parts, ("query", "gallery"), strict=True)
    )
    best = flip_averaged(sides, (query, gallery))
    return best, ranking(*best)


def scores_by_source(
    seen: tuple[Sightings, Sightings],
    parts: tuple[Part, Part],
    sources: Sequence[str],
    config: EvaluateConfig,
) -> dict[str, Scores]:
    """The results on each dataset's own queries and gallery; none where it has nothing to find."""
    found = {}
    for name in sources:
        query, gallery = (of_source(*side, name) for side in zip(seen, parts, strict=True))
        try:
            found[name] = scores_on(query, gallery, config)
        except DatasetError:
            logger.info("%s has no query with a match, and so no numbers of its own", name)
    return found


def scores_on_others(
    embed: Embed, also: Mapping[str, tuple[Part, Part]], config: EvaluateConfig
) -> dict[str, Scores]:
    """The results on datasets that are only tested on, by name."""
    return {
        name: scores_on(*embedded_sides(embed, *parts, of=f" of {name}"), config)
        for name, parts in also.items()
    }


def scores_on(query: Sightings, gallery: Sightings, config: EvaluateConfig) -> Scores:
    """Rank and calibrate one dataset's queries and gallery.

    Raises:
        DatasetError: no query has a match.
    """
    found, calibration = searched(query, gallery, config)
    return Scores(found.ranking(), calibration)


def searched(
    query: Sightings, gallery: Sightings, config: EvaluateConfig, *, k: int = 0, bins: int = 0
) -> tuple[Search, Calibration]:
    """Rank and calibrate, in a single pass over the pairs where both compare the same ones.

    Args:
        query: the query images.
        gallery: the gallery images.
        config: the section `evaluate`.
        k: see `Search`.
        bins: likewise.
    """
    compared = sides_to_calibrate(query, gallery)
    counter = PairCounter(query, gallery, short_range=config.short_range)
    is_same = compared == (query, gallery)
    sides = sides_to_rank(query.images, gallery.images)
    found = search(*sides, k=k, bins=bins, others=[counter] if is_same else [])
    calibration = calibrate(
        *compared,
        false_match_rate=config.false_match_rate,
        short_range=config.short_range,
        pairs=counter.counts() if is_same else None,
    )
    return found, calibration


def check_classes(classes: Sequence[str], val: Part) -> None:
    """Check that a network was trained on the identities of a validation part.

    Raises:
        PackedError: it was trained on others.
    """
    if list(classes) != val.classes:
        raise PackedError(
            f"the checkpoint knows {len(classes)} identities, val holds {len(val.classes)} or "
            "other ones; train on this split first: dvc repro train"
        )


def flip_averaged(
    sides: tuple[Embedded, Embedded], mirrored: tuple[Tensor, Tensor]
) -> tuple[Embedded, Embedded]:
    """Query and gallery by the mean of each image's and its mirror image's embedding.

    Args:
        sides: as their images are embedded by themselves, at unit length.
        mirrored: (N, D) each, the embeddings of the mirror images.

    Raises:
        WeightsError: an embedding is not finite.
    """
    query, gallery = (
        Embedded(F.normalize(side.embeddings + other), side.pids, side.camids)
        for side, other in zip(sides, mirrored, strict=True)
    )
    return query, gallery


def reranking_of(query: Embedded, gallery: Embedded, config: EvaluateConfig) -> Ranking:
    """The ranking by the distances of k-reciprocal re-ranking."""
    from deepsort_reid.evaluation.reranking import reranked  # SciPy's import, only where asked for

    tiles = reranked(
        query,
        gallery,
        k1=config.rerank_k1,
        k2=config.rerank_k2,
        weight=config.rerank_lambda,
    )
    return ranking_by(tiles, query, gallery)


def embedded_sides(
    embed: Embed, query: Part, gallery: Part, of: str = ""
) -> tuple[Sightings, Sightings]:
    """Embed query and gallery, with their cameras and frame numbers where both are known.

    Args:
        embed: the network.
        query: the images to find.
        gallery: the images to find them in.
        of: what is added to their names on the screen.

    Raises:
        WeightsError: an embedding is not finite.
    """
    known = bool((query.camids != NO_CAMERA).all() and (gallery.camids != NO_CAMERA).all())
    first, second = (
        Sightings(
            Embedded(embed(part, name + of), part.pids, part.camids if known else None),
            moments_of(part),
        )
        for name, part in (("query", query), ("gallery", gallery))
    )
    return first, second


def moments_of(part: Part) -> list[int] | None:
    """When each image was taken, by a table's column `frame` or by its name; None if unknown."""
    frames = part.extra.get("frame", ())
    if frames and all(frames):
        return [int(frame) for frame in frames]
    return read_moments(part.names)


def sides_to_rank(query: Embedded, gallery: Embedded) -> tuple[Embedded, Embedded]:
    """Query and gallery for the ranking: without cameras if no identity is seen by two of them.

    With cameras, the ranking removes gallery images of a query's own identity and camera. Where no
    identity is seen by two, as in annotated videos, nothing would be left to find.
    """
    if crosses_cameras(query, gallery):
        return query, gallery
    return Embedded(query.embeddings, query.pids), Embedded(gallery.embeddings, gallery.pids)


def sides_to_calibrate(query: Sightings, gallery: Sightings) -> tuple[Sightings, Sightings]:
    """Query and gallery for the calibration, which compares what a tracker would compare.

    Where no identity is seen by two cameras, as in annotated videos, a query lies too far in time
    from its matches. There every second image of a gallery's track is compared with the others.
    """
    if gallery.images.camids is None or crosses_cameras(query.images, gallery.images):
        return query, gallery
    keys = (gallery.images.pids, gallery.images.camids, gallery.moments)
    order = np.lexsort([key.cpu().numpy() for key in reversed(keys) if key is not None])
    known = torch.from_numpy(order)[gallery.images.pids.cpu()[order] > DISTRACTOR]
    known = known.to(gallery.images.pids.device)
    return gallery[known[::2]], gallery[known[1::2]]


def crosses_cameras(query: Embedded, gallery: Embedded) -> bool:
    """Whether any query's identity is in the gallery under another camera."""
    if query.camids is None or gallery.camids is None:
        return False
    cameras = defaultdict(set)
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        cameras[pid].add(camid)
    queries = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    return any(cameras[pid] - {camid} for pid, camid in queries)
