"""How well the queries' identities are found in the gallery: mAP, mINP, CMC, nearest images.

The protocol is Market-1501's (Zheng et al., "Scalable Person Re-identification: A Benchmark",
ICCV 2015). The gallery is sorted by its distance to each query. Junk (pid -1) is left out.
Distractors (pid 0) are wrong answers. Gallery images of the query's own identity and camera are
removed for that query. A match is any other gallery image of the query's identity. Average
precision is the mean of the precision at the matches, not the trapezoid of Oxford's. mINP is Ye et
al.'s ("Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021). Queries
without a match count in none of them.

Distances are exact: see distances.py. Distances within the same 2^-32 are ties; the smaller gallery
index goes first. So the result does not depend on blocks, threads or devices.
"""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.evaluation.distances import (
    BLOCK_BYTES,
    TICKS,
    Embedded,
    Tile,
    check_cameras,
    distances,
    whole_rows,
    without_junk,
)

ROWS_BYTES = 2 << 30  # of the distances of some queries from the whole gallery
MAX_WHOLE_ROWS = 512  # queries in a tile that spans the gallery
SORTED_COLUMNS = 1024  # keys that are sorted at a time
INDEX_BITS = 29  # below a distance's ticks in a key; 34 + 29 bits fit an int64
LAST = torch.iinfo(torch.int64).max  # a key behind all others


@dataclass(frozen=True, eq=False)
class Ranking:
    """The protocol's measures over all queries, as fractions in [0, 1].

    Attributes:
        mAP: mean average precision.
        mINP: mean inverse negative penalty: the number of matches over the place of the last one.
        cmc: (depth,) float64; cmc[k - 1] is the share of queries with a match in the first k
            places.
        average_precision: (num_query,) float64, NaN where a query has no match.
        num_query: the queries.
        num_unmatched: the queries without a match in the gallery, which are left out.
        num_gallery: the gallery's images without junk.
        same_camera_removed: whether cameras were known, and each query's own was removed.
        num_identities: the identities of the queries with a match.
    """

    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    cmc: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    num_query: int
    num_unmatched: int
    num_gallery: int
    same_camera_removed: bool
    num_identities: int


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest gallery images of each query, the nearest first.

    Attributes:
        indices: (num_query, k) int64 positions in the gallery; -1 where it has no more.
        distances: (num_query, k) float64 in [0, 2]; infinite where there is no image.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DistanceHistograms:
    """How many pairs of a query and a gallery image lie how far apart.

    Attributes:
        edges: (bins + 1,) float64 from 0 to 2; a bin holds its left edge, the last one both.
        same: (bins,) int64 pairs of one identity.
        different: (bins,) int64 pairs of two identities, distractors among them.
    """

    edges: NDArray[np.float64]
    same: NDArray[np.int64]
    different: NDArray[np.int64]


@torch.no_grad()
def ranking(
    query: Embedded, gallery: Embedded, *, depth: int = 50, block_bytes: int = ROWS_BYTES
) -> Ranking:
    """Score the queries by the Market-1501 protocol.

    Only the places of the matches are found, by counting what comes before each of them. No
    query's row is sorted as a whole.

    Args:
        query: the images to find.
        gallery: the images to find them in.
        depth: how many places the CMC covers.
        block_bytes: bounds the memory beyond the arguments and `BLOCK_BYTES`, as long as one
            query's row fits: 8 bytes for each gallery image, and 64 for each image of the most
            frequent identity. At most `MAX_WHOLE_ROWS` rows are held, so a gallery of 16,000
            images takes 65 MB and one of a million 2 GB. The result does not depend on it.

    Raises:
        DatasetError: no query has a match in the gallery.
        ValueError: one of the two has cameras and the other has none, or the embeddings differ
            in length.
    """
    rows = rows_at_a_time(gallery, block_bytes)
    return ranking_by(whole_rows("rank", query, gallery, rows=rows), query, gallery, depth=depth)


@torch.no_grad()
def ranking_by(
    tiles: Iterable[Tile], query: Embedded, gallery: Embedded, *, depth: int = 50
) -> Ranking:
    """Score the queries by the same protocol, from distances that are already known.

    Args:
        tiles: the distances of each query from the whole gallery, as `whole_rows` yields them.
        query: the images to find; their embeddings are not used.
        gallery: the images to find them in; likewise.
        depth: how many places the CMC covers.

    Raises:
        DatasetError: no query has a match in the gallery.
        ValueError: one of the two has cameras and the other has none.
    """
    check_cameras(query, gallery)
    listed = without_junk(gallery)
    pids, order = gallery.pids[listed].sort(stable=True)
    average_precision = np.zeros(len(query))
    inverse_penalty = np.zeros(len(query))
    first = np.zeros(len(query), dtype=np.int64)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for tile in tiles:
            same = _same_identity(query.pids[tile.rows], pids, order)
            places = _places(tile, *_match_keys(tile, same, query, gallery), pool)
            rows = tile.rows.cpu().numpy()
            scores = _scores(places.cpu().numpy())
            average_precision[rows], inverse_penalty[rows], first[rows] = scores
    return _summarise(query, gallery, average_precision, inverse_penalty, first, depth)


