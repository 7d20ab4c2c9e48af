"""Layout `bdd100k`: BDD100K's box tracking, and its MOTS as run-length encoded masks.

Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning", CVPR 2020:
1,400 videos to train with, 200 to validate with and 400 without annotations, at 5 frames a second.

    images/track/train/<video>/<video>-0000001.jpg
    labels/box_track_20/train/<video>.json            a list of frames, or an object with `frames`

A frame has `name`, the name of its image, and `labels` with `id`, `category`, and `box2d` (x1, y1,
x2, y2) or `rle`. Categories count as the classes 1 pedestrian, 2 rider, 3 car, 4 truck, 5 bus, 6
train, 7 motorcycle, 8 bicycle, 9 other person, 10 trailer, 11 other vehicle. A `crowd` is a region
in which nobody is told apart. What is `occluded` has a visible share of 0.5: the file does not say
how much is hidden.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError, nearest_hint
from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video import mots
from deepsort_reid.data.video.annotation import Annotation, of_rows
from deepsort_reid.data.video.assembly import Material, assemble, read_texts, with_detections
from deepsort_reid.data.video.documents import Json, parse_json
from deepsort_reid.data.video.sequence import (
    REGION,
    Found,
    Notes,
    by_folder,
    distinct_names,
    in_order,
)

FRAME_RATE = 5.0
CATEGORIES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "other person",
    "trailer", "other vehicle",
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(CATEGORIES, start=1)}
NUMBERS |= {"person": 1, "motor": 7, "bike": 8}  # as older releases call them
DISTRACTORS = (NUMBERS["other person"], NUMBERS["trailer"], NUMBERS["other vehicle"])
HALF = 0.5  # the visible share of what is occluded


def recognises(files: Members) -> bool:
    """Whether a JSON bears the name of a folder of images."""
    return bool(labels_of(files))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def frame_folders(files: Members) -> dict[str, list[str]]:
    """The folders of videos -> their images: those with a JSON, or whose images bear its name."""
    labelled = {PurePosixPath(name).stem for name in files.names if name.endswith(".json")}
    return {
        folder: images
        for folder, images in by_folder(files.images).items()
        if (name := PurePosixPath(folder).name) in labelled
        or all(PurePosixPath(image).name.startswith(f"{name}-") for image in images)
    }


def labels_of(files: Members) -> dict[str, list[str]]:
    """The folder of frames -> the JSON that bears its name."""
    found: dict[str, list[str]] = defaultdict(list)
    documents = [name for name in files.names if name.endswith(".json")]
    folders = {PurePosixPath(f).name: f for f in frame_folders(files)} if documents else {}
    for name in documents:
        if (stem := PurePosixPath(name).stem) in folders:
            found[folders[stem]].append(name)
    return found


def find(files: Members) -> Found:
    """Find the videos, and read their labels.

    Raises:
        SourceError: two videos bear one name, a frame is missing, or a label does not fit.
    """
    label = files.archive.label
    folders, several = frame_folders(files), labels_of(files)
    twice = next((names for names in several.values() if len(names) > 1), None)
    if twice:
        raise SourceError(
            f"{label}: '{twice[0]}' and '{twice[1]}' label the same video; keep boxes or masks"
        )
    texts = {folder: only for folder, (only,) in several.items()}
    names = distinct_names(folders, label)
    detections, used = with_detections(files.archive, files.names, names.values())
    data = read_texts(files.archive, set(texts.values()))
    materials = []
    for folder, images in folders.items():
        frames = in_order(images, f"{label}: {folder}")
        truth = None
        if folder in texts:
            where = f"{label}: {texts[folder]}"
            truth = read_labels(data[texts[folder]], where, frames.images)
        materials.append(
            Material(names[folder], frames, truth, detections.get(names[folder]), FRAME_RATE,
                     dict(enumerate(CATEGORIES, start=1)), DISTRACTORS, part_of(folder),
                     first=1, apart=True)
        )  # fmt: skip
    notes = Notes()
    return Found(tuple(assemble(files.archive, materials, notes)), notes, {*texts.values(), *used})


def read_labels(data: bytes, where: str, images: Sequence[str]) -> Annotation:
    """The boxes of a video, with frames counted from 1 and numbers for identities.

    Raises:
        SourceError: the file is none of BDD100K's, or a frame is not among the images.
    """
    whole = parse_json(data, where)
    frames = whole.need("frames") if isinstance(whole.value, dict) else whole
    places = {PurePosixPath(name).name: number for number, name in enumerate(images, start=1)}
    found: list[tuple[str, tuple[float, ...]]] = []
    for frame in frames.items("frame"):
        name = frame.need("name").text()
        number = places.get(PurePosixPath(name).name)
        if number is None:
            raise SourceError(f"{frame.where}: '{name[:80]}' is not among the frames")
        labels = frame.get("labels")
        for one in labels.items("label") if labels is not None else ():
            identity, row = row_of(one)
            found.append((identity, (number, *row)))
    numbers = numbered([identity for identity, _ in found])
    rows = [
        (place, row[0], -1 if row[-2] == REGION else numbers[identity], *row[1:])
        for place, (identity, row) in enumerate(found, start=1)
    ]
    return of_rows(rows, where, unit="box")


def row_of(label: Json) -> tuple[str, tuple[float, ...]]:
    """A label's id; and left, top, width, height, whether it counts, class and visible share."""
    category = label.need("category").text()
    kind = NUMBERS.get(category)
    if kind is None:
        raise SourceError(
            f"{label.where}: no category {category[:50]!r}; {nearest_hint(category, list(NUMBERS))}"
        )
    box, rle = label.get("box2d"), label.get("rle")
    if box is not None:
        left, top, right, bottom = (box.need(side).real() for side in ("x1", "y1", "x2", "y2"))
        sides = (left, top, right - left, bottom - top)
    elif rle is not None:
        size = rle.need("size").items("side")
        if len(size) != 2:
            rle.fail("a size of two numbers")
        height, width = (side.whole() for side in size)
        sides = mots.box_of(rle.need("counts").text(), height, width, label.where)
    else:
        raise SourceError(f"{label.where}: neither 'box2d' nor 'rle'; expected a box of a track")
    attributes = label.get("attributes")
    said = {
        name: attributes is not None
        and (value := attributes.get(name, name.capitalize())) is not None
        and value.flag()
        for name in ("crowd", "occluded")
    }
    row = (*sides, not said["crowd"], REGION if said["crowd"] else kind,
           HALF if said["occluded"] else 1)  # fmt: skip
    return label.need("id").text(), row


def numbered(identities: Sequence[str]) -> Mapping[str, int]:
    """A number for each identity: the one it is written as, or else counted from 1."""
    known = list(dict.fromkeys(identities))
    if all(text.isascii() and text.isdigit() and len(text) < 16 for text in known):
        numbers = {text: int(text) for text in known}
        if len(set(numbers.values())) == len(numbers):
            return numbers
    counted: dict[str, int] = defaultdict(lambda: len(counted) + 1)
    for text in known:
        counted[text]
    return dict(counted)
