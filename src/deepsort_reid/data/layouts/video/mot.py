"""Layout `mot`: MOTChallenge's folders, which annotation tools also write.

A sequence is a folder, at any depth (Milan et al., "MOT16: A Benchmark for Multi-Object Tracking",
arXiv:1603.00831). MOT15, MOT16, MOT17, MOT20, DanceTrack, SportsMOT and CVAT's "MOT 1.1" are such:

    <name>/img1/000001.jpg   the frames: in the folder that seqinfo.ini calls imDir, else in img1,
                             else beside gt, else in the one folder there that holds images
    <name>/gt/gt.txt         boxes annotated by people, or <name>/gt.txt; may be missing
    <name>/gt/labels.txt     the names of classes 1, 2, … as CVAT writes them; may be missing
    <name>/det/det.txt       boxes found by a detector, or <name>/det.txt; may be missing
    <name>/seqinfo.ini       frameRate, imDir and imExt; may be missing

CVAT counts the frames of a table from 1 whatever the files are called: where there is a labels.txt,
and the files are named as `frame_000000.PNG` is, that holds.

MOTS20 has masks in gt.txt, `frame id class height width rle`, whose boxes are taken. Where a file
has classes and no labels.txt, they are MOTChallenge's: 1 pedestrian, 2 person on vehicle, 3 car,
4 bicycle, 5 motorbike, 6 non-motorised vehicle, 7 static person, 8 distractor, 9 to 11 occluders,
12 reflection, 13 crowd.
"""

import configparser
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video import mots
from deepsort_reid.data.video.annotation import Annotation
from deepsort_reid.data.video.assembly import Material, assemble, read_texts
from deepsort_reid.data.video.mot_table import read_boxes
from deepsort_reid.data.video.sequence import (
    FRAME_RATE,
    Found,
    Notes,
    by_folder,
    distinct_names,
    in_order,
    prefix,
)
from deepsort_reid.data.video.tables import NUMBER, decoded

FRAMES = "img1"
TABLES = {"gt": "gt.txt", "det": "det.txt"}  # a folder of the sequence -> the table in it
INFO, LABELS = "seqinfo.ini", "labels.txt"
DISTRACTORS = (2, 7, 8, 12)  # person on vehicle, static person, distractor, reflection
LISTS = ("seqmaps", "splits_txt")  # folders of lists of sequences
MAX_INFO = 4096  # bytes of seqinfo.ini; configparser's time grows with their square


def recognises(files: Members) -> bool:
    """Whether there is a table or a description of a sequence, or a folder img1 with images."""
    return bool(files.named(INFO, *TABLES.values())) or any(map(is_frame, files.images))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def is_frame(name: str) -> bool:
    """Whether an image lies in a folder img1."""
    return f"{FRAMES}/" in name and PurePosixPath(name).parent.name == FRAMES


def find(files: Members) -> Found:
    """Find the sequences, and read all their files but the frames.

    Raises:
        SourceError: there is none, two bear one name, a frame is missing, or a file cannot be
            read: its name, and the number of the line, are in the error.
    """
    folders = {folder: texts_of(folder, files) for folder in sequence_folders(files)}
    if not folders:
        raise SourceError(
            f"{files.archive.label}: holds no sequence; expected <name>/img1/000001.jpg and what "
            "follows, with <name>/gt/gt.txt or <name>/det/det.txt beside img1"
        )
    wanted = {member for texts in folders.values() for member in texts.values()}
    data = read_texts(files.archive, wanted)
    names = distinct_names(folders, files.archive.label)
    images = by_folder(files.images)
    materials = [
        material(files, folder, names[folder], texts, data, images, folders)
        for folder, texts in folders.items()
    ]
    notes = Notes()
    lists = [n for n in files.names if "seqmap" in n or PurePosixPath(n).parent.name in LISTS]
    return Found(
        tuple(assemble(files.archive, materials, notes)),
        notes,
        used=wanted,
        passed_over={"further tables of sequences": further(folders, files) - wanted,
                     "lists of sequences": lists},
    )  # fmt: skip


def sequence_folders(files: Members) -> list[str]:
    """The folders that are sequences, by the files that lie in them; sorted."""
    found = {str(PurePosixPath(name).parent.parent) for name in files.images if is_frame(name)}
    for name in files.named(INFO, *TABLES.values()):
        path = PurePosixPath(name)
        inside = TABLES.get(path.parent.name) == path.name
        found.add(str(path.parent.parent if inside else path.parent))
    return sorted(found)


