"""A trained network measured on people it has never seen, and on those it has learned.

Trackers embed a crop once, so all that they use rests on plain embeddings, and so do the main
numbers. Two usual ways to find more are measured beside them on request. *Flip* takes the mean of
an image's embedding and its mirror image's, which Ni and Rahtu call common practice ("FlipReID:
Closing the Gap between Training and Inference in Person Re-Identification", EUVIP 2021). What is
*re-ranked* goes by the distances of `reranking`.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.core.errors import PackedError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.augment import normalise
from deepsort_reid.data.loader import Prefetcher
from deepsort_reid.data.packed import Part
from deepsort_reid.data.sampler import Indices, plan_validation
from deepsort_reid.data.samples import DISTRACTOR, NO_CAMERA, read_moments
from deepsort_reid.evaluation import ranking as metrics
from deepsort_reid.evaluation import reranking
from deepsort_reid.evaluation.calibration import Calibration, Sightings, calibrate
from deepsort_reid.evaluation.ranking import DistanceHistograms, Embedded, Neighbours, Ranking
from deepsort_reid.model import network

logger = logging.getLogger(__name__)

RANKS = (1, 5, 10, 20)
NEAREST = 10  # gallery images shown for a query


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything the evaluate stage found out."""

    ranking: Ranking
    neighbours: Neighbours
    histograms: DistanceHistograms
    calibration: Calibration
    val_accuracy: float  # closed set, top-1, in [0, 1]
    cameras_known: bool  # whether the dataset says which camera took an image
    tuning: bool  # whether the people are some of the training part's, held out of it
    flipped: Ranking | None = None  # by the mean embeddings of images and mirror images
    reranked: Ranking | None = None  # of those embeddings if there are any, else of the plain ones

    def metrics(self) -> dict[str, float | int | bool]:
        """The numbers of reports/metrics.json: flat, shares in [0, 1]."""
        ranking = self.ranking
        return {
            **shares(ranking),
            **({} if self.flipped is None else shares(self.flipped, "_flip")),
            **({} if self.reranked is None else self.reranked_shares(self.reranked)),
            "val_accuracy": self.val_accuracy,
            "queries": ranking.num_query,
            "queries_without_match": ranking.num_unmatched,
            "gallery_images": ranking.num_gallery,
            "same_camera_removed": ranking.same_camera_removed,
            "cameras_known": self.cameras_known,
            "tuning": self.tuning,
            **self.calibration.metrics(),
        }

    def reranked_shares(self, ranking: Ranking) -> dict[str, float | int | bool]:
        """The numbers of a ranking that was re-ranked, and of which embeddings it was."""
        return {**shares(ranking, "_reranked"), "reranked_flip": self.flipped is not None}


def shares(ranking: Ranking, ending: str = "") -> dict[str, float | int | bool]:
    """A ranking's numbers by name, each with an ending."""
    return {
        f"mAP{ending}": ranking.mAP,
        f"mINP{ending}": ranking.mINP,
        **{f"rank{k}{ending}": float(ranking.cmc[k - 1]) for k in RANKS},
    }


