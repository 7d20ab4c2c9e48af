"""New footage beside old: embedded, compared, and told by how much it differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import PackedError, WeightsError
from deepsort_reid.data.packed import read_summary
from deepsort_reid.data.samples import NO_CAMERA
from deepsort_reid.model import checkpoint
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring.appearance import NAMES, appearance
from deepsort_reid.monitoring.enough import LEAST, check_enough, crops_each, draws_of
from deepsort_reid.monitoring.footage import Footage
from deepsort_reid.monitoring.pieces import distance_within_tracks, joined, means_of
from deepsort_reid.monitoring.two_sample import (
    PERMUTATIONS,
    Difference,
    Moved,
    combined,
    compare,
    effect,
    track_distances,
    whitened,
)

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
        tracks: how many people are compared, old and new: a track of each at a time.
        crops: of all their tracks, likewise.
        each: the crops with which a track counts.
        left_out: people who have no track with so many crops, likewise.
        joined: people who count as another one, whose pieces their tracks may be, likewise.
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
    each: int
    left_out: tuple[int, int]
    joined: tuple[int, int]
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
        TooLittleError: there are too few new people.
        DatasetError: there are too few old ones.
        WeightsError: the network gives NaN.
    """
    check_enough(old, new, level)
    first, second = with_pieces_joined(embedded(extractor, old), embedded(extractor, new))
    known = (first.footage.count, second.footage.count)
    first, second = evened(first, second, level)
    compared = (first.footage.count, second.footage.count)
    draws, heights = draws_of(first.footage, second.footage), second.footage.heights
    found = [compare_draw(first, second, seed) for seed in range(draws)]
    cameras = [between_cameras(first, seed) for seed in range(draws)]
    return Outcome(
        old=old.label,
        new=new.label,
        tracks=compared,
        crops=(len(first.footage.crops), len(second.footage.crops)),
        each=int(first.footage.counts[0]),
        left_out=(known[0] - compared[0], known[1] - compared[1]),
        joined=(old.count - known[0], new.count - known[1]),
        level=level,
        p_value=float(combined(np.array([one.p_value for one in found]))),
        distance=float(np.mean([one.distance for one in found])),
        effect=float(np.mean([one.effect for one in found])),
        cameras=float(np.mean([effect for effect in cameras if effect is not None]))
        if all(effect is not None for effect in cameras)
        else None,
        changes=changes([one.moved for one in found]),
        height=None if heights is None else float(np.median(heights)),
        image_height=extractor.image_size[0],
    )


@dataclass(frozen=True, eq=False)
class Embedded:
    """Footage as the network sees it, and as a person does."""

    footage: Footage
    embeddings: Floats  # (N, D)
    numbers: Floats  # (N, K), see `appearance`

    def draw(self, seed: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        """A track of each person: embeddings (n, D), the track of each from 0, which tracks."""
        chosen = self.footage.draw(seed)
        kept = np.isin(self.footage.tracks, chosen)
        tracks = np.searchsorted(chosen, self.footage.tracks[kept])
        return self.embeddings[kept], tracks, chosen

    def only(self, chosen: NDArray[np.int64]) -> Self:
        """Some of the crops, by ascending index."""
        part = self.footage.only(chosen)
        return replace(
            self, footage=part, embeddings=self.embeddings[chosen], numbers=self.numbers[chosen]
        )

    @property
    def by_track(self) -> Floats:
        """The mean numbers of each track: (G, K)."""
        return means_of(self.numbers, self.footage.tracks)


def embedded(extractor: Extractor, footage: Footage) -> Embedded:
    """Embed footage.

    Raises:
        WeightsError: the network gives NaN.
    """
    embeddings = extractor(footage.crops, order="rgb").astype(np.float64)
    if lost := int((~np.isfinite(embeddings)).any(axis=1).sum()):
        raise WeightsError(
            f"the network gives NaN or infinity for {lost:,} of {len(embeddings):,} crops of "
            f"{footage.label}; its training has failed: name another checkpoint (--weights)"
        )
    return Embedded(footage, embeddings, appearance(footage.crops))


def with_pieces_joined(old: Embedded, new: Embedded) -> tuple[Embedded, Embedded]:
    """Both sides; tracks of a tracker that may be pieces of one person's count as that person's."""
    limits = (distance_within_tracks(s.embeddings, s.footage.tracks) for s in (old, new))
    within = next((limit for limit in limits if limit is not None), None)

    def relabelled(side: Embedded) -> Embedded:
        footage = side.footage
        if within is None or not footage.is_tracked:
            return side
        people = joined(side.embeddings, footage.tracks, footage.people, within, footage.spans)
        return replace(side, footage=replace(footage, people=people))

    return relabelled(old), relabelled(new)


def evened(old: Embedded, new: Embedded, level: float) -> tuple[Embedded, Embedded]:
    """Both sides, with equally many crops of each track; see `crops_each` for what it raises."""
    each = crops_each(old.footage, new.footage, level)
    return old.only(old.footage.evenly(each)), new.only(new.footage.evenly(each))


def compare_draw(
    old: Embedded, new: Embedded, seed: int, permutations: int = PERMUTATIONS
) -> Difference:
    """Compare a track of each person on both sides, drawn by a seed."""
    (first, of_first, chosen), (second, of_second, others) = old.draw(seed), new.draw(seed)
    vectors = whitened(np.concatenate([first, second]))
    tracks = np.concatenate([of_first, len(chosen) + of_second])
    is_new = np.arange(len(chosen) + len(others)) >= len(chosen)
    numbers = np.concatenate([old.by_track[chosen], new.by_track[others]])
    return compare(track_distances(vectors, tracks), is_new, numbers, seed=seed, draws=permutations)


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
        effects.append(effect(distances[pair][:, pair], camids[pair] == other))
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
        "crops_of_a_track": outcome.each,
        "people_left_out": {"old": outcome.left_out[0], "new": outcome.left_out[1]},
        "people_joined": {"old": outcome.joined[0], "new": outcome.joined[1]},
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
