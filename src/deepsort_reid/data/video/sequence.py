"""A video as single frames, the boxes found and annotated in it, and how frames are numbered."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.samples import Role

logger = logging.getLogger(__name__)

PEDESTRIAN = 1  # the class of people who walk, and of boxes in files without classes
REGION = 0  # the class of areas, with confidence 0, in which nobody has annotated anything
FRAME_RATE = 25.0  # frames a second, where nothing says it
AT_ROOT = "sequence"  # the name of a sequence that has no folder of its own
SHOWN = 20  # names in a line of the log


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
    detections: Boxes | None  # found by a detector
    truth: Boxes | None  # annotated by people
    class_names: Mapping[int, str] = field(default_factory=dict)  # where the format has names
    # Classes of truth of which a track is neither right nor wrong, unless they are scored
    distractors: tuple[int, ...] = ()
    role: Role = "any"  # the part that its folder names


@dataclass(frozen=True, eq=False)
class Notes:
    """What was noticed while sequences were read, to be said once for all of them."""

    left_out: Counter[str] = field(default_factory=Counter)  # reason -> boxes of truth
    said: dict[str, dict[str, int]] = field(  # what was done -> sequence -> boxes
        default_factory=lambda: defaultdict(dict)
    )

    def log(self) -> None:
        """Say each thing in one line, with the sequences it is true of, and how often in each."""
        for what, where in self.said.items():
            named = [f"'{name}' ({number:,})" for name, number in list(where.items())[:SHOWN]]
            more = f" and {len(where) - SHOWN} more" if len(where) > SHOWN else ""
            logger.info("%s: %s%s", what, ", ".join(named), more)


@dataclass(frozen=True, eq=False)
class Found:
    """The sequences of an archive, and what its other files are."""

    sequences: tuple[Sequence, ...]  # by name
    notes: Notes
    used: Collection[str] = ()  # members that were read and are no frames
    # Members that the format knows and does not need, by the reason
    passed_over: Mapping[str, Collection[str]] = field(default_factory=dict)


def listed(names: Collection[str]) -> str:
    """Some names as a text, and how many more there are."""
    some = ", ".join(f"'{name}'" for name in list(names)[:SHOWN])
    return some if len(names) <= SHOWN else f"{some} and {len(names) - SHOWN} more"


# Frames


@dataclass(frozen=True)
class Frames:
    """The frames of a sequence, in order."""

    images: tuple[str, ...]  # members of the archive
    first: int  # the number in the name of the first one; those of the others follow
    where: str  # their folder, in messages
    named: bool = False  # whether something stands before the numbers, as in frame_000000.PNG


def prefix(folder: str) -> str:
    """The beginning of the names of a folder's files; `.` is the archive's root."""
    return "" if folder == "." else f"{folder}/"


def name_of(folder: str) -> str:
    """A sequence's name, by its folder."""
    return PurePosixPath(folder).name or AT_ROOT


def by_folder(images: Iterable[str]) -> dict[str, list[str]]:
    """The images that lie in each folder, sorted; `.` is the archive's root."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(images):
        found[name.rpartition("/")[0] or "."].append(name)
    return found


def in_order(images: Iterable[str], where: str) -> Frames:
    """Sort frames by the numbers that end their names.

    Raises:
        SourceError: a name ends in no number, or begins otherwise than the others, a number is
            there twice, or one is missing.
    """
    numbered: dict[int, str] = {}
    begin: str | None = None
    for name in images:
        path = PurePosixPath(name)
        match = re.fullmatch(r"(.*?)([0-9]{1,9})", path.stem, re.ASCII | re.DOTALL)
        begin = match[1] if match and begin is None else begin
        if match is None or match[1] != begin:
            raise SourceError(
                f"{where}: '{path.name}' is no number after what all names begin with; expected "
                "frames named 000001.jpg, 000002.jpg, …"
            )
        number = int(match[2])
        if numbered.setdefault(number, name) != name:
            raise SourceError(f"{where}: frame {number} is there twice; keep one of them")
    first = min(numbered)
    missing = next(n for n in range(first, first + len(numbered) + 1) if n not in numbered)
    if missing != first + len(numbered):
        raise SourceError(
            f"{where}: {len(numbered)} frames, but none with the number {missing}; "
            "number them without gaps, as the annotations do"
        )
    return Frames(tuple(numbered[n] for n in sorted(numbered)), first, where, bool(begin))


def distinct_names(folders: Iterable[str], label: str) -> dict[str, str]:
    """The name of each sequence by its folder.

    Raises:
        SourceError: two bear one name.
    """
    by_name: dict[str, str] = {}
    for folder in sorted(folders):
        other = by_name.setdefault(name_of(folder), folder)
        if other != folder:
            raise SourceError(
                f"{label}: '{other}' and '{folder}' bear the same name; "
                "give each sequence a name of its own"
            )
    return {folder: name for name, folder in by_name.items()}
