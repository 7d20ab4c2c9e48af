"""Layout `cvat`: the export of CVAT that is called "CVAT for video 1.1".

    annotations.xml             a track for each object, with a box in each frame
    images/frame_000000.PNG     the frames, if the export has them; else put them there yourself

Several such folders are several sequences. A file `<name>.xml` beside a folder `<name>` of frames
serves as well. Labels count as classes 1, 2, … in the order in which the file lists them, as in the
`labels.txt` of CVAT's "MOT 1.1". A box that is `outside` is not there; one that is `occluded` has a
visible share of 0, as CVAT writes it into MOT files. Points are pixels from 0, and frames those of
the video.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.layouts.crops import reading
from deepsort_reid.data.layouts.files import Files, Members
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import part_of
from deepsort_reid.data.video.annotation import Annotation, of_rows
from deepsort_reid.data.video.assembly import Material, assemble, read_texts, with_detections
from deepsort_reid.data.video.documents import parse_xml
from deepsort_reid.data.video.sequence import (
    AT_ROOT,
    Found,
    Frames,
    Notes,
    by_folder,
    in_order,
    prefix,
)
from deepsort_reid.data.video.tables import finite, whole

NAME, FRAMES = "annotations.xml", "images"
SIDES = ("xtl", "ytl", "xbr", "ybr")
SHAPES = {"polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton"}


class Export:
    """What one annotations.xml tells, collected while it is read."""

    def __init__(self, where: str):
        """Name the file in messages as `where`."""
        self.where = where
        self.rows: list[tuple[float, ...]] = []
        self.labels: list[str] = []
        self.meta: dict[str, str] = {}  # size, start_frame, frame_filter
        self.tasks: set[str] = set()
        self.shapes = 0  # that are no boxes
        self.images = False  # whether it is an export of single images
        self.track: tuple[int, str, int] | None = None  # identity, label, line

    def start(self, path: tuple[str, ...], attributes: Mapping[str, str], line: int) -> None:
        """Take what an element's attributes tell."""
        here = f"{self.where}, line {line}"
        if path[0] != "annotations":
            raise SourceError(
                f"{here}: <{path[0][:50]}> is none of CVAT's exports; expected <annotations>"
            )
        name = path[-1]
        if path == ("annotations", "image"):
            self.images = True
        elif path == ("annotations", "track"):
            self.tasks.add(attributes.get("task_id", ""))
            identity = whole(self.attribute(attributes, "id", here), "the track's id", here)
            self.track = (identity, self.attribute(attributes, "label", here), line)
        elif path == ("annotations", "track", "box"):
            self.add(attributes, line)
        elif len(path) == 3 and name in SHAPES and attributes.get("outside") != "1":
            self.shapes += 1

    def end(self, path: tuple[str, ...], text: str) -> None:
        """Take what an element's text tells."""
        if path[-3:] == ("labels", "label", "name") and text not in self.labels:
            self.labels.append(text)
        elif "meta" in path and path[-1] in ("size", "start_frame", "frame_filter"):
            self.meta.setdefault(path[-1], text)

    def attribute(self, attributes: Mapping[str, str], name: str, here: str) -> str:
        """An attribute that must be there."""
        if name not in attributes:
            raise SourceError(f'{here}: an element without {name}="…"')
        return attributes[name]

    def add(self, attributes: Mapping[str, str], line: int) -> None:
        """Take a box, unless it is outside."""
        here = f"{self.where}, line {line}"
        if self.track is None or attributes.get("outside") == "1":
            return
        identity, label, begun = self.track
        if label not in self.labels:
            raise SourceError(
                f"{self.where}, line {begun}: label {label[:50]!r} is not among those that <meta> "
                f"lists ({', '.join(self.labels[:20])})"
            )
        left, top, right, bottom = (
            finite(self.attribute(attributes, side, here), side, here) for side in SIDES
        )
        frame = whole(self.attribute(attributes, "frame", here), "the frame", here)
        hidden = attributes.get("occluded") == "1"
        self.rows.append((line, frame, identity, left, top, right - left, bottom - top, 1,
                          self.labels.index(label) + 1, 0 if hidden else 1))  # fmt: skip

    def annotation(self) -> Annotation:
        """All boxes.

        Raises:
            SourceError: the export is of another kind, or of several tasks.
        """
        if self.images or (self.shapes and not self.rows):
            what = "single images" if self.images else "shapes that are no boxes"
            raise SourceError(
                f"{self.where}: holds {what}; export the task as 'CVAT for video 1.1', with a "
                "track of boxes for each object"
            )
        if len(self.tasks) > 1:
            raise SourceError(
                f"{self.where}: holds {len(self.tasks)} tasks; export each task by itself"
            )
        return of_rows(self.rows, self.where)

    def first(self, frames: Frames) -> int | None:
        """What the tracks call the first frame, where the file says so.

        It does where it counts as many frames as there are: then they begin at `start_frame`.
        """
        size, start = self.meta.get("size", ""), self.meta.get("start_frame", "0")
        if not size.isdecimal() or not start.isdecimal() or self.meta.get("frame_filter"):
            return None
        return int(start[:9]) if int(size[:9]) == len(frames.images) else None


