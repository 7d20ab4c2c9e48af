"""Layout `datumaro`: Datumaro's own format, which CVAT exports as "Datumaro 1.0".

    annotations/<subset>.json     `categories`, and `items` with `annotations`
    images/<subset>/<item>.jpg    the frames, or images/<item>.jpg

Annotations of type `bbox` whose attributes have a `track_id` are boxes of that track. The folder of
an item's frame is its sequence, and the number in its name orders the frames. Labels count as
classes 1, 2, … in the order in which `categories` lists them, as in the `labels.txt` of CVAT's "MOT
1.1". What is `occluded` has a visible share of 0, as in CVAT's MOT files, and what is `outside` is
not there.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video.annotation import of_rows
from deepsort_reid.data.video.assembly import Material, assemble, read_texts, with_detections
from deepsort_reid.data.video.documents import Json, parse_json
from deepsort_reid.data.video.sequence import Found, Notes, by_folder, distinct_names, in_order

ANNOTATIONS, FRAMES = "annotations", "images"
Rows = dict[str, list[tuple[float, ...]]]  # image -> its boxes without line and frame


def recognises(files: Members) -> bool:
    """Whether JSON lies in `annotations`, with images in or below `images` beside that."""
    return bool(documents(files))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def documents(files: Members) -> dict[str, str]:
    """Each file of annotations -> the folder `images` beside its own, with a `/` at its end."""
    found = {}
    for name in files.names:
        path = PurePosixPath(name) if name.endswith(".json") else None
        if path is not None and path.parent.name == ANNOTATIONS:
            images = f"{path.parent.parent / FRAMES}/"
            if any(image.startswith(images) for image in files.images):
                found[name] = images
    return found


def find(files: Members) -> Found:
    """Read all files of annotations, and find the sequences.

    Raises:
        SourceError: a file is none of Datumaro's, or an item's image is not there.
    """
    label = files.archive.label
    places = documents(files)
    rows: Rows = {}
    labels: dict[int, str] = {}
    notes = Notes()
    images = {str(PurePosixPath(name).with_suffix("")): name for name in reversed(files.images)}
    for name, data in read_texts(files.archive, places.keys()).items():
        document = parse_json(data, f"{label}: {name}")
        names = labels_of(document)
        if labels and names and names != labels:
            raise SourceError(f"{document.where}: other labels than in the other subsets")
        labels = names or labels
        subset = PurePosixPath(name).stem
        for item in document.need("items").items("item"):
            image = image_of(item, subset, places[name], files, images)
            rows[image] = rows_of(item, len(labels), notes, subset)
    return found(files, rows, labels, notes, set(places))


def found(
    files: Members, rows: Rows, labels: dict[int, str], notes: Notes, texts: set[str]
) -> Found:
    """The sequences of images that lie in one folder each."""
    label = files.archive.label
    folders = {
        folder: images
        for folder, images in by_folder(files.images).items()
        if any(image in rows for image in images)
    }
    names = distinct_names(folders, label)
    detections, used = with_detections(files.archive, files.names, names.values())
    materials = []
    for folder, images in folders.items():
        frames = in_order(images, f"{label}: {folder}")
        boxes = [
            (place, number, *row)
            for number, image in enumerate(frames.images, start=1)
            for place, row in enumerate(rows.get(image, ()), start=1)
        ]
        where = f"{label}: annotations of '{folder}'"
        materials.append(
            Material(names[folder], frames, of_rows(boxes, where, unit="box"),
                     detections.get(names[folder]), class_names=labels, role=part_of(folder),
                     first=1, apart=True)
        )  # fmt: skip
    return Found(tuple(assemble(files.archive, materials, notes)), notes, {*texts, *used})


def labels_of(document: Json) -> dict[int, str]:
    """The names of the classes, by number from 1.

    Raises:
        SourceError: the file is none of Datumaro's.
    """
    if not isinstance(document.value, dict) or "items" not in document.value:
        raise SourceError(
            f"{document.where}: is no JSON of Datumaro's ('items', 'categories'); export tracks as "
            "'MOT 1.1', 'CVAT for video 1.1' or 'Datumaro 1.0'"
        )
    categories = document.get("categories")
    label = categories.get("label") if categories is not None else None
    known = label.need("labels").items("label") if label is not None else []
    return {number: one.need("name").text() for number, one in enumerate(known, start=1)}


def image_of(
    item: Json, subset: str, folder: str, files: Members, images: Mapping[str, str]
) -> str:
    """The member that is an item's image.

    Args:
        item: names it by its path, or by its id, which has no suffix.
        subset: the name of the item's file.
        folder: the folder of images.
        files: all members.
        images: an image's name without suffix -> its name.

    Raises:
        SourceError: there is none.
    """
    identity = item.need("id").text()
    image = item.get("image", "media")
    path = image.get("path") if image is not None else None
    names = [path.text()] if path is not None and path.value else []
    for place in (f"{folder}{subset}/", folder):
        for name in names:
            if place + name in files.known:
                return place + name
        if place + identity in images:
            return images[place + identity]
    raise SourceError(
        f"{item.where}: the image of '{identity[:80]}' is not in '{folder}'; export with the "
        "images, or put them there"
    )


def rows_of(item: Json, classes: int, notes: Notes, subset: str) -> list[tuple[float, ...]]:
    """The boxes of an item that belong to tracks, as `of_rows` takes them, without line and frame.

    Raises:
        SourceError: one of them is none.
    """
    rows: list[tuple[float, ...]] = []
    skipped: dict[str, int] = defaultdict(int)
    annotations = item.get("annotations")
    for one in annotations.items("annotation") if annotations is not None else ():
        attributes = one.get("attributes") or Json({}, one.where)
        said = attributes.get("track_id")
        if one.need("type").text() != "bbox" or said is None:
            skipped["annotations that are no boxes of a track are left out"] += 1
            continue
        if is_set(attributes, "outside"):
            continue
        sides = one.need("bbox").items("side")
        if len(sides) != 4:
            one.fail("a 'bbox' of left, top, width and height")
        kind = one.need("label_id").whole() + 1
        if not 1 <= kind <= classes:
            raise SourceError(f"{one.where}: label_id {kind - 1}; 'categories' lists {classes}")
        hidden = is_set(attributes, "occluded")
        rows.append((said.whole(), *(side.real() for side in sides), 1, kind, 0 if hidden else 1))
    for what, number in skipped.items():
        notes.said[what][subset] = notes.said[what].get(subset, 0) + number
    return rows


def is_set(attributes: Json, name: str) -> bool:
    """Whether a flag is there and true."""
    value = attributes.get(name)
    return value is not None and value.flag()
