"""MOTChallenge sequences in an archive: their frames, and the boxes found and annotated in them.

A sequence is a folder, at any depth, as MOTChallenge publishes it (Milan et al., "MOT16: A
Benchmark for Multi-Object Tracking", arXiv:1603.00831), and as annotation tools write it:

    <name>/img1/000001.jpg   the frames, numbered from 1 without gaps
    <name>/gt/gt.txt         boxes annotated by people; may be missing
    <name>/det/det.txt       boxes found by a detector; may be missing
    <name>/seqinfo.ini       its frame rate; may be missing

A line of gt.txt or det.txt is a box: frame, identity, left, top, width, height and confidence, then
in gt.txt the class and the visible share where the file has 8 or 9 columns (MOT16, MOT17, MOT20).
With 10 columns (MOT15) the last three are world coordinates, which are not used.
"""

import configparser
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import quantity
from deepsort_reid.data.images import is_image
from deepsort_reid.sources.archive import Archive

PEDESTRIAN = 1  # the class of people who walk, and of boxes in files without classes
FRAME_RATE = 25.0  # frames a second, where there is no seqinfo.ini
AT_ROOT = "sequence"  # the name of a sequence that has no folder of its own

TABLES = ("gt/gt.txt", "det/det.txt")
COLUMNS = "frame, identity, left, top, width, height, confidence"
MAX_TEXTS = 256 << 20  # bytes of all tables together; MOT20 has 60 MB
MAX_LINE = 1000  # characters of one box
MAX_INFO = 4096  # bytes of seqinfo.ini; configparser's time grows with their square
FARTHEST = 1e6  # pixels from the frame's corner
MAX_IDENTITY = 2**53  # beyond it, not every whole number is a float64
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes of one sequence, in the order of their frames."""

    frames: NDArray[np.int64]  # (N,) from 1
    ids: NDArray[np.int64]  # (N,) whose box it is; -1 unknown
    ltwh: NDArray[np.float64]  # (N, 4) left, top, width, height; pixels from the frame's corner
    confidences: NDArray[np.float64]  # (N,) of the detector; in truth 0 where it is to be ignored
    classes: NDArray[np.int64]  # (N,) 1 pedestrian
    visibility: NDArray[np.float64]  # (N,) share of the object that is seen, 1 where unknown

    def __len__(self) -> int:
        return len(self.frames)

    def select(self, which: Any) -> "Boxes":
        """Some of the boxes, by a mask, a slice or indices."""
        return Boxes(*(getattr(self, field.name)[which] for field in fields(Boxes)))


@dataclass(frozen=True, eq=False)
class Sequence:
    """A video as single frames, with what is known about them."""

    name: str  # of its folder
    images: tuple[str, ...]  # members of the archive, in the order of frames: images[0] is frame 1
    frame_rate: float  # frames a second
    detections: Boxes | None  # of det/det.txt
    truth: Boxes | None  # of gt/gt.txt


def read_sequences(archive: Archive, names: Iterable[str] | None = None) -> list[Sequence]:
    """Find the sequences of an archive, and read all their files but the frames.

    Args:
        archive: holds the sequences.
        names: the archive's members, if they are known; to list them takes a pass over a tar.

    Returns:
        the sequences by name.

    Raises:
        SourceError: there is none, two bear one name, a frame is missing, or a file cannot be
            read: its name, and the number of the line, are in the error.
    """
    known = archive.names() if names is None else list(names)
    folders = find(known, archive.label)
    files = {
        prefix(folder) + file: (folder, file)
        for folder in folders
        for file in (*TABLES, "seqinfo.ini")
    }
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    total = 0
    for name, data in archive.read(files.keys() & set(known)):
        total += len(data)
        if total > MAX_TEXTS:
            raise SourceError(
                f"{archive.label}: the tables of its sequences have more than "
                f"{quantity(MAX_TEXTS, 'B')}; use fewer sequences at a time"
            )
        folder, file = files[name]
        found[folder][file] = read(file, data, f"{archive.label}: {name}", len(folders[folder]))
    sequences = [
        Sequence(
            name=name_of(folder),
            images=images,
            frame_rate=found[folder].get("seqinfo.ini", FRAME_RATE),
            detections=found[folder].get("det/det.txt"),
            truth=found[folder].get("gt/gt.txt"),
        )
        for folder, images in folders.items()
    ]
    return sorted(sequences, key=lambda sequence: sequence.name)


def read(file: str, data: bytes, where: str, frames: int) -> Boxes | float:
    """Read one of a sequence's files by its name within the sequence."""
    if file == "seqinfo.ini":
        return read_frame_rate(data, where)
    return read_boxes(data, where, frames, truth=file == "gt/gt.txt")


