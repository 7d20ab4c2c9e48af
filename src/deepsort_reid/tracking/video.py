"""Pictures of tracks: a page of the frames around identity switches, and a short video.

Each track has a colour of its own, by its identity. After an identity switch the box is drawn
thick for a while, with the old identity beside the new one.
"""

import colorsys
import errno
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepsort_reid.core import files
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.packed import Images
from deepsort_reid.data.video.sequence import Sequence as VideoSequence
from deepsort_reid.sources.archive import Archive
from deepsort_reid.tracking.frames import frames_in_order
from deepsort_reid.tracking.score import Switch
from deepsort_reid.tracking.tracks import Tracks

CELL = (480, 360)  # width and height of one frame on the page, at most, in pixels
COLUMNS, EVENTS = 4, 3
PANE = (384, 384)  # of one of the video's two halves, at most
SECONDS = 7.0  # of video, at most
MAX_FRAME_RATE = 15.0  # of video, at most; of faster sequences not every frame is shown
MARKED = 0.8  # seconds for which a switch stays marked
GAP, TITLE = 6, 26  # pixels
INK, PAPER, ALARM = (255, 255, 255), (24, 24, 24), (255, 40, 40)
GOLDEN = 0.61803398875  # hues so far apart never come near each other


@dataclass(frozen=True, eq=False)
class TrackView:
    """A sequence's tracks by one variant, as the pictures show them."""

    title: str
    tracks: Tracks
    switches: Sequence[Switch]  # none where there is no truth


@dataclass(frozen=True)
class Excerpt:
    """A row of the page: some frames of a sequence, and a caption."""

    frames: Sequence[int]  # from 1, in order
    caption: str


def write_page(
    path: Path, archive: Archive, sequence: VideoSequence, views: Sequence[TrackView]
) -> None:
    """Draw frames around the first view's identity switches, the views below each other.

    Where there is no switch or no truth, the frames are spread over the sequence.

    Args:
        path: a JPEG.
        archive: the archive with the frames.
        sequence: which has detections.
        views: the baseline first.
    """
    excerpts = choose_excerpts(sequence, views[0].switches, views[-1].switches)
    wanted = sorted({frame for excerpt in excerpts for frame in excerpt.frames})
    names = [sequence.images[frame - 1] for frame in wanted]
    pictures = {
        frame: fitted(picture, CELL)
        for frame, picture in zip(wanted, frames_in_order(archive, names), strict=True)
    }
    rows = [
        titled(
            [with_boxes(pictures[f], view, f, sequence.frame_rate) for f in excerpt.frames],
            f"{view.title}{excerpt.caption}",
        )
        for excerpt in excerpts
        for view in views
    ]
    encoded = io.BytesIO()
    stacked(rows).save(encoded, "JPEG", quality=88)
    with files.replacing(path) as temporary:
        temporary.write_bytes(encoded.getvalue())


@dataclass(frozen=True, eq=False)
class Scaled:
    """A frame made smaller, and by how much."""

    picture: Image.Image
    scale: float  # of its pixels to the frame's


