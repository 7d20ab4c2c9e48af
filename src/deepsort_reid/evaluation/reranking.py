"""Re-ranking with k-reciprocal encoding: images with the same neighbours are near each other.

The method is Zhong, Zheng, Cao and Li's ("Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017). Query and gallery together, without junk, are N images. The distance d of an
image from the others is the squared Euclidean one of unit embeddings, as a share of its largest.
Among the k nearest of image i, those that have i among their own k nearest are its k-reciprocal
neighbours R(i, k). To R(i, k1) is added R(q, k1 / 2) of each q in it, if more than two thirds of
that are in R(i, k1) already. Image i is encoded as weights exp(-d) of what is in the set, which add
up to 1; then as the mean of the encodings of its k2 nearest. The final distance is

    (1 - weight) * (the Jaccard distance of the encodings) + weight * d,    weight being lambda.

As in the authors' code, an image is its own nearest neighbour, beside k others, and counts among
the k2; k1 / 2 is rounded to the even number where it lies between two. Equal distances go by
position, the queries before the gallery.

Distances are those of `distances`, exact whatever the blocks, so the result is the same every time.
They are never held all at once: a pass over all pairs keeps each image's nearest and its farthest;
encodings are sparse rows; final distances are made for some queries at a time. That takes, beyond
the embeddings, their copy, 8 * N * (k1 + 1) bytes of neighbours, some 30 bytes for each weight
that is not 0 (at most N * k2 * (k1 + 1) * (k1 / 2 + 2)), and `block_bytes` for what is at hand. At
Market-1501's size (19,281 images, 512-d, clusters in noise) there were 102 such weights to an
image, and a process took some 150 MB more than for `ranking.ranking`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from deepsort_reid.data.samples import DISTRACTOR, JUNK
from deepsort_reid.evaluation import distances
from deepsort_reid.evaluation.distances import BLOCK_BYTES, TICKS, Embedded, Tile
from deepsort_reid.evaluation.ranking import INDEX_BITS, LAST

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ENCODED_ROWS = 512  # images encoded at a time
PAIR_BYTES = 96  # of a query and a gallery image: distances before and after, and their making


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The neighbours of each image among all images, and how far the farthest one is.

    Attributes:
        nearest: (N, count) int64, the images nearest to each, itself the first.
        farthest: (N,) float64, the largest distance of each, in steps of 1 / TICKS.
    """

    nearest: Indices
    farthest: Floats