# Finding


def find(names: Iterable[str], label: str) -> dict[str, tuple[str, ...]]:
    """The folder of each sequence -> its frames in order.

    Args:
        names: members of an archive, POSIX paths.
        label: the archive, in errors.

    Raises:
        SourceError: there is none, two bear one name, or the frames are not numbered from 1 on.
    """
    images = defaultdict(list)
    for name in sorted(names):
        if is_frame(name):
            images[folder_of(name)].append(name)
    if not images:
        raise SourceError(
            f"{label}: holds no sequence; expected <name>/img1/000001.jpg and what follows, "
            "with <name>/gt/gt.txt or <name>/det/det.txt beside img1"
        )
    by_name: dict[str, str] = {}
    for folder in sorted(images):
        other = by_name.setdefault(name_of(folder), folder)
        if other != folder:
            raise SourceError(
                f"{label}: '{other}' and '{folder}' bear the same name; "
                "give each sequence a name of its own"
            )
    return {
        folder: in_order(members, f"{label}: {prefix(folder)}img1")
        for folder, members in images.items()
    }


def is_frame(name: str) -> bool:
    """Whether a member is an image in a folder img1."""
    return "img1/" in name and PurePosixPath(name).parent.name == "img1" and is_image(name)


def folder_of(frame: str) -> str:
    """The folder of the sequence that a frame belongs to, "." at the archive's root."""
    return str(PurePosixPath(frame).parent.parent)


def prefix(folder: str) -> str:
    """The beginning of the names of a folder's files."""
    return "" if folder == "." else f"{folder}/"


def name_of(folder: str) -> str:
    """A sequence's name, by its folder."""
    return PurePosixPath(folder).name or AT_ROOT


def in_order(images: Iterable[str], where: str) -> tuple[str, ...]:
    """Sort frames by the numbers that are their names.

    Raises:
        SourceError: a name is no number, a number is there twice, or one is missing.
    """
    numbered: dict[int, str] = {}
    for name in images:
        path = PurePosixPath(name)
        if not re.fullmatch(r"[0-9]{1,9}", path.stem):
            raise SourceError(
                f"{where}: '{path.name}' is no number; expected frames named 000001.jpg, "
                "000002.jpg, …"
            )
        if numbered.setdefault(int(path.stem), name) != name:
            raise SourceError(f"{where}: frame {int(path.stem)} is there twice; keep one of them")
    expected = range(1, len(numbered) + 1)
    missing = next((number for number in expected if number not in numbered), None)
    if missing is not None:
        raise SourceError(
            f"{where}: {len(numbered)} frames, but none with the number {missing}; "
            "number them from 1 without gaps, as the annotations do"
        )
    return tuple(numbered[number] for number in expected)


# Reading


