"""Layout `kitti`: KITTI's tracking benchmark, and the masks of KITTI MOTS.

Geiger et al., "Are We Ready for Autonomous Driving? The KITTI Vision Benchmark Suite", CVPR 2012:
21 videos to train with (8,008 frames) and 29 without annotations (11,095), at 10 frames a second.

    training/image_02/0000/000000.png   the frames, counted from 0
    training/label_02/0000.txt          frame, track, type, truncated, occluded, alpha, left, top,
                                        right, bottom, seven numbers in space, and a score or not
    training/det_02/0000.txt            detections, likewise
    instances_txt/0000.txt              masks of MOTS, instead of label_02

Types count as the classes 1 Pedestrian, 2 Person_sitting (or Person), 3 Cyclist, 4 Car, 5 Van, 6
Truck, 7 Tram, 8 Misc. DontCare is a region in which nobody has annotated anything. An occlusion of
0, 1 or 2 counts as a visible share of 1, 0.75 or 0.25, and 3 (unknown) as 1. In MOTS the classes
are 1 car and 2 pedestrian.
"""

from collections import Counter
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError, nearest_hint
from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video import mots
from deepsort_reid.data.video.annotation import Annotation, of_rows
from deepsort_reid.data.video.assembly import Material, assemble, read_texts, with_detections
from deepsort_reid.data.video.sequence import REGION, Found, Notes, by_folder, in_order
from deepsort_reid.data.video.tables import decoded, finite, whole, whole_lines

FRAMES, LABELS, DETECTIONS, MASKS = "image_02", "label_02", "det_02", "instances_txt"
NEEDLESS = ("calib", "oxts", "velodyne", "image_03", "instances", "label_03")
FRAME_RATE = 10.0
TYPES = ("Pedestrian", "Person_sitting", "Cyclist", "Car", "Van", "Truck", "Tram", "Misc")
NUMBERS = {name: number for number, name in enumerate(TYPES, start=1)}
NUMBERS |= {"Person": NUMBERS["Person_sitting"], "DontCare": REGION}
DISTRACTORS = (NUMBERS["Person_sitting"], NUMBERS["Van"])
SEEN = {0: 1.0, 1: 0.75, 2: 0.25, 3: 1.0, -1: 1.0}  # occlusion -> the visible share
EXPECTED = "frame, track, type, truncated, occluded, alpha, left, top, right, bottom"
PLAIN, SCORED = 17, 18  # fields of a line


def recognises(files: Members) -> bool:
    """Whether images lie in folders of `image_02`, with a text for one of them or none at all."""
    return bool(frame_folders(files))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def frame_folders(files: Members) -> dict[str, list[str]]:
    """The folders of frames -> their images."""
    folders = by_folder(name for name in files.images if f"{FRAMES}/" in name)
    return {f: n for f, n in folders.items() if PurePosixPath(f).parent.name == FRAMES}


def names_of(folders: dict[str, list[str]]) -> dict[str, str]:
    """A sequence's name by its folder: `0000`, or `training-0000` where there are two of them.

    Raises:
        SourceError: two bear one name all the same.
    """
    paths = {folder: PurePosixPath(folder) for folder in folders}
    often = Counter(path.name for path in paths.values())
    names = {
        folder: path.name if often[path.name] == 1 else f"{path.parent.parent.name}-{path.name}"
        for folder, path in paths.items()
    }
    twice = [folder for folder, name in names.items() if list(names.values()).count(name) > 1]
    if twice:
        raise SourceError(f"'{twice[0]}' and '{twice[1]}' bear the same name; keep one of them")
    return names


def find(files: Members) -> Found:
    """Find the sequences, and read their annotations.

    Raises:
        SourceError: a frame is missing, or a line does not fit.
    """
    label = files.archive.label
    folders = frame_folders(files)
    names = names_of(folders)
    detections, used = with_detections(files.archive, files.names, names.values())
    texts = {
        folder: {kind: beside(folder, kind, files) for kind in (LABELS, MASKS, DETECTIONS)}
        for folder in folders
    }
    used = {name for of_one in texts.values() for name in of_one.values() if name} | set(used)
    data = read_texts(files.archive, used)
    materials = []
    for folder, images in folders.items():
        of_one = {kind: name for kind, name in texts[folder].items() if name}
        read = {
            kind: (mots.read_masks if kind == MASKS else read_labels)(
                data[name], f"{label}: {name}"
            )
            for kind, name in of_one.items()
        }
        own = detections.get(names[folder])
        frames = in_order(images, f"{label}: {folder}")
        masks = LABELS not in read and MASKS in read
        materials.append(
            Material(
                names[folder], frames, read.get(LABELS) or read.get(MASKS),
                own or read.get(DETECTIONS), FRAME_RATE,
                mots.CLASSES if masks else dict(enumerate(TYPES, start=1)),
                () if masks else DISTRACTORS, part_of(folder), frames.first, apart=own is not None,
            )
        )  # fmt: skip
    notes = Notes()
    needless = {n for n in files.names if not set(PurePosixPath(n).parts[:-1]).isdisjoint(NEEDLESS)}
    return Found(tuple(assemble(files.archive, materials, notes)), notes, used,
                 {"calibrations, points and right images": needless})  # fmt: skip


def beside(folder: str, kind: str, files: Members) -> str | None:
    """The text of a kind that belongs to a folder of frames, if there is one."""
    path = PurePosixPath(folder)
    top = path.parent.parent
    places = (top / kind, top.parent / kind)  # instances_txt lies beside training as a rule
    known = (str(place / f"{path.name}.txt") for place in places)
    return next((name for name in known if name in files.known), None)


def read_labels(data: bytes, where: str) -> Annotation:
    """Read a file of labels or detections.

    Raises:
        SourceError: a line is none of KITTI's.
    """
    rows = [
        row_of(line, number, where)
        for number, line in whole_lines(decoded(data, where), where, EXPECTED)
    ]
    return of_rows(rows, where)


def row_of(line: str, number: int, where: str) -> tuple[float, ...]:
    """One line, as `of_rows` takes it.

    Raises:
        SourceError: it is none of KITTI's.
    """
    here = f"{where}, line {number}"
    fields = line.split()
    if len(fields) not in (PLAIN, SCORED):
        raise SourceError(
            f"{here}: {len(fields)} fields between spaces; expected {PLAIN} or {SCORED}: "
            f"{EXPECTED}, …"
        )
    kind = NUMBERS.get(fields[2])
    if kind is None:
        raise SourceError(
            f"{here}: no type {fields[2][:50]!r}; {nearest_hint(fields[2], list(NUMBERS))}"
        )
    occluded = whole(fields[4], "occluded", here)
    if occluded not in SEEN:
        raise SourceError(f"{here}: occluded is {occluded}; expected 0 to 3, or -1")
    names = ("left", "top", "right", "bottom")
    left, top, right, bottom = (
        finite(field, name, here) for field, name in zip(fields[6:10], names, strict=True)
    )
    track = whole(fields[1], "track", here)
    sure = finite(fields[17], "the score", here) if len(fields) == SCORED else 1.0
    ignored = kind == REGION
    return (
        number, whole(fields[0], "frame", here), -1 if ignored else track, left, top, right - left,
        bottom - top, 0.0 if ignored else sure, kind, SEEN[occluded],
    )  # fmt: skip
