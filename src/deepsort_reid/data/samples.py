"""Samples: the images of a dataset, with the identity, the camera and the role of each."""

import re
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol

JUNK = -1  # pid of boxes that show nobody properly; the protocol ignores them
DISTRACTOR = 0  # pid of people whom no query shows
NO_CAMERA = -1  # camid where nothing tells the camera

FRAME = re.compile(
    r"(?<![a-z0-9])c(?:am)?\d+(?:s(\d{1,6})_|_f)(\d{1,9})(?![a-z0-9])", re.IGNORECASE
)
CUT_OUT = re.compile(r"(\d{1,9})\.\w+#\d+$")  # a crop of a video's frame, as layouts.crops names it
SEQUENCE = 1 << 32  # frames between the beginnings of two sequences: more than any has

# What the dataset itself says that an image is for. `test`: one of an identity to test with, of
# which queries are yet to be drawn. `tune`: likewise, but to choose parameters by. `any`: nothing.
Role = Literal["train", "val", "query", "gallery", "test", "tune", "any"]


class ImageSource(Protocol):
    """Where the bytes of images come from; an open archive is one."""

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        """Yield (name, bytes) of the named members, in whatever order is fastest."""
        ...


@dataclass(frozen=True)
class Crop:
    """A box in a larger image, such as a frame of a video."""

    member: str  # the image's name in the archive
    frame: int  # the frame's number, which orders the crops of a track in time
    ltwh: tuple[float, float, float, float]  # left, top, width, height; pixels, not yet clipped


@dataclass(frozen=True)
class Sample:
    """One image: where it is and what it shows."""

    name: str  # in the archive; of a crop the frame's name, and "#7" for track 7
    identity: str  # as the dataset writes it: "0002", "alice", "street/7"
    pid: int  # identity number; -1 junk, 0 distractor
    camid: int  # camera number, -1 unknown
    role: Role  # the part that the dataset itself puts it into; "any" if it does not say
    crop: Crop | None = None  # the part of a larger image that it is; None: a whole image
    frame: int | None = None  # when it was taken, if the dataset says so apart from the name
    extra: tuple[str, ...] = ()  # the values of the dataset's `columns`

    @property
    def member(self) -> str:
        """The file in the archive that holds the image."""
        return self.crop.member if self.crop else self.name

    @property
    def is_somebody(self) -> bool:
        """Whether it shows an identity, and is neither junk nor a distractor."""
        return self.pid not in (JUNK, DISTRACTOR)


@dataclass(frozen=True)
class Dataset:
    """The images of a dataset, sorted by name."""

    layout: str  # the layout's name, as in `layouts.registry`
    samples: Sequence[Sample]
    in_time: bool = False  # whether an identity is a track: images of one camera, in time
    columns: tuple[str, ...] = ()  # the names of what each sample has as `extra`
    understood: Mapping[str, Any] = field(default_factory=dict)  # for reports/split.json
    # Of a dataset among several: name -> the sample as it is where the dataset is alone.
    alone: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def has_roles(self) -> bool:
        """Whether the dataset itself says what is for training and what for testing."""
        return any(sample.role != "any" for sample in self.samples)

    @cached_property
    def crosses_cameras(self) -> bool:
        """Whether some identity is seen by two cameras, so that one can be asked for by another."""
        first: dict[int, int] = {}
        seen = ((s.pid, s.camid) for s in self.samples if s.camid != NO_CAMERA and s.is_somebody)
        return any(first.setdefault(pid, camid) != camid for pid, camid in seen)


Split = Mapping[str, list[Sample]]  # part -> its images, in the order they are packed


def source_of(name: str) -> str:
    """The dataset among several that an image is of: its name begins so, see `joint.join`."""
    return name.partition("/")[0]


# When an image was taken


def read_moment(name: str) -> int | None:
    """When a camera took an image, in frames; None if the file's name does not tell.

    What follows camera and sequence (`c1s1_000451`), or a camera and an `f` (`c1_f000451`), is the
    number of the video's frame. A number elsewhere (`c3_0007`) may be anything.

    Sequences lie `SEQUENCE` frames apart. So the difference of two moments of one camera says how
    far apart they are, whichever sequences they belong to.
    """
    if cut := CUT_OUT.search(name):
        return int(cut[1])
    match = FRAME.search(PurePosixPath(name).name)
    return SEQUENCE * int(match[1] or 0) + int(match[2]) if match else None


def read_moments(names: Sequence[str]) -> list[int] | None:
    """The moment of each image; None unless all names tell it."""
    moments = [moment for moment in map(read_moment, names) if moment is not None]
    return moments if len(moments) == len(names) else None
