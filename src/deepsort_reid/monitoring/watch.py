"""New footage beside old: embedded, compared, and told by how much it differs."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError, PackedError
from deepsort_reid.data.packed import read_summary
from deepsort_reid.data.samples import NO_CAMERA
from deepsort_reid.model import checkpoint
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring.appearance import NAMES, appearance
from deepsort_reid.monitoring.footage import Footage
from deepsort_reid.monitoring.two_sample import Difference, compare, energy, track_distances

LEAST = 5  # tracks on each side, and of a camera
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """What a number of the crops was, and what it is now."""

    name: str
    old: float  # mean over the tracks
    new: float
    shift: float  # new minus old, in standard deviations of all tracks
    p_value: float  # of the chance that any of the numbers moves so much


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a look at new footage has found.

    Attributes:
        old: where the old footage comes from.
        new: where the new footage comes from.
        tracks: how many tracks each side has, old and new.
        crops: likewise.
        level: the share of false alarms that is put up with.
        p_value: of no change.
        distance: the energy distance of the embeddings.
        effect: the same from 0, alike, to 1, nothing in common.
        cameras: the mean effect between two of the old footage's cameras; None: they are too few.
        changes: of the crops, the largest first.
        height: the median height of the new crops in pixels; None: unknown.
        image_height: of what the network takes.
    """

    old: str
    new: str
    tracks: tuple[int, int]
    crops: tuple[int, int]
    level: float
    p_value: float
    distance: float
    effect: float
    cameras: float | None
    changes: tuple[Change, ...]
    height: float | None
    image_height: int

    @property
    def alarm(self) -> bool:
        """Whether the new footage differs by more than chance."""
        return self.p_value <= self.level

    @property
    def moved(self) -> tuple[Change, ...]:
        """The changes that chance does not explain, the largest first."""
        return tuple(change for change in self.changes if change.p_value <= self.level)


def look(extractor: Extractor, old: Footage, new: Footage, *, level: float) -> Outcome:
    """Compare new footage with old.

    Args:
        extractor: the network.
        old: what it is used to.
        new: what it sees now.
        level: the share of false alarms to put up with: an alarm is p at most so large.

    Raises:
        DatasetError: there are too few tracks.
    """
    for side in (old, new):
        check_enough(side)
    embeddings = [extractor(side.crops, order="rgb").astype(np.float64) for side in (old, new)]
    tracks = np.concatenate([old.tracks, old.count + new.tracks])
    distances = track_distances(np.concatenate(embeddings), tracks)
    is_new = np.arange(old.count + new.count) >= old.count
    numbers = np.concatenate([of_tracks(side) for side in (old, new)])
    found = compare(distances, is_new, numbers)
    return Outcome(
        old=old.label,
        new=new.label,
        tracks=(old.count, new.count),
        crops=(len(old.crops), len(new.crops)),
        level=level,
        p_value=found.p_value,
        distance=found.distance,
        effect=found.effect,
        cameras=between_cameras(distances[~is_new][:, ~is_new], old.camids),
        changes=changes(found),
        height=None if new.heights is None else float(np.median(new.heights)),
        image_height=extractor.image_size[0],
    )


def check_enough(footage: Footage) -> None:
    """Refuse footage with hardly a track.

    Raises:
        DatasetError: it has fewer than `LEAST`.
    """
    if footage.count < LEAST:
        raise DatasetError(
            f"{footage.label}: {footage.count} tracks; expected at least {LEAST}, and better 20 or "
            "more: a folder for each person, or a longer video"
        )


def of_tracks(footage: Footage) -> Floats:
    """What the crops of each track look like, on average: (G, K)."""
    sums = np.zeros((footage.count, len(NAMES)))
    np.add.at(sums, footage.tracks, appearance(footage.crops))
    return sums / np.bincount(footage.tracks, minlength=footage.count)[:, None]


def changes(found: Difference) -> tuple[Change, ...]:
    """What has become of the numbers of the crops, the largest shift first."""
    moved = found.moved
    columns = (moved.old, moved.new, moved.shifts, moved.p_values)
    rows = zip(NAMES, *(column.tolist() for column in columns), strict=True)
    return tuple(sorted((Change(*row) for row in rows), key=lambda row: -abs(row.shift)))


def between_cameras(distances: Floats, camids: NDArray[np.int64]) -> float | None:
    """The mean effect between two cameras that have seen enough tracks; None: there are no two.

    It is the measure of what the network has learned to put up with.

    Args:
        distances: (G, G) between tracks.
        camids: (G,) the camera of each.
    """
    known, counts = np.unique(camids[camids != NO_CAMERA], return_counts=True)
    enough = known[counts >= LEAST]
    effects = []
    for one, other in combinations(enough.tolist(), 2):
        chosen = np.isin(camids, (one, other))
        is_other = camids[chosen] == other
        among = distances[chosen][:, chosen]
        distance = float(energy(among, is_other[None])[0])
        effects.append(distance / (2 * float(among[is_other][:, ~is_other].mean())))
    return max(0.0, float(np.mean(effects))) if effects else None


def check_split(weights: Path, split: Path) -> None:
    """Refuse a split that a network was not trained on: its people may be among those it knows.

    Raises:
        PackedError: it is another one, or damaged.
        WeightsError: the network's file is no checkpoint of this project.
    """
    _, about = checkpoint.load(weights)
    if about.data_digest != read_summary(split).digest:
        raise PackedError(
            f"{weights} was not trained on {split}, so whether it knows the people there is "
            "unknown; name the --folder of its training, or footage to compare with: --against"
        )


def plain(outcome: Outcome) -> Mapping[str, object]:
    """An outcome as plain values, for files and programs."""
    return {
        "alarm": outcome.alarm,
        "p_value": outcome.p_value,
        "level": outcome.level,
        "old": outcome.old,
        "new": outcome.new,
        "tracks": {"old": outcome.tracks[0], "new": outcome.tracks[1]},
        "crops": {"old": outcome.crops[0], "new": outcome.crops[1]},
        "energy_distance": outcome.distance,
        "effect": outcome.effect,
        "effect_between_cameras": outcome.cameras,
        "median_height": outcome.height,
        "changes": {
            change.name: {
                "old": change.old,
                "new": change.new,
                "shift": change.shift,
                "p_value": change.p_value,
            }
            for change in outcome.changes
        },
    }
