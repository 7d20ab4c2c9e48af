"""Whether two groups of tracks look alike to a network, by a permutation test of whole tracks.

The statistic is the energy distance (Székely and Rizzo, "Energy statistics: A class of statistics
based on distances", JSPI 143, 2013), a maximum mean discrepancy (Gretton et al., "A Kernel
Two-Sample Test", JMLR 13, 2012) with minus the distance as its kernel (Sejdinovic et al., Annals of
Statistics 41, 2013). It needs no bandwidth, and is 0 only where the two distributions are equal.

Before that the embeddings are whitened, by their covariance over both groups, which is the same
whichever tracks are called new. A network is trained to give little room to what it should not see,
such as the camera, and most of it to who is who; as they are, distances hardly show the former.

The crops of one track are alike. So tracks change sides in the test, never single crops: each is
one observation. If the tracks of both groups are independent and come from one distribution, p is
at most a with probability at most a, for every a. Tracks with unequally many crops do not: the mean
over one crop varies more than that over four. So all tracks have to have equally many.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

PERMUTATIONS = 9_999  # so p is 0.0001 at least
CHUNK = 1_000  # permutations, or rows of distances, at a time
RIDGE = 0.3  # added to the variances before whitening, as a share of their mean
TINY = 1e-12  # of embeddings that are all the same
ROUNDING = 1e-9  # by which a permutation's statistic may lie below an equal one


@dataclass(frozen=True, eq=False)
class Moved:
    """How much each of several numbers of a track has moved."""

    old: Floats  # (K,) means over the old tracks
    new: Floats  # (K,)
    shifts: Floats  # (K,) new minus old, in standard deviations of all tracks
    p_values: Floats  # (K,) of the chance that any of the K moves so much


@dataclass(frozen=True, eq=False)
class Difference:
    """How two groups of tracks differ.

    Attributes:
        distance: their energy distance; about 0, also below, where nothing differs.
        effect: its share of twice the mean distance between the groups, from 0 to 1.
        p_value: how often chance makes it as large.
        moved: what has become of the numbers of a track.
    """

    distance: float
    effect: float
    p_value: float
    moved: Moved


def whitened(embeddings: Floats) -> Floats:
    """Embeddings with nearly the same variance in all directions that they use.

    Returns:
        (N, at most N): the axes are the principal ones, so only distances mean something.
    """
    centred = embeddings - embeddings.mean(axis=0)
    count, size = centred.shape
    if count <= size:  # the same by the smaller of two matrices, in a quarter of the time
        squares, vectors = np.linalg.eigh(centred @ centred.T)
        projected = vectors * np.sqrt(squares.clip(0))
    else:
        squares, directions = np.linalg.eigh(centred.T @ centred)
        projected = centred @ directions
    variances = squares.clip(0) / count
    scaled: Floats = projected / np.sqrt(variances + RIDGE * variances.sum() / size + TINY)
    return scaled


def track_distances(vectors: Floats, tracks: Ints) -> Floats:
    """The mean Euclidean distance between the crops of any two tracks: (G, G), 0 on the diagonal.

    Args:
        vectors: (N, D) of the crops.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(tracks) > 0])
    counts = np.diff(np.r_[starts, len(tracks)])
    squares = (vectors**2).sum(axis=1)
    rows = []
    for first in range(0, len(vectors), CHUNK):
        some = slice(first, first + CHUNK)
        squared = squares[some, None] + squares - 2 * vectors[some] @ vectors.T
        rows.append(np.add.reduceat(np.sqrt(squared.clip(0)), starts, axis=1) / counts)
    means: Floats = np.add.reduceat(np.concatenate(rows), starts, axis=0) / counts[:, None]
    np.fill_diagonal(means, 0)
    return means


def compare(
    distances: Floats, is_new: Bools, numbers: Floats, *, seed: int = 0, draws: int = PERMUTATIONS
) -> Difference:
    """Compare new tracks with old ones.

    Args:
        distances: (G, G) between tracks; see `track_distances`.
        is_new: (G,) which tracks are the new ones; at least two of each.
        numbers: (G, K) of each track, such as its brightness.
        seed: of the permutations.
        draws: how many permutations.
    """
    shuffled = permutations(is_new, draws, seed)
    found = energy(distances, is_new[None])[0]
    chance = np.concatenate(
        [energy(distances, shuffled[at : at + CHUNK]) for at in range(0, draws, CHUNK)]
    )
    return Difference(
        distance=float(found),
        effect=max(0.0, effect(distances, is_new)),
        p_value=float(share_as_large(chance, found)),
        moved=moved(numbers, is_new, shuffled),
    )


def permutations(is_new: Bools, draws: int, seed: int) -> Bools:
    """Ways to call as many tracks new, by chance: (draws, G)."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(is_new, (draws, 1)), axis=1)


def energy(distances: Floats, is_new: Bools) -> Floats:
    """The energy distance for each of several ways to call tracks new: (P,).

    Without the distance of a track to itself, so that its mean is 0 where nothing differs.

    Args:
        distances: (G, G), 0 on the diagonal.
        is_new: (P, G), equally many in each row.
    """
    chosen = is_new.astype(np.float64)
    new = int(is_new[0].sum())
    old = is_new.shape[1] - new
    rows = chosen @ distances
    among_new = (rows * chosen).sum(1)
    across = rows.sum(1) - among_new
    among_old = distances.sum() - 2 * across - among_new
    found: Floats = (
        2 * across / (new * old) - among_new / (new * (new - 1)) - among_old / (old * (old - 1))
    )
    return found


def effect(distances: Floats, is_new: Bools) -> float:
    """The energy distance as a share of twice the mean distance between the groups.

    Args:
        distances: (G, G), see `track_distances`.
        is_new: (G,).

    Returns:
        0 where nothing differs, or a little below; also where all tracks coincide; 1 at most.
    """
    between = float(distances[is_new][:, ~is_new].mean())
    return float(energy(distances, is_new[None])[0]) / (2 * between) if between else 0.0


def least_p(old: int, new: int, draws: int = PERMUTATIONS) -> float:
    """The least p that so many tracks can have, however much they differ.

    No way to call tracks new gives a larger statistic than the true one; of two groups of equal
    size, the way that swaps them gives the same.
    """
    return max((2 if old == new else 1) / math.comb(old + new, new), 1 / (1 + draws))


def moved(numbers: Floats, is_new: Bools, shuffled: Bools) -> Moved:
    """How far the means of numbers lie apart, and how often chance moves any of them as far.

    Args:
        numbers: (G, K) of each track.
        is_new: (G,).
        shuffled: (P, G), see `permutations`.
    """
    spread = numbers.std(axis=0)
    scaled = (numbers - numbers.mean(axis=0)) / np.where(spread > 0, spread, 1)
    new = int(is_new.sum())
    old = len(is_new) - new

    def gaps(chosen: Bools) -> Floats:
        """New minus old mean of each number: (P, K); the sum over all tracks is 0."""
        found: Floats = chosen.astype(np.float64) @ scaled * (1 / new + 1 / old)
        return found

    shifts = gaps(is_new[None])[0]
    largest = np.abs(gaps(shuffled)).max(axis=1)
    return Moved(
        numbers[~is_new].mean(axis=0),
        numbers[is_new].mean(axis=0),
        shifts,
        share_as_large(largest[:, None], np.abs(shifts)),
    )


def share_as_large(chance: Floats, found: Floats) -> Floats:
    """The p-value of a permutation test; what was found counts as one of the permutations."""
    as_large = (chance >= found - ROUNDING).sum(axis=0)
    p_values: Floats = (1 + as_large) / (1 + len(chance))
    return p_values


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
