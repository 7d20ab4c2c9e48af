"""Tracks that may be pieces of one person's: a tracker that loses somebody begins a new track.

Two pieces look alike, as the crops of one track do. Counted as two people they make new footage
look more uniform than it is, and the test of two_sample.py, whose tracks have to be independent,
alarms at nothing. So tracks that are as near to each other as the crops of one track mostly are
count as one person's, of whom a look takes one track. Some of them are two people who look alike.

Whoever is seen at the same time is two people. That keeps a network that hardly tells people apart
from joining all of a crowd.

People of whom it is known who they are stay as they are: with their tracks of several cameras there
would be many times as many ways to join two of them.

The share `ALIKE` was chosen among 0.6, 0.75, 0.8, 0.85 and 0.9 on the rendered world, for few false
alarms and little loss of true ones; see benchmarks/watch.py.
"""

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.monitoring.two_sample import ROUNDING

ALIKE = 0.8  # the share of tracks whose own crops are as near to each other
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def means_of(values: Floats, tracks: Ints) -> Floats:
    """The mean over the crops of each track: (G, D).

    Args:
        values: (N, D) of crops, embeddings for example.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.
    """
    starts = np.flatnonzero(np.r_[True, np.diff(tracks) > 0])
    means: Floats = np.add.reduceat(values, starts) / np.bincount(tracks)[:, None]
    return means


def distance_within_tracks(embeddings: Floats, tracks: Ints) -> float | None:
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


def joined(
    embeddings: Floats, tracks: Ints, people: Ints, within: float, spans: Ints | None = None
) -> Ints:
    """Who each track is, once those that may be pieces of one person's are joined: (G,).

    The nearest two are joined first. Whoever is seen at the same time is not one person.

    Args:
        embeddings: (N, D) of crops, of unit length.
        tracks: (N,) whose crop each is: 0 to G - 1, ascending.
        people: (G,) who each track is known to be.
        within: the largest mean cosine distance between the crops of two pieces.
        spans: (G, 2) the first and the last frame of each track; None: unknown.
    """
    means, found = means_of(embeddings, tracks), np.unique(people, return_inverse=True)[1]
    apart = seen_together(spans, found)
    one, other = np.triu_indices(len(people), 1)
    distances = 1 - (means @ means.T)[one, other]
    near = np.flatnonzero(distances <= within + ROUNDING)
    for pair in near[np.argsort(distances[near], kind="stable")].tolist():
        first, second = found[one[pair]], found[other[pair]]
        if first != second and not apart[first, second]:
            found[found == second] = first
            apart[first] |= apart[second]
            apart[:, first] |= apart[:, second]
    return found.astype(np.int64)


def seen_together(spans: Ints | None, people: Ints) -> NDArray[np.bool_]:
    """Which two of P people were seen at the same time: (P, P); none if nobody knows when.

    Args:
        spans: see `joined`.
        people: (G,) who each track is, from 0 to P - 1.
    """
    found = np.zeros((people.max(initial=-1) + 1,) * 2, np.bool_)
    if spans is not None:
        first, last = spans.T
        one, other = np.nonzero((first[:, None] <= last) & (first <= last[:, None]))
        found[people[one], people[other]] = True
    return found
