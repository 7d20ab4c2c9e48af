"""How well people are found again: mAP, mINP, CMC and nearest neighbours, to the last bit.

The protocol is Market-1501's (Zheng et al., "Scalable Person Re-identification: A Benchmark",
ICCV 2015): the gallery is sorted by distance to each query; junk (pid -1) is no part of it;
distractors (pid 0) are wrong answers; images with the query's own identity and camera are passed
over for that query. Average precision is the mean of the precision at the right answers, not the
trapezoid of Oxford's. mINP is Ye et al.'s ("Deep Learning for Person Re-identification: A Survey
and Outlook", TPAMI 2021). Queries without a right answer count in none of them.

The distance is 1 - cosine. A matrix product rounds differently in blocks of other sizes, and would
order near ties differently. So each direction is first rounded to multiples of 2^-26, as float32
rounds components near 0.2: every product is then a multiple of 2^-52 and every partial sum at most
the product of two unit lengths, float64 holds them all exactly, and the order of additions, blocks,
threads and device cannot matter. Distances within the same 2^-32 are ties; the smaller gallery
index goes first.
"""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepsort_reid.core.errors import DatasetError, WeightsError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.samples import JUNK

BLOCK_BYTES = 64 << 20

GRID = 2.0**26  # steps of a direction's components, in a unit length
TICKS = 2.0**32  # steps of a distance, in 1
INDEX_BITS = 29  # below a distance's ticks in a key; 34 + 29 bits fit an int64
PASSED_OVER = torch.iinfo(torch.int64).max  # key of what a query may not find: behind all else

MAX_ROWS = 2048  # queries in a block; the gallery is put on the grid once for each block
NORM_ROWS = 4096


class Embedded:
    """Images as the protocol sees them: where they lie, who they show, who saw them.

    Attributes:
        embeddings: (N, D) float tensor on any device, of any length: directions are compared.
            A zero vector has none, and is at distance 1 from everything.
        pids: (N,) int64 tensor; -1 is junk, 0 a distractor.
        camids: (N,) int64 tensor, or None where nobody knows the cameras.
        norms: (N,) float64 tensor.
    """

    def __init__(
        self, embeddings: Tensor, pids: ArrayLike | Tensor, camids: ArrayLike | Tensor | None = None
    ):
        """Check the arrays and measure the vectors.

        Raises:
            ValueError: the shapes do not belong together.
            WeightsError: an embedding holds NaN or infinity.
        """
        self.embeddings = embeddings.detach()
        self.pids = self._per_image("pids", pids)
        self.camids = None if camids is None else self._per_image("camids", camids)
        self.norms = _norms(self.embeddings)

    def __len__(self) -> int:
        return len(self.embeddings)

    def _per_image(self, name: str, values: ArrayLike | Tensor) -> Tensor:
        tensor = values if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
        if self.embeddings.ndim != 2 or tensor.shape != self.embeddings.shape[:1]:
            raise ValueError(
                f"expected embeddings (N, D) and {name} (N,), "
                f"got {tuple(self.embeddings.shape)} and {tuple(tensor.shape)}"
            )
        return tensor.to(self.embeddings.device, torch.int64)


@dataclass(frozen=True, eq=False)
class Ranking:
    """What the protocol says of all queries together, as fractions in [0, 1].

    Attributes:
        mAP: mean average precision.
        mINP: mean inverse negative penalty: right answers over the place of the last of them.
        cmc: (depth,) float64; cmc[k - 1] is the share of queries with a right answer in the
            first k places.
        average_precision: (num_query,) float64, NaN where a query has no right answer.
        num_query: the queries asked.
        num_unmatched: those among them without a right answer in the gallery: left out.
        num_gallery: the gallery's images without junk.
        same_camera_removed: whether cameras were known, and each query passed over its own.
    """

    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    cmc: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    num_query: int
    num_unmatched: int
    num_gallery: int
    same_camera_removed: bool


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
class Tile:
    """The distances of some queries from some gallery images.

    Attributes:
        rows: (R,) int64 tensor, positions of the queries.
        columns: (C,) int64 tensor, positions in the gallery, never junk's.
        ticks: (R, C) int64 tensor, distances in steps of 1 / TICKS, from 0 to 2 * TICKS; the
            receiver may overwrite it.
    """

    rows: Tensor
    columns: Tensor
    ticks: Tensor


