"""Pairs of a query and a gallery image, counted by kind and distance.

Pairs are of two kinds. *Within* one camera is what a tracker compares: images of one person a few
frames apart, and the other people that the camera sees. *Across* cameras is what the ranking
compares. Where the cameras are unknown there is one kind, *all*. A third kind, *track*, takes all
gallery images of one person in one camera for a track, whose distance is that of its nearest image.

Distances are counted in steps of STEP, separately for each group of query identities, so that
the identities can be resampled.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepsort_reid.data.samples import DISTRACTOR
from deepsort_reid.evaluation.distances import (
    BLOCK_BYTES,
    TICKS,
    Embedded,
    Identities,
    Tile,
    distances,
    whole_rows,
)

Counts = NDArray[np.int32]

STEP_BITS = 21  # of a distance's 32 fractional bits, not resolved
STEP = 2.0**STEP_BITS / TICKS  # between two thresholds, 1/2048
STEPS = int(2 / STEP) + 1  # thresholds from 0 to 2
ROUND_UP = (1 << STEP_BITS) - 1  # ticks, to the next threshold
CHUNK_PAIRS = 1 << 18  # that are counted at a time, which fit a CPU's cache
GROUPS = 1024  # of query identities, at most, that are resampled; bounds the memory


class Sightings:
    """Embedded images with the frame in which each was taken.

    Attributes:
        images: their embeddings, identities and cameras.
        moments: (N,) int64 tensor of frame numbers, or None where they are unknown; see
            `samples.read_moments`.
    """

    def __init__(self, images: Embedded, moments: ArrayLike | Tensor | None):
        """Check that there is a frame number for each image.

        Raises:
            ValueError: there is not.
        """
        self.images = images
        self.moments = None
        if moments is not None:
            values = torch.as_tensor(moments, dtype=torch.int64)
            if values.shape != images.pids.shape:
                raise ValueError(f"{len(images)} images have moments {tuple(values.shape)}")
            self.moments = values.to(images.pids.device)

    def __getitem__(self, index: Tensor) -> "Sightings":
        """Some of them, by positions (n,) int64."""
        images = self.images
        camids = None if images.camids is None else images.camids[index]
        moments = None if self.moments is None else self.moments[index]
        return Sightings(Embedded(images.embeddings[index], images.pids[index], camids), moments)


@dataclass(frozen=True, eq=False)
class PairCounts:
    """How many pairs of one kind lie how far apart, for each group of query identities.

    Attributes:
        different: (groups, STEPS) counts of pairs of two people; column k holds those farther
            apart than (k - 1) * STEP, and at most k * STEP.
        same: likewise, of pairs of one person.
    """

    different: Counts
    same: Counts


class PairCounter:
    """Counts all pairs of a query and a gallery image without junk, by kind and distance.

    Left out are pairs of one person in one camera more than `short_range` frames apart, and of two
    distractors, which may show one person or two.
    """

    def __init__(self, query: Sightings, gallery: Sightings, *, short_range: int):
        """Begin without any pair; the table takes at most 64 MB a kind.

        Args:
            query: the query images.
            gallery: the images that they are compared with; none of them is a query.
            short_range: in frames; used where the moments of both sides are known.
        """
        self.query, self.gallery, self.short_range = query, gallery, short_range
        self.identities = Identities(gallery.images)
        self.cameras = query.images.camids, gallery.images.camids
        self.names = ("all",) if None in self.cameras else ("within", "across")
        self.group, self.groups = _groups(query)
        # (kinds, 2, groups, STEPS), pairs of two people before those of one.
        self.table = self.group.new_zeros(
            len(self.names) * 2 * self.groups * STEPS, dtype=torch.int32
        )

    @torch.no_grad()
    def add(self, tile: Tile) -> None:
        """Take in the distances of some queries from the whole gallery without junk."""
        row, _, column = self.identities.of(self.query.images.pids[tile.rows])
        rows, columns = self.group[tile.rows] * STEPS, tile.columns
        width = max(1, CHUNK_PAIRS // max(1, len(rows)))
        for start in range(0, len(columns), width):
            part = slice(start, start + width)
            ticks = tile.ticks[:, part]
            places = torch.add(ticks, ((rows << STEP_BITS) + ROUND_UP)[:, None])
            self.add_kinds(places, tile.rows[:, None], columns[part])
            _count(places.bitwise_right_shift_(STEP_BITS), self.table)
        # So far all pairs count as of two people.
        places = tile.ticks[row, column] + (rows[row] << STEP_BITS) + ROUND_UP
        self.add_kinds(places, tile.rows[row], columns[column])
        places.bitwise_right_shift_(STEP_BITS)
        _count(places, self.table, -1)
        counts = ~self.is_left_out(tile.rows[row], columns[column])
        _count(places[counts] + self.groups * STEPS, self.table)

    def add_kinds(self, places: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Move places in the table, in steps of ticks, to the kind of their pairs."""
        first, second = self.cameras
        if first is not None and second is not None:
            across = first[rows] != second[columns]
            places.add_(across, alpha=(2 * self.groups * STEPS) << STEP_BITS)

    def is_left_out(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Which pairs of one identity count as of nobody, (P,) bool."""
        left_out = self.query.images.pids[rows] <= DISTRACTOR
        far = _far(self.query, self.gallery, rows, columns, self.short_range)
        first, second = self.cameras
        if first is not None and second is not None:
            far &= first[rows] == second[columns]
        else:
            far.zero_()
        return left_out | far

    def counts(self) -> dict[str, PairCounts]:
        """Tell what was counted: "within" and "across", or "all", each with as many groups."""
        counts = self.table.view(len(self.names), 2, self.groups, STEPS).cpu().numpy()
        return {name: PairCounts(*sides) for name, sides in zip(self.names, counts, strict=True)}


def count_pairs(
    query: Sightings, gallery: Sightings, *, short_range: int, block_bytes: int = BLOCK_BYTES
) -> dict[str, PairCounts]:
    """Count all pairs by kind and distance, as `PairCounter` does.

    Args:
        query: the query images.
        gallery: the images that they are compared with; none of them is a query.
        short_range: see `PairCounter`.
        block_bytes: bounds the memory of a tile; the result does not depend on it.

    Returns:
        "within" and "across", or "all", each with as many groups.

    Raises:
        ValueError: as in `ranking.search`.
    """
    counter = PairCounter(query, gallery, short_range=short_range)
    rows = max(1, block_bytes // (8 * max(1, len(gallery.images))))
    for tile in whole_rows("calibrate", query.images, gallery.images, rows=rows):
        counter.add(tile)
    return counter.counts()


def count_tracks(
    query: Sightings, gallery: Sightings, *, short_range: int, block_bytes: int = BLOCK_BYTES
) -> PairCounts:
    """Count the pairs of a query and a track in its camera, by the smallest distance.

    A track is the gallery's images of one person in one camera; of the query's own only those at
    most `short_range` frames away. Distractors make none.

    Args:
        query: the query images; their cameras are known.
        gallery: the images of the tracks.
        short_range: as in `count_pairs`.
        block_bytes: bounds the memory beyond arguments and result, but for 2 bytes for each query
            and track of a camera.

    Raises:
        ValueError: as in `ranking.search`, or the cameras are not known.
    """
    if query.images.camids is None or gallery.images.camids is None:
        raise ValueError("tracks take cameras")
    group, groups = _groups(query)
    table = group.new_zeros(2 * groups * (STEPS + 1), dtype=torch.int32)
    for camera in torch.unique(query.images.camids):
        rows = (query.images.camids == camera).nonzero().flatten()
        seen = (gallery.images.camids == camera) & (gallery.images.pids > DISTRACTOR)
        here = query[rows]
        tracks, steps = _nearest(here, gallery[seen.nonzero().flatten()], short_range, block_bytes)
        side = group[rows, None] + groups * (here.images.pids[:, None] == tracks)
        _count(side * (STEPS + 1) + steps, table)
    return PairCounts(*table.view(2, groups, STEPS + 1)[..., :STEPS].cpu().numpy())


def _nearest(
    query: Sightings, gallery: Sightings, short_range: int, block_bytes: int
) -> tuple[Tensor, Tensor]:
    """How near each query of a camera is to each track in it.

    Returns:
        (tracks,) int64 the identity of each track, and (queries, tracks) int16 the step of the
        smallest distance; STEPS where no image of a track is at short range.
    """
    pids, track = torch.unique(gallery.images.pids, return_inverse=True)
    nearest = pids.new_full((len(query.images), len(pids)), STEPS, dtype=torch.int16)
    for tile in distances(
        "calibrate tracks", query.images, gallery.images, block_bytes=block_bytes
    ):
        steps = _steps(tile).short()
        same = query.images.pids[tile.rows, None] == gallery.images.pids[tile.columns]
        row, column = same.nonzero().unbind(1)
        far = _far(query, gallery, tile.rows[row], tile.columns[column], short_range)
        steps[row[far], column[far]] = STEPS
        columns = track[tile.columns].expand_as(steps)
        nearest[tile.rows] = nearest[tile.rows].scatter_reduce(1, columns, steps, "amin")
    return pids, nearest


def _count(places: Tensor, table: Tensor, number: int = 1) -> None:
    """Add a number to the table's places, as often as each occurs."""
    places = places.flatten()
    table.scatter_add_(0, places, table.new_tensor([number]).expand_as(places))


def _groups(query: Sightings) -> tuple[Tensor, int]:
    """The group of each query, (N,) int64, and how many there are: identities, `GROUPS` at most."""
    identities, group = torch.unique(query.images.pids, return_inverse=True)
    return group % GROUPS, min(len(identities), GROUPS)


def _steps(tile: Tile) -> Tensor:
    """The first step that each distance is at or below, (R, C) int64; overwrites the tile's."""
    return tile.ticks.add_(ROUND_UP).bitwise_right_shift_(STEP_BITS)


def _far(
    query: Sightings, gallery: Sightings, rows: Tensor, columns: Tensor, short_range: int
) -> Tensor:
    """Which pairs are not at short range, (P,) bool; none where moments are unknown."""
    if query.moments is None or gallery.moments is None:
        return torch.zeros_like(rows, dtype=torch.bool)
    return (query.moments[rows] - gallery.moments[columns]).abs() > short_range
