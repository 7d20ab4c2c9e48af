"""New footage beside that of training, recorded as a point of a run that watches the network."""

import contextlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.dataset_config import DatasetConfig
from deepsort_reid.core.errors import (
    ConfigError,
    DeepSortReidError,
    ReportError,
    SourceError,
    one_line,
)
from deepsort_reid.data.packed import read_summary
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring import report
from deepsort_reid.monitoring.footage import Footage, of_images, of_split
from deepsort_reid.monitoring.video import SUFFIXES, of_video
from deepsort_reid.monitoring.watch import Outcome, check_split, look, plain
from deepsort_reid.runs import logger as runs
from deepsort_reid.runs import provenance
from deepsort_reid.runs.folder import RunFolder, is_key, milliseconds

logger = logging.getLogger(__name__)

PARAMS, SPLIT, CHECKPOINT = Path("params.yaml"), Path("data/split"), Path("models/model.pth")
RUN = Path("reports/run.json")
ALARM, TOO_LITTLE = 3, 4  # the exit statuses; 1 is an error, 2 a wrong option
LONGEST_NAME = 77  # characters; a run's key has more before them
WATCHED = "watched_checkpoint_md5"  # the tag that leads to the network; its own run has another


def watch(
    footage: Path,
    *,
    tracks: Path | None = None,
    weights: Path | None = None,
    folder: Path = Path(),
    against: Path | None = None,
    cameras: Sequence[int] = (),
    level: float = 0.01,
    name: str = "footage",
    pieces: bool = False,
    device: str | None = None,
) -> tuple[Outcome, str]:
    """Compare footage with what a network is used to, and record it.

    Args:
        footage: a folder, an archive or a video.
        tracks: of the video; None: beside it.
        weights: a checkpoint; None: the folder's.
        folder: of the network's training, with params.yaml and data/split.
        against: the old footage; None: the split's held-out people.
        cameras: of the split's, the only ones to compare with; none: all.
        level: p from which on downwards there is an alarm.
        name: of what is watched, such as a camera; each has a run of its own.
        pieces: tracks of folders may be pieces of one person's, as those of a video always may.
        device: where to compute; None: a GPU if there is one.

    Returns:
        what was found, and what the run says of itself.

    Raises:
        TooLittleError: there is too little new footage to say anything.
        DeepSortReidError: something is missing, or cannot be read.
    """
    dataset = dataset_of(folder)
    checkpoint = weights or folder / CHECKPOINT
    extractor = Extractor(checkpoint, device=device)
    md5 = files.md5(checkpoint)
    key = key_of(md5, name)
    size = extractor.image_size
    if against is None:
        old = held_out(checkpoint, folder, cameras)
    elif cameras:
        raise ConfigError("--camera chooses among the split's cameras; leave it out with --against")
    else:
        old = opened(against, None, size, dataset, pieces=pieces)
    new = opened(footage, tracks, size, dataset, pieces=pieces)
    outcome = look(extractor, old, new, level=level)
    with contextlib.chdir(folder):
        return outcome, recorded(outcome, md5, key, name)


def dataset_of(folder: Path) -> DatasetConfig:
    """The section `dataset` of a training's parameters.

    Raises:
        ConfigError: the folder has none.
    """
    if not (folder / PARAMS).exists():
        raise ConfigError(
            f"{folder / PARAMS}: no such file; expected the folder of the network's training "
            "(--folder)"
        )
    return load_params(folder / PARAMS).dataset


def key_of(md5: str, name: str) -> str:
    """The key of the run that watches a network.

    Raises:
        ConfigError: there is none by this name.
    """
    key = f"watch-{md5[:16]}-{name}"
    if not name or not is_key(key):
        raise ConfigError(
            f"--name {name!r}: expected 1 to {LONGEST_NAME} letters, digits, '.', '+', '_' or '-'"
        )
    return key


def shown(outcome: Outcome, run: str, *, as_json: bool) -> str:
    """What the command prints: JSON, or lines for a person and where the run is."""
    if as_json:
        return json.dumps(plain(outcome), indent=2)
    return "\n".join([*report.lines(outcome), *(f"  {line}" for line in run.splitlines())])


def held_out(checkpoint: Path, folder: Path, cameras: Sequence[int]) -> Footage:
    """The tracks of a split's held-out people.

    Raises:
        ReportError: there is no split.
        PackedError: the network was trained on another one.
    """
    split = folder / SPLIT
    if not split.exists():
        raise ReportError(
            f"{split}: no split to compare with; `dvc repro split` makes it, or name other "
            "footage: --against"
        )
    check_split(checkpoint, split)
    return of_split(split, cameras)


def opened(
    place: Path,
    tracks: Path | None,
    size: tuple[int, int],
    dataset: DatasetConfig,
    *,
    pieces: bool,
) -> Footage:
    """The tracks of a folder, an archive, or a video; see `watch`.

    Raises:
        SourceError: there is no such thing, or a video without tracks.
    """
    if not place.exists():
        raise SourceError(f"{place}: no such file or folder; expected footage")
    if place.suffix.lower() not in SUFFIXES:
        if tracks is not None:
            raise ConfigError(f"--tracks goes with a video, and {place} is none")
        return replace(of_images(place, size, dataset), is_tracked=pieces)
    table = tracks or place.with_name(f"{place.stem}.tracks.txt")
    if not table.exists():
        raise SourceError(
            f"{table}: no such file; expected the tracks of {place}: `deepsort-reid track "
            f"{place} --output {table.parent}` makes them, --tracks names them"
        )
    return of_video(place, table, size)


def recorded(outcome: Outcome, md5: str, key: str, name: str) -> str:
    """Record a look, see `record`; a failure is worth a warning: an alarm counts more."""
    try:
        return record(outcome, md5, key, name)
    except (DeepSortReidError, OSError) as error:
        logger.warning("this look is not recorded: %s", one_line(str(error)))
        return "not recorded"


def record(outcome: Outcome, md5: str, key: str, name: str) -> str:
    """Add a look to the run that watches a network; return what the run says of itself.

    The time is its step, in milliseconds since 1970: looks from several folders or machines, which
    do not know of each other, are in order.

    Args:
        outcome: of the look.
        md5: of the checkpoint.
        key: of the run.
        name: of what is watched.
    """
    text = "\n".join(report.lines(outcome))
    tags = {
        **provenance.source_tags(read_summary(SPLIT).digest if SPLIT.exists() else "",
                                 f"```\n{text}\n```"),
        **tags_of_training(md5),
    }  # fmt: skip
    with runs.open_run(key=key, name=f"watch-{name}", tags=tags) as run:
        numbers, now = report.numbers_of_run(outcome), milliseconds()
        run.log_metrics(numbers.metrics, step=now)
        run.set_tags(numbers.tags)
        with tempfile.TemporaryDirectory() as place:
            written = Path(place) / f"{now}.json"
            files.write_json(written, plain(outcome))
            run.log_artifact(written, "looks")
    return run.describe()


def tags_of_training(md5: str) -> dict[str, str]:
    """The tags that lead to a checkpoint and, if the folder tells it, to the run that made it."""
    key, run_id = runs.read_reference(RUN) if RUN.exists() else (None, None)
    tags = {WATCHED: md5}
    if key is not None:
        training = RunFolder(key)
        if training.read("tags.json").get(provenance.CHECKPOINT_MD5, md5) == md5:
            tags["training_run"] = training.name or key
            if run_id := training.mlflow.get("run_id", run_id):
                tags["mlflow.parentRunId"] = run_id
    return tags