def read_boxes(data: bytes, where: str, frames: int, *, truth: bool) -> Boxes:
    """Read a table of boxes.

    The file counts pixels from 1 (a box at the frame's corner has left and top 1), `Boxes` from 0.
    A class or a visible share of -1 means, as a missing column does, that it is unknown: the object
    counts as a pedestrian, and as seen whole.

    Args:
        data: the file's content; Windows' line ends, a byte order mark, spaces around numbers and
            blank lines at the end do no harm.
        where: the file's name in errors.
        frames: how many frames the sequence has.
        truth: whether the file is gt.txt, with classes and visible shares, and at most one box of
            an identity in a frame.

    Raises:
        SourceError: it is no such table; the message has the number of the first wrong line.
    """
    table = Table(numbers(data, where), where)
    frame, identity = table.whole(0, "frame"), table.whole(1, "identity")
    ltwh, confidences = table.values[:, 2:6].copy(), table.values[:, 6].copy()
    classes = np.full(len(frame), PEDESTRIAN)
    visibility = np.ones(len(frame))
    columns = table.values.shape[1] if truth else 0
    if columns in (8, 9):
        classes = table.whole(7, "class")
        classes[classes == -1] = PEDESTRIAN
    if columns == 9:
        visibility = np.where(table.values[:, 8] == -1, 1, table.values[:, 8])
    table.demand((frame >= 1) & (frame <= frames), f"no such frame; img1 has 1 to {frames}")
    table.demand(identity >= -1, "a negative identity; expected a number from 0, or -1 for unknown")
    table.demand(np.abs(ltwh).max(1, initial=0) <= FARTHEST,
                 f"a box farther than {FARTHEST:.0f} pixels away; expected pixels")  # fmt: skip
    table.demand(ltwh[:, 2:].min(1, initial=1) > 0,
                 "a box without area; expected a width and a height above 0")  # fmt: skip
    table.demand((visibility >= 0) & (visibility <= 1),
                 "column 9 is the visible share of the object; expected 0 to 1")  # fmt: skip
    if truth:
        table.demand(~repeated(frame, identity), "a second box of one identity in one frame")
    ltwh[:, :2] -= 1
    boxes = Boxes(frame, identity, ltwh, confidences, classes, visibility)
    return boxes.select(np.argsort(frame, kind="stable"))


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers of a file, a row for each line."""

    values: NDArray[np.float64]  # (N, 7 to 10)
    where: str

    def whole(self, column: int, what: str) -> NDArray[np.int64]:
        """A column of whole numbers."""
        values = self.values[:, column]
        good = (values == np.rint(values)) & (np.abs(values) <= MAX_IDENTITY)
        self.demand(good, f"column {column + 1} is the {what}; expected a whole number")
        return np.where(good, values, 0).astype(np.int64)

    def demand(self, good: NDArray[np.bool_], message: str) -> None:
        """Raise with the number of the first line that is not good."""
        if not good.all():
            raise SourceError(f"{self.where}, line {int(np.argmin(good)) + 1}: {message}")


def repeated(frames: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether an earlier box has the same frame and the same known identity, (N,)."""
    order = np.lexsort((ids, frames))  # stable: of two the later line is the second
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    result = np.zeros(len(frames), dtype=np.bool_)
    result[order[1:]] = same
    return result & (ids >= 0)


def numbers(data: bytes, where: str) -> NDArray[np.float64]:
    """The finite numbers of a table, (N, 7 to 10); (0, 7) of an empty file.

    Raises:
        SourceError: a line has another number of columns, or a field is no finite number.
    """
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").rstrip()
    except UnicodeDecodeError:
        raise SourceError(f"{where}: is no text in UTF-8; write it as plain text") from None
    if not text:
        return np.zeros((0, 7))
    try:
        values = np.loadtxt(lines(text, where), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        explain(text, where)
        raise SourceError(f"{where}: is no table of numbers ({error})") from None
    finite: NDArray[np.bool_] = np.isfinite(values).min(axis=1)
    Table(values, where).demand(finite, "NaN or infinite; expected finite numbers")
    return values


def lines(text: str, where: str) -> Iterator[str]:
    """Yield the lines of a table, each as long and with as many columns as it should have."""
    columns = text.partition("\n")[0].count(",") + 1
    expected = f"{columns}, as in line 1" if 7 <= columns <= 10 else f"7 to 10: {COLUMNS}, …"
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        count = line.count(",") + 1
        if len(line) > MAX_LINE or not line.strip():
            fault = "an empty line" if not line.strip() else f"more than {MAX_LINE} characters"
            raise SourceError(f"{where}, line {number}: {fault}; expected a box: {COLUMNS}, …")
        if count != columns or not 7 <= count <= 10:
            shown = f"{count} column{'' if count == 1 else 's'}"
            raise SourceError(
                f"{where}, line {number}: {shown} between commas; expected {expected}"
            )
        yield line


def explain(text: str, where: str) -> None:
    """Raise for the first field that is no number, if there is one."""
    for number, line in enumerate(lines(text, where), start=1):
        for column, value in enumerate(line.split(","), start=1):
            if not NUMBER.fullmatch(value):
                raise SourceError(
                    f"{where}, line {number}: column {column} is {value.strip()[:50]!r}; "
                    "expected a finite number"
                )


def read_frame_rate(data: bytes, where: str) -> float:
    """The frames a second that a seqinfo.ini tells.

    Raises:
        SourceError: it cannot be read, or tells none.
    """
    if len(data) > MAX_INFO:
        raise SourceError(f"{where}: more than {MAX_INFO} bytes; expected a few lines, or no file")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(data.decode("utf-8-sig"))
        said = parser.get("Sequence", "frameRate")
    except (UnicodeDecodeError, configparser.Error) as error:
        raise SourceError(
            f"{where}: cannot be read ({error}); expected [Sequence] and frameRate=25, or no file"
        ) from None
    rate = float(said) if NUMBER.fullmatch(said) else math.nan
    if not 0 < rate <= 1000:
        raise SourceError(
            f"{where}: frameRate={said} must be a number of frames a second, above 0 and at most "
            "1000"
        )
    return rate