@dataclass(frozen=True, eq=False)
class DistanceHistograms:
    """How many pairs of a query and a gallery image lie how far apart.

    Attributes:
        edges: (bins + 1,) float64 from 0 to 2; a bin holds its left edge, the last one both.
        same: (bins,) int64 pairs of one identity.
        different: (bins,) int64 pairs of two, distractors among them.
    """

    edges: NDArray[np.float64]
    same: NDArray[np.int64]
    different: NDArray[np.int64]


@torch.no_grad()
def ranking(
    query: Embedded, gallery: Embedded, *, depth: int = 50, block_bytes: int = BLOCK_BYTES
) -> Ranking:
    """Score the queries by the Market-1501 protocol.

    Only the places of the right answers are found, by counting what comes before each of them;
    the gallery is never sorted.

    Args:
        query: the images asked for.
        gallery: the images they are looked for in.
        depth: how many places the CMC covers.
        block_bytes: bounds the memory beyond the arguments, whatever the gallery's size, as long
            as the right answers of one query fit. The result does not depend on it.

    Raises:
        DatasetError: no query has a right answer in the gallery.
        ValueError: one of the two has cameras and the other has none, or the embeddings differ
            in length.
    """
    order, right_pids = _answers(gallery)

    def found() -> Iterator[_Found]:
        for asked, tiles in _search("rank", query, gallery, block_bytes):
            right = _right_keys(asked, query, gallery, order, right_pids, block_bytes)
            yield asked.index, _places(right, (keys for _, keys in tiles))

    return _summarise(query, gallery, found(), depth)


@torch.no_grad()
def ranking_by(
    given: Iterable[Tile], query: Embedded, gallery: Embedded, *, depth: int = 50
) -> Ranking:
    """Score the queries by the same protocol and the same rules, by distances that are given.

    Args:
        given: distances of each query from the whole gallery without junk, in tiles of whole
            rows, as `distances` yields them with `whole_rows`; they are overwritten.
        query: the images asked for; their embeddings are not looked at.
        gallery: the images they are looked for in; likewise.
        depth: how many places the CMC covers.

    Raises:
        DatasetError: no query has a right answer in the gallery.
        ValueError: one of the two has cameras and the other has none.
    """
    _check(query, gallery)
    width = _most_answers(gallery)

    def found() -> Iterator[_Found]:
        for tile in given:
            asked, offered = _seen(query, tile.rows), _seen(gallery, tile.columns)
            keys = tile.ticks.bitwise_left_shift_(INDEX_BITS).bitwise_or_(tile.columns)
            _pass_over_own(keys, asked, offered)
            wrong = (asked.pids[:, None] != offered.pids) | (offered.pids <= 0)
            right = keys.masked_fill(wrong, PASSED_OVER)
            right = right.topk(min(width, right.shape[1]), largest=False).values
            yield tile.rows, _places(right, [keys])

    return _summarise(query, gallery, found(), depth)


@torch.no_grad()
def nearest(
    query: Embedded, gallery: Embedded, *, k: int = 10, block_bytes: int = BLOCK_BYTES
) -> Neighbours:
    """Find the first k places of each query, under the same rules and in the same order.

    Args:
        query: the images asked for.
        gallery: the images they are looked for in.
        k: how many places.
        block_bytes: as in `ranking`.

    Raises:
        ValueError: as in `ranking`.
    """
    best = query.pids.new_full((len(query), k), PASSED_OVER)
    for asked, tiles in _search("find the nearest", query, gallery, block_bytes):
        for _, keys in tiles:
            candidates = torch.cat([best[asked.index], keys], dim=1)
            best[asked.index] = candidates.topk(k, largest=False).values
    none = best == PASSED_OVER
    indices = (best & ((1 << INDEX_BITS) - 1)).masked_fill(none, -1)
    distances = ((best >> INDEX_BITS).double() / TICKS).masked_fill(none, math.inf)
    return Neighbours(indices.cpu().numpy(), distances.cpu().numpy())


@torch.no_grad()
def distance_histograms(
    query: Embedded, gallery: Embedded, *, bins: int = 200, block_bytes: int = BLOCK_BYTES
) -> DistanceHistograms:
    """Count the distances between each query and all that it may find.

    Args:
        query: the images asked for.
        gallery: the images they are looked for in.
        bins: how many equal bins divide [0, 2].
        block_bytes: as in `ranking`.

    Raises:
        ValueError: as in `ranking`.
    """
    counts = query.pids.new_zeros(2 * bins + 1)
    for asked, tiles in _search("count distances", query, gallery, block_bytes):
        for offered, keys in tiles:
            bin_of = (keys >> INDEX_BITS).mul_(bins).div_(int(2 * TICKS), rounding_mode="floor")
            bin_of.clamp_(max=bins - 1)
            bin_of += bins * (asked.pids[:, None] == offered.pids)
            bin_of.masked_fill_(keys == PASSED_OVER, 2 * bins)
            counts += torch.bincount(bin_of.flatten(), minlength=2 * bins + 1)
    different, same = counts[: 2 * bins].cpu().numpy().reshape(2, bins)
    return DistanceHistograms(np.linspace(0.0, 2.0, bins + 1), same, different)


