"""Tracks to compare, a few crops of each: of held-out people, of a dataset, or of a video.

A track is one person under one camera. Two tracks of one person are not independent of each other,
so whoever compares tracks takes one of each person: see `Footage.draw`. A track gives a few crops,
spread over its length, and in a comparison all tracks give equally many: see `Footage.evenly`.
"""

import logging
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.dataset_config import DatasetConfig, SourceConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.decode import cut
from deepsort_reid.data.images import open_image, resized
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.packed import Images, open_part, read_summary, verify_parts
from deepsort_reid.data.samples import DISTRACTOR, Sample
from deepsort_reid.sources.archive import Archive, pack

logger = logging.getLogger(__name__)

CROPS = 4  # of a track
MOST = 250  # people; of more, some that are evenly spread
TRAINING = "training"  # the label of held-out people
TESTED = ("query", "gallery")  # the parts that no training has seen
Size = tuple[int, int]  # height and width, pixels


@dataclass(frozen=True, eq=False)
class Footage:
    """Crops of tracks, in the order of the tracks."""

    label: str  # where it comes from, in messages
    crops: Images  # (N, H, W, 3) at the network's size
    tracks: NDArray[np.int64]  # (N,) whose crop it is: 0 to G - 1, ascending
    people: NDArray[np.int64]  # (G,) who each track is
    camids: NDArray[np.int64]  # (G,) the camera of each track; -1 unknown
    heights: NDArray[np.int64] | None = None  # (N,) of the crops before resizing; None: unknown
    spans: NDArray[np.int64] | None = None  # (G, 2) first and last frame of each; None: unknown
    is_tracked: bool = False  # by a tracker, so that several tracks may be pieces of one person's

    @property
    def count(self) -> int:
        """How many people there are."""
        return len(np.unique(self.people))

    @property
    def size_in_words(self) -> str:
        """How many people there are, and of how many tracks if a tracker made those."""
        if self.is_tracked and self.needs_draws:
            number = len(self.people)
            return (
                f"{number} tracks, {self.count} once pieces that look like one person's are joined"
            )
        return f"{self.count} people or tracks"

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many crops each track has: (G,)."""
        return np.bincount(self.tracks, minlength=len(self.people))

    @property
    def needs_draws(self) -> bool:
        """Whether somebody has more than one track."""
        return self.count < len(self.people)

    def draw(self, seed: int) -> NDArray[np.int64]:
        """A track of each person, by chance: (count,) numbers of tracks, ascending."""
        order = np.random.default_rng(seed).permutation(len(self.people))
        first = np.unique(self.people[order], return_index=True)[1]
        return np.sort(order[first])

    def with_crops(self, each: int) -> int:
        """How many people have a track with at least so many crops."""
        return len(np.unique(self.people[self.counts >= each]))

    def evenly(self, each: int) -> NDArray[np.int64]:
        """So many crops of each track, evenly spread: ascending indices; none of shorter tracks."""
        starts = np.cumsum(self.counts) - self.counts
        found = [
            start + place
            for start, count in zip(starts.tolist(), self.counts.tolist(), strict=True)
            if count >= each
            for place in middles(count, each)
        ]
        return np.array(found, np.int64)

    def only(self, chosen: NDArray[np.int64]) -> Self:
        """Some of the crops, by ascending index, and the tracks that have any of them."""
        kept, tracks = np.unique(self.tracks[chosen], return_inverse=True)
        return replace(
            self,
            crops=self.crops[chosen],
            tracks=tracks.astype(np.int64),
            people=self.people[kept],
            camids=self.camids[kept],
            heights=None if self.heights is None else self.heights[chosen],
            spans=None if self.spans is None else self.spans[kept],
        )


def chosen_tracks(
    people: Sequence[int], camids: Sequence[int], cameras: Collection[int] = ()
) -> dict[tuple[int, int], list[int]]:
    """The tracks of people, and the images to take of each.

    Args:
        people: (N,) who is on each image; the images of a track in the order of time.
        camids: (N,) the camera of each.
        cameras: the only cameras to look at; none: all.

    Returns:
        person and camera -> `CROPS` indices of images at most, evenly spread.
    """
    seen: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (person, camid) in enumerate(zip(people, camids, strict=True)):
        if not cameras or camid in cameras:
            seen[person, camid].append(index)
    kept = set(spread(sorted({person for person, _ in seen}), MOST))
    return {key: spread(found, CROPS) for key, found in seen.items() if key[0] in kept}


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most so many of some items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def middles(count: int, most: int) -> list[int]:
    """The places in the middles of equal parts of `count` places, `most` of them at most."""
    parts = min(most, count)
    places: list[int] = ((np.arange(parts) + 0.5) * count / parts).astype(int).tolist()
    return places


def numbered(tracks: Iterable[Sequence[object]]) -> NDArray[np.int64]:
    """The number of the track of each crop: (N,)."""
    return np.concatenate([[number] * len(track) for number, track in enumerate(tracks)] or [[]],
                          dtype=np.int64, casting="unsafe")  # fmt: skip


# Held-out people


def of_split(folder: Path, cameras: Collection[int] = ()) -> Footage:
    """Tracks of a split's query and gallery, whose people no training has seen.

    A network separates the people it was trained on better than any others, so they would differ
    from all new footage.

    Raises:
        PackedError: the split is damaged.
        DatasetError: a camera has not seen any of them.
    """
    verify_parts(folder, read_summary(folder), TESTED)
    parts = [open_part(folder, name) for name in TESTED]
    rows = sorted(
        (pid, camid, name, number, index)
        for number, part in enumerate(parts)
        for index, (pid, camid, name) in enumerate(
            zip(part.pids.tolist(), part.camids.tolist(), part.names, strict=True)
        )
        if pid > DISTRACTOR
    )
    camids = [row[1] for row in rows]
    check_cameras(cameras, set(camids), str(folder))
    tracks = chosen_tracks([row[0] for row in rows], camids, cameras)
    taken = [rows[index] for indices in tracks.values() for index in indices]
    return Footage(
        label=TRAINING,
        crops=np.stack([parts[number].images[index] for *_, number, index in taken]),
        tracks=numbered(tracks.values()),
        people=np.array([person for person, _ in tracks]),
        camids=np.array([camid for _, camid in tracks]),
    )


def check_cameras(wanted: Collection[int], known: Collection[int], label: str) -> None:
    """Refuse cameras that are not there.

    Raises:
        DatasetError: there are such.
    """
    if strange := sorted(set(wanted) - set(known)):
        raise DatasetError(
            f"--camera {strange[0]}: {label} has no image of it; known: "
            f"{', '.join(map(str, sorted(known)))}"
        )


# A dataset


def of_images(place: Path, image_size: Size, dataset: DatasetConfig) -> Footage:
    """Tracks of a folder or an archive, in any layout that `dataset.source` takes.

    Args:
        place: the folder or archive.
        image_size: what the network takes.
        dataset: the section `dataset`, for what to cut out of annotated videos.

    Raises:
        DatasetError: it does not say who is on which image, or an image cannot be read.
        SourceError: it cannot be read.
    """
    if place.is_dir():
        with tempfile.TemporaryDirectory() as name:
            packed = Path(name) / "footage.zip"
            pack(place, packed)
            return of_archive(Archive(packed, str(place)), image_size, dataset)
    return of_archive(Archive(place), image_size, dataset)


def of_archive(archive: Archive, image_size: Size, dataset: DatasetConfig) -> Footage:
    """Tracks of an archive; see `of_images`."""
    source = SourceConfig.model_construct(
        name="", source=archive.label, layout="auto", table=None, identity_level=None, subset=None
    )
    found = open_dataset(archive, source, dataset.mot)
    samples = [sample for sample in found.samples if sample.is_somebody]
    tracks = chosen_tracks([s.pid for s in samples], [s.camid for s in samples])
    taken = [[samples[index] for index in indices] for indices in tracks.values()]
    images = read_samples(archive, [sample for track in taken for sample in track], image_size)
    read = [[sample.name for sample in track if sample.name in images] for track in taken]
    kept = [(key, names) for key, names in zip(tracks, read, strict=True) if names]
    crops = [images[name] for _, names in kept for name in names]
    return Footage(
        label=archive.label,
        crops=np.stack([crop for crop, _ in crops])
        if crops
        else np.empty((0, *image_size, 3), np.uint8),
        tracks=numbered(names for _, names in kept),
        people=np.array([person for (person, _), _ in kept], np.int64),
        camids=np.array([camid for (_, camid), _ in kept], np.int64),
        heights=np.array([height for _, height in crops], np.int64),
    )


def read_samples(
    archive: Archive, samples: Sequence[Sample], image_size: Size
) -> Mapping[str, tuple[Images, int]]:
    """Decode samples: name -> the image at the network's size, and its height before.

    Boxes that lie mostly outside their frame are left out, as stage split leaves them out.

    Raises:
        DatasetError: an image cannot be read.
    """
    wanted: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        wanted[sample.member].append(sample)
    found = {}
    with closing(archive.read(list(wanted))) as members:
        for name, data in members:
            image = open_image(data)
            if isinstance(image, str):
                raise DatasetError(
                    f"{archive.label}: '{name}' cannot be read ({image}); mend or remove it"
                )
            for sample in wanted[name]:
                part = cut(image, sample.crop.ltwh) if sample.crop else image
                if part is not None:
                    found[sample.name] = resized(part, image_size), part.shape[0]
    return found
