"""The detections of sequences, cut out of the frames and embedded."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data import mot
from deepsort_reid.data.mot import Boxes
from deepsort_reid.data.packed import Images
from deepsort_reid.model.extractor import Embeddings, Order, cut_boxes
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking import frames


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
    sequences: Sequence[mot.Sequence],
    embedders: Mapping[str, CropEmbedder],
    *,
    min_confidence: float,
    watch: Stopwatch,
) -> list[Appearances]:
    """Embed every detection of some sequences with each network, in one pass over the archive.

    Frames are decoded one at a time, and the detections of a frame are embedded together, as a
    tracker does it with a camera.

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
    chosen = [sure(detections_of(archive, sequence), min_confidence) for sequence in sequences]
    places = {
        name: (number, frame)
        for number, sequence in enumerate(sequences)
        for frame, name in enumerate(sequence.images, start=1)
    }
    kept = [np.zeros(len(boxes), bool) for boxes in chosen]
    seen: list[dict[str, list[tuple[int, Embeddings]]]] = [
        {network: [] for network in embedders} for _ in sequences
    ]
    with (
        Progress("embed", len(places), "frames") as progress,
        closing(frames.read_frames(archive, list(places))) as found,
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
        Appearances(
            boxes.select(which),
            {network: concatenated(parts) for network, parts in by_network.items()},
        )
        for boxes, which, by_network in zip(chosen, kept, seen, strict=True)
    ]


def detections_of(archive: Archive, sequence: mot.Sequence) -> Boxes:
    """A sequence's detections.

    Raises:
        DatasetError: it has none.
    """
    if sequence.detections is None:
        raise DatasetError(
            f"{archive.label}: sequence {sequence.name!r} has no det/det.txt, and a tracker needs "
            "detections; add the file or take the sequence out"
        )
    return sequence.detections


def sure(detections: Boxes, min_confidence: float) -> Boxes:
    """The detections that are sure enough."""
    return detections.select(detections.confidences >= min_confidence)


def in_frame(picture: Images, ltwh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 4) boxes have a part of the picture in them: (N,)."""
    size = np.array([picture.shape[1], picture.shape[0]])
    inside: NDArray[np.bool_] = (ltwh[:, :2] < size) & (ltwh[:, :2] + ltwh[:, 2:] > 0)
    return np.logical_and(inside[:, 0], inside[:, 1])


def concatenated(parts: Sequence[tuple[int, Embeddings]]) -> Embeddings:
    """The frames' embeddings as one array, in the order of frames."""
    ordered = sorted(parts, key=lambda part: part[0])
    return np.concatenate([embeddings for _, embeddings in ordered])
