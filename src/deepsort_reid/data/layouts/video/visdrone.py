"""Layout `visdrone`: VisDrone's multi-object tracking.

Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 44, 2022: 56 videos to train with
(24,201 frames), 7 to validate with (2,819) and 17 of test-dev (6,635).

    sequences/<name>/0000001.jpg   the frames, counted from 1
    annotations/<name>.txt         frame, target, left, top, width, height, score, category,
                                   truncation, occlusion

Categories: 0 ignored region, 1 pedestrian, 2 people, 3 bicycle, 4 car, 5 van, 6 truck, 7 tricycle,
8 awning-tricycle, 9 bus, 10 motor, 11 others. The score is 0 where a box is to be ignored. The
occlusion 0, 1 or 2 counts as a visible share of 1, 0.75 or 0.25.
"""

from pathlib import PurePosixPath

from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video.annotation import Annotation
from deepsort_reid.data.video.assembly import (
    Material,
    assemble,
    detections_of,
    read_texts,
    with_detections,
)
from deepsort_reid.data.video.mot_table import (
    VISDRONE,
    VISDRONE_NAMES,
    annotation,
    visdrone_columns,
)
from deepsort_reid.data.video.sequence import Found, Notes, by_folder, distinct_names, in_order
from deepsort_reid.data.video.tables import numbers

FRAMES, ANNOTATIONS = "sequences", "annotations"


def recognises(files: Members) -> bool:
    """Whether a folder of frames in `sequences` has its annotations, or detections."""
    folders = frame_folders(files)
    names = {PurePosixPath(folder).name for folder in folders}
    annotated = any(annotations_of(folder) in files.known for folder in folders)
    return annotated or bool(names and detections_of(files.names, names))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def frame_folders(files: Members) -> dict[str, list[str]]:
    """The folders of frames -> their images."""
    folders = by_folder(name for name in files.images if f"{FRAMES}/" in name)
    return {f: n for f, n in folders.items() if PurePosixPath(f).parent.name == FRAMES}


def annotations_of(folder: str) -> str:
    """The file that belongs to a folder of frames."""
    path = PurePosixPath(folder)
    return str(path.parent.parent / ANNOTATIONS / f"{path.name}.txt")


def find(files: Members) -> Found:
    """Find the sequences, and read their annotations.

    Raises:
        SourceError: two sequences bear one name, a frame is missing, or a line does not fit.
    """
    label = files.archive.label
    folders = frame_folders(files)
    texts = {annotations_of(folder) for folder in folders} & files.known
    data = read_texts(files.archive, texts)
    names = distinct_names(folders, label)
    detections, more = with_detections(files.archive, files.names, names.values())
    materials = []
    for folder, images in folders.items():
        text, name = annotations_of(folder), names[folder]
        truth = read_boxes(data[text], f"{label}: {text}") if text in data else None
        materials.append(
            Material(name, in_order(images, f"{label}: {folder}"), truth, detections.get(name),
                     class_names=VISDRONE_NAMES, role=part_of(folder), apart=True)
        )  # fmt: skip
    notes = Notes()
    return Found(tuple(assemble(files.archive, materials, notes)), notes, texts | set(more))


def read_boxes(data: bytes, where: str) -> Annotation:
    """Read one file of annotations.

    Raises:
        SourceError: a line is none of VisDrone's.
    """
    table = numbers(data, where, VISDRONE)
    return annotation(table, *visdrone_columns(table), origin=0)