@torch.no_grad()
def nearest(
    query: Embedded, gallery: Embedded, *, k: int = 10, block_bytes: int = BLOCK_BYTES
) -> Neighbours:
    """Find the first k places of each query, under the same rules and in the same order.

    Args:
        query: the images to find.
        gallery: the images to find them in.
        k: how many places.
        block_bytes: see `distances`.

    Raises:
        ValueError: as in `ranking`.
    """
    best = query.pids.new_full((len(query), k), LAST)
    for tile in distances("find the nearest", query, gallery, block_bytes=block_bytes):
        keys = _keys(tile.ticks, tile.columns).masked_fill_(_own(tile, query, gallery), LAST)
        candidates = torch.cat([best[tile.rows], keys], dim=1)
        best[tile.rows] = candidates.topk(k, largest=False).values
    none = best == LAST
    indices = (best & ((1 << INDEX_BITS) - 1)).masked_fill(none, -1)
    apart = ((best >> INDEX_BITS).double() / TICKS).masked_fill(none, math.inf)
    return Neighbours(indices.cpu().numpy(), apart.cpu().numpy())


@torch.no_grad()
def distance_histograms(
    query: Embedded, gallery: Embedded, *, bins: int = 200, block_bytes: int = BLOCK_BYTES
) -> DistanceHistograms:
    """Count the distances between each query and all gallery images that are not removed for it.

    Args:
        query: the images to find.
        gallery: the images to find them in.
        bins: how many equal bins divide [0, 2].
        block_bytes: see `distances`.

    Raises:
        ValueError: as in `ranking`.
    """
    counts = query.pids.new_zeros(2 * bins + 1)
    for tile in distances("count distances", query, gallery, block_bytes=block_bytes):
        bin_of = tile.ticks.mul_(bins).div_(int(2 * TICKS), rounding_mode="floor")
        bin_of.clamp_(max=bins - 1)
        bin_of += bins * (query.pids[tile.rows, None] == gallery.pids[tile.columns])
        bin_of.masked_fill_(_own(tile, query, gallery), 2 * bins)
        counts += torch.bincount(bin_of.flatten(), minlength=2 * bins + 1)
    different, same = counts[: 2 * bins].cpu().numpy().reshape(2, bins)
    return DistanceHistograms(np.linspace(0.0, 2.0, bins + 1), same, different)


# The places of the matches


