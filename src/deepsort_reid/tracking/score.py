"""TrackEval's scores of tracks against a sequence's truth, as MOTChallenge counts them.

HOTA: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 129,
2021. IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
Tracking", ECCV Workshops 2016. MOTA, identity switches and fragments: Bernardin and Stiefelhagen,
"Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", EURASIP JIVP 2008.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from deepsort_reid.core.boxes import intersections_over_unions
from deepsort_reid.data.video.sequence import PEDESTRIAN, REGION, Boxes
from deepsort_reid.tracking.tracks import Tracks

OVERLAP = 0.5  # intersection over union from which on a box is somebody's
EPSILON = float(np.finfo(float).eps)  # a box at OVERLAP exactly is somebody's, as in TrackEval

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Results = dict[str, dict[str, Any]]  # a metric's name -> its numbers, as TrackEval has them


@dataclass(frozen=True)
class Scores:
    """Scores of tracks; shares in [0, 1], but MOTA below 0 where mistakes outnumber the boxes."""

    hota: float  # mean over the overlaps 0.05 to 0.95
    idf1: float
    mota: float
    id_switches: int
    fragments: int


@dataclass(frozen=True, eq=False)
class Switch:
    """A moment in which somebody's track got another identity."""

    frame: int  # from 1
    person: int  # the truth's identity
    before: int  # the track that had them until then
    after: int  # the one that has them now
    last: int  # the frame in which they were last tracked


@dataclass(frozen=True, eq=False)
class Aligned:
    """Truth and tracks side by side, frame by frame, as MOTChallenge's preprocessing leaves them.

    Attributes:
        truth: the identities in each frame, (G,) each.
        tracks: likewise, (T,) each.
        overlaps: (G, T) intersections over unions of each frame.
    """

    truth: list[Ids]
    tracks: list[Ids]
    overlaps: list[Floats]

    @property
    def people(self) -> int:
        """How many identities the truth has."""
        return renumbered(self.truth)[1]

    def as_trackeval(self) -> dict[str, Any]:
        """The dictionary that TrackEval's metrics expect, identities counted from 0."""
        truth, people = renumbered(self.truth)
        tracks, tracked = renumbered(self.tracks)
        return {
            "num_timesteps": len(self.truth),
            "num_gt_ids": people,
            "num_tracker_ids": tracked,
            "num_gt_dets": sum(map(len, truth)),
            "num_tracker_dets": sum(map(len, tracks)),
            "gt_ids": truth,
            "tracker_ids": tracks,
            "similarity_scores": self.overlaps,
        }


def trackeval_metrics() -> dict[str, Any]:
    """TrackEval's metrics by name, told not to print their settings."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    settings = {"THRESHOLD": OVERLAP, "PRINT_CONFIG": False}
    return {"HOTA": HOTA(), "CLEAR": CLEAR(dict(settings)), "Identity": Identity(dict(settings))}


def score(sequences: Mapping[str, Aligned]) -> tuple[dict[str, Scores], Scores]:
    """Score each sequence, and all of them together as TrackEval combines them.

    Args:
        sequences: truth and tracks of each, by name; at least one.

    Returns:
        the scores by sequence, and of all.
    """
    measures = trackeval_metrics()
    each: dict[str, Results] = {
        sequence: {
            name: measure.eval_sequence(aligned.as_trackeval())
            for name, measure in measures.items()
        }
        for sequence, aligned in sequences.items()
    }
    combined = {
        name: measure.combine_sequences({key: found[name] for key, found in each.items()})
        for name, measure in measures.items()
    }
    return {sequence: as_scores(found) for sequence, found in each.items()}, as_scores(combined)


def as_scores(found: Results) -> Scores:
    """The few of TrackEval's numbers that are reported."""
    clear = found["CLEAR"]
    return Scores(
        hota=float(np.mean(found["HOTA"]["HOTA"])),
        idf1=float(found["Identity"]["IDF1"]),
        mota=float(clear["MOTA"]),
        id_switches=int(clear["IDSW"]),
        fragments=int(clear["Frag"]),
    )


