"""File names and folders of a dataset, read into identities, cameras and roles.

Two layouts are told by names alone; `footage` reads a third one, annotated videos.

`market1501`: the folders `bounding_box_train`, `bounding_box_test` and `query` of Market-1501
(Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015): 12,936 training images
of 751 identities, 3,368 queries, 19,732 gallery images, 6 cameras, 128×64 pixels; many later
datasets follow it. A file is named `0002_c1s1_000451_03.jpg`: identity 2 by camera 1. Identity 0 is
a distractor (nobody a query asks for), -1 junk (the protocol ignores it).

`folders`: a folder for each identity, as deep_sort_pytorch has it; the camera, if known, stands in
the file name as `c3`, apart from what surrounds it: `c3_0007.png`, `walk_c3s1_12.jpg`.

In both, what follows camera and sequence (`c1s1_000451`), or a camera and an `f` (`c1_f000451`), is
the number of the video's frame; elsewhere (`c3_0007`) a number may be anything.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from deepsort_reid.core.errors import DatasetError

JUNK = -1  # pid of boxes that show nobody properly
DISTRACTOR = 0  # pid of people no query asks for
NO_CAMERA = -1  # camid where the file name tells none

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
MARKET_ROLES: dict[str, "Role"] = {
    "bounding_box_train": "train",
    "bounding_box_test": "gallery",
    "query": "query",
}
MARKET_NAME = re.compile(r"(-1|\d+)_c(\d+)")
CAMERA = re.compile(r"(?<![a-z0-9])c(?:am)?(\d+)(?:s\d+)?(?![a-z0-9])", re.IGNORECASE)
FRAME = re.compile(
    r"(?<![a-z0-9])c(?:am)?\d+(?:s(\d{1,6})_|_f)(\d{1,9})(?![a-z0-9])", re.IGNORECASE
)
CUT_OUT = re.compile(r"(\d{1,9})\.\w+#\d+$")  # a box of a video's frame, as `footage` names it
SEQUENCE = 1 << 32  # frames between the beginnings of two sequences: more than any has

Role = Literal["train", "query", "gallery", "any"]
Layout = Literal["market1501", "folders", "mot"]


@dataclass(frozen=True)
class Crop:
    """A box in a frame of a video."""

    member: str  # the frame's name in the archive
    frame: int  # its number, which tells what is early and what is late
    ltwh: tuple[float, float, float, float]  # left, top, width, height; pixels, not yet clipped


@dataclass(frozen=True)
class Sample:
    """One image: where it is and what it shows."""

    name: str  # in the archive; of a crop the frame's, and "#7" for track 7
    identity: str  # as the dataset writes it: "0002", "alice", "street/7"
    pid: int  # identity number; -1 junk, 0 distractor
    camid: int  # camera number, -1 unknown
    role: Role  # what the dataset wants it for; "any" if it does not say
    crop: Crop | None = None  # which part of a larger image it is; None: a whole one

    @property
    def member(self) -> str:
        """The file in the archive that it is in."""
        return self.crop.member if self.crop else self.name


@dataclass(frozen=True)
class Dataset:
    """The images of a dataset, sorted by name."""

    layout: Layout
    samples: Sequence[Sample]

    @property
    def has_cameras(self) -> bool:
        """Whether file names tell the camera."""
        return any(sample.camid != NO_CAMERA for sample in self.samples)


def read_dataset(
    names: Iterable[str], layout: Literal["auto", "market1501", "folders"] = "auto"
) -> Dataset:
    """Recognise a dataset by its file names alone.

    Args:
        names: members of the archive, POSIX paths.
        layout: one of the layouts that names tell, or "auto" for the one they look like.

    Raises:
        DatasetError: there are no images, or not in a known layout.
    """
    images = sorted(name for name in names if is_image(name))
    if not images:
        raise DatasetError(
            "no images in the dataset; expected files ending in "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    in_market = [name for name in images if market_role(name)]
    if layout == "market1501" or (layout == "auto" and in_market):
        return Dataset("market1501", read_market1501(in_market))
    return Dataset("folders", read_folders(images))


def is_image(name: str) -> bool:
    """Whether a file looks like an image that is meant to be there."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def market_role(name: str) -> Role | None:
    """What Market-1501's folder says an image is for; None outside its folders."""
    return MARKET_ROLES.get(PurePosixPath(name).parent.name)


