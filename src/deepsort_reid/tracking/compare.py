"""The network tried in a tracker, beside no appearance at all and beside an untrained network.

All three get the same detections, and each network embeds every detection once. The untrained
network is of the same architecture. Its distances are small, so it gets a threshold of its own,
from the same images and at the same false-match rate as the trained one's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deepsort_reid.core.config import EvaluateConfig, TrackConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.packed import Part
from deepsort_reid.data.video import sequence as video
from deepsort_reid.evaluation.calibration import calibrate
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.evaluation.evaluate import embedded_sides, sides_to_calibrate
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking import deep_sort as tracker
from deepsort_reid.tracking.embed import Appearances, CropEmbedder, Stopwatch, embed_detections
from deepsort_reid.tracking.score import Aligned, Scores, align, score
from deepsort_reid.tracking.tracks import Tracks

Variant = str  # a way to track, by name: `trained`, `none`, `untrained`, or a network's name
BATCH_SIZE = 64  # images at a time, where the untrained network is calibrated


@dataclass(frozen=True, eq=False)
class Contender:
    """A network that is tried in the tracker."""

    embedder: CropEmbedder
    max_cosine_distance: float  # see `deep_sort.by_appearance`


@dataclass(frozen=True, eq=False)
class Tracked:
    """One sequence as each variant has tracked it.

    Attributes:
        sequence: the sequence.
        detections: how many of its detections were used.
        tracks: by variant.
        aligned: the tracks beside the truth, by variant; empty where there is no truth.
    """

    sequence: video.Sequence
    detections: int
    tracks: Mapping[Variant, Tracks]
    aligned: Mapping[Variant, Aligned]


@dataclass(frozen=True, eq=False)
class Trial:
    """The tracks, scores and times of all sequences and variants.

    Attributes:
        tracker: the tracker's name.
        tracked: the sequences.
        thresholds: of the two networks, on 1 - cosine.
        each: a variant's scores by sequence; of the sequences with truth.
        scores: a variant's scores of all of them; empty where no sequence has truth.
        frames: how many all sequences have.
        seconds: of decoding, of embedding by the trained network, and of tracking with it.
    """

    tracker: str
    tracked: Sequence[Tracked]
    thresholds: Mapping[Variant, float]
    each: Mapping[Variant, Mapping[str, Scores]]
    scores: Mapping[Variant, Scores]
    frames: int
    seconds: Mapping[str, float]

    @property
    def people(self) -> int:
        """How many identities the truth has that is scored."""
        return sum(one.aligned["none"].people for one in self.tracked if one.aligned)


def trained(
    net: nn.Module, about: Description, max_cosine_distance: float, *, device: torch.device
) -> Contender:
    """The network of a checkpoint, with the threshold that is recommended for it."""
    return Contender(extractor_of(net, about, device), max_cosine_distance)


def untrained(
    about: Description,
    query: Part,
    gallery: Part,
    *,
    seed: int,
    config: EvaluateConfig,
    device: torch.device,
) -> Contender:
    """A network like a checkpoint's with random weights, and the threshold evaluate would find.

    Where evaluate would find none, nothing matches.

    Args:
        about: the checkpoint's.
        query: images as in `evaluate.evaluate`.
        gallery: likewise.
        seed: draws the weights.
        config: the section `evaluate`, of which the calibration's numbers are used.
        device: the device that computes.
    """
    net = network.build(about.design, len(about.classes), seed=seed)
    predictor = Predictor(net, mean=about.mean, std=about.std, device=device)
    sides = embedded_sides(Embedder(predictor, BATCH_SIZE), query, gallery)
    found = calibrate(
        *sides_to_calibrate(*sides),
        false_match_rate=config.false_match_rate,
        short_range=config.short_range,
    )
    threshold = found.recommended.threshold.value if found.recommended else 0.0
    return Contender(extractor_of(net, about, device), threshold)


def extractor_of(net: nn.Module, about: Description, device: torch.device) -> Extractor:
    """A network as a tracker uses it, with the preprocessing of a checkpoint."""
    height, width = about.image_size
    return Extractor.from_network(
        net, image_size=(height, width), mean=about.mean, std=about.std, device=device
    )


def compare_variants(
    source: Archive,
    sequences: Sequence[video.Sequence],
    *,
    trained: Contender,
    untrained: Contender,
    config: TrackConfig,
) -> Trial:
    """Track every sequence in the three ways, and score them.

    Args:
        source: the archive with the frames.
        sequences: the sequences in it.
        trained: the network.
        untrained: one that has learned nothing.
        config: the section `track`, but for its `max_cosine_distance`.

    Raises:
        DatasetError: a sequence has no detections, or truth of other classes alone, or a frame
            cannot be decoded.
        SourceError: the archive is damaged.
    """
    watch = Stopwatch()
    contenders = {"trained": trained, "none": None, "untrained": untrained}
    tracked = track_all(source, sequences, contenders, config=config, watch=watch)
    thresholds = {name: one.max_cosine_distance for name, one in contenders.items() if one}
    frames = sum(len(sequence.images) for sequence in sequences)
    seconds = {
        "decode": watch.seconds["decode"],
        "embed": watch.seconds["trained"],
        "track": watch.seconds["track trained"],
    }
    return Trial(tracker.NAME, tracked, thresholds, *score_variants(tracked), frames, seconds)


def track_all(
    source: Archive,
    sequences: Sequence[video.Sequence],
    contenders: Mapping[Variant, Contender | None],
    *,
    config: TrackConfig,
    watch: Stopwatch,
) -> list[Tracked]:
    """Track every sequence in several ways, on the same detections.

    Args:
        source: the archive with the frames.
        sequences: the sequences in it.
        contenders: networks by name; None: no appearance.
        config: the section `track`, but for its `max_cosine_distance`.
        watch: receives the seconds of "decode", of each network, and of "track" and its name.

    Raises:
        DatasetError: see `compare_variants`.
        SourceError: likewise.
    """
    for sequence in sequences:
        check_classes(source, sequence, config.classes)
    embedders: dict[str, CropEmbedder] = {
        name: one.embedder for name, one in contenders.items() if one
    }
    seen = embed_detections(
        source, sequences, embedders, min_confidence=config.min_confidence, watch=watch
    )
    frames = sum(len(sequence.images) for sequence in sequences)
    tracked = []
    with Progress("track", len(contenders) * frames, "frames") as progress:
        for sequence, appearances in zip(sequences, seen, strict=True):
            length = len(sequence.images)
            tracks: dict[Variant, Tracks] = {}
            for name, contender in contenders.items():
                with watch.timing(f"track {name}"):
                    tracks[name] = track_variant(name, appearances, length, config, contender)
                progress.advance(length)
            aligned = align_variants(sequence, tracks, config.classes)
            tracked.append(Tracked(sequence, len(appearances.detections), tracks, aligned))
    return tracked


def track_variant(
    variant: Variant,
    appearances: Appearances,
    frames: int,
    config: TrackConfig,
    contender: Contender | None,
) -> Tracks:
    """Track one sequence in one way."""
    detections = appearances.detections
    if contender is None:
        return tracker.by_motion(detections, frames, config)
    embeddings, threshold = appearances.embeddings[variant], contender.max_cosine_distance
    return tracker.by_appearance(detections, embeddings, frames, config, threshold)


def check_classes(source: Archive, sequence: video.Sequence, classes: Collection[int]) -> None:
    """Refuse truth of which nothing would be scored.

    Raises:
        DatasetError: none of it is of the classes.
    """
    if sequence.truth is None or not len(sequence.truth):
        return
    if not np.isin(sequence.truth.classes, list(classes)).any():
        names = sequence.class_names
        known = np.unique(sequence.truth.classes).tolist()
        found = ", ".join(f"{n} ({names[n]})" if n in names else str(n) for n in known)
        raise DatasetError(
            f"{source.label}: sequence {sequence.name!r} has boxes of class {found}, and "
            f"track.classes is {list(classes)}; name the classes that are to be scored"
        )


def align_variants(
    sequence: video.Sequence, tracks: Mapping[Variant, Tracks], classes: Collection[int]
) -> dict[Variant, Aligned]:
    """Each variant's tracks beside the truth; empty where there is no truth."""
    if sequence.truth is None:
        return {}
    frames = len(sequence.images)
    truth, distractors = sequence.truth, sequence.distractors
    return {name: align(truth, made, frames, classes, distractors) for name, made in tracks.items()}


def score_variants(
    tracked: Sequence[Tracked],
) -> tuple[dict[Variant, dict[str, Scores]], dict[Variant, Scores]]:
    """Each variant's scores by sequence, and of all sequences; empty where there is no truth."""
    variants = list(tracked[0].tracks)
    each: dict[Variant, dict[str, Scores]] = {variant: {} for variant in variants}
    combined: dict[Variant, Scores] = {}
    known = [one for one in tracked if one.aligned]
    for variant in variants if known else ():
        each[variant], combined[variant] = score(
            {one.sequence.name: one.aligned[variant] for one in known}
        )
    return each, combined