def recognises(files: Members) -> bool:
    """Whether there is an annotations.xml, or a `<name>.xml` beside a folder `<name>` of images."""
    return bool(exports(files))


def read(files: Files) -> Reading:
    """Make a sample of every box to cut; see `crops.reading`."""
    return reading(files, find(files))


def exports(files: Members) -> dict[str, str]:
    """Each export's file -> the folder that its frames lie in or below."""
    documents = [name for name in files.names if name.endswith(".xml")]
    folders = set(by_folder(files.images)) if documents else set()
    found = {}
    for name in documents:
        path = PurePosixPath(name)
        if path.name == NAME:
            found[name] = str(path.parent)
        elif str(path.with_suffix("")) in folders:
            found[name] = str(path.with_suffix(""))
    return found


def find(files: Members) -> Found:
    """Find the exports, and read them.

    Raises:
        SourceError: an export is no such file, or its frames are not there, or do not fit.
    """
    label = files.archive.label
    places = exports(files)
    data = read_texts(files.archive, places.keys())
    names = {name: PurePosixPath(place).name or AT_ROOT for name, place in places.items()}
    if len(set(names.values())) < len(names):
        raise SourceError(f"{label}: two of {', '.join(names)} bear one name; rename their folders")
    detections, used = with_detections(files.archive, files.names, names.values())
    notes = Notes()
    materials = []
    for name, place in places.items():
        export = Export(f"{label}: {name}")
        parse_xml(data[name], export.where, export)
        truth = export.annotation()
        frames = frames_of(place, files, places)
        if export.shapes:
            notes.said["shapes that are no boxes are left out"][names[name]] = export.shapes
        materials.append(
            Material(names[name], frames, truth, detections.get(names[name]), apart=True,
                     class_names=dict(enumerate(export.labels, start=1)), role=part_of(place),
                     first=export.first(frames))
        )  # fmt: skip
    return Found(tuple(assemble(files.archive, materials, notes)), notes, {*places, *used})


def frames_of(place: str, files: Members, places: Mapping[str, str]) -> Frames:
    """The frames of an export.

    Raises:
        SourceError: there are none, or they lie in several folders.
    """
    begin = prefix(place)
    others = [prefix(other) for other in places.values() if other != place]
    below = by_folder(
        n
        for n in files.images
        if n.startswith(begin) and not any(n.startswith(o) for o in others if len(o) > len(begin))
    )
    if len(below) != 1:
        what = f"in {len(below)} folders" if below else "nowhere"
        raise SourceError(
            f"{files.archive.label}: the frames of '{begin}{NAME}' are {what}; expected them in "
            f"{begin}{FRAMES}, named frame_000000.PNG and so on, as CVAT exports them"
        )
    folder, images = next(iter(below.items()))
    return in_order(images, f"{files.archive.label}: {folder}")
