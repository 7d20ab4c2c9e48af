"""A video file -> the same video with tracks drawn in, and the tracks as MOTChallenge has them."""

from pathlib import Path
from typing import NamedTuple

from deepsort_reid.core import config, files
from deepsort_reid.core.config import TrackConfig
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.project import home
from deepsort_reid.core.yaml_file import read_yaml
from deepsort_reid.evaluation.threshold import read_threshold
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.tracking import live
from deepsort_reid.tracking.detectors import from_file, make_detector

REPORT = Path("reports/evaluation.json")


class Outputs(NamedTuple):
    """The two files that tracking makes."""

    film: Path
    table: Path


def outputs(video: Path, folder: Path, *, overwrite: bool) -> Outputs:
    """Where the results go.

    Raises:
        ConfigError: something stands there.
    """
    made = Outputs(*(folder / f"{video.stem}.tracks{suffix}" for suffix in (".webm", ".txt")))
    for path in made:
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} is there already; choose another --output, or --overwrite")
    return made


def threshold_for(weights: Path, stated: float | None) -> float:
    """The largest distance of one person's images: as stated, else as the weights' report says.

    Raises:
        ConfigError: it is not stated, and there is no report.
        ReportError: the report recommends none.
    """
    if stated is not None:
        return stated
    report = weights.absolute().parents[1] / REPORT  # DVC may have made a link of the file
    if not report.exists():
        raise ConfigError(
            f"no {report}, which would recommend a threshold for {weights}; state one: "
            "--max-cosine-distance 0.2"
        )
    return read_threshold(report)


def tracker_config(min_confidence: float, max_age: int, n_init: int) -> TrackConfig:
    """The section `track` with the tracker's numbers, the others as params.yaml comes with.

    Raises:
        ConfigError: a number is out of its bounds.
    """
    raw = read_yaml(home() / "params.yaml")
    raw["track"] |= {
        "min_confidence": min_confidence, "max_age": max_age, "n_init": n_init
    }  # fmt: skip
    return config.parse(raw).track


def track(
    video: Path,
    weights: Path,
    *,
    made: Outputs,
    max_cosine_distance: float | None,
    settings: TrackConfig,
    detections: Path | None,
    detector: str,
    device: str | None,
) -> str:
    """Track a video, and say in a few lines what was found.

    Args:
        video: in any format that OpenCV reads.
        weights: a checkpoint of this project.
        made: the files to write.
        max_cosine_distance: on 1 - cosine; None: as the weights' report says.
        settings: the tracker's numbers.
        detections: a file of detections; None: the detector finds them.
        detector: see `make_detector`.
        device: where to compute; None: a GPU if there is one.
    """
    footage = live.open_footage(video)
    threshold = threshold_for(weights, max_cosine_distance)
    find = (
        from_file(detections, footage.frames, settings.min_confidence)
        if detections
        else make_detector(detector, device)
    )
    extractor = Extractor(weights, device=device)
    tracks, frames = live.track_footage(
        footage, find, extractor,
        config=settings, max_cosine_distance=threshold, film=made.film,
    )  # fmt: skip
    files.write_text(made.table, tracks.as_table())
    return "\n".join(
        [
            f"{frames:,} frames, {len(tracks):,} boxes, {live.count_identities(tracks):,} "
            f"identities; max_cosine_distance {threshold:.3f}",
            f"  {made.film}   the video with the tracks drawn in",
            f"  {made.table}   a line for each box, as MOTChallenge takes it",
        ]
    )
