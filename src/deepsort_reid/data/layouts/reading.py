"""What a layout has read of an archive, and the check that nothing was passed over in silence."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.images import is_image
from deepsort_reid.data.layouts.files import Files, suffix
from deepsort_reid.data.samples import JUNK, NO_CAMERA, Sample
from deepsort_reid.sources.zip_tar import is_litter

logger = logging.getLogger(__name__)

HARMLESS = re.compile(r"(readme|licen[sc]e|copying|changelog|citation|notice)(?![_ -]?plate)")
HARMLESS_SUFFIXES = {".md", ".rst", ".pdf", ".html", ".htm", ".url", ".log", ".bib"}
TABLES = {".csv", ".tsv"}
DATA = TABLES | {".json", ".xml", ".mat", ".npy", ".pkl"}  # no readme, whatever its name
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".m4v", ".mpg", ".mpeg"}


@dataclass(frozen=True)
class Reading:
    """What a layout makes of an archive."""

    samples: Sequence[Sample]
    identities: str  # what tells the identity, with an example: "folder ('amy' of 'amy/1.jpg')"
    cameras: str  # what tells the camera, with an example; "unknown"
    used: Collection[str] = ()  # members that were read and are no images: lists, annotations
    # Members that the layout knows and does not need, by the reason: {"gt_bbox": [...]}
    passed_over: Mapping[str, Collection[str]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)  # other things by the reason: boxes
    published: Mapping[str, int] = field(default_factory=dict)  # role -> images as published
    in_time: bool = False  # see Dataset
    columns: tuple[str, ...] = ()  # see Dataset
    notes: Sequence[str] = ()  # what else is to be known: "'test' serves as 'val'"


def account(
    files: Files, layout: str, reading: Reading, others: Callable[[], Sequence[str]]
) -> dict[str, int]:
    """Count what was left out, by the reason, and refuse members that nothing explains.

    Whoever trains on a dataset of which a part was not understood trusts every number after it.

    Args:
        files: all members.
        layout: the layout that has read them.
        reading: what it has made of them.
        others: names the layouts that read all of the archive; asked only for the message.

    Raises:
        DatasetError: a file is neither an image that is used, nor known to the layout, nor
            harmless.
    """
    counts = Counter({reason: number for reason, number in reading.left_out.items() if number})
    rest = files.known - {sample.member for sample in reading.samples} - set(reading.used)
    for reason, names in reading.passed_over.items():
        of_reason = rest & set(names)
        counts[reason] += len(of_reason)
        rest -= of_reason
    strange = sorted(name for name in rest if not is_harmless(name))
    if strange:
        raise DatasetError(refusal(strange, layout, files, others()))
    counts["readme and the like"] += len(rest)
    return {reason: number for reason, number in counts.items() if number}


def is_harmless(name: str) -> bool:
    """Whether a file beside images says nothing of them."""
    path = PurePosixPath(name.lower())
    named = HARMLESS.match(path.name) and path.suffix not in DATA and not is_image(name)
    return bool(named) or path.suffix in HARMLESS_SUFFIXES or is_litter(name)


def refusal(strange: Sequence[str], layout: str, files: Files, others: Sequence[str]) -> str:
    """The line that refuses files which the layout does not explain."""
    name = min(strange, key=lambda name: (is_image(name), name))
    more = f" (and {len(strange) - 1:,} more such files)" if len(strange) > 1 else ""
    readers = f"; {files.key}layout: {' or '.join(others)} reads it" if others else ""
    begin = f"layout '{layout}' does not explain '{name}'{more}"
    if is_image(name):
        return (
            f"{begin}; if these images are another dataset, name its folder as a source of its own "
            f"(dataset.source may be a list); else take them out of the source{readers}"
        )
    if suffix(name) in TABLES and files.source.table is not None:
        return (
            f"{begin}; {files.key}table is {files.source.table}: take the other out of the source"
        )
    if suffix(name) in TABLES:
        return (
            f"{begin}; if it says who is on which image, set {files.key}layout: table and "
            f"{files.key}table: {name}; else take it out of the source"
        )
    if suffix(name) in VIDEOS:
        return f"{begin}; a video has to be cut into images of identities first: docs/video.md"
    if suffix(name) in ARCHIVES:
        return f"{begin}; unpack it if its images belong to the dataset, else take it out"
    return f"{begin}{readers}; take it out of the source if it says nothing of the images"


# What is said


def describe(layout: str, reading: Reading, left_out: Mapping[str, int]) -> dict[str, Any]:
    """What was understood, as it stands in reports/split.json."""
    found = [sample for sample in reading.samples if sample.is_somebody]
    cameras = {sample.camid for sample in reading.samples} - {NO_CAMERA}
    roles = Counter(str(sample.role) for sample in reading.samples)
    junk = sum(sample.pid == JUNK for sample in reading.samples)
    return {
        "layout": layout,
        "images": len(reading.samples),
        "images_by_role": dict(sorted(roles.items())),
        "identities": len({sample.pid for sample in found}),
        "identity_is": reading.identities,
        "cameras": len(cameras),
        "camera_is": reading.cameras,
        "junk": junk,
        "notes": list(reading.notes),
        "left_out": dict(left_out),
        "published": dict(reading.published),
    }


def in_one_line(understood: Mapping[str, Any]) -> str:
    """What was understood, for the log."""
    roles = {role: n for role, n in understood["images_by_role"].items() if role != "any"}
    parts = f" ({', '.join(f'{role} {number:,}' for role, number in roles.items())})"
    cameras = understood["cameras"]
    left = ", ".join(f"{number:,} {reason}" for reason, number in understood["left_out"].items())
    return (
        f"layout {understood['layout']}: {counted(understood['images'], 'image')}"
        f"{parts if roles else ''}; "
        f"{counted(understood['identities'], 'identity')} by {understood['identity_is']}; "
        + (
            f"{counted(cameras, 'camera')} by {understood['camera_is']}"
            if cameras
            else "cameras unknown"
        )
        + (f"; {understood['junk']:,} junk images (identity -1)" if understood["junk"] else "")
        + "".join(f"; {note}" for note in understood["notes"])
        + (f"; left out: {left}" if left else "")
    )


def counted(number: int, what: str) -> str:
    """A number of things: `1 camera`, `4 identities`."""
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what[:-1]}ies" if what.endswith("y") else f"{number:,} {what}s"


def differences(understood: Mapping[str, Any]) -> str:
    """How the counts differ from the published ones, as a text; '' if they do not."""
    found = understood["images_by_role"]
    return ", ".join(
        f"{'images' if role == 'any' else role} {found.get(role, 0):,} of {number:,}"
        for role, number in understood["published"].items()
        if found.get(role, 0) != number
    )
