"""The detections of sequences, cut out of the frames and embedded."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.packed import Images
from deepsort_reid.data.video import sequence as video
from deepsort_reid.data.video.annotation import touches
from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.model.extractor import Order, cut_boxes
from deepsort_reid.model.runtimes import Embeddings
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking.frames import read_frames

logger = logging.getLogger(__name__)

ByNetwork = dict[str, list[tuple[int, Embeddings]]]  # a network's name -> frames and embeddings


class CropEmbedder(Protocol):
    """Turns crops into embeddings, as `extractor.Extractor` does."""

    def __call__(self, crops: Sequence[Images], *, order: Order) -> Embeddings:
        """(H, W, 3) uint8 crops of any sizes, none empty -> (N, D) of unit length."""
        ...


@dataclass(frozen=True, eq=False)
class Appearances:
    """A sequence's detections with their embeddings.

    Attributes:
        detections: (N,) those that are sure enough and lie in the frame, in the order of frames.
        embeddings: a network's name -> (N, D), one of each detection.
    """

    detections: Boxes
    embeddings: Mapping[str, Embeddings]


class Stopwatch:
    """Adds up the seconds of each part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Count the block's seconds for `what`."""
        started = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started

    def timed(self, what: str, items: Iterable[tuple[str, Images]]) -> Iterator[tuple[str, Images]]:
        """Count the seconds that the items take to come for `what`."""
        iterator = iter(items)
        while True:
            with self.timing(what):
                item = next(iterator, None)
            if item is None:
                return
            yield item


def embed_detections(
    archive: Archive,
    sequences: Sequence[video.Sequence],
    embedders: Mapping[str, CropEmbedder],
    *,
    min_confidence: float,
    watch: Stopwatch,
) -> list[Appearances]:
    """Embed every detection with each network, in one pass over the archive.

    The detections of a frame are embedded together, as a tracker does it with a camera.

    Args:
        archive: the archive with the frames.
        sequences: the sequences in it.
        embedders: networks, by name.
        min_confidence: less sure detections are left out.
        watch: receives the seconds of "decode", and of each network under its name.

    Returns:
        one a sequence, in their order.

    Raises:
        DatasetError: a sequence has no detections, or a frame cannot be decoded.
        SourceError: the archive is damaged.
    """
    found_by = {one.name: detections_of(archive, one) for one in sequences}
    chosen = [sure(boxes, min_confidence) for boxes in found_by.values()]
    check_sure(archive, found_by, chosen, min_confidence)
    places = places_of(sequences)
    kept = [np.zeros(len(boxes), bool) for boxes in chosen]
    seen: list[ByNetwork] = [{network: [] for network in embedders} for _ in sequences]
    with (
        Progress("embed", len(places), "frames") as progress,
        closing(read_frames(archive, list(places))) as found,
    ):
        for name, picture in watch.timed("decode", found):
            number, frame = places[name]
            here = np.flatnonzero(chosen[number].frames == frame)
            here = here[in_frame(picture, chosen[number].ltwh[here])]
            kept[number][here] = True
            crops = cut_boxes(picture, chosen[number].ltwh[here], form="ltwh")
            for network, embedder in embedders.items():
                with watch.timing(network):
                    seen[number][network].append((frame, embedder(crops, order="rgb")))
            progress.advance()
    return [
        Appearances(boxes.select(which), in_frame_order(by_network))
        for boxes, which, by_network in zip(chosen, kept, seen, strict=True)
    ]


def places_of(sequences: Sequence[video.Sequence]) -> dict[str, tuple[int, int]]:
    """The number of the sequence and the frame, from 1, of each image."""
    return {
        name: (number, frame)
        for number, sequence in enumerate(sequences)
        for frame, name in enumerate(sequence.images, start=1)
    }


def detections_of(archive: Archive, sequence: video.Sequence) -> Boxes:
    """A sequence's detections.

    Raises:
        DatasetError: it has none.
    """
    if sequence.detections is None:
        raise DatasetError(
            f"{archive.label}: sequence {sequence.name!r} has no det/det.txt (or, in other formats "
            f"than MOTChallenge's, det/{sequence.name}.txt), and a tracker needs detections; add "
            "the file or take the sequence out"
        )
    return sequence.detections


def sure(detections: Boxes, min_confidence: float) -> Boxes:
    """The detections that are sure enough."""
    return detections.select(detections.confidences >= min_confidence)


def check_sure(
    archive: Archive,
    detections: Mapping[str, Boxes],
    chosen: Sequence[Boxes],
    min_confidence: float,
) -> None:
    """Name the sequences all of whose detections are too unsure, and refuse if all are.

    Raises:
        DatasetError: there are detections, and not one of them is sure enough.
    """
    given = {name: boxes for name, boxes in detections.items() if len(boxes)}
    empty = {
        name: detections[name]
        for name, left in zip(detections, chosen, strict=True)
        if name in given and not len(left)
    }
    if not empty:
        return
    removed = nothing_left(empty.values(), "track.min_confidence", min_confidence)
    if len(empty) == len(given):
        raise DatasetError(f"{archive.label}: {removed}")
    logger.warning("sequences %s: %s", video.listed(list(empty)), removed)


def nothing_left(detections: Iterable[Boxes], parameter: str, least: float) -> str:
    """The line that says which parameter has removed all detections, and how many."""
    confidences = np.concatenate([boxes.confidences for boxes in detections])
    return (
        f"{parameter}={least:g} removes all {len(confidences):,} detections, whose confidences are "
        f"{confidences.min():g} to {confidences.max():g}; lower it"
    )


def in_frame(picture: Images, ltwh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes have a part of the picture in them: (N,)."""
    return touches(ltwh, (picture.shape[1], picture.shape[0]))


def in_frame_order(by_network: ByNetwork) -> dict[str, Embeddings]:
    """Each network's embeddings of all frames as one array, in the order of frames."""
    return {
        name: np.concatenate([embeddings for _, embeddings in sorted(parts, key=itemgetter(0))])
        for name, parts in by_network.items()
    }
