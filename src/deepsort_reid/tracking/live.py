"""A video tracked frame by frame, as a camera would be: detected, embedded, tracked and drawn."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from deepsort_reid.core import files
from deepsort_reid.core.config import TrackConfig
from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.packed import Images
from deepsort_reid.model.extractor import cut_boxes
from deepsort_reid.tracking import deep_sort
from deepsort_reid.tracking.detectors import Detector
from deepsort_reid.tracking.embed import CropEmbedder, in_frame
from deepsort_reid.tracking.tracks import Tracks
from deepsort_reid.tracking.video import TrackView, check_frames, fitted, open_video, with_boxes

FRAME_RATE = 25.0  # frames a second, where the video does not say
LARGEST = 1280  # pixels of the annotated video's longer side; larger frames are made smaller


@dataclass(frozen=True, eq=False)
class Footage:
    """A video file, opened."""

    path: Path
    frames: int | None  # how many it says it has; None where it does not
    frame_rate: float  # frames a second
    capture: cv2.VideoCapture

    def __iter__(self) -> Iterator[Images]:
        """Yield each frame, (H, W, 3) uint8 RGB, until the first that cannot be decoded."""
        while (read := self.capture.read())[0]:
            yield np.ascontiguousarray(read[1][..., ::-1], np.uint8)

    def close(self) -> None:
        """Close the file."""
        self.capture.release()


def open_footage(path: Path) -> Footage:
    """Open a video in any format that OpenCV reads.

    Raises:
        SourceError: there is no such file, or OpenCV cannot read it.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file; expected a video")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f"{path}: OpenCV cannot read it; expected a video, such as .mp4 or .avi")
    rate, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    known = rate if 0 < rate <= 1000 else FRAME_RATE
    return Footage(path, count if count > 0 else None, known, capture)


def track_footage(
    footage: Footage,
    detector: Detector,
    embedder: CropEmbedder,
    *,
    config: TrackConfig,
    max_cosine_distance: float,
    film: Path,
) -> tuple[Tracks, int]:
    """Track a video, and write it with the tracks drawn in.

    Args:
        footage: the video; it is closed in the end.
        detector: finds the people of a frame.
        embedder: the network.
        config: the section `track`, of which the tracker's numbers and `min_confidence` are used.
        max_cosine_distance: see `deep_sort.by_appearance`.
        film: a WebM file, written whole or not at all.

    Returns:
        the tracks, and the number of frames.

    Raises:
        SourceError: the video has no frame that can be decoded.
        OSError: the disk is full.
    """
    library = deep_sort.deep_sort(config, max_cosine_distance)
    rows = []
    number = 0
    with (
        closing(footage),
        files.replacing(film) as temporary,
        Progress("track", footage.frames, "frames") as progress,
    ):
        with open_video(temporary, footage.frame_rate) as writer:
            for number, picture in enumerate(footage, start=1):
                ltwh, confidences = detector(number, picture)
                kept = in_frame(picture, ltwh) & (confidences >= config.min_confidence)
                embeddings = embedder(cut_boxes(picture, ltwh[kept], form="ltwh"), order="rgb")
                seen = deep_sort.step(library, ltwh[kept], confidences[kept], embeddings)
                here = [(number, identity, box) for identity, box in seen]
                drawn = annotated(picture, deep_sort.as_tracks(here), number, footage.frame_rate)
                writer.write(drawn, f"{footage.path}, frame {number}")
                rows += here
                progress.advance()
        if not number:
            raise SourceError(f"{footage.path}: no frame of it can be decoded")
        check_frames(temporary, number)
    return deep_sort.as_tracks(rows), number


def annotated(picture: Images, tracks: Tracks, number: int, frame_rate: float) -> Image.Image:
    """A frame with its tracks drawn in, made smaller if it is large."""
    height, width = picture.shape[:2]
    small = fitted(picture, (min(width, LARGEST), min(height, LARGEST)))
    return with_boxes(small, TrackView("", tracks, ()), number, frame_rate)


def count_identities(tracks: Tracks) -> int:
    """How many identities were told apart."""
    return len(np.unique(tracks.ids))
