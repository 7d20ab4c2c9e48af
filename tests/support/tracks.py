"""Small videos with people of one colour each, and what a detector finds in them."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepsort_reid.core.config import load_params
from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.sources.archive import Archive
from tests.support.stages import ROOT

SIZE = (60, 160)  # height and width of a frame
COLOURS = [(220, 30, 30), (30, 200, 30), (40, 60, 230)]

CONFIG = load_params(ROOT / "params.yaml").track.model_copy(update={"max_age": 30})

Row = tuple[int, int, tuple[float, float, float, float]]  # frame, identity, ltwh


def boxes(rows: Sequence[Row], **more: Iterable[float]) -> Boxes:
    """Boxes of pedestrians that count, unless `more` says otherwise."""
    count = len(rows)
    columns = {
        "confidences": np.ones(count),
        "classes": np.ones(count),
        "visibility": np.ones(count),
    }
    columns |= {name: np.array(list(values), float) for name, values in more.items()}
    return Boxes(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        columns["confidences"],
        columns["classes"].astype(np.int64),
        columns["visibility"],
    )


def crossing(frames: int = 40) -> list[Row]:
    """Two people who walk towards each other, turn while nobody sees them, and walk back.

    Motion says that they have passed each other.
    """
    rows: list[Row] = []
    half = frames // 2
    for frame in range(1, frames + 1):
        gone = min(frame - 1, frames - frame)  # of the way to the middle
        for identity, left in ((1, 10 + 3 * gone), (2, 130 - 3 * gone)):
            if abs(frame - half - 0.5) > 6:
                rows.append((frame, identity, (left, 10, 20, 40)))
    return rows


def picture(rows: Sequence[Row], frame: int) -> NDArray[np.uint8]:
    """A frame with everybody in their colour."""
    image = np.full((*SIZE, 3), 90, np.uint8)
    for number, identity, (left, top, width, height) in rows:
        if number == frame:
            area = (slice(int(top), int(top + height)), slice(int(left), int(left + width)))
            image[area] = COLOURS[identity - 1]
    return image


def table(rows: Sequence[Row], *, identities: bool) -> str:
    """The lines of gt.txt or of det.txt."""
    return "".join(
        f"{frame},{identity if identities else -1},{left + 1},{top + 1},{width},{height},1,1,1\n"
        for frame, identity, (left, top, width, height) in rows
    )


def found_when(row: Row) -> tuple[int, int]:
    """The place of a box among what a detector finds."""
    frame, identity, _ = row
    return frame, identity if frame <= 20 else -identity


def archive(
    path: Path,
    rows: Sequence[Row],
    frames: int = 40,
    *,
    leave_out: Sequence[str] = (),
    name: str = "a",
    texts: Mapping[str, str] | None = None,
) -> Archive:
    """Zip a sequence of which `rows` is the truth, and what is detected, unless `texts` differ."""
    usual: Mapping[str, str] = {
        "gt/gt.txt": table(rows, identities=True),
        # Half way through, who was found first is found last: the order tells nobody apart.
        "det/det.txt": table(sorted(rows, key=found_when), identities=False),
        "seqinfo.ini": "[Sequence]\nframeRate=10\n",
    }
    with zipfile.ZipFile(path, "w") as zipped:
        for frame in range(1, frames + 1):
            data = io.BytesIO()
            Image.fromarray(picture(rows, frame)).save(data, "PNG")
            zipped.writestr(f"{name}/img1/{frame:06d}.png", data.getvalue())
        for member, text in {**usual, **(texts or {})}.items():
            if member not in leave_out:
                zipped.writestr(f"{name}/{member}", text)
    return Archive(path)


class Colours:
    """An embedder that sees colours, or nothing."""

    def __init__(self, *, blind: bool = False):
        self.blind = blind
        self.crops = 0

    def __call__(self, crops: Sequence[NDArray[np.uint8]], *, order: str) -> NDArray[np.float32]:
        assert order == "rgb"
        self.crops += len(crops)
        seen = [np.ones(3) if self.blind else crop.mean((0, 1)) for crop in crops]
        array = np.array(seen, np.float32).reshape(-1, 3)
        return array / np.linalg.norm(array, axis=1, keepdims=True)