def rows_at_a_time(gallery: Embedded, block_bytes: int) -> int:
    """How many queries' distances from the whole gallery `ranking` holds; see there."""
    row_bytes = 8 * len(gallery) + 64 * _most_frequent(gallery)
    return min(MAX_WHOLE_ROWS, max(1, block_bytes // row_bytes))


def _keys(ticks: Tensor, columns: Tensor) -> Tensor:
    """What orders gallery images: the distance first, then the position."""
    return ticks.bitwise_left_shift(INDEX_BITS).bitwise_or_(columns)


def _own(tile: Tile, query: Embedded, gallery: Embedded) -> Tensor:
    """Which pairs of a tile have one identity and one camera: (R, C) bool."""
    rows, columns = tile.rows[:, None], tile.columns
    if query.camids is None or gallery.camids is None:
        return torch.zeros_like(tile.ticks, dtype=torch.bool)
    own = query.pids[rows] == gallery.pids[columns]
    return own.logical_and_(query.camids[rows] == gallery.camids[columns])


def _most_frequent(gallery: Embedded) -> int:
    """How many images the gallery's most frequent identity has; 1 if there is no identity."""
    counts = torch.unique(gallery.pids[gallery.pids > 0], return_counts=True)[1]
    return int(counts.max()) if len(counts) else 1


def _same_identity(asked: Tensor, pids: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the gallery images of each query's identity.

    Args:
        asked: (R,) the queries' pids.
        pids: (C,) the gallery's pids, sorted.
        order: (C,) the columns in which they stand.

    Returns:
        for each such image its row, its number in the row, and its column, (P,) int64 each; none
        for junk or distractors.
    """
    known = asked.clamp_min(1)
    begin, end = (torch.searchsorted(pids, known, right=side) for side in (False, True))
    counts = (end - begin).masked_fill_(asked < 1, 0)
    row = torch.repeat_interleave(counts)
    number = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    return row, number, order[begin[row] + number]


def _match_keys(
    tile: Tile, same: tuple[Tensor, Tensor, Tensor], query: Embedded, gallery: Embedded
) -> tuple[Tensor, Tensor]:
    """The keys of each query's matches, and of the images of its own identity and camera.

    Args:
        tile: of whole rows.
        same: the images of each query's identity, as `_same_identity` has them.
        query: all queries.
        gallery: the whole gallery.

    Returns:
        two (R, width) int64 tensors, ascending in each row, then LAST.
    """
    row, number, column = same
    keys = _keys(tile.ticks[row, column], tile.columns[column])
    width = int(number.max()) + 1 if len(number) else 1
    matches = keys.new_full((len(tile.rows), width), LAST)
    own = matches.clone()
    if query.camids is None or gallery.camids is None:
        matches[row, number] = keys
    else:
        removed = query.camids[tile.rows[row]] == gallery.camids[tile.columns[column]]
        matches[row, number] = keys.masked_fill(removed, LAST)
        own[row, number] = keys.masked_fill(~removed, LAST)
    return matches.sort(dim=1).values, own.sort(dim=1).values


def _places(tile: Tile, matches: Tensor, own: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """The place of each match among the gallery images that are not removed for its query.

    Args:
        tile: of whole rows.
        matches: (R, width) int64 keys, ascending, then LAST.
        own: (R, width) likewise, of the images that are removed.
        pool: sorts.

    Returns:
        (R, width) int64, ascending from 1; 0 where there is no match.
    """
    places = 1 - torch.searchsorted(own, matches)
    for start in range(0, len(tile.columns), SORTED_COLUMNS):
        part = slice(start, start + SORTED_COLUMNS)
        keys = _keys(tile.ticks[:, part], tile.columns[part])
        places += torch.searchsorted(_sorted(keys, pool), matches)  # keys that come before it
    return places.masked_fill_(matches == LAST, 0)


def _sorted(keys: Tensor, pool: ThreadPoolExecutor) -> Tensor:
    """Sort each row of keys; overwrites them on a CPU.

    There NumPy sorts by vector instructions, in a fraction of the time that PyTorch takes to sort,
    or to look up where each key belongs among the matches.
    """
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    parts = np.array_split(keys.numpy(), torch.get_num_threads())
    list(pool.map(lambda part: part.sort(axis=1), parts))
    return keys


def _scores(
    places: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Average precision, inverse negative penalty and the first match's place of each query.

    Args:
        places: (rows, width) int64, ascending from 1, then zeros.

    Returns:
        three (rows,) arrays; NaN, NaN and 0 where there is no match.
    """
    found = places > 0
    matches = found.sum(axis=1)
    hits = np.broadcast_to(np.arange(1.0, places.shape[1] + 1), places.shape)
    precision = np.divide(hits, places, out=np.zeros(places.shape), where=found)
    # cumsum adds from left to right; sum would pair terms by the width of the array.
    total = precision.cumsum(axis=1)[:, -1]
    with np.errstate(invalid="ignore"):
        return total / matches, matches / places.max(axis=1), places[:, 0]


def _summarise(
    query: Embedded,
    gallery: Embedded,
    average_precision: NDArray[np.float64],
    inverse_penalty: NDArray[np.float64],
    first: NDArray[np.int64],
    depth: int,
) -> Ranking:
    """Average over the queries that have a match; see `ranking`."""
    matched = first > 0
    num_matched = int(matched.sum())
    if num_matched == 0:
        seen = "" if query.camids is None else " seen by another camera"
        raise DatasetError(
            f"none of the {len(query):,} queries has an image of its identity{seen} among the "
            f"gallery's {len(gallery):,}; expected at least one: check the identities and cameras "
            "of both parts"
        )
    found_at = np.bincount(np.minimum(first[matched], depth + 1), minlength=depth + 2)
    return Ranking(
        mAP=math.fsum(average_precision[matched]) / num_matched,
        mINP=math.fsum(inverse_penalty[matched]) / num_matched,
        cmc=found_at.cumsum()[1 : depth + 1] / num_matched,
        average_precision=average_precision,
        num_query=len(query),
        num_unmatched=len(query) - num_matched,
        num_gallery=len(without_junk(gallery)),
        same_camera_removed=query.camids is not None,
        num_identities=len(np.unique(query.pids.cpu().numpy()[matched])),
    )
