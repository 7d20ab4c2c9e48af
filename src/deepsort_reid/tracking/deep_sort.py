"""Deep SORT over one sequence's detections, by appearance or by motion alone.

Wojke, Bewley and Paulus, "Simple Online and Realtime Tracking with a Deep Association Metric", ICIP
2017, as deep-sort-realtime has it.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from deep_sort_realtime.deep_sort.kalman_filter import chi2inv95
from deep_sort_realtime.deep_sort.tracker import Tracker
from deep_sort_realtime.deepsort_tracker import DeepSort
from numpy.typing import NDArray

from deepsort_reid.data.mot import Boxes
from deepsort_reid.model.extractor import Embeddings

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How boxes become tracks, whatever tells who is who."""

    max_iou_distance: float  # 1 - overlap, at most, of a box and where its track is expected
    max_age: int  # frames without a detection after which a track ends
    n_init: int  # detections in a row that make a track
    nn_budget: int  # embeddings kept of each track


@dataclass(frozen=True, eq=False)
class Tracks:
    """Who is where: rows in the order of frames, and of identities within a frame."""

    frames: NDArray[np.int64]  # (N,) from 1
    ids: NDArray[np.int64]  # (N,) from 1
    ltwh: Floats  # (N, 4) left, top, width, height; pixels from the frame's corner

    def __len__(self) -> int:
        return len(self.frames)

    def as_table(self) -> str:
        """The lines of a results file as MOTChallenge takes it, which counts pixels from 1."""
        return "".join(
            f"{frame},{identity},{left + 1:.2f},{top + 1:.2f},{width:.2f},{height:.2f},1,-1,-1,-1\n"
            for frame, identity, (left, top, width, height) in zip(
                self.frames.tolist(), self.ids.tolist(), self.ltwh.tolist(), strict=True
            )
        )


class Motion:
    """A metric for the library's tracker that knows where a track is expected, not how it looks.

    It stands where the metric of appearances does, so that a track without detections for a while
    is found again by its motion alone, the youngest losses first. The cost is the squared
    Mahalanobis distance of a detection's box from the Kalman filter's prediction, the other half of
    the paper's cost (its equation 1), and the gate is the library's own. Detections carry their
    boxes in place of embeddings.

    The library can do without appearance in simpler ways, and does worse: with a threshold below 0
    a track is lost as soon as one frame misses it, and with equal embeddings for everybody
    whichever detection lies in the gate is as good as any other.
    """

    def __init__(self, tracker: Tracker):
        """Serve a tracker, whose tracks are asked for."""
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


def by_appearance(
    detections: Boxes,
    embeddings: Embeddings,
    frames: int,
    settings: Settings,
    max_cosine_distance: float,
) -> Tracks:
    """Track detections by how they look, within the gate of their motion.

    Args:
        detections: (N,) boxes.
        embeddings: (N, D), one of each box, none of them zero.
        frames: how many the sequence has.
        settings: the tracker's.
        max_cosine_distance: 1 - cosine, at most, of a detection and the nearest of a track's.
    """
    return run(deep_sort(settings, max_cosine_distance), detections, embeddings, frames)


def by_motion(detections: Boxes, frames: int, settings: Settings) -> Tracks:
    """Track the same detections with no appearance at all; see `Motion`."""
    library = deep_sort(settings, 0.0)
    library.tracker.metric = Motion(library.tracker)
    return run(library, detections, centred(detections.ltwh), frames)


def deep_sort(settings: Settings, max_cosine_distance: float) -> DeepSort:
    """The library's tracker, which is given its embeddings."""
    return DeepSort(embedder=None, max_cosine_distance=max_cosine_distance, **vars(settings))


def run(library: DeepSort, detections: Boxes, features: NDArray[Any], frames: int) -> Tracks:
    """Give a tracker each frame's detections in turn, none where there are none.

    A track counts in a frame if it is confirmed and has a detection there; its box is the Kalman
    filter's.
    """
    rows: list[tuple[int, int, Floats]] = []
    starts = np.searchsorted(detections.frames, np.arange(1, frames + 2))
    for frame, (start, end) in enumerate(pairwise(starts.tolist()), start=1):
        boxes, confidences = detections.ltwh[start:end], detections.confidences[start:end]
        found = library.update_tracks(
            [(box, confidence, None) for box, confidence in zip(boxes, confidences, strict=True)],
            embeds=list(features[start:end]),
        )
        rows += [
            (frame, int(track.track_id), track.to_ltwh())
            for track in found
            if track.is_confirmed() and track.time_since_update == 0
        ]
    rows.sort(key=lambda row: row[:2])
    return Tracks(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
    )