def fitted(picture: Images, size: tuple[int, int]) -> Scaled:
    """Make a frame as large as fits into a width and height, of even numbers of pixels."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    even = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    return Scaled(Image.fromarray(picture).resize(even, Image.Resampling.BOX), scale)


def choose_excerpts(
    sequence: VideoSequence, switches: Sequence[Switch], others: Sequence[Switch]
) -> list[Excerpt]:
    """The excerpts around switches, first those that only one of the two views has."""
    count = len(sequence.images)
    shared = {(switch.person, switch.frame) for switch in others}
    ranked = sorted(switches, key=lambda s: ((s.person, s.frame) in shared, s.frame))
    chosen: list[Switch] = []
    for switch in ranked:
        apart = all(abs(switch.frame - other.frame) > sequence.frame_rate / 2 for other in chosen)
        if apart and len(chosen) < EVENTS:
            chosen.append(switch)
    if not chosen:
        spread = np.linspace(1, count, COLUMNS * EVENTS).round().astype(int).reshape(EVENTS, -1)
        return [Excerpt(sorted(set(row.tolist())), "") for row in spread]
    after = max(1, round(sequence.frame_rate / 5))
    excerpts = []
    for s in sorted(chosen, key=lambda s: s.frame):
        four = (max(1, s.last - after), (s.last + s.frame) // 2, s.frame, s.frame + after)
        kept = sorted({min(frame, count) for frame in four})
        excerpts.append(Excerpt(kept, f": around frame {s.frame}"))
    return excerpts


def with_boxes(frame: Scaled, view: TrackView, number: int, frame_rate: float) -> Image.Image:
    """A frame with a view's boxes, identities and recent switches."""
    picture = frame.picture.copy()
    draw = ImageDraw.Draw(picture)
    recent = {
        switch.after: switch.before
        for switch in view.switches
        if 0 <= number - switch.frame <= MARKED * frame_rate
    }
    here = view.tracks.frames == number
    # Boxes with a recent switch last, over the others.
    boxes = sorted(
        zip(view.tracks.ids[here].tolist(), view.tracks.ltwh[here], strict=True),
        key=lambda item: item[0] in recent,
    )
    for identity, ltwh in boxes:
        left, top, width, height = (ltwh * frame.scale).tolist()
        box = (left, top, left + max(width, 1), top + max(height, 1))
        if identity in recent:
            draw.rectangle([box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3], outline=ALARM, width=3)
            tag(draw, box, f"{recent[identity]} > {identity}", ALARM)
        else:
            tag(draw, box, str(identity), track_colour(identity))
        draw.rectangle(box, outline=track_colour(identity), width=2)
    tag(draw, (0, 0, 0, 0), f"frame {number}", PAPER)
    return picture


def tag(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    text: str,
    fill: tuple[int, int, int],
) -> None:
    """Write a text on a coloured ground above a box, or inside where there is no room."""
    font = ImageFont.load_default(13)
    width, height = draw.textlength(text, font) + 4, 15
    left, top = box[0] - 1, box[1] - height if box[1] >= height else box[1]
    draw.rectangle([left, top, left + width, top + height], fill=fill)
    dark = sum(weight * part for weight, part in zip((3, 6, 1), fill, strict=True)) < 1500
    draw.text((left + 2, top), text, INK if dark else PAPER, font)


