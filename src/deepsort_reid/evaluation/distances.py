"""Exact distances between queries and gallery images, in tiles.

The distance is 1 - cosine. A matrix product in floating point rounds differently in blocks of
other sizes, and would order near ties differently. So each direction is first rounded to multiples
of 2^-26, as float32 rounds components near 0.2. Every product is then a multiple of 2^-52, and
every partial sum is at most the product of two unit lengths: float64 holds them all exactly. So
the distances do not depend on blocks, threads or devices. They are counted in ticks of 2^-32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.samples import JUNK

BLOCK_BYTES = 64 << 20
GRID = 2.0**26  # steps of a direction's components, in a unit length
TICKS = 2.0**32  # steps of a distance, in 1
MAX_ROWS = 2048  # queries in a tile; the gallery is put on the grid once for each row of tiles
NORM_ROWS = 4096


class Embedded:
    """Embeddings with the identities and cameras of their images.

    Attributes:
        embeddings: (N, D) float tensor on any device, of any length: directions are compared.
            A zero vector has no direction, and is at distance 1 from everything.
        pids: (N,) int64 tensor; -1 is junk, 0 a distractor.
        camids: (N,) int64 tensor, or None where the cameras are unknown.
        norms: (N,) float64 tensor, the embeddings' lengths.
    """

    def __init__(
        self, embeddings: Tensor, pids: ArrayLike | Tensor, camids: ArrayLike | Tensor | None = None
    ):
        """Check the arrays and measure the embeddings.

        Raises:
            ValueError: the shapes do not belong together.
            WeightsError: an embedding holds NaN or infinity.
        """
        self.embeddings = embeddings.detach()
        self.pids = self._per_image("pids", pids)
        self.camids = None if camids is None else self._per_image("camids", camids)
        self.norms = norms_of(self.embeddings)

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
class Tile:
    """The distances of some queries from some gallery images.

    Attributes:
        rows: (R,) int64 tensor, positions of the queries.
        columns: (C,) int64 tensor, positions in the gallery, ascending, never those of junk.
        ticks: (R, C) int64 tensor, distances in steps of 1 / TICKS, from 0 to 2 * TICKS; the
            receiver may overwrite it.
    """

    rows: Tensor
    columns: Tensor
    ticks: Tensor


class Identities:
    """Where a gallery without junk shows whom."""

    def __init__(self, gallery: Embedded):
        """Sort the gallery by identity."""
        self.pids, self.order = gallery.pids[without_junk(gallery)].sort(stable=True)

    def of(self, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the gallery images of each query's identity.

        Args:
            asked: (R,) the queries' pids.

        Returns:
            for each such image its row, its number in the row, and its column among the gallery
            images that are no junk, (P,) int64 each.
        """
        begin, end = (torch.searchsorted(self.pids, asked, right=side) for side in (False, True))
        counts = end - begin
        row = torch.repeat_interleave(counts)
        number = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        return row, number, self.order[begin[row] + number]


@torch.no_grad()
def distances(
    what: str, query: Embedded, gallery: Embedded, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Tile]:
    """Yield the distance of every pair once, also of those that the protocol removes.

    Args:
        what: the progress bar's name.
        query: the images to find.
        gallery: the images to find them in.
        block_bytes: bounds the memory beyond the arguments, if the receiver uses at most 16 bytes
            a pair of its own. The distances do not depend on it.

    Raises:
        ValueError: as in `ranking`.
    """
    check_cameras(query, gallery)
    check_lengths(query, gallery)
    rows, columns = tile_shape(query, block_bytes)
    listed = without_junk(gallery)
    with Progress(what, len(query) * len(listed), "distances") as progress:
        for index in torch.split(torch.arange(len(query), device=query.pids.device), rows):
            asked = scaled(query, index)
            for offered in torch.split(listed, columns):
                yield Tile(index, offered, _ticks(asked @ on_grid(gallery, offered).T).long())
                progress.advance(len(index) * len(offered))


@torch.no_grad()
def whole_rows(what: str, query: Embedded, gallery: Embedded, *, rows: int) -> Iterator[Tile]:
    """Yield the same distances in tiles that span the gallery without junk.

    Args:
        what: the progress bar's name.
        query: the images to find.
        gallery: the images to find them in.
        rows: how many queries a tile has, at most. A tile takes 8 bytes a pair, and its making
            `BLOCK_BYTES`.

    Raises:
        ValueError: as in `ranking`.
    """
    check_cameras(query, gallery)
    check_lengths(query, gallery)
    columns = tile_shape(query, BLOCK_BYTES)[1]
    listed = without_junk(gallery)
    with Progress(what, len(query) * len(listed), "distances") as progress:
        for index in torch.split(torch.arange(len(query), device=query.pids.device), rows):
            asked = scaled(query, index)
            ticks = listed.new_empty(len(index), len(listed))
            parts = zip(
                torch.split(listed, columns), torch.split(ticks, columns, dim=1), strict=True
            )
            for offered, part in parts:
                part.copy_(_ticks(asked @ on_grid(gallery, offered).T))
                progress.advance(part.numel())
            yield Tile(index, listed, ticks)


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
        query: the images to find.
        rows: (P,) int64, a position among them for each pair.
        gallery: the images to find them in.
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
        ticks[part] = _ticks((scaled(query, rows[part]) * on_grid(gallery, columns[part])).sum(1))
    return ticks


def check_cameras(query: Embedded, gallery: Embedded) -> None:
    """Refuse two sides of which only one has cameras.

    Raises:
        ValueError: one of the two has cameras and the other has none.
    """
    if (query.camids is None) != (gallery.camids is None):
        raise ValueError("query and gallery must both have camids, or both have none")


def check_lengths(query: Embedded, gallery: Embedded) -> None:
    """Refuse two sides whose embeddings differ in length.

    Raises:
        ValueError: they do.
    """
    if query.embeddings.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            f"query embeddings have {query.embeddings.shape[1]} components, "
            f"the gallery's {gallery.embeddings.shape[1]}"
        )


def norms_of(embeddings: Tensor) -> Tensor:
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


def tile_shape(query: Embedded, block_bytes: int) -> tuple[int, int]:
    """How many queries, and how many gallery images, go into a tile of `block_bytes`."""
    image = 24 * query.embeddings.shape[1]  # its row as float32, as float64 and on the grid
    rows = max(1, min(MAX_ROWS, block_bytes // 4 // image, len(query)))
    per_column = image + 32 * rows  # a distance, its key, its bin, masks
    return rows, max(1, block_bytes * 3 // 4 // per_column)


def without_junk(gallery: Embedded) -> Tensor:
    """Positions of the gallery's images that are no junk, ascending."""
    return (gallery.pids != JUNK).nonzero().flatten()


def on_grid(side: Embedded, index: Tensor) -> Tensor:
    """Some images' directions on the grid: (B, D) float64, integers in [-GRID, GRID]."""
    norms = side.norms[index].clamp_min(torch.finfo(torch.float64).tiny)
    return side.embeddings[index].double().div_(norms[:, None]).mul_(GRID).round_()


def scaled(side: Embedded, index: Tensor) -> Tensor:
    """The same, so that a product with directions on the grid is -cosine in ticks."""
    return on_grid(side, index).mul_(-TICKS / GRID**2)


def _ticks(negative_cosine: Tensor) -> Tensor:
    """Distances in [0, 2^33] from -cosine in ticks, exact float64, which is overwritten.

    A conversion to int64 cuts off their fraction, which rounds them to the nearest tick.
    """
    return negative_cosine.add_(TICKS + 0.5).clamp_(0.0, 2.0 * TICKS)
