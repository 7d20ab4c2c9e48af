"""Crops of the tracks that `deepsort-reid track` has found in a video."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.decode import cut
from deepsort_reid.data.images import resized
from deepsort_reid.data.samples import NO_CAMERA
from deepsort_reid.data.video.mot_table import read_boxes
from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.monitoring.footage import CROPS, MOST, Footage, Size, middles, numbered, spread
from deepsort_reid.tracking.detectors import read_text
from deepsort_reid.tracking.live import open_footage

SUFFIXES = frozenset(".mp4 .avi .mov .mkv .webm .wmv .m4v .mpg .mpeg".split())  # noqa: SIM905


def of_video(video: Path, table: Path, image_size: Size) -> Footage:
    """Tracks of a video: the crops that lie in some of each track's boxes.

    Args:
        video: in any format that OpenCV reads.
        table: the tracks, as `deepsort-reid track` writes them.
        image_size: what the network takes.

    Raises:
        SourceError: a file cannot be read, or is no table of tracks.
        DatasetError: no box says whose it is, or the video ends before the last box.
    """
    boxes = read_boxes(read_text(table), str(table), truth=False).boxes
    if len(boxes) and not (boxes.ids > 0).any():
        raise DatasetError(
            f"{table}: no box says whose it is; expected tracks, as `deepsort-reid track` writes "
            "them, not detections"
        )
    wanted = boxes_of_tracks(boxes)
    found = cut_out(video, table, boxes, [box for track in wanted for box in track])
    tracks = [[box for box in track if box in found] for track in wanted]
    tracks = [track for track in tracks if track]
    crops = [found[box] for track in tracks for box in track]
    empty = np.empty((0, *image_size, 3), np.uint8)
    return Footage(
        label=str(video) if len(boxes) else f"{table}, an empty table of tracks",
        crops=np.stack([resized(crop, image_size) for crop in crops]) if crops else empty,
        tracks=numbered(tracks),
        people=np.arange(len(tracks)),
        camids=np.full(len(tracks), NO_CAMERA),
        heights=np.array([len(crop) for crop in crops], np.int64),
        spans=spans_of(boxes, [track[0] for track in tracks]),
        is_tracked=True,
    )


def cut_out(
    video: Path, table: Path, boxes: Boxes, wanted: Collection[int]
) -> dict[int, NDArray[np.uint8]]:
    """Cut boxes out of a video: number of the box -> (h, w, 3); none that lies mostly outside.

    Raises:
        SourceError: the video cannot be read.
        DatasetError: it ends before the last box.
    """
    by_frame: dict[int, list[int]] = defaultdict(list)
    for box in wanted:
        by_frame[int(boxes.frames[box])].append(box)
    if not by_frame:
        return {}
    found, frame, last = {}, 0, max(by_frame)
    with closing(open_footage(video)) as film, Progress("read", last, "frames") as progress:
        for frame, picture in enumerate(film, start=1):
            for box in by_frame.get(frame, ()):
                crop = cut(picture, tuple(boxes.ltwh[box].tolist()))
                if crop is not None:
                    found[box] = crop
            progress.advance()
            if frame == last:
                return found
    raise DatasetError(
        f"{table}: has boxes in frame {last:,}, but {video} ends at frame {frame:,}; name the "
        "video that was tracked"
    )


def spans_of(boxes: Boxes, chosen: Sequence[int]) -> NDArray[np.int64]:
    """The first and the last frame of the track of each of some boxes: (n, 2)."""
    frames = [boxes.frames[boxes.ids == boxes.ids[box]] for box in chosen]
    return np.array([(own.min(), own.max()) for own in frames], np.int64).reshape(-1, 2)


def boxes_of_tracks(boxes: Boxes) -> list[list[int]]:
    """The boxes to cut out of each track, by number: as many as a track gives crops.

    They come from the middles of equal parts of the track, since a track begins and ends where the
    person is half hidden or half out of the picture.
    """
    found = []
    for identity in spread(np.unique(boxes.ids[boxes.ids > 0]).tolist(), MOST):
        own = np.flatnonzero(boxes.ids == identity)
        found.append(own[middles(len(own), CROPS)].tolist())
    return found
