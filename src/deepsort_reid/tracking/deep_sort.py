"""Deep SORT over one sequence's detections, by appearance or by motion alone.

Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP
2017, as deep-sort-realtime has it.

A tracker is a module with `NAME`, `by_appearance` and `by_motion`, and compare.py imports the one
that is tried. For another tracker write such a module, and import it there.
"""

from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from deep_sort_realtime.deep_sort.kalman_filter import chi2inv95
from deep_sort_realtime.deep_sort.tracker import Tracker
from deep_sort_realtime.deepsort_tracker import DeepSort
from numpy.typing import NDArray

from deepsort_reid.core.config import TrackConfig
from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.model.runtimes import Embeddings
from deepsort_reid.tracking.tracks import Tracks

NAME = "Deep SORT"

Floats = NDArray[np.float64]


def by_appearance(
    detections: Boxes,
    embeddings: Embeddings,
    frames: int,
    config: TrackConfig,
    max_cosine_distance: float,
) -> Tracks:
    """Track detections by their embeddings, within the gate of their motion.

    Args:
        detections: (N,) boxes.
        embeddings: (N, D), one of each box, none of them zero.
        frames: how many the sequence has.
        config: the section `track`: `max_iou_distance`, `max_age`, `n_init` and `nn_budget`.
        max_cosine_distance: 1 - cosine, at most, of a detection and the nearest of a track's.
    """
    return updated(deep_sort(config, max_cosine_distance), detections, embeddings, frames)


def by_motion(detections: Boxes, frames: int, config: TrackConfig) -> Tracks:
    """Track the same detections with no appearance at all; see `MotionMetric`."""
    library = deep_sort(config, 0.0)
    library.tracker.metric = MotionMetric(library.tracker)
    return updated(library, detections, centred(detections.ltwh), frames)


class MotionMetric:
    """A metric for the library's tracker that compares positions, not appearances.

    It replaces the metric of appearances. So a track without detections for a while is found again
    by its motion alone, the most recently lost tracks first. The cost is the squared Mahalanobis
    distance of a detection's box from the Kalman filter's prediction, the other half of the
    paper's cost (its equation 1), and the gate is the library's own. Detections carry their boxes
    in place of embeddings.

    The library can do without appearance in simpler ways, and does worse: with a threshold below 0
    a track is lost as soon as one frame misses it, and with equal embeddings for everybody any
    detection in the gate is as good as any other.
    """

    def __init__(self, tracker: Tracker):
        """Serve a tracker, whose tracks give the predictions."""
        self.tracker = tracker
        self.matching_threshold = chi2inv95[4]  # of a box's four numbers, as in the gate

    def distance(self, features: Floats, targets: NDArray[np.str_]) -> Floats:
        """(M, 4) boxes, as `centred` gives them, and (N,) tracks' names -> (N, M) costs."""
        tracks = {track.track_id: track for track in self.tracker.tracks}
        states = [(tracks[name].mean, tracks[name].covariance) for name in targets]
        return np.array([self.tracker.kf.gating_distance(*state, features) for state in states])

    def partial_fit(self, features: Any, targets: Any, active_targets: Any) -> None:
        """Learn nothing: the tracks know their motion."""


def centred(ltwh: Floats) -> Floats:
    """(N, 4) boxes -> (N, 4) centre across and down, width over height, height."""
    left, top, width, height = ltwh.T
    return np.stack([left + width / 2, top + height / 2, width / height, height], axis=1)


def deep_sort(config: TrackConfig, max_cosine_distance: float) -> DeepSort:
    """The library's tracker, without an embedder of its own."""
    return DeepSort(
        embedder=None,
        max_cosine_distance=max_cosine_distance,
        max_iou_distance=config.max_iou_distance,
        max_age=config.max_age,
        n_init=config.n_init,
        nn_budget=config.nn_budget,
    )


def updated(library: DeepSort, detections: Boxes, features: NDArray[Any], frames: int) -> Tracks:
    """Update a tracker with each frame's detections in turn, also where there are none.

    A track counts in a frame if it is confirmed and has a detection there. Its box is the Kalman
    filter's.
    """
    rows: list[tuple[int, int, Floats]] = []
    starts = np.searchsorted(detections.frames, np.arange(1, frames + 2))
    for frame, (start, end) in enumerate(pairwise(starts.tolist()), start=1):
        seen = step(
            library, detections.ltwh[start:end], detections.confidences[start:end],
            features[start:end],
        )  # fmt: skip
        rows += [(frame, identity, ltwh) for identity, ltwh in seen]
    return as_tracks(rows)


def step(
    library: DeepSort, ltwh: Floats, confidences: Floats, features: NDArray[Any]
) -> list[tuple[int, Floats]]:
    """Update a tracker with a frame's detections; return the tracks seen in it, by identity.

    Args:
        library: the tracker.
        ltwh: (N, 4) boxes: left, top, width and height in pixels.
        confidences: (N,) of the detector.
        features: (N, D) embeddings, or what the tracker's metric compares.

    Returns:
        identity and box (4,) of each.
    """
    found = library.update_tracks(
        [(box, confidence, None) for box, confidence in zip(ltwh, confidences, strict=True)],
        embeds=list(features),
    )
    return sorted(
        (
            (int(track.track_id), track.to_ltwh())
            for track in found
            if track.is_confirmed() and track.time_since_update == 0
        ),
        key=itemgetter(0),
    )


def as_tracks(rows: Sequence[tuple[int, int, Floats]]) -> Tracks:
    """Tracks of rows of frame, identity and box, in the order of frames and identities."""
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
    )