def read_market1501(images: Sequence[str]) -> list[Sample]:
    """Read identity and camera from names like `0002_c1s1_000451_03.jpg`.

    Raises:
        DatasetError: a folder is missing, a name tells no identity, or a role has no images.
    """
    samples = [read_market_name(name) for name in images]
    present = Counter(sample.role for sample in samples)
    for folder, role in MARKET_ROLES.items():
        if not present[role]:
            raise DatasetError(
                f"no images in '{folder}'; the layout market1501 needs images in each of "
                f"{', '.join(MARKET_ROLES)} (or set dataset.layout: folders)"
            )
    return samples


def read_market_name(name: str) -> Sample:
    """Read one of Market-1501's file names.

    Raises:
        DatasetError: it does not begin with an identity and a camera.
    """
    path = PurePosixPath(name)
    match, role = MARKET_NAME.match(path.name), market_role(name)
    if match is None or role is None:
        raise DatasetError(
            f"'{name}' tells no identity and camera; expected a name like 0002_c1s1_000451_03.jpg"
        )
    return Sample(name, match[1], int(match[1]), int(match[2]), role)


def read_folders(images: Sequence[str]) -> list[Sample]:
    """Read identities from folders, numbered from 1 in the order of their names.

    Raises:
        DatasetError: images lie outside an identity's folder, two folders deep in the archive bear
            the same name, or only some file names tell a camera.
    """
    folders = {name: PurePosixPath(name).parent for name in images}
    outside = [name for name, folder in folders.items() if not folder.name]
    if outside:
        raise DatasetError(
            f"'{outside[0]}' lies in no identity's folder; expected <identity>/<image>, "
            f"or Market-1501's {', '.join(MARKET_ROLES)}"
        )
    check_distinct(set(folders.values()))
    identities = {
        identity: i for i, identity in enumerate(sorted({f.name for f in folders.values()}), 1)
    }
    samples = [
        Sample(name, folder.name, identities[folder.name], read_camera(name), "any")
        for name, folder in folders.items()
    ]
    check_cameras(samples)
    return samples


def check_distinct(folders: set[PurePosixPath]) -> None:
    """Refuse two folders of one name, of which nobody can say whether they are one identity."""
    seen: dict[str, PurePosixPath] = {}
    for folder in sorted(folders):
        if folder.name in seen:
            raise DatasetError(
                f"'{seen[folder.name]}' and '{folder}' bear the same name; "
                "give each identity one folder, with a name of its own"
            )
        seen[folder.name] = folder


def read_camera(name: str) -> int:
    """The camera in a file's name, `c3` or `cam3`; NO_CAMERA if there is none."""
    match = CAMERA.search(PurePosixPath(name).name)
    return int(match[1]) if match else NO_CAMERA


def read_moment(name: str) -> int | None:
    """When a camera saw an image, in frames; None if the file's name does not tell.

    Sequences lie `SEQUENCE` frames apart, so that the difference of two moments of a camera says
    how far apart they are whichever they belong to.
    """
    if cut := CUT_OUT.search(name):
        return int(cut[1])
    match = FRAME.search(PurePosixPath(name).name)
    return SEQUENCE * int(match[1] or 0) + int(match[2]) if match else None


def read_moments(names: Sequence[str]) -> list[int] | None:
    """The moment of each image; None unless all names tell it."""
    moments = [moment for moment in map(read_moment, names) if moment is not None]
    return moments if len(moments) == len(names) else None


def check_cameras(samples: Sequence[Sample]) -> None:
    """Refuse a dataset of which only some names tell a camera: the protocol needs all or none."""
    without = [sample.name for sample in samples if sample.camid == NO_CAMERA]
    if without and len(without) < len(samples):
        raise DatasetError(
            f"'{without[0]}' tells no camera, while {len(samples) - len(without)} of "
            f"{len(samples)} names do; write the camera into all of them (c3_…) or into none"
        )
