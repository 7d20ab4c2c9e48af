"""The numbers, tables and pictures that stage track leaves in reports/."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepsort_reid.core import files
from deepsort_reid.data.sample_size import as_tag, shortage, verdict
from deepsort_reid.runs.names import Numbers
from deepsort_reid.sources import archive
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking import video
from deepsort_reid.tracking.compare import Tracked, Trial, Variant
from deepsort_reid.tracking.score import Scores, Switch, find_switches
from deepsort_reid.tracking.video import TrackView

TITLES: Mapping[Variant, str] = {
    "trained": "the trained network",
    "none": "no appearance",
    "untrained": "an untrained network",
}
# Over eight rendered sequences of six people, HOTA had a standard deviation of 5 points. So ten
# people leave a 95 % interval of 8 points to each side, as twenty identities leave mAP.
LEAST_PEOPLE = 10
WORSE = (
    "by HOTA, the trained network is worse here than no appearance; what usually helps: more",
    "people, more epochs, real data for real videos, a pretrained network (weights)",
)

# Of `metrics`: counts, and what the tracker was told; these are no measured numbers.
SETTINGS = ("threshold", "sequences", "sequences_with_truth", "frames", "people", "detections")


def metrics(trial: Trial) -> dict[str, Any]:
    """The numbers of reports/track.json, which are the same at every run.

    The trained network's stand at the top, the others' in sections. `earned` is what the embedding
    gains: trained minus none.
    """
    numbers: dict[str, Any] = {
        "threshold": trial.thresholds["trained"],
        "sequences": len(trial.tracked),
        "sequences_with_truth": len(trial.each["trained"]),
        "people": trial.people,
        "frames": trial.frames,
        "detections": sum(tracked.detections for tracked in trial.tracked),
    }
    if not trial.scores:
        return numbers
    found = {variant: asdict(scores) for variant, scores in trial.scores.items()}
    earned = {name: value - found["none"][name] for name, value in found["trained"].items()}
    untrained = found["untrained"] | {"threshold": trial.thresholds["untrained"]}
    return {
        **found["trained"],
        **numbers,
        "earned": earned,
        "none": found["none"],
        "untrained": untrained,
    }


def contents(trial: Trial) -> dict[str, Any]:
    """The content of track.json: the numbers, and what to know before trusting them."""
    content = metrics(trial)
    if trial.scores:
        content |= verdict(too_few(trial)) | {"worse_than_no_appearance": is_worse(trial)}
    return content


def too_few(trial: Trial) -> dict[str, str]:
    """What the scores have too little of to mean something; "" if of nothing."""
    return {"scores": shortage({"people": (trial.people, LEAST_PEOPLE)}) if trial.scores else ""}


def is_worse(trial: Trial) -> bool:
    """Whether the trained network tracks worse, by HOTA, than no appearance at all."""
    return bool(trial.scores) and trial.scores["trained"].hota < trial.scores["none"].hota


def tags(trial: Trial) -> dict[str, str]:
    """The same as tags of the run."""
    if not trial.scores:
        return {"track_too_few": "not scored", "worse_than_no_appearance": "not scored"}
    return {
        "track_too_few": as_tag(too_few(trial)),
        "worse_than_no_appearance": str(is_worse(trial)).lower(),
    }


def numbers_of_run(trial: Trial) -> Numbers:
    """All numbers and the speed as the training's run records them.

    The trained network's scores are in the section `track`, the others in `track/none` and so on.
    """
    measured, told = dict[str, float](), dict[str, object]()
    for name, value in (metrics(trial) | speed(trial)).items():
        if isinstance(value, Mapping):
            scores = dict(value)
            if "threshold" in scores:
                told[f"track.{name}_threshold"] = scores.pop("threshold")
            measured |= {f"track/{name}/{key}": score for key, score in scores.items()}
        elif name in SETTINGS:
            told[f"track.{name}"] = value
        else:
            measured[f"track/{name}"] = value
    return Numbers(measured, told)


def speed(trial: Trial) -> dict[str, float]:
    """Frames a second, of everything and of the embedding alone; another at every run."""
    return {
        "fps": trial.frames / sum(trial.seconds.values()),
        "fps_embedding": trial.frames / trial.seconds["embed"],
    }


def closing_table(trial: Trial) -> str:
    """The closing lines of stage track, eight at most."""
    rate, count = speed(trial), len(trial.tracked)
    seen = f"{trial.frames:,} frames" + (f", {trial.people:,} people" if trial.scores else "")
    lines = [f"{f'{trial.tracker} with':22}   HOTA    IDF1    MOTA  switches  fragments"]
    lines += [
        f"{TITLES[variant]:22} {scores.hota:6.1%}  {scores.idf1:6.1%}  {scores.mota:6.1%}"
        f"  {scores.id_switches:8,}  {scores.fragments:9,}"
        for variant, scores in trial.scores.items()
    ]
    if not trial.scores:
        lines = ["no sequence has a gt/gt.txt, so nothing was scored; see reports/track.webm"]
    lines.append(
        f"{count} sequence{'s' * (count > 1)}, {seen}; max_cosine_distance "
        f"{trial.thresholds['trained']:.3f}; {rate['fps']:.0f} frames/s, embedding alone "
        f"{rate['fps_embedding']:.0f}"
    )
    lines += [f"not meaningful, too few {text}" for text in too_few(trial).values() if text]
    if is_worse(trial):
        lines += WORSE
    return "\n".join(f"  {line}" for line in lines)


def write_trial(folder: Path, source: Archive, trial: Trial) -> list[str]:
    """Write the numbers, the tracks and the pictures.

    Args:
        folder: receives track.json, track.csv, tracks.zip, track.jpg and track.webm.
        source: the archive with the frames.
        trial: the results.

    Returns:
        the names of the files.
    """
    names = ["track.json", "track.csv", "tracks.zip", "track.jpg", "track.webm"]
    numbers, table, tracks, page, film = (folder / name for name in names)
    files.write_json(numbers, contents(trial))
    files.write_csv(table, *scores_by_sequence(trial))
    write_tracks(tracks, trial.tracked)
    shown = max(trial.tracked, key=lambda one: len(switches_of(one, "none")))
    variants: tuple[Variant, ...] = ("none", "trained")
    views = [TrackView(TITLES[v], shown.tracks[v], switches_of(shown, v)) for v in variants]
    video.write_page(page, source, shown.sequence, views)
    video.write_video(film, source, shown.sequence, views)
    return names


def switches_of(tracked: Tracked, variant: Variant) -> list[Switch]:
    """A variant's identity switches; none where there is no truth."""
    aligned = tracked.aligned.get(variant)
    return find_switches(aligned) if aligned else []


def scores_by_sequence(trial: Trial) -> tuple[list[str], Iterable[list[object]]]:
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
    """Zip the trained network's tracks, a text file a sequence, as MOTChallenge takes them."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        for one in tracked:
            (folder / f"{one.sequence.name}.txt").write_text(one.tracks["trained"].as_table())
        with files.replacing(path) as temporary:
            archive.pack(folder, temporary)
