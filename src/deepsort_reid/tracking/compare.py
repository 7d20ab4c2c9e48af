"""The network tried in Deep SORT, beside no appearance at all and beside an untrained network.

All three see the same detections, of which each network embeds every one once. The untrained
network is of the same architecture. Its distances are small, so that it gets a threshold of its
own, from the same images and at the same false-match rate as the trained one's.
"""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from deepsort_reid.core import files
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data import mot
from deepsort_reid.data.packed import Part
from deepsort_reid.evaluation import evaluate
from deepsort_reid.evaluation.calibration import calibrate
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.sources import archive
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking import embed, score
from deepsort_reid.tracking import video as replay
from deepsort_reid.tracking.deep_sort import Settings, Tracks, by_appearance, by_motion
from deepsort_reid.tracking.embed import Appearances, Embedder, Stopwatch
from deepsort_reid.tracking.score import Comparison, Scores
from deepsort_reid.tracking.video import View

Variant = Literal["trained", "none", "untrained"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
BATCH_SIZE = 64  # images at a time, where the untrained network is calibrated
TITLES = {
    "trained": "the trained network",
    "none": "no appearance",
    "untrained": "an untrained network",
}


@dataclass(frozen=True, eq=False)
class Contender:
    """A network that shall tell people apart."""

    embedder: Embedder
    max_cosine_distance: float  # see `tracker.by_appearance`


@dataclass(frozen=True, eq=False)
class Tracked:
    """One sequence as each variant has tracked it.

    Attributes:
        sequence: the sequence.
        detections: how many of its detections were used.
        tracks: by variant.
        comparisons: with the truth, by variant; empty where there is none.
    """

    sequence: mot.Sequence
    detections: int
    tracks: Mapping[Variant, Tracks]
    comparisons: Mapping[Variant, Comparison]


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of it.

    Attributes:
        tracked: the sequences.
        thresholds: of the two networks, on 1 - cosine.
        each: a variant's scores by sequence; of the sequences with truth.
        scores: a variant's scores of all of them; empty where no sequence has truth.
        frames: how many all sequences have.
        seconds: what decoding took, embedding by the trained network, and tracking with it.
    """

    tracked: Sequence[Tracked]
    thresholds: Mapping[Variant, float]
    each: Mapping[Variant, Mapping[str, Scores]]
    scores: Mapping[Variant, Scores]
    frames: int
    seconds: Mapping[str, float]

    def metrics(self) -> dict[str, Any]:
        """The numbers of reports/track.json, which are the same at every run.

        The trained network's stand at the top, the others' in sections; `earned` is what the
        embedding is worth: trained minus none.
        """
        numbers: dict[str, Any] = {
            "threshold": self.thresholds["trained"],
            "sequences": len(self.tracked),
            "sequences_with_truth": len(self.each["trained"]),
            "frames": self.frames,
            "detections": sum(tracked.detections for tracked in self.tracked),
        }
        if not self.scores:
            return numbers
        found = {variant: asdict(scores) for variant, scores in self.scores.items()}
        earned = {name: value - found["none"][name] for name, value in found["trained"].items()}
        untrained = found["untrained"] | {"threshold": self.thresholds["untrained"]}
        return {
            **found["trained"],
            **numbers,
            "earned": earned,
            "none": found["none"],
            "untrained": untrained,
        }

    def numbers(self) -> dict[str, float]:
        """All numbers under flat names, with the speed: what MLflow records."""
        sections = self.metrics() | self.speed()
        flat: dict[str, float] = {}
        for name, value in sections.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            flat |= {f"track_{name}_{key}".rstrip("_"): found for key, found in inner.items()}
        return flat

    def speed(self) -> dict[str, float]:
        """Frames a second, of everything and of the embedding alone; another at every run."""
        return {
            "fps": self.frames / sum(self.seconds.values()),
            "fps_embedding": self.frames / self.seconds["embed"],
        }

    def table(self) -> str:
        """What a person wants to read at the end."""
        speed = self.speed()
        lines = ["", f"  {'Deep SORT with':22}   HOTA    IDF1    MOTA  switches  fragments"]
        lines += [
            f"  {TITLES[variant]:22} {scores.hota:6.1%}  {scores.idf1:6.1%}  {scores.mota:6.1%}"
            f"  {scores.id_switches:8,}  {scores.fragments:9,}"
            for variant, scores in self.scores.items()
        ]
        if not self.scores:
            lines[1:] = ["  no sequence has a gt/gt.txt, so nothing was scored"]
        return "\n".join(
            [
                *lines,
                f"  {len(self.tracked)} sequence{'s' * (len(self.tracked) > 1)}, {self.frames:,} "
                f"frames; max_cosine_distance "
                f"{self.thresholds['trained']:.3f}; {speed['fps']:.0f} frames/s, embedding alone "
                f"{speed['fps_embedding']:.0f}",
                "",
                "  reports/track.webm    what was tracked, without and with the network",
                "  reports/track.jpg     frames around identity switches",
                "  reports/tracks.zip    the tracks, as MOTChallenge takes them",
            ]
        )


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
    false_match_rate: float,
    short_range: int,
    device: torch.device,
) -> Contender:
    """A network like a checkpoint's with random weights, and the threshold evaluate would find.

    Where evaluate would find none, nothing matches.

    Args:
        about: the checkpoint's.
        query: images as in `evaluation.evaluate`.
        gallery: likewise.
        seed: draws the weights.
        false_match_rate: as in `evaluation.evaluate`.
        short_range: likewise.
        device: where to compute.
    """
    net = network.build(about.design, len(about.classes), seed=seed)
    reader = evaluate.Reader(
        net, mean=about.mean, std=about.std, batch_size=BATCH_SIZE, device=device
    )
    found = calibrate(
        *evaluate.as_followed(*evaluate.sightings(reader.embeddings, query, gallery)),
        false_match_rate=false_match_rate,
        short_range=short_range,
    )
    threshold = found.recommended.threshold.value if found.recommended else 0.0
    return Contender(extractor_of(net, about, device), threshold)


def extractor_of(net: nn.Module, about: Description, device: torch.device) -> Extractor:
    """A network as a tracker uses it, with the preprocessing of a checkpoint."""
    height, width = about.image_size
    return Extractor.from_network(
        net, image_size=(height, width), mean=about.mean, std=about.std, device=device
    )


def run(
    source: Archive,
    sequences: Sequence[mot.Sequence],
    *,
    trained: Contender,
    untrained: Contender,
    classes: Collection[int],
    min_confidence: float,
    settings: Settings,
) -> Trial:
    """Track every sequence in the three ways, and score them.

    Args:
        source: where the frames are.
        sequences: of it.
        trained: the network.
        untrained: one that has learned nothing.
        classes: of the truth's boxes, those that are scored.
        min_confidence: less sure detections are left out.
        settings: the tracker's.

    Raises:
        DatasetError: a sequence has no detections, or truth of other classes alone, or a frame
            cannot be decoded.
        SourceError: the archive is damaged.
    """
    for sequence in sequences:
        check_classes(source, sequence, classes)
    watch = Stopwatch()
    contenders: dict[Variant, Contender] = {"trained": trained, "untrained": untrained}
    embedders: dict[str, Embedder] = {variant: one.embedder for variant, one in contenders.items()}
    looks = embed.look(source, sequences, embedders, min_confidence=min_confidence, watch=watch)
    thresholds = {variant: one.max_cosine_distance for variant, one in contenders.items()}
    frames = sum(len(sequence.images) for sequence in sequences)
    tracked = []
    with Progress("track", len(VARIANTS) * frames, "frames") as progress:
        for sequence, look in zip(sequences, looks, strict=True):
            made = {}
            for variant in VARIANTS:
                with watch.timing(f"track {variant}"):
                    made[variant] = track(look, len(sequence.images), settings, variant, thresholds)
                progress.advance(len(sequence.images))
            found = compared(sequence, made, classes)
            tracked.append(Tracked(sequence, len(look.detections), made, found))
    seconds = {
        "decode": watch.seconds["decode"],
        "embed": watch.seconds["trained"],
        "track": watch.seconds["track trained"],
    }
    return Trial(tracked, thresholds, *scored(tracked), frames, seconds)


def track(
    look: Appearances,
    frames: int,
    settings: Settings,
    variant: Variant,
    thresholds: Mapping[Variant, float],
) -> Tracks:
    """Track one sequence in one way."""
    if variant == "none":
        return by_motion(look.detections, frames, settings)
    embeddings, threshold = look.embeddings[variant], thresholds[variant]
    return by_appearance(look.detections, embeddings, frames, settings, threshold)


def check_classes(source: Archive, sequence: mot.Sequence, classes: Collection[int]) -> None:
    """Refuse truth of which nothing would be scored.

    Raises:
        DatasetError: none of it is of the classes.
    """
    if sequence.truth is None or not len(sequence.truth):
        return
    if not np.isin(sequence.truth.classes, list(classes)).any():
        found = ", ".join(map(str, np.unique(sequence.truth.classes).tolist()))
        raise DatasetError(
            f"{source.label}: gt/gt.txt of sequence {sequence.name!r} has boxes of class {found}, "
            f"and track.classes is {list(classes)}; name the classes that are to be scored"
        )


def compared(
    sequence: mot.Sequence, tracks: Mapping[Variant, Tracks], classes: Collection[int]
) -> dict[Variant, Comparison]:
    """Each variant's tracks with the truth, if there is one."""
    if sequence.truth is None:
        return {}
    frames = len(sequence.images)
    return {
        variant: score.compare(sequence.truth, made, frames, classes)
        for variant, made in tracks.items()
    }


def scored(
    tracked: Sequence[Tracked],
) -> tuple[dict[Variant, dict[str, Scores]], dict[Variant, Scores]]:
    """Each variant's scores by sequence, and of all; nothing where there is no truth."""
    each: dict[Variant, dict[str, Scores]] = {variant: {} for variant in VARIANTS}
    combined: dict[Variant, Scores] = {}
    known = [one for one in tracked if one.comparisons]
    for variant in VARIANTS if known else ():
        each[variant], combined[variant] = score.score(
            {one.sequence.name: one.comparisons[variant] for one in known}
        )
    return each, combined


# What is left in reports/


def write(folder: Path, source: Archive, trial: Trial) -> list[str]:
    """Write the numbers, the tracks and the pictures.

    Args:
        folder: receives track.json, track.csv, tracks.zip, track.jpg and track.webm.
        source: where the frames are.
        trial: what to write.

    Returns:
        the names of what was written.
    """
    names = ["track.json", "track.csv", "tracks.zip", "track.jpg", "track.webm"]
    numbers, table, tracks, page, video = (folder / name for name in names)
    files.write_json(numbers, trial.metrics())
    files.write_csv(table, *by_sequence(trial))
    write_tracks(tracks, trial.tracked)
    shown = max(trial.tracked, key=lambda one: len(switches(one, "none")))
    views = [
        View(TITLES[variant], shown.tracks[variant], switches(shown, variant))
        for variant in ("none", "trained")
    ]
    replay.page(page, source, shown.sequence, views)
    replay.video(video, source, shown.sequence, views)
    return names


def switches(tracked: Tracked, variant: Variant) -> list[score.Switch]:
    """A variant's identity switches, as far as anybody knows."""
    comparison = tracked.comparisons.get(variant)
    return score.switches(comparison) if comparison else []


def by_sequence(trial: Trial) -> tuple[list[str], Iterable[list[object]]]:
    """The columns and rows of track.csv."""
    columns = ["sequence", "appearance", "frames", "detections", "tracks"]
    scores = list(Scores.__dataclass_fields__)

    def rows() -> Iterator[list[object]]:
        for one in trial.tracked:
            name = one.sequence.name
            for variant, tracks in one.tracks.items():
                found = trial.each[variant].get(name)
                yield [
                    *(name, variant, len(one.sequence.images), one.detections),
                    len(set(tracks.ids.tolist())),
                    *([""] * len(scores) if found is None else asdict(found).values()),
                ]

    return columns + scores, rows()


def write_tracks(path: Path, tracked: Sequence[Tracked]) -> None:
    """Zip the trained network's tracks, a text a sequence, as MOTChallenge takes them."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        for one in tracked:
            (folder / f"{one.sequence.name}.txt").write_text(one.tracks["trained"].as_table())
        with files.replacing(path) as temporary:
            archive.pack(folder, temporary)