def align(
    truth: Boxes,
    tracks: Tracks,
    frames: int,
    classes: Collection[int] = (PEDESTRIAN,),
    distractors: Collection[int] = (),
) -> Aligned:
    """Align truth and tracks, as MOTChallenge prepares them.

    A track's box on a distractor (somebody on a bicycle, a statue, a reflection) is neither right
    nor wrong and is left out, and so is one on nobody that lies half in a region without
    annotations, as in KITTI. So is all truth that does not count or is of other classes.

    Args:
        truth: the sequence's.
        tracks: of the same sequence.
        frames: how many it has.
        classes: what is scored; none of it is a distractor.
        distractors: the classes of truth that are distractors, unless they are scored.
    """
    found = Aligned([], [], [])
    scored = np.isin(truth.classes, list(classes))
    counts = scored & (truth.confidences != 0) & (truth.ids >= 0)
    distracts = np.isin(truth.classes, list(distractors)) & ~scored
    regions = (truth.classes == REGION) & (truth.confidences == 0)
    for frame in range(1, frames + 1):
        here, mine = truth.frames == frame, tracks.frames == frame
        overlaps = intersections_over_unions(truth.ltwh[here], tracks.ltwh[mine])
        kept = ~are_distractors(overlaps, distracts[here])
        if regions[here].any():
            on_nobody = overlaps[counts[here]].max(0, initial=0) < OVERLAP - EPSILON
            kept &= ~(on_nobody & are_inside(tracks.ltwh[mine], truth.ltwh[here & regions]))
        found.truth.append(truth.ids[here & counts])
        found.tracks.append(tracks.ids[mine][kept])
        found.overlaps.append(overlaps[counts[here]][:, kept])
    return found


def are_distractors(overlaps: Floats, distracts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of a frame's track boxes are best explained by a distractor.

    Args:
        overlaps: (G, T) with all of the truth.
        distracts: (G,) which of it are distractors.

    Returns:
        (T,)
    """
    found = np.zeros(overlaps.shape[1], bool)
    close = np.where(overlaps >= OVERLAP - EPSILON, overlaps, 0.0)
    rows, columns = linear_sum_assignment(-close)
    matched = close[rows, columns] > EPSILON
    found[columns[matched]] = distracts[rows[matched]]
    return found


def are_inside(boxes: Floats, regions: Floats) -> NDArray[np.bool_]:
    """Which of (T, 4) boxes lie in one of (R, 4) regions by half of their area or more: (T,)."""
    starts = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    ends = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (regions[:, :2] + regions[:, 2:]))
    shared = np.maximum(ends - starts, 0.0).prod(2).max(1, initial=0)
    inside: NDArray[np.bool_] = shared >= OVERLAP * boxes[:, 2:].prod(1)
    return inside


def renumbered(ids: list[Ids]) -> tuple[list[Ids], int]:
    """Identities counted from 0 without gaps, and how many there are."""
    known = np.unique(np.concatenate([*ids, np.empty(0, np.int64)]))
    return [np.searchsorted(known, values) for values in ids], len(known)


def find_switches(aligned: Aligned) -> list[Switch]:
    """Every identity switch, in the order of frames: those that the CLEAR metrics count.

    A person keeps the track of the frame before if its box still overlaps enough. The others are
    matched so that the boxes overlap most.
    """
    found = []
    holder: dict[int, tuple[int, int]] = {}  # person -> their track, and the frame of that
    previous = 0  # the last frame with both people and tracks
    frames = zip(aligned.truth, aligned.tracks, aligned.overlaps, strict=True)
    for frame, (truth, tracks, overlaps) in enumerate(frames, start=1):
        if not overlaps.size:
            continue
        last_held = [holder.get(person, (-1, -1)) for person in truth.tolist()]
        held = np.array([track if last == previous else -1 for track, last in last_held])
        previous = frame
        weights = overlaps + 1000.0 * (held[:, None] == tracks[None])
        weights = np.where(overlaps >= OVERLAP - EPSILON, weights, 0.0)
        rows, columns = linear_sum_assignment(-weights)
        for row, column in zip(rows, columns, strict=True):
            if weights[row, column] <= EPSILON:
                continue
            person, track = int(truth[row]), int(tracks[column])
            before, last = holder.get(person, (track, frame))
            if before != track:
                found.append(Switch(frame, person, before, track, last))
            holder[person] = (track, frame)
    return found
