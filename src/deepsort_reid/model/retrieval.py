"""mAP and rank-1 on a small, fixed sample of query and gallery, to follow a training by.

The protocol is that of evaluation/ranking.py, on float32 distances, without its exactness. The room
`evaluation` is not used here, since every edit of it would train all networks anew.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepsort_reid.data.packed import Part
from deepsort_reid.data.samples import DISTRACTOR, JUNK, NO_CAMERA
from deepsort_reid.model.embed import Predictor

LARGEST, SMALLEST = 400, 32  # images in a sample
SHARE = 8  # a sample has at most an eighth as many images as an epoch trains on
OWN_SHARE = 2 / 3  # of the gallery's images show people of the queries
BATCH_SIZE = 128
SEED = 0

Indices = NDArray[np.int64]


class Scores(NamedTuple):
    """Shares in [0, 1]."""

    mean_average_precision: float
    rank1: float


@dataclass(frozen=True, eq=False)
class RetrievalSample:
    """Some queries and some gallery images.

    Attributes:
        images: (Q + G, H, W, 3) uint8 tensor, the queries first.
        relevant: (Q, G) bool, the matches of each query.
        removed: (Q, G) bool, the gallery images of its own identity and camera.
        mean: RGB, of colours in [0, 1], as the network was trained with.
        std: likewise.
        device: the device that computes.
    """

    images: Tensor
    relevant: NDArray[np.bool_]
    removed: NDArray[np.bool_]
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device

    def scores(self, net: nn.Module) -> Scores:
        """Measure a network of `network.build`, of which a copy in eval mode is used."""
        predictor = Predictor(net, mean=self.mean, std=self.std, device=self.device)
        batches = torch.split(self.images, BATCH_SIZE)
        embeddings = torch.cat([predictor.embed(batch).cpu() for batch in batches]).numpy()
        queries = len(self.relevant)
        distances = 1 - embeddings[:queries] @ embeddings[queries:].T
        return score(distances, self.relevant, self.removed)


def sample(
    query: Part,
    gallery: Part,
    *,
    epoch_images: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> RetrievalSample | None:
    """Choose a quarter queries and three quarters gallery images, by the data alone.

    Args:
        query: the images to find.
        gallery: the images to find them in; junk is left out.
        epoch_images: images that an epoch trains on, which bound the size of the sample.
        mean: see `RetrievalSample`.
        std: likewise.
        device: likewise.

    Returns:
        the sample; None where no chosen query has a match among the chosen images.
    """
    size = min(max(epoch_images // SHARE, SMALLEST), LARGEST)
    rng = np.random.default_rng(SEED)
    by_camera = crosses_cameras(query, gallery)
    first = chosen(rng, has_match(query, gallery, by_camera=by_camera), size // 4)
    is_own = np.isin(gallery.pids, query.pids[first]) & (gallery.pids > DISTRACTOR)
    room = size - size // 4
    own = chosen(rng, is_own, round(OWN_SHARE * room))
    others = chosen(rng, ~is_own & (gallery.pids != JUNK), room - len(own))
    second = np.union1d(own, others)
    same = query.pids[first][:, None] == gallery.pids[second]
    removed = np.zeros_like(same)
    if by_camera:
        removed = same & (query.camids[first][:, None] == gallery.camids[second])
    relevant = same & ~removed
    if not relevant.any():
        return None
    images = np.concatenate([query.images[first], gallery.images[second]])
    return RetrievalSample(torch.from_numpy(images), relevant, removed, mean, std, device)


def crosses_cameras(query: Part, gallery: Part) -> bool:
    """Whether the cameras are known, and any query's identity is seen by another one."""
    if (query.camids == NO_CAMERA).any() or (gallery.camids == NO_CAMERA).any():
        return False
    return bool(has_match(query, gallery, by_camera=True).any())


def has_match(query: Part, gallery: Part, *, by_camera: bool) -> NDArray[np.bool_]:
    """(Q,) whether the gallery shows each query's identity, under another camera if asked."""
    cameras = defaultdict[int, set[int]](set)
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        cameras[pid].add(camid)
    seen = [
        cameras[pid] - {camid} if by_camera else cameras[pid]
        for pid, camid in zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    ]
    matched: NDArray[np.bool_] = np.array([bool(found) for found in seen], bool)
    return matched & (query.pids > DISTRACTOR)


def chosen(rng: np.random.Generator, candidates: NDArray[np.bool_], count: int) -> Indices:
    """The positions of at most so many candidates, drawn evenly, in order."""
    return np.sort(rng.permutation(np.flatnonzero(candidates))[:count])


def score(
    distances: NDArray[np.float32], relevant: NDArray[np.bool_], removed: NDArray[np.bool_]
) -> Scores:
    """MAP and rank-1 over the queries that have a match.

    Args:
        distances: (Q, G).
        relevant: (Q, G) the matches.
        removed: (Q, G) what is left out for each query.
    """
    precisions, firsts = [], []
    for row, matches, without in zip(distances, relevant, removed, strict=True):
        order = np.argsort(row, kind="stable")
        hits = matches[order][~without[order]]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            precisions.append(float((np.arange(1, len(places) + 1) / places).mean()))
            firsts.append(bool(hits[0]))
    return Scores(float(np.mean(precisions)), float(np.mean(firsts)))