@torch.no_grad()
def reranked(
    query: Embedded,
    gallery: Embedded,
    *,
    k1: int,
    k2: int,
    weight: float,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Tile]:
    """Yield the final distances of some queries at a time from the gallery without junk.

    Neighbours that do not exist are done without. `k1`, `k2` and `weight` are the paper's three
    numbers; `weight` is its lambda.

    Args:
        query: the images to find.
        gallery: the images to find them in. Identities and cameras are not used, but for junk,
            which is no neighbour of anything.
        k1: among how many nearest images reciprocal neighbours are sought, at least 1.
        k2: over how many nearest images encodings are averaged, at least 1.
        weight: share of the original distance in the final one, in [0, 1].
        block_bytes: bounds the memory of a tile and what is computed from it, as long as one
            query's row fits; the result does not depend on it.

    Returns:
        tiles for `ranking.ranking_by`, of whole rows, from 0 to TICKS.

    Raises:
        ValueError: as in `ranking.ranking`.
    """
    images = merged(query, gallery)
    count = min(max(k1 + 1, k2), len(images))
    found = neighbourhood(images, count, block_bytes)
    codes = averaged(encoded(images, found, k1, block_bytes), found.nearest, k2)
    own, others = codes[: len(query)], codes[len(query) :].T.tocsr()
    at_a_time = max(1, block_bytes // (PAIR_BYTES * max(1, len(gallery))))
    for tile in distances.whole_rows("re-rank", query, gallery, rows=at_a_time):
        rows = tile.rows.cpu().numpy()
        original = tile.ticks.cpu().numpy() / found.farthest[rows, None]
        final = jaccard(own, others, rows)
        final *= 1 - weight
        final += weight * original
        ticks = torch.from_numpy(np.floor(final * TICKS + 0.5).astype(np.int64))
        yield Tile(tile.rows, tile.columns, ticks.to(tile.ticks.device))


def merged(query: Embedded, gallery: Embedded) -> Embedded:
    """All images that may be neighbours, as nobody's: the queries, then the gallery without junk.

    Raises:
        ValueError: the embeddings differ in length.
    """
    lengths = query.embeddings.shape[1], gallery.embeddings.shape[1]
    if lengths[0] != lengths[1]:
        raise ValueError("query embeddings have {} components, the gallery's {}".format(*lengths))
    embeddings = torch.cat([query.embeddings, gallery.embeddings[gallery.pids != JUNK]])
    return Embedded(embeddings, torch.full((len(embeddings),), DISTRACTOR))


def neighbourhood(images: Embedded, count: int, block_bytes: int = BLOCK_BYTES) -> Neighbourhood:
    """Find the `count` nearest of each image, and how far the farthest is."""
    nearest = images.pids.new_full((len(images), count), LAST)
    farthest = images.pids.new_ones(len(images))  # not 0, where all images are alike
    for tile in distances.distances("find neighbours", images, images, block_bytes=block_bytes):
        rows, keys = tile.rows, tile.ticks
        farthest[rows] = torch.maximum(farthest[rows], keys.amax(dim=1))
        keys.bitwise_left_shift_(INDEX_BITS).bitwise_or_(tile.columns)
        keys.masked_fill_(rows[:, None] == tile.columns, -1)  # before all that is as near
        best = keys.topk(min(count, keys.shape[1]), largest=False).values
        best = torch.cat([nearest[rows], best], dim=1)
        nearest[rows] = best.topk(count, largest=False).values
    nearest.bitwise_and_((1 << INDEX_BITS) - 1)
    nearest[:, 0] = torch.arange(len(images), device=nearest.device)
    return Neighbourhood(nearest.cpu().numpy(), farthest.double().cpu().numpy())


def reciprocal(nearest: Indices, k: int) -> sparse.csr_array:
    """The k-reciprocal neighbours: 1 where two images are among the k + 1 nearest of each other.

    Args:
        nearest: (N, count) as `Neighbourhood` has them.
        k: how many neighbours beside the image itself; all of `nearest` where there are no more.

    Returns:
        (N, N) float64, symmetric, with a diagonal of 1.
    """
    forward = neighbour_matrix(nearest[:, : k + 1])
    return forward.multiply(forward.T.tocsr()).tocsr()


def neighbour_matrix(columns: Indices) -> sparse.csr_array:
    """(N, N) float64: 1 where row i of `columns`, (N, width), names a column."""
    count, width = columns.shape
    ends = np.arange(0, count * width + 1, width)
    ones = np.ones(columns.size)
    return sparse.csr_array((ones, np.sort(columns, axis=1).ravel(), ends), shape=(count, count))


def encoded(
    images: Embedded, found: Neighbourhood, k1: int, block_bytes: int = BLOCK_BYTES
) -> sparse.csr_array:
    """Encode each image by the neighbours in its expanded set.

    Returns:
        (N, N) float64, whose rows add up to 1.
    """
    wide, narrow = reciprocal(found.nearest, k1), reciprocal(found.nearest, round(k1 / 2))
    sizes = np.diff(narrow.indptr)
    blocks = []
    for start in range(0, len(images), ENCODED_ROWS):
        members = expanded(wide[start : start + ENCODED_ROWS], narrow, sizes)
        rows = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr)) + start
        columns = members.indices.astype(np.int64)
        ticks = distances.pair_ticks(
            images,
            torch.from_numpy(rows).to(images.pids.device),
            images,
            torch.from_numpy(columns).to(images.pids.device),
            block_bytes=block_bytes,
        )
        apart = np.where(rows == columns, 0, ticks.cpu().numpy())
        weights = np.exp(-apart / found.farthest[rows])
        totals = np.add.reduceat(weights, members.indptr[:-1])  # no row is empty: it has itself
        members.data = weights / totals[rows - start]
        blocks.append(members)
    return sparse.vstack(blocks, format="csr")


def expanded(
    wide: sparse.csr_array, narrow: sparse.csr_array, sizes: NDArray[np.integer]
) -> sparse.csr_array:
    """The k-reciprocal sets of some images, with those of their members that they nearly hold.

    Args:
        wide: (B, N) the images' sets, R(i, k1).
        narrow: (N, N) everyone's R(q, k1 / 2).
        sizes: (N,) how many are in each of those.

    Returns:
        (B, N), not 0 where an image is in the expanded set; columns ascending in each row.
    """
    shared = (wide @ narrow.T).multiply(wide).tocsr()
    shared.data = np.where(3 * shared.data > 2 * sizes[shared.indices], 1.0, 0.0)
    shared.eliminate_zeros()
    members = (wide + shared @ narrow).tocsr()
    members.sort_indices()
    return members


def averaged(codes: sparse.csr_array, nearest: Indices, k2: int) -> sparse.csr_array:
    """Local query expansion: the mean of the codes of each image's k2 nearest, (N, N)."""
    near = nearest[:, :k2]
    mean = neighbour_matrix(near) @ codes
    mean.data /= near.shape[1]
    mean.sort_indices()
    return mean


def jaccard(queries: sparse.csr_array, gallery: sparse.csr_array, rows: Indices) -> Floats:
    """The Jaccard distances of some queries' codes from all of the gallery's.

    Args:
        queries: (num_query, N) codes.
        gallery: (N, num_gallery) codes, transposed: who has weight on an image.
        rows: (B,) positions of the queries.

    Returns:
        (B, num_gallery), in [0, 1].
    """
    shared = np.empty((len(rows), gallery.shape[1]))
    for number, row in enumerate(rows):
        own = slice(queries.indptr[row], queries.indptr[row + 1])
        others = gallery[queries.indices[own]]
        weights = np.repeat(queries.data[own], np.diff(others.indptr))
        np.minimum(weights, others.data, out=weights)
        shared[number] = np.bincount(others.indices, weights, minlength=gallery.shape[1])
    apart: Floats = 1 - shared / (2 - shared)
    return np.clip(apart, 0, 1, out=apart)