class Reader:
    """Runs a network over packed parts: in order, in batches, in eval mode."""

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        device: torch.device,
    ):
        """Move the network to its device.

        Args:
            net: a network of `network.build`.
            mean: RGB, of colours in [0, 1], as in the network's checkpoint.
            std: likewise.
            batch_size: images at a time.
            device: where to compute.
        """
        self.net = net.to(device).to(memory_format=torch.channels_last).eval()
        self.mean, self.std, self.batch_size, self.device = mean, std, batch_size, device

    def embeddings(self, part: Part, name: str) -> Tensor:
        """(N, D) float32 on the CPU, of unit length, in the part's order."""
        return self.over(part, f"embed {name}", lambda images: network.embed(self.net, images))

    def mirrored(self, part: Part, name: str) -> Tensor:
        """The same of the images' mirror images."""
        return self.over(
            part, f"embed {name}, mirrored", lambda images: network.embed(self.net, images.flip(3))
        )

    def predictions(self, part: Part, name: str) -> Tensor:
        """(N,) int64 on the CPU: the class with the highest logit."""
        return self.over(part, f"classify {name}", lambda images: self.net(images).argmax(1))

    @torch.inference_mode()
    def over(self, part: Part, what: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Concatenate `compute(batch)` over a part."""

        def read(indices: Indices) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(part.images[indices]))

        plan = plan_validation(len(part), batch_size=self.batch_size, rank=0, world_size=1)
        results = []
        with Progress(what, len(part), "images") as progress:
            for images in Prefetcher(1)(read, plan):
                batch = normalise(images.to(self.device), self.mean, self.std)
                results.append(compute(batch).cpu())
                progress.advance(len(images))
        return torch.cat(results)


def evaluate(
    reader: Reader,
    *,
    query: Part,
    gallery: Part,
    val: Part,
    classes: Sequence[str],
    false_match_rate: float,
    short_range: int,
    tuning: bool,
    flip: bool = False,
    rerank: reranking.Settings | None = None,
) -> Evaluation:
    """Search the gallery for each query's identity, find a threshold, classify the validation part.

    The threshold comes from what a tracker would compare; see `as_followed`.

    Where the dataset knows no cameras, or no identity asked for is seen by two of them (as none
    is in annotated videos), nothing is passed over but the query itself, which is not in the
    gallery; `metrics()` says so under "same_camera_removed" and "cameras_known".

    Args:
        reader: the network.
        query: images asked for.
        gallery: images to find them in, junk and distractors included.
        val: images of the identities learned.
        classes: the network's, to check that it was trained on this split.
        false_match_rate: share of pairs of two people that the threshold may take for one.
        short_range: frames between two images of a person that a tracker compares, at most.
        tuning: whether query and gallery are held out of the training part, as the split says.
        flip: whether to rank by the mean embeddings of images and mirror images too.
        rerank: the numbers of re-ranking, of those embeddings if `flip`; None: without.

    Raises:
        PackedError: the network was trained on other identities.
        DatasetError: no query has anything to find.
        WeightsError: the network's embeddings are not finite.
    """
    if list(classes) != val.classes:
        raise PackedError(
            f"the checkpoint knows {len(classes)} identities, val holds {len(val.classes)} or "
            "other ones; train on this split first: dvc repro train"
        )
    asked, offered = sightings(reader.embeddings, query, gallery)
    sides = as_searched(asked.images, offered.images)
    ranking = metrics.ranking(*sides)
    found = calibrate(
        *as_followed(asked, offered), false_match_rate=false_match_rate, short_range=short_range
    )
    for doubt in found.doubts:
        logger.warning("calibration, %s", doubt)
    predicted = reader.predictions(val, "val").numpy()
    flipped = None
    best = sides
    if flip:
        best = as_searched(
            with_mirror_images(reader, asked.images, query, "query"),
            with_mirror_images(reader, offered.images, gallery, "gallery"),
        )
        flipped = metrics.ranking(*best)
    given = None if rerank is None else reranking.reranked(*best, rerank)
    return Evaluation(
        ranking=ranking,
        neighbours=metrics.nearest(*sides, k=NEAREST),
        histograms=metrics.distance_histograms(*sides),
        calibration=found,
        val_accuracy=float((predicted == val.labels).mean()),
        cameras_known=asked.images.camids is not None,
        tuning=tuning,
        flipped=flipped,
        reranked=None if given is None else metrics.ranking_by(given, *best),
    )


def with_mirror_images(reader: Reader, images: Embedded, part: Part, name: str) -> Embedded:
    """The mean of each image's embedding and its mirror image's, of unit length.

    Args:
        reader: the network.
        images: the part as it is embedded by itself.
        part: its images.
        name: its name.

    Raises:
        WeightsError: an embedding is not finite.
    """
    mean = F.normalize(images.embeddings + reader.mirrored(part, name))
    return Embedded(mean, images.pids, images.camids)


def sightings(
    embed: Callable[[Part, str], Tensor], query: Part, gallery: Part
) -> tuple[Sightings, Sightings]:
    """Embed query and gallery: who they show, and where it is known by which camera and when.

    Args:
        embed: a part and its name -> (N, D) embeddings, in the part's order.
        query: images asked for.
        gallery: images to find them in.

    Raises:
        WeightsError: an embedding is not finite.
    """
    known = bool((query.camids != NO_CAMERA).all() and (gallery.camids != NO_CAMERA).all())
    asked, offered = (
        Sightings(
            Embedded(embed(part, name), part.pids, part.camids if known else None),
            read_moments(part.names),
        )
        for name, part in (("query", query), ("gallery", gallery))
    )
    return asked, offered


def as_searched(query: Embedded, gallery: Embedded) -> tuple[Embedded, Embedded]:
    """Query and gallery for the ranking: without cameras where nobody is seen by two of them."""
    if crosses_cameras(query, gallery):
        return query, gallery
    return Embedded(query.embeddings, query.pids), Embedded(gallery.embeddings, gallery.pids)


def as_followed(query: Sightings, gallery: Sightings) -> tuple[Sightings, Sightings]:
    """Query and gallery for the calibration, which compares what a tracker would.

    Where nobody is seen by two cameras, as in annotated videos, a query lies too far in time from
    its answers: there every second image of a gallery's track is compared with the others.
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
    seen = defaultdict(set)
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        seen[pid].add(camid)
    asked = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    return any(seen[pid] - {camid} for pid, camid in asked)
