"""New footage beside old: embedded, compared, and told by how much it differs."""

from collections.abc import Mapping, Sequence
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
from deepsort_reid.monitoring.two_sample import (
    PERMUTATIONS,
    Difference,
    Moved,
    compare,
    energy,
    track_distances,
    whitened,
)

LEAST = 5  # people on each side, and tracks of a camera
DRAWS = 5  # of a track of each person, where somebody has several
AVERAGED = ("old", "new", "shifts")  # of `Moved`
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
        tracks: how many people each side has, old and new: a track of each is compared at a time.
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
        DatasetError: there are too few people.
    """
    for side in (old, new):
        check_enough(side)
    sides = (embedded(extractor, old), embedded(extractor, new))
    draws = DRAWS if old.needs_draws or new.needs_draws else 1
    found = [compare_draw(*sides, seed) for seed in range(draws)]
    cameras = [between_cameras(sides[0], seed) for seed in range(draws)]
    return Outcome(
        old=old.label,
        new=new.label,
        tracks=(old.count, new.count),
        crops=(len(old.crops), len(new.crops)),
        level=level,
        p_value=float(combined(np.array([one.p_value for one in found]))),
        distance=float(np.mean([one.distance for one in found])),
        effect=float(np.mean([one.effect for one in found])),
        cameras=float(np.mean([effect for effect in cameras if effect is not None]))
        if all(effect is not None for effect in cameras)
        else None,
        changes=changes([one.moved for one in found]),
        height=None if new.heights is None else float(np.median(new.heights)),
        image_height=extractor.image_size[0],
    )


@dataclass(frozen=True, eq=False)
class Embedded:
    """Footage as the network sees it, and as a person does."""

    footage: Footage
    embeddings: Floats  # (N, D)
    numbers: Floats  # (G, K) of each track, see `appearance`

    def draw(self, seed: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """A track of each person: embeddings (n, D), the track of each from 0, which tracks."""
        chosen = self.footage.draw(seed)
        kept = np.isin(self.footage.tracks, chosen)
        tracks = np.searchsorted(chosen, self.footage.tracks[kept])
        return self.embeddings[kept], tracks, chosen


def embedded(extractor: Extractor, footage: Footage) -> Embedded:
    """Embed footage."""
    embeddings = extractor(footage.crops, order="rgb").astype(np.float64)
    sums = np.zeros((len(footage.people), len(NAMES)))
    np.add.at(sums, footage.tracks, appearance(footage.crops))
    return Embedded(footage, embeddings, sums / np.bincount(footage.tracks)[:, None])


def compare_draw(
    old: Embedded, new: Embedded, seed: int, permutations: int = PERMUTATIONS
) -> Difference:
    """Compare a track of each person on both sides, drawn by a seed."""
    (first, of_first, chosen), (second, of_second, others) = old.draw(seed), new.draw(seed)
    vectors = whitened(np.concatenate([first, second]))
    tracks = np.concatenate([of_first, len(chosen) + of_second])
    is_new = np.arange(len(chosen) + len(others)) >= len(chosen)
    numbers = np.concatenate([old.numbers[chosen], new.numbers[others]])
    return compare(track_distances(vectors, tracks), is_new, numbers, seed=seed, draws=permutations)


def combined(p_values: Floats) -> Floats:
    """The p-values of several draws as one: twice their median, the same of a single draw.

    Source: Meinshausen, Meier and Bühlmann, "p-Values for High-Dimensional Regression", JASA 104,
    2009: it holds however the draws depend on each other.

    Args:
        p_values: (draws, …).
    """
    if len(p_values) == 1:
        return np.asarray(p_values[0])
    return (2 * np.median(p_values, axis=0)).clip(max=1)


def check_enough(footage: Footage) -> None:
    """Refuse footage with hardly a person.

    Raises:
        DatasetError: it has fewer than `LEAST`.
    """
    if footage.count < LEAST:
        raise DatasetError(
            f"{footage.label}: {footage.count} people or tracks; expected at least {LEAST}, "
            "and better 20 or more: a folder for each person, or a longer video"
        )


def changes(moved: Sequence[Moved]) -> tuple[Change, ...]:
    """What has become of the numbers of the crops, the largest shift first.

    Args:
        moved: of each draw.
    """
    columns = [np.mean([getattr(one, name) for one in moved], axis=0) for name in AVERAGED]
    columns.append(combined(np.array([one.p_values for one in moved])))
    rows = zip(NAMES, *(column.tolist() for column in columns), strict=True)
    return tuple(sorted((Change(*row) for row in rows), key=lambda row: -abs(row.shift)))


def between_cameras(old: Embedded, seed: int) -> float | None:
    """The mean effect between two cameras that have seen enough tracks; None: there are no two.

    It is the measure of what the network has learned to put up with.

    Args:
        old: the footage that it is used to.
        seed: of the draw.
    """
    embeddings, tracks, chosen = old.draw(seed)
    distances, camids = track_distances(whitened(embeddings), tracks), old.footage.camids[chosen]
    known, counts = np.unique(camids[camids != NO_CAMERA], return_counts=True)
    effects = []
    for one, other in combinations(known[counts >= LEAST].tolist(), 2):
        pair = np.isin(camids, (one, other))
        is_other = camids[pair] == other
        among = distances[pair][:, pair]
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
