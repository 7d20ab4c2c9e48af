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
    Tile,
    distances,
)

Counts = NDArray[np.int32]

STEP_BITS = 21  # of a distance's 32 fractional bits, not resolved
STEP = 2.0**STEP_BITS / TICKS  # between two thresholds, 1/2048
STEPS = int(2 / STEP) + 1  # thresholds from 0 to 2
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


def count_pairs(
    query: Sightings, gallery: Sightings, *, short_range: int, block_bytes: int = BLOCK_BYTES
) -> dict[str, PairCounts]:
    """Count all pairs of a query and a gallery image without junk, by kind and distance.

    Left out are pairs of one person in one camera more than `short_range` frames apart, and of two
    distractors, which may show one person or two.

    Args:
        query: the query images.
        gallery: the images that they are compared with; none of them is a query.
        short_range: in frames; used where the moments of both sides are known.
        block_bytes: bounds the memory beyond arguments and result. The result, at most 64 MB a
            kind, does not depend on it.

    Returns:
        "within" and "across", or "all", each with as many groups.

    Raises:
        ValueError: as in `ranking.ranking`.
    """
    names = ("all",) if query.images.camids is None else ("within", "across")
    group, groups = _groups(query)
    table = group.new_zeros(len(names) * 2 * groups * STEPS + 1, dtype=torch.int32)
    for tile in distances("calibrate", query.images, gallery.images, block_bytes=block_bytes):
        _count(_cells(tile, query, gallery, group, groups, short_range), table)
    counts = table[:-1].view(len(names), 2, groups, STEPS).cpu().numpy()
    return {name: PairCounts(*sides) for name, sides in zip(names, counts, strict=True)}


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
        ValueError: as in `ranking.ranking`, or the cameras are not known.
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
        row, column = _far(tile, query, gallery, same, short_range)
        steps[row, column] = STEPS
        columns = track[tile.columns].expand_as(steps)
        nearest[tile.rows] = nearest[tile.rows].scatter_reduce(1, columns, steps, "amin")
    return pids, nearest


def _count(cells: Tensor, table: Tensor) -> None:
    """Add 1 to the table's cells, as often as each occurs."""
    places = cells.flatten()
    table.scatter_add_(0, places, table.new_ones(1).expand_as(places))


def _groups(query: Sightings) -> tuple[Tensor, int]:
    """The group of each query, (N,) int64, and how many there are: identities, `GROUPS` at most."""
    identities, group = torch.unique(query.images.pids, return_inverse=True)
    return group % GROUPS, min(len(identities), GROUPS)


def _steps(tile: Tile) -> Tensor:
    """The first step that each distance is at or below, (R, C) int64; overwrites the tile's."""
    return tile.ticks.add_((1 << STEP_BITS) - 1).bitwise_right_shift_(STEP_BITS)


def _far(
    tile: Tile, query: Sightings, gallery: Sightings, which: Tensor, short_range: int
) -> tuple[Tensor, Tensor]:
    """Rows and columns of those of some pairs, (R, C) bool, that are not at short range."""
    row, column = which.nonzero().unbind(1)
    if query.moments is None or gallery.moments is None:
        return row[:0], column[:0]
    apart = query.moments[tile.rows[row]] - gallery.moments[tile.columns[column]]
    far = apart.abs() > short_range
    return row[far], column[far]


def _cells(
    tile: Tile, query: Sightings, gallery: Sightings, group: Tensor, groups: int, short_range: int
) -> Tensor:
    """Where each pair of a tile is counted: (R, C) int64 places in the table.

    The table is (kinds, 2, groups, STEPS), different before same, and one place behind all that
    for pairs that are left out.
    """
    rows, columns = tile.rows[:, None], tile.columns
    pids = query.images.pids[rows]
    same = pids == gallery.images.pids[columns]
    left_out = same & (pids <= DISTRACTOR)
    cells = _steps(tile).add_(group[rows] * STEPS)
    cells.add_(same, alpha=groups * STEPS)
    kinds = 1
    if query.images.camids is not None and gallery.images.camids is not None:
        kinds = 2
        across = query.images.camids[rows] != gallery.images.camids[columns]
        cells.add_(across, alpha=2 * groups * STEPS)
        row, column = _far(tile, query, gallery, same & ~across, short_range)
        left_out[row, column] = True
    return cells.masked_fill_(left_out, kinds * 2 * groups * STEPS)