def track_colour(identity: int) -> tuple[int, int, int]:
    """A track's colour, which is always the same."""
    hue = identity * GOLDEN % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if identity % 2 else 0.5, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def titled(pictures: Sequence[Image.Image], title: str) -> Image.Image:
    """Pictures beside each other, with a title above."""
    width = sum(picture.width + GAP for picture in pictures) - GAP
    row = Image.new("RGB", (width, TITLE + pictures[0].height), PAPER)
    ImageDraw.Draw(row).text((6, 4), title, INK, ImageFont.load_default(15))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, TITLE))
        left += picture.width + GAP
    return row


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other."""
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height + GAP for row in rows) - GAP), PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    return sheet


# The video


def write_video(
    path: Path, archive: Archive, sequence: VideoSequence, views: Sequence[TrackView]
) -> None:
    """Write a video of the views beside each other, of the seconds with most switches.

    Noise is smoothed before the boxes are drawn: OpenCV takes no bit rate for its encoder, which
    would spend most of the file on it.

    Args:
        path: a WebM.
        archive: the archive with the frames.
        sequence: which has detections.
        views: the baseline first.

    Raises:
        DatasetError: the frames have several sizes.
        OSError: the file cannot be written.
    """
    step = math.ceil(sequence.frame_rate / MAX_FRAME_RATE)
    shown = busiest(sequence, views)[::step]
    names = [sequence.images[frame - 1] for frame in shown]
    with files.replacing(path) as temporary:
        with open_video(temporary, sequence.frame_rate / step) as writer:
            pictures = frames_in_order(archive, names)
            for frame, name, picture in zip(shown, names, pictures, strict=True):
                small = smoothed(fitted(picture, PANE))
                panes = [
                    titled([with_boxes(small, view, frame, sequence.frame_rate)], view.title)
                    for view in views
                ]
                writer.write(side_by_side(panes), name)
        check_frames(temporary, len(names))
        temporary.write_bytes(anonymous(temporary.read_bytes()))


def busiest(sequence: VideoSequence, views: Sequence[TrackView]) -> range:
    """The consecutive frames with most switches, as many as the video may show."""
    count = len(sequence.images)
    length = min(count, max(1, round(SECONDS * sequence.frame_rate)))
    at = np.zeros(count + 1)
    for view in views:
        for switch in view.switches:
            at[switch.frame] += 1
    sums = np.cumsum(at)
    within = sums[length:] - sums[: count + 1 - length]
    first = int(np.argmax(within)) + 1
    return range(first, first + length)


def smoothed(frame: Scaled) -> Scaled:
    """The frame without its noise, its edges kept."""
    picture = cv2.bilateralFilter(np.asarray(frame.picture), 5, 30, 3)
    return Scaled(Image.fromarray(picture), frame.scale)


def side_by_side(panes: Sequence[Image.Image]) -> Image.Image:
    """Pictures beside each other, of even size, as video codecs need it."""
    width = sum(pane.width for pane in panes)
    height = max(pane.height for pane in panes)
    picture = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    left = 0
    for pane in panes:
        picture.paste(pane, (left, 0))
        left += pane.width
    return picture


class Video:
    """Writes a WebM file of VP8, which every browser plays."""

    def __init__(self, path: Path, frame_rate: float):
        """Wait for the first frame, which gives the size."""
        self.path, self.frame_rate = path, frame_rate
        self.size: tuple[int, int] | None = None
        self.writer = cv2.VideoWriter()

    def write(self, picture: Image.Image, name: str) -> None:
        """Append a frame."""
        if self.size is None:
            self.open(picture.size)
        if picture.size != self.size:
            raise DatasetError(
                f"{name}: not as large as the frames before it; a sequence has frames of one size"
            )
        self.writer.write(np.asarray(picture)[..., ::-1])

    def open(self, size: tuple[int, int]) -> None:
        """Open the file for frames of a width and a height."""
        self.size = size
        codec = cv2.VideoWriter.fourcc(*"VP80")
        with without_stderr():
            opened = self.writer.open(str(self.path), cv2.CAP_FFMPEG, codec, self.frame_rate, size)
        if not opened:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


@contextmanager
def open_video(path: Path, frame_rate: float) -> Iterator[Video]:
    """Write a video, and close it in any case."""
    video = Video(path, frame_rate)
    try:
        yield video
    finally:
        video.writer.release()


def check_frames(path: Path, expected: int) -> None:
    """Count a video's frames by playing it, since OpenCV does not report a failed write.

    Raises:
        OSError: frames are missing, as on a full disk.
    """
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.grab():
        count += 1
    video.release()
    if count != expected:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@contextmanager
def without_stderr() -> Iterator[None]:
    """Silence standard error, to which FFmpeg writes a remark on the codec's name by itself."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def anonymous(data: bytes) -> bytes:
    """A WebM without FFmpeg's random track number, so that the same frames give the same bytes.

    TrackUID, element 0x73C5 of 8 bytes, and the tags that refer to it, 0x63C5 likewise
    (https://www.rfc-editor.org/rfc/rfc9559).
    """
    found = re.search(rb"\x73\xc5\x88(.{8})", data[:4096], re.DOTALL)
    if not found:
        return data
    one = (1).to_bytes(8, "big")
    for element in (b"\x73\xc5\x88", b"\x63\xc5\x88"):
        data = data.replace(element + found[1], element + one)
    return data