def texts_of(folder: str, files: Members) -> dict[str, str]:
    """What a sequence's texts are -> their members: `gt`, `det`, `info` and `labels`.

    Raises:
        SourceError: a table is there twice.
    """
    begin = prefix(folder)
    found = {"info": begin + INFO, "labels": f"{begin}gt/{LABELS}"}
    for kind, table in TABLES.items():
        places = [name for name in (f"{begin}{kind}/{table}", begin + table) if name in files.known]
        if len(places) > 1:
            raise SourceError(
                f"{files.archive.label}: '{places[0]}' and '{places[1]}' are both tables of one "
                "sequence; keep one of them"
            )
        found[kind] = places[0] if places else begin + table
    return {kind: name for kind, name in found.items() if name in files.known}


def further(folders: Collection[str], files: Members) -> set[str]:
    """Tables beside gt.txt and det.txt, such as gt_train_half.txt, which are not needed."""
    inside = {f"{prefix(folder)}{kind}" for folder in folders for kind in TABLES}
    return {
        name
        for name in files.names
        if name.endswith(".txt") and str(PurePosixPath(name).parent) in inside
    }


def material(
    files: Members,
    folder: str,
    name: str,
    texts: Mapping[str, str],
    data: Mapping[str, bytes],
    images: Mapping[str, list[str]],
    folders: Collection[str],
) -> Material:
    """What the files of one sequence tell."""
    label = files.archive.label
    where = {kind: f"{label}: {member}" for kind, member in texts.items()}
    info = Info()
    if "info" in texts:
        info = read_info(data[texts["info"]], where["info"])
    place = frames_folder(folder, info, images, folders, label)
    frames = in_order(with_suffix(images[place], info, label), f"{label}: {place}")
    labels: dict[int, str] = {}
    if "labels" in texts:
        lines = decoded(data[texts["labels"]], where["labels"]).split("\n")
        labels = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    gt = read_truth(data[texts["gt"]], where["gt"]) if "gt" in texts else None
    det = read_boxes(data[texts["det"]], where["det"], truth=False) if "det" in texts else None
    names = labels or (gt.class_names if gt is not None else {})
    plain = not names and (gt is None or not (gt.boxes.classes == 0).any())
    return Material(
        name, frames, gt, det, info.frame_rate, names, DISTRACTORS if plain else (),
        part_of(folder), 1 if "labels" in texts and frames.named else None,
    )  # fmt: skip


def read_truth(data: bytes, where: str) -> Annotation:
    """The boxes of a gt.txt, or of the masks in it."""
    if mots.are_masks(data):
        return mots.read_masks(data, where)
    return read_boxes(data, where, truth=True)


# Where the frames are


def frames_folder(
    folder: str,
    info: "Info",
    images: Mapping[str, list[str]],
    folders: Collection[str],
    label: str,
) -> str:
    """The folder that a sequence's frames lie in.

    Raises:
        SourceError: there is none, or nobody can tell which.
    """
    begin = prefix(folder)
    if info.folder is not None:
        stated = str(PurePosixPath(begin + info.folder))
        if stated not in images:
            raise SourceError(
                f"{label}: {begin}{INFO}: imDir={info.folder}, but '{stated}' holds no images; "
                "name the folder of the frames"
            )
        return stated
    for place in (f"{begin}{FRAMES}", folder):
        if place in images:
            return place
    below = [
        place
        for place in images
        if str(PurePosixPath(place).parent) == folder and place not in folders
    ]
    if len(below) != 1:
        what = f"images in {len(below)} folders" if below else "no images"
        raise SourceError(
            f"{label}: the sequence '{folder}' has {what}; expected its frames in "
            f"{begin}{FRAMES}, or in the folder that imDir in {begin}{INFO} names"
        )
    return below[0]


def with_suffix(images: Collection[str], info: "Info", label: str) -> list[str]:
    """The frames among the images of a folder: those with the suffix of imExt, if it is stated.

    Raises:
        SourceError: there is none.
    """
    if info.suffix is None:
        return list(images)
    found = [name for name in images if name.lower().endswith(info.suffix.lower())]
    if not found:
        raise SourceError(
            f"{label}: {INFO} says imExt={info.suffix}, but the frames are named as "
            f"'{min(images)}' is; correct it"
        )
    return found


# seqinfo.ini


@dataclass(frozen=True)
class Info:
    """What a seqinfo.ini tells."""

    frame_rate: float = FRAME_RATE  # frames a second
    folder: str | None = None  # of the frames, within the sequence's
    suffix: str | None = None  # of the frames' files, with its dot


def read_info(data: bytes, where: str) -> Info:
    """Read a seqinfo.ini.

    Raises:
        SourceError: it cannot be read, tells no frame rate, or a folder outside the sequence.
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
    folder = parser.get("Sequence", "imDir", fallback="").strip().replace("\\", "/").strip("/")
    suffix = parser.get("Sequence", "imExt", fallback="").strip()
    if ".." in PurePosixPath(folder).parts:
        raise SourceError(f"{where}: imDir={folder} must be a folder within the sequence's")
    dotted = suffix if suffix.startswith(".") or not suffix else f".{suffix}"
    return Info(rate, folder or None, dotted or None)