@torch.no_grad()
def distances(
    what: str,
    query: Embedded,
    gallery: Embedded,
    *,
    whole_rows: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Tile]:
    """Yield the distance of every pair once, also of those that a query passes over.

    Args:
        what: the progress bar's name.
        query: the images asked for.
        gallery: the images they are looked for in.
        whole_rows: whether each tile spans the gallery, without junk.
        block_bytes: as in `ranking`, as long as the receiver keeps to 16 bytes a pair of its own;
            with `whole_rows` half of it is the receiver's, 48 bytes a pair, as long as the tile
            of one query fits.

    Raises:
        ValueError: as in `ranking`.
    """
    bytes_a_row = 96 * max(1, len(gallery))
    max_rows = max(1, block_bytes // bytes_a_row) if whole_rows else MAX_ROWS
    for asked, tiles in _search(
        what, query, gallery, block_bytes, pass_over_own=False, max_rows=max_rows
    ):
        parts = (
            Tile(asked.index, offered.index, keys.bitwise_right_shift_(INDEX_BITS))
            for offered, keys in tiles
        )
        yield from _joined(parts) if whole_rows else parts


@torch.no_grad()
def pair_ticks(
    query: Embedded,
    rows: Tensor,
    gallery: Embedded,
    columns: Tensor,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """The distances of single pairs, bit for bit those that tiles have.

    Args:
        query: the images asked for.
        rows: (P,) int64, a position among them for each pair.
        gallery: the images they are looked for in.
        columns: (P,) int64, likewise.
        block_bytes: bounds the memory beyond the arguments and the result.

    Returns:
        (P,) int64, in steps of 1 / TICKS, from 0 to 2 * TICKS.
    """
    ticks = torch.empty_like(rows)
    pairs = max(1, block_bytes // (64 * query.embeddings.shape[1]))
    for start in range(0, len(rows), pairs):
        part = slice(start, start + pairs)
        # Exact, so this sum is bit for bit what the matrix product has for the same pair.
        cosine = (_block(query, rows[part]).grid * _block(gallery, columns[part]).grid).sum(dim=1)
        ticks[part] = _ticks(cosine * (-TICKS / GRID**2))
    return ticks


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What some images of one side show."""

    index: Tensor  # (B,) int64, positions in the whole
    pids: Tensor  # (B,) int64
    camids: Tensor | None  # (B,) int64


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block(_Seen):
    """The same, and their directions on the grid."""

    grid: Tensor  # (B, D) float64, integers in [-GRID, GRID]


_Tiles = Iterator[tuple[_Block, Tensor]]  # a block of the gallery, and keys (rows, columns)
_Found = tuple[Tensor, Tensor]  # positions of queries (B,), and the places of their right answers


def _norms(embeddings: Tensor) -> Tensor:
    """Each embedding's length, (N,) float64; once for all blocks, so that they cannot differ."""
    norms = embeddings.new_empty(len(embeddings), dtype=torch.float64)
    for start in range(0, len(embeddings), NORM_ROWS):
        rows = slice(start, start + NORM_ROWS)
        norms[rows] = embeddings[rows].double().norm(dim=1)
    bad = (~norms.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise WeightsError(
            f"embeddings: {len(bad):,} of {len(norms):,} hold NaN or infinity, the first in row "
            f"{bad[0]}; expected finite numbers: the network that made them is broken, "
            "train it again with a lower lr"
        )
    return norms


def _search(
    what: str,
    query: Embedded,
    gallery: Embedded,
    block_bytes: int,
    *,
    pass_over_own: bool = True,
    max_rows: int = MAX_ROWS,
) -> Iterator[tuple[_Block, _Tiles]]:
    """Yield each block of queries with the tiles of its keys against the gallery without junk."""
    _check(query, gallery)
    if query.embeddings.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            f"query embeddings have {query.embeddings.shape[1]} components, "
            f"the gallery's {gallery.embeddings.shape[1]}"
        )
    rows, columns = _tile_shape(query, gallery, block_bytes)
    rows = min(rows, max_rows)
    listed = (gallery.pids != JUNK).nonzero().flatten()
    with Progress(what, len(query) * len(listed), "distances") as progress:
        for index in torch.split(torch.arange(len(query), device=query.pids.device), rows):
            asked = _block(query, index)
            tiles = _tiles(asked, gallery, torch.split(listed, columns), progress, pass_over_own)
            yield asked, tiles


def _check(query: Embedded, gallery: Embedded) -> None:
    if (query.camids is None) != (gallery.camids is None):
        raise ValueError("query and gallery must both have camids, or both have none")


def _tile_shape(query: Embedded, gallery: Embedded, block_bytes: int) -> tuple[int, int]:
    """How many queries, and how many gallery images, go into a block of `block_bytes`."""
    image = 24 * query.embeddings.shape[1]  # its row as float32, as float64 and on the grid
    per_query = image + 40 * _most_answers(gallery)
    rows = min(MAX_ROWS, block_bytes // 4 // per_query, len(query))
    rows = max(1, rows)
    per_column = image + 32 * rows  # a distance, its key, its slot or bin, masks
    return rows, max(1, block_bytes * 3 // 4 // per_column)


def _tiles(
    asked: _Block,
    gallery: Embedded,
    blocks: tuple[Tensor, ...],
    progress: Progress,
    pass_over_own: bool,
) -> _Tiles:
    """Yield each block of the gallery with its keys, (queries, images) int64."""
    scaled = asked.grid * (-TICKS / GRID**2)
    for index in blocks:
        offered = _block(gallery, index)
        ticks = _ticks(scaled @ offered.grid.T)
        keys = ticks.bitwise_left_shift_(INDEX_BITS).bitwise_or_(offered.index)
        if pass_over_own:
            _pass_over_own(keys, asked, offered)
        yield offered, keys
        progress.advance(keys.numel())


def _joined(parts: Iterable[Tile]) -> Iterator[Tile]:
    """One tile of those that lie side by side; none where they are empty."""
    tiles = [tile for tile in parts if len(tile.columns)]
    if tiles:
        columns = torch.cat([tile.columns for tile in tiles])
        yield Tile(tiles[0].rows, columns, torch.cat([tile.ticks for tile in tiles], dim=1))


def _pass_over_own(keys: Tensor, asked: _Seen, offered: _Seen) -> None:
    """Put what shows a query's own identity under its own camera behind all else."""
    if asked.camids is not None and offered.camids is not None:
        own = asked.pids[:, None] == offered.pids
        own &= asked.camids[:, None] == offered.camids
        keys.masked_fill_(own, PASSED_OVER)


def _seen(side: Embedded, index: Tensor) -> _Seen:
    """What some images show."""
    camids = None if side.camids is None else side.camids[index]
    return _Seen(index=index, pids=side.pids[index], camids=camids)


def _block(side: Embedded, index: Tensor) -> _Block:
    """Put some images' directions on the grid."""
    norms = side.norms[index].clamp_min(torch.finfo(torch.float64).tiny)
    grid = side.embeddings[index].double().div_(norms[:, None]).mul_(GRID).round_()
    return _Block(**vars(_seen(side, index)), grid=grid)


def _ticks(negative_cosine: Tensor) -> Tensor:
    """Distances as int64 in [0, 2^33], from -cosine in ticks, exact float64; overwrites it."""
    return negative_cosine.add_(TICKS + 0.5).clamp_(0.0, 2.0 * TICKS).long()


def _answers(gallery: Embedded) -> tuple[Tensor, Tensor]:
    """The gallery's positions sorted by pid, and their pids: only identities, never 0 or junk."""
    positions = (gallery.pids > 0).nonzero().flatten()
    pids, order = gallery.pids[positions].sort(stable=True)
    return positions[order], pids


def _most_answers(gallery: Embedded) -> int:
    """How many images the gallery's most frequent identity has; 1 if there is no identity."""
    counts = torch.unique(gallery.pids[gallery.pids > 0], return_counts=True)[1]
    return int(counts.max()) if len(counts) else 1


def _right_keys(
    asked: _Seen,
    query: Embedded,
    gallery: Embedded,
    order: Tensor,
    right_pids: Tensor,
    block_bytes: int,
) -> Tensor:
    """The keys of each query's right answers, ascending, PASSED_OVER after the last.

    Args:
        asked: some queries.
        query: all queries.
        gallery: the whole gallery.
        order: (A,) int64, the gallery's positions sorted by pid, as `_answers` gives them.
        right_pids: (A,) int64, the pids at those positions.
        block_bytes: bounds the memory.

    Returns:
        (queries, width) int64, as wide as the gallery's most frequent identity needs.
    """
    begin = torch.searchsorted(right_pids, asked.pids)
    end = torch.searchsorted(right_pids, asked.pids, right=True)
    width = _most_answers(gallery)
    position = begin[:, None] + torch.arange(width, device=begin.device)
    row, column = (position < end[:, None]).nonzero().unbind(1)
    image = order[position[row, column]]
    if asked.camids is not None and gallery.camids is not None:
        elsewhere = asked.camids[row] != gallery.camids[image]
        row, column, image = row[elsewhere], column[elsewhere], image[elsewhere]

    keys = torch.full_like(position, PASSED_OVER)
    ticks = pair_ticks(query, asked.index[row], gallery, image, block_bytes=block_bytes)
    keys[row, column] = ticks << INDEX_BITS | image
    return keys.sort(dim=1).values


def _places(right: Tensor, tiles: Iterable[Tensor]) -> Tensor:
    """The place of each right answer among all that its query may find.

    Args:
        right: (rows, width) int64 keys of the right answers, ascending, then PASSED_OVER.
        tiles: the keys of everything, (rows, columns) int64 each; they may be overwritten.

    Returns:
        (rows, width) int64, ascending from 1; 0 where there is no answer.
    """
    places = torch.ones_like(right)
    for keys in tiles:
        places += torch.searchsorted(_sorted(keys), right)  # how many keys come before it
    return places.masked_fill_(right == PASSED_OVER, 0)


def _sorted(keys: Tensor) -> Tensor:
    """Sort each row of keys; overwrites them on a CPU.

    There NumPy sorts by vector instructions, in a fraction of the time that PyTorch takes to sort,
    or to look up where each key belongs among the right answers.
    """
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    threads = torch.get_num_threads()
    parts = np.array_split(keys.numpy(), threads)
    if threads == 1:
        parts[0].sort(axis=1)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: part.sort(axis=1), parts))
    return keys


def _scores(
    places: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Average precision, inverse negative penalty and the first right place of each query.

    Args:
        places: (rows, width) int64, ascending from 1, then zeros.

    Returns:
        three (rows,) arrays; NaN, NaN and 0 where there is no right answer.
    """
    found = places > 0
    answers = found.sum(axis=1)
    hits = np.broadcast_to(np.arange(1.0, places.shape[1] + 1), places.shape)
    precision = np.divide(hits, places, out=np.zeros(places.shape), where=found)
    # cumsum adds from left to right; sum would pair terms by the width of the array.
    total = precision.cumsum(axis=1)[:, -1]
    with np.errstate(invalid="ignore"):
        return total / answers, answers / places.max(axis=1), places[:, 0]


def _summarise(query: Embedded, gallery: Embedded, found: Iterable[_Found], depth: int) -> Ranking:
    """What the places of all right answers come to; see `ranking`."""
    average_precision = np.zeros(len(query))
    inverse_penalty = np.zeros(len(query))
    first = np.zeros(len(query), dtype=np.int64)
    for index, places in found:
        rows = index.cpu().numpy()
        average_precision[rows], inverse_penalty[rows], first[rows] = _scores(places.cpu().numpy())

    matched = first > 0
    num_matched = int(matched.sum())
    if num_matched == 0:
        raise DatasetError(_nothing_to_find(query, gallery))
    found_at = np.bincount(np.minimum(first[matched], depth + 1), minlength=depth + 2)
    return Ranking(
        mAP=math.fsum(average_precision[matched]) / num_matched,
        mINP=math.fsum(inverse_penalty[matched]) / num_matched,
        cmc=found_at.cumsum()[1 : depth + 1] / num_matched,
        average_precision=average_precision,
        num_query=len(query),
        num_unmatched=len(query) - num_matched,
        num_gallery=int((gallery.pids != JUNK).sum()),
        same_camera_removed=query.camids is not None,
    )


def _nothing_to_find(query: Embedded, gallery: Embedded) -> str:
    seen = "" if query.camids is None else " seen by another camera"
    return (
        f"none of the {len(query):,} queries has an image of its identity{seen} among the "
        f"gallery's {len(gallery):,}; expected at least one: check the identities and cameras "
        "of both parts"
    )
