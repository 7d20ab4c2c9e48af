"""Tracks that may be pieces of one person's: a tracker that loses somebody begins a new track.

Two pieces look alike, as the crops of one track do. Counted as two people they make new footage
look more uniform than it is, and the test of two_sample.py, whose tracks have to be independent,
alarms at nothing. So tracks that are as near to each other as the crops of one track mostly are
count as one person's, of whom a look takes one track. Some of them are two people who look alike.
The same is done on both sides, so that it makes no difference between them.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from deepsort_reid.monitoring.two_sample import ROUNDING

ALIKE = 0.8  # the share of tracks whose own crops are as near to each other
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def means_of(embeddings: Floats, tracks: Ints) -> Floats:
    """The mean embedding of each track: (G, D).

    Args:
        embeddings: (N, D) of crops, of unit length.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(tracks) > 0])
    means: Floats = np.add.reduceat(embeddings, starts) / np.bincount(tracks)[:, None]
    return means


def nearness(embeddings: Floats, tracks: Ints) -> float | None:
    """The mean cosine distance within a track that a share of `ALIKE` of all tracks do not exceed.

    Args:
        embeddings: (N, D) of crops, of unit length.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.

    Returns:
        None if all tracks have one crop.
    """
    counts, lengths = np.bincount(tracks), (means_of(embeddings, tracks) ** 2).sum(axis=1)
    several = counts > 1
    if not several.any():
        return None
    # Of all ordered pairs of k crops, k are a crop with itself, at distance 0.
    within = (1 - lengths[several]) * counts[several] / (counts[several] - 1)
    return float(np.quantile(within, ALIKE))


def joined(embeddings: Floats, tracks: Ints, people: Ints, within: float) -> Ints:
    """Who each track is, once those that are near to each other are one person's: (G,).

    Args:
        embeddings: (N, D) of crops, of unit length.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.
        people: (G,) who each track is known to be.
        within: the largest mean cosine distance between the crops of two pieces.
    """
    means = means_of(embeddings, tracks)
    is_one = (1 - means @ means.T <= within + ROUNDING) | (people[:, None] == people)
    found: Ints = connected_components(is_one, directed=False)[1].astype(np.int64)
    return found
