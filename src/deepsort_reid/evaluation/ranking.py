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
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.samples import DISTRACTOR
from deepsort_reid.evaluation.distances import (
    TICKS,
    Embedded,
    Identities,
    Tile,
    check_cameras,
    whole_rows,
    without_junk,
)

ROWS_BYTES = 2 << 30  # of the distances of some queries from the whole gallery
MAX_WHOLE_ROWS = 512  # queries in a tile that spans the gallery
SORTED_COLUMNS = 1024  # keys that are sorted at a time
INDEX_BITS = 29  # below a distance's ticks in a key; 34 + 29 bits fit an int64
LAST = torch.iinfo(torch.int64).max  # a key behind all others
REMOVED = (1 << 34) - 1  # ticks beyond any distance


class Receiver(Protocol):
    """Takes in the distances of some queries from the whole gallery without junk."""

    def add(self, tile: Tile) -> None:
        """Take them in; the tile is left as it was."""


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


class Search:
    """What is found for each query, from distances that come in tiles.

    Only the places of the matches are found, by counting what comes before each of them. No
    query's row is sorted as a whole.
    """

    def __init__(
        self, query: Embedded, gallery: Embedded, pool: Executor, *, k: int = 0, bins: int = 0
    ):
        """Begin without any distance.

        Args:
            query: the images to find; their embeddings are not used.
            gallery: the images to find them in; likewise.
            pool: sorts.
            k: how many of the nearest gallery images to note for each query.
            bins: how many equal bins divide [0, 2], to count distances in.

        Raises:
            ValueError: one of the two has cameras and the other has none.
        """
        check_cameras(query, gallery)
        self.query, self.gallery, self.pool, self.k, self.bins = query, gallery, pool, k, bins
        self.identities = Identities(gallery)
        self.average_precision = np.zeros(len(query))
        self.inverse_penalty = np.zeros(len(query))
        self.first = np.zeros(len(query), dtype=np.int64)
        self.best = query.pids.new_full((len(query), k), LAST)
        edges = [-(-place * int(2 * TICKS) // bins) for place in range(1, bins)]
        self.edges = _keys(query.pids.new_tensor([*edges, REMOVED] if bins else []), 0)
        self.below = torch.zeros_like(self.edges)  # pairs before each edge
        self.same = torch.zeros_like(self.edges)  # pairs of one identity in each bin

    def add(self, tile: Tile) -> None:
        """Take in the distances of some queries from the whole gallery without junk."""
        query, gallery = self.query, self.gallery
        row, number, column = self.identities.of(query.pids[tile.rows])
        keys = _keys(tile.ticks[row, column], tile.columns[column])
        removed = torch.zeros_like(row, dtype=torch.bool)
        if query.camids is not None and gallery.camids is not None:
            removed = query.camids[tile.rows[row]] == gallery.camids[tile.columns[column]]
        found = ~removed & (query.pids[tile.rows[row]] > DISTRACTOR)
        matches = _side_by_side(len(tile.rows), row[found], number[found], keys[found])
        bin_of = torch.searchsorted(self.edges, keys[~removed], right=True)
        self.same += torch.bincount(bin_of, minlength=len(self.edges))
        own = row[removed], column[removed]
        seen, tile.ticks[own] = tile.ticks[own], REMOVED
        scores = _scores(self.places(tile, matches).cpu().numpy())
        tile.ticks[own] = seen
        rows = tile.rows.cpu().numpy()
        self.average_precision[rows], self.inverse_penalty[rows], self.first[rows] = scores

    def places(self, tile: Tile, matches: Tensor) -> Tensor:
        """The place of each match; what is nearest, and how far apart pairs are, is noted.

        Args:
            tile: of whole rows, what the protocol removes at distance `REMOVED`.
            matches: (R, width) int64 keys, ascending, then LAST.

        Returns:
            (R, width) int64, ascending from 1; 0 where there is no match.
        """
        places = torch.ones_like(matches)
        edges = self.edges.repeat(len(tile.rows), 1)
        best = self.best[tile.rows]
        for start in range(0, len(tile.columns), SORTED_COLUMNS):
            part = slice(start, start + SORTED_COLUMNS)
            keys = _sorted(_keys(tile.ticks[:, part], tile.columns[part]), self.pool)
            places += torch.searchsorted(keys, matches)  # keys that come before it
            if self.bins:
                self.below += torch.searchsorted(keys, edges).sum(0)
            if self.k:
                nearer = torch.cat([best, keys[:, : self.k]], dim=1)
                best = nearer.topk(self.k, largest=False).values
        self.best[tile.rows] = best
        return places.masked_fill_(matches == LAST, 0)

    def ranking(self, depth: int = 50) -> Ranking:
        """The protocol's measures, of `depth` places.

        Raises:
            DatasetError: no query has a match in the gallery.
        """
        scores = self.average_precision, self.inverse_penalty, self.first
        return _summarise(self.query, self.gallery, *scores, depth)

    def neighbours(self) -> Neighbours:
        """The first places of each query, under the same rules and in the same order."""
        none = self.best >= REMOVED << INDEX_BITS
        indices = (self.best & ((1 << INDEX_BITS) - 1)).masked_fill(none, -1)
        apart = ((self.best >> INDEX_BITS).double() / TICKS).masked_fill(none, math.inf)
        return Neighbours(indices.cpu().numpy(), apart.cpu().numpy())

    def histograms(self) -> DistanceHistograms:
        """The distances between each query and the gallery images that are not removed for it."""
        same, below = self.same.cpu().numpy(), self.below.cpu().numpy()
        counts = np.diff(below, prepend=0)
        return DistanceHistograms(np.linspace(0.0, 2.0, self.bins + 1), same, counts - same)


@torch.no_grad()
def search(
    query: Embedded,
    gallery: Embedded,
    *,
    k: int = 0,
    bins: int = 0,
    others: Sequence[Receiver] = (),
    block_bytes: int = ROWS_BYTES,
) -> Search:
    """Go once over all pairs of a query and a gallery image.

    Args:
        query: the images to find.
        gallery: the images to find them in.
        k: see `Search`.
        bins: likewise.
        others: what takes in the tiles too, and leaves them as they are.
        block_bytes: bounds the memory beyond the arguments and `BLOCK_BYTES`, as long as one
            query's row fits: 8 bytes for each gallery image, and 64 for each image of the most
            frequent identity. At most `MAX_WHOLE_ROWS` rows are held, so a gallery of 16,000
            images takes 65 MB and one of a million 2 GB. The result does not depend on it.

    Raises:
        ValueError: one of the two has cameras and the other has none, or the embeddings differ
            in length.
    """
    rows = rows_at_a_time(gallery, block_bytes)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = Search(query, gallery, pool, k=k, bins=bins)
        for tile in whole_rows("rank", query, gallery, rows=rows):
            for receiver in (found, *others):
                receiver.add(tile)
    return found


def ranking(
    query: Embedded, gallery: Embedded, *, depth: int = 50, block_bytes: int = ROWS_BYTES
) -> Ranking:
    """Score the queries by the Market-1501 protocol.

    Args:
        query: the images to find.
        gallery: the images to find them in.
        depth: how many places the CMC covers.
        block_bytes: see `search`.

    Raises:
        DatasetError: no query has a match in the gallery.
        ValueError: as in `search`.
    """
    return search(query, gallery, block_bytes=block_bytes).ranking(depth)


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
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = Search(query, gallery, pool)
        for tile in tiles:
            found.add(tile)
    return found.ranking(depth)


# The places of the matches


def rows_at_a_time(gallery: Embedded, block_bytes: int) -> int:
    """How many queries' distances from the whole gallery `ranking` holds; see there."""
    row_bytes = 8 * len(gallery) + 64 * _most_frequent(gallery)
    return min(MAX_WHOLE_ROWS, max(1, block_bytes // row_bytes))


def _keys(ticks: Tensor, columns: Tensor | int) -> Tensor:
    """What orders gallery images: the distance first, then the position."""
    return ticks.bitwise_left_shift(INDEX_BITS).bitwise_or_(columns)


def _most_frequent(gallery: Embedded) -> int:
    """How many images the gallery's most frequent identity has; 1 if there is no identity."""
    counts = torch.unique(gallery.pids[gallery.pids > 0], return_counts=True)[1]
    return int(counts.max()) if len(counts) else 1


def _side_by_side(rows: int, row: Tensor, number: Tensor, keys: Tensor) -> Tensor:
    """Sort the keys of each row: (rows, width) int64, ascending, then LAST.

    Args:
        rows: how many there are.
        row: (P,) int64, of each key.
        number: (P,) int64, each key's number in its row.
        keys: (P,) int64.
    """
    width = int(number.max()) + 1 if len(number) else 1
    table = keys.new_full((rows, width), LAST)
    table[row, number] = keys
    return table.sort(dim=1).values


def _sorted(keys: Tensor, pool: Executor) -> Tensor:
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
