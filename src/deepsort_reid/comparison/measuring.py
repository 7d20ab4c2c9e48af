"""Measures networks side by side: what they find, how fast they are, and how they track.

Every network gets the same crops: query and gallery of the split, as they are packed, and the
detections of the sequences. Each has a threshold of its own, found as stage evaluate finds it.
"""

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepsort_reid.comparison.network import BATCH_SIZE, Network
from deepsort_reid.core.config import EvaluateConfig, TrackConfig
from deepsort_reid.core.machine import processor
from deepsort_reid.data.images import resized
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.data.video import sequence as video
from deepsort_reid.evaluation import elsewhere
from deepsort_reid.evaluation.evaluate import Embed, embedded_sides, scores_on
from deepsort_reid.export import parity
from deepsort_reid.model.embed import over_part
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking.compare import Contender, score_variants, track_all
from deepsort_reid.tracking.embed import Stopwatch
from deepsort_reid.tracking.score import Scores

logger = logging.getLogger(__name__)

BATCHES = (1, 8, 32)  # crops at a time, whose speed is measured
SECONDS = 0.5  # of calls for each of them, about
CALLS = (5, 50)  # fewest and most
NO_APPEARANCE = ""  # the tracker without a network; no network has this name


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of one network.

    Attributes:
        network: the network.
        scores: of query and gallery.
        threshold: on 1 - cosine, by the calibration; 0 where it finds none.
        speeds: crops at a time -> crops a second, of the network's own size, from uint8 pixels to
            embeddings.
    """

    network: Network
    scores: elsewhere.Scores
    threshold: float
    speeds: Mapping[int, float]

    @property
    def mean_average_precision(self) -> float:
        """In [0, 1]."""
        return self.scores.ranking.mAP

    @property
    def numbers(self) -> dict[str, Any]:
        """Of `elsewhere.Scores`: mAP, mINP, rank1, counts, and whether they mean something."""
        return self.scores.numbers(None)


@dataclass(frozen=True, eq=False)
class Tracking:
    """How the networks do in the tracker.

    Attributes:
        scores: by network's name, and of `NO_APPEARANCE`.
        sequences: how many have truth.
        frames: of these.
        people: of these.
    """

    scores: Mapping[str, Scores]
    sequences: int
    frames: int
    people: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that was measured.

    Attributes:
        networks: in the order of the command line.
        pids: (Q,) identities of the queries.
        tracking: None where nothing could be tracked or scored.
        conditions: processor, threads and versions.
    """

    networks: Sequence[Measured]
    pids: NDArray[np.int64]
    tracking: Tracking | None
    conditions: str

    def tracked(self, name: str) -> Scores | None:
        """A network's scores in the tracker."""
        return self.tracking.scores[name] if self.tracking else None


def measure(network: Network, query: Part, gallery: Part, config: EvaluateConfig) -> Measured:
    """Rank, calibrate, and time one network.

    Args:
        network: the network.
        query: the images to find.
        gallery: the images to find them in.
        config: the section `evaluate`, of which the calibration's numbers are used.

    Raises:
        DatasetError: no query has a match.
        WeightsError: an embedding is not finite.
    """
    sides = embedded_sides(embedding_with(network), query, gallery, of=f" by {network.name}")
    scores = scores_on(*sides, config)
    found = scores.calibration.recommended
    return Measured(
        network,
        scores,
        found.threshold.value if found else 0.0,
        speeds_of(network, parity.spread_sample(gallery, max(BATCHES))),
    )


def embedding_with(network: Network) -> Embed:
    """Embed parts with a network."""

    def compute(images: Tensor) -> Tensor:
        return torch.from_numpy(network(list(images.numpy()), order="rgb"))

    def embed(part: Part, name: str) -> Tensor:
        cpu = torch.device("cpu")  # where crops come from, and where each runtime takes them
        return over_part(compute, part, f"embed {name}", batch_size=BATCH_SIZE, device=cpu)

    return embed


def speeds_of(network: Network, crops: Images) -> dict[int, float]:
    """Crops a second by how many are embedded at a time: medians of calls after the first one.

    Args:
        network: the network.
        crops: (N, H, W, 3) uint8 RGB, at least the largest of BATCHES; of any size.
    """
    images = np.stack([resized(crop, network.image_size) for crop in crops])

    def run(images: Images) -> NDArray[np.float32]:
        return network(list(images), order="rgb")

    found = {}
    for batch in BATCHES:
        run(images[:batch])
        started = time.perf_counter()
        run(images[:batch])
        calls = SECONDS / max(time.perf_counter() - started, 1e-6)
        found[batch] = parity.speed(run, images[:batch], int(np.clip(calls, *CALLS)))
    return found


def track(
    measured: Sequence[Measured],
    source: Archive,
    sequences: Sequence[video.Sequence],
    config: TrackConfig,
) -> Tracking | None:
    """Track all sequences that have truth with each network, and with none.

    Args:
        measured: the networks, with their thresholds.
        source: the archive with the frames.
        sequences: the sequences in it.
        config: the section `track`, but for its `max_cosine_distance`.

    Returns:
        None where no sequence has truth.

    Raises:
        DatasetError: a sequence has no detections, or a frame cannot be decoded.
        SourceError: the archive is damaged.
    """
    scored = [one for one in sequences if one.truth is not None]
    if not scored:
        return None
    contenders: dict[str, Contender | None] = {
        one.network.name: Contender(one.network, one.threshold) for one in measured
    }
    done = track_all(
        source, scored, {**contenders, NO_APPEARANCE: None}, config=config, watch=Stopwatch()
    )
    return Tracking(
        scores=score_variants(done)[1],
        sequences=len(scored),
        frames=sum(len(one.images) for one in scored),
        people=sum(one.aligned[NO_APPEARANCE].people for one in done),
    )


def conditions(device: torch.device) -> str:
    """Where and with what the speeds were measured, in a line."""
    where = processor()
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, {where}"
    versions = [f"torch {torch.__version__.partition('+')[0]}"]
    with suppress(PackageNotFoundError):  # another build of it has another name
        versions.append(f"onnxruntime {version('onnxruntime')}")
    threads = torch.get_num_threads()
    return (
        f"{where}, {threads} thread{'s' * (threads > 1)}; {', '.join(versions)}, Python "
        f"{platform.python_version()}"
    )
