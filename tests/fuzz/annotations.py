"""Annotations of videos in every format, as targets."""

import configparser
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from deepsort_reid.data.layouts.files import Members
from deepsort_reid.data.layouts.video import bdd100k, cvat, datumaro, kitti, mot, visdrone
from deepsort_reid.data.video.annotation import Annotation, Numbering, first_frame, placed
from deepsort_reid.data.video.documents import parse_xml
from deepsort_reid.data.video.mot_table import read_boxes
from deepsort_reid.data.video.mots import read_masks
from deepsort_reid.data.video.sequence import Boxes
from tests.fuzz import bombs
from tests.fuzz.harness import Target
from tests.support.datasets import InMemory

Rows = list[tuple[float, ...]]  # frame, identity, left, top, width, height, class and the like


def annotations() -> list[Target]:
    """The texts of videos, as datasets publish and tools write them."""
    return [*mot_tables(), *other_tables(), *documents()]


# MOTChallenge


def mot_tables() -> list[Target]:
    """gt.txt, det.txt and seqinfo.ini."""
    lines = [f"{k // 3 + 1},{k % 3 + 1},{9.5 * k},{k + 1},{10 + k},30,1,1,0.{k}" for k in range(9)]
    gt = [("\n".join(chosen) + "\n").encode() for chosen in (lines, lines[:5])]
    det = [b"1,-1,5,6,7.5,8,0.5,-1,-1,-1\n4,-1,5,6,7,8,-2,-1,-1,-1\r\n", b"2, 3, 4, 5, 6, 7, 8"]
    info = [
        f"[Sequence]\nname=a\nframeRate={rate}\nimDir=img{rate}\nimExt=.jpg\n".encode()
        for rate in (14, 30)
    ]
    claims = text_bombs() | {
        "boxes": b"".join(b"1,%d,1,1,5,5,1\n" % k for k in range(300_000)) + b"1",
    }
    return [
        Target("boxes annotated", "gt.txt", gt, lambda path: read_table(path, truth=True),
               says=lambda data: table_plainly(data, truth=True), checksums=False,
               bombs=claims),
        Target("boxes found", "det.txt", det, lambda path: read_table(path, truth=False),
               says=lambda data: table_plainly(data, truth=False), checksums=False,
               bombs=claims),
        Target("sequence's description", "seqinfo.ini", info, read_info,
               says=info_plainly, checksums=False,
               bombs=claims | {"a long option": b"[Sequence]\na" + b" " * 4000 + b"b"}),
    ]  # fmt: skip


def text_bombs() -> dict[str, bytes]:
    """Texts that are long in one way or the other."""
    return {
        "columns": b"," * 20_000_000, "lines": b"\n" * 20_000_000 + b"1",
        "digits": b"1" * 20_000_000, "spaces": b"1," + b" " * 20_000_000 + b"x",
    }  # fmt: skip


def read_table(path: Path, *, truth: bool) -> object:
    """All columns, in the order of the frames."""
    table = read_boxes(path.read_bytes(), str(path), truth=truth)
    return columns(settled(table, unique=truth))


def settled(annotation: Annotation, *, unique: bool = True) -> Boxes:
    """The boxes of a sequence of four frames of unknown size."""
    start = first_frame([annotation], Numbering(1, 4, "img1"))
    return placed(annotation, start, None, unique=unique)[0]


def columns(found: Boxes) -> list[list[Any]]:
    six = (found.frames, found.ids, found.ltwh, found.confidences, found.classes)
    return [column.tolist() for column in (*six, found.visibility)]


def table_plainly(data: bytes, *, truth: bool) -> object:
    """The same, line by line."""
    rows = [[float(value) for value in line.split(",")]
            for line in data.decode("utf-8-sig").rstrip().split("\n") if line]  # fmt: skip
    from_zero = any(row[0] == 0 for row in rows)
    rows = [[row[0] + from_zero, *row[1:]] for row in rows if row[4] > 0 < row[5]]
    rows.sort(key=lambda row: row[0])
    ten = [row[7:] for row in rows if truth and len(row) == 10]
    if ten and all(value == int(value) for three in ten for value in three) and max(ten)[0] >= 0:
        rows = [[*row[:8], (1.0, 0.75, 0.25)[int(row[9])]] for row in rows]  # VisDrone's
    classed = [truth and len(row) in (8, 9) and row[7] != -1 for row in rows]
    shared = [truth and len(row) == 9 and row[8] != -1 for row in rows]
    return [
        [int(row[0]) for row in rows],
        [int(row[1]) for row in rows],
        [[row[2] - 1, row[3] - 1, row[4], row[5]] for row in rows],
        [row[6] for row in rows],
        [int(row[7]) if known else 1 for row, known in zip(rows, classed, strict=True)],
        [row[8] if known else 1 for row, known in zip(rows, shared, strict=True)],
    ]


def read_info(path: Path) -> object:
    found = mot.read_info(path.read_bytes(), str(path))
    return found.frame_rate, found.folder, found.suffix


def info_plainly(data: bytes) -> object:
    """What stands after the three options."""
    parser = configparser.RawConfigParser()
    parser.read_string(data.decode("utf-8-sig"))
    section = parser["Sequence"]
    folder = section.get("imDir", "").strip().replace("\\", "/").strip("/") or None
    suffix = section.get("imExt", "").strip() or None
    if suffix and not suffix.startswith("."):
        suffix = f".{suffix}"
    return float(section["frameRate"]), folder, suffix


# Other tables


def other_tables() -> list[Target]:
    """KITTI's labels, VisDrone's annotations, and masks of MOTS."""
    labels = [
        f"{k // 2} {k % 2} {name} 0 {k % 3} -1.5 {9.5 * k} 5 {9.5 * k + 20} 45 1 1 1 1 1 1 1"
        for k, name in enumerate(["Pedestrian", "Car", "DontCare", "Person", "Cyclist", "Misc"])
    ]
    drones = [f"{k // 3 + 1},{k % 3},{9 * k},{k},{10 + k},30,{k % 2},{k + 1},{k % 2},{k % 3}"
              for k in range(9)]  # fmt: skip
    masks = [f"{k} {2000 + k} 2 10 8 {rle([11 + k, 3, 7, 4, 55 - k])}" for k in range(4)]
    masks.append(f"1 10000 10 10 8 {rle([0, 80])}")
    return [
        text_target("labels of KITTI", "0000.txt", labels, kitti.read_labels, labels_plainly),
        text_target("annotations of VisDrone", "uav.txt", drones, visdrone.read_boxes,
                    drones_plainly),
        text_target("masks of MOTS", "0002.txt", masks, read_masks, masks_plainly),
    ]  # fmt: skip


def text_target(
    name: str,
    file: str,
    lines: list[str],
    read: Callable[[bytes, str], Annotation],
    plainly: Callable[[list[str]], Rows],
) -> Target:
    """A target of lines."""
    valid = ["".join(f"{line}\n" for line in chosen).encode() for chosen in (lines, lines[:3])]

    def says(data: bytes) -> object:
        return plainly(data.decode("utf-8-sig").rstrip().splitlines())

    return Target(name, file, valid, lambda path: rows_of(read(path.read_bytes(), str(path))),
                  says=says, checksums=False, bombs=text_bombs())  # fmt: skip


def rows_of(annotation: Annotation) -> Rows:
    """Everything that is known of each box, as the file has it."""
    boxes = annotation.boxes
    return [
        (*one, *sides)
        for one, sides in zip(
            zip(boxes.frames.tolist(), boxes.ids.tolist(), boxes.confidences.tolist(),
                boxes.classes.tolist(), boxes.visibility.tolist(), strict=True),
            boxes.ltwh.tolist(), strict=True,
        )
    ]  # fmt: skip


def labels_plainly(lines: list[str]) -> Rows:
    numbers = {"Pedestrian": 1, "Person_sitting": 2, "Person": 2, "Cyclist": 3, "Car": 4, "Van": 5,
               "Truck": 6, "Tram": 7, "Misc": 8, "DontCare": 0}  # fmt: skip
    found: Rows = []
    for line in lines:
        words = line.split()
        left, top, right, bottom = map(float, words[6:10])
        kind = numbers[words[2]]
        shown = {0: 1.0, 1: 0.75, 2: 0.25, 3: 1.0, -1: 1.0}[int(float(words[4]))]
        sure = float(words[17]) if len(words) > 17 else 1.0
        found.append((int(float(words[0])), int(float(words[1])) if kind else -1,
                      sure if kind else 0.0, kind, shown, left, top, right - left, bottom - top)
                     )  # fmt: skip
    return found


def drones_plainly(lines: list[str]) -> Rows:
    found: Rows = []
    for line in lines:
        values = [float(value) for value in line.split(",")]
        found.append((int(values[0]), int(values[1]), values[6], int(values[7]),
                      (1.0, 0.75, 0.25)[int(values[9])], *values[2:6]))  # fmt: skip
    return found


def masks_plainly(lines: list[str]) -> Rows:
    """The masks drawn pixel by pixel."""
    found: Rows = []
    for line in lines:
        frame, identity, kind, height, width, text = line.split()
        pixels = [value for place, run in enumerate(unrle(text)) for value in [place % 2] * run]
        assert len(pixels) == int(height) * int(width)
        inside = [divmod(place, int(height)) for place, value in enumerate(pixels) if value]
        box = (0.0, 0.0, 0.0, 0.0)
        if inside:
            xs, ys = [x for x, _ in inside], [y for _, y in inside]
            box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
        ignored = int(kind) == 10
        found.append((int(frame), -1 if ignored else int(identity), float(not ignored),
                      0 if ignored else int(kind), 1.0, *box))  # fmt: skip
    return found


def rle(runs: list[int]) -> str:
    """Lengths of runs as COCO compresses them."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            text += chr(low + 32 * more + 48)
            if not more:
                break
    return text


def unrle(text: str) -> list[int]:
    runs: list[int] = []
    for group in re.findall("[P-o]*[0-O]", text):
        value = sum((ord(c) - 48 & 31) << 5 * n for n, c in enumerate(group))
        if ord(group[-1]) - 48 & 16:
            value -= 1 << 5 * len(group)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


# Documents


def documents() -> list[Target]:
    """XML of CVAT, and JSON of BDD100K and Datumaro."""
    laughs = '<!DOCTYPE a [<!ENTITY a0 "lol">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 30)
    ) + "]><annotations>&a29;</annotations>"  # fmt: skip
    xml_bombs = {
        "a billion laughs": laughs.encode(),
        "another file": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;'
        b"</annotations>",
        "elements in elements": b"<annotations>" + b"<track>" * 2_000_000,
        "a long attribute": b'<annotations a="' + b"a" * 20_000_000,
        "many attributes": b"<annotations " + b"".join(b'a%d="" ' % n for n in range(200_000)),
        "a long text": b"<annotations><meta><size>" + b"1" * 20_000_000,
        "labels": b"<annotations>" + b"<labels><label><name>a</name></label></labels>" * 100_000,
    }
    return [
        Target("tracks of CVAT", "annotations.xml", [cvat_of(3), cvat_of(2)], read_cvat,
               says=cvat_plainly, checksums=False, bombs=xml_bombs),
        Target("labels of BDD100K", "video.json", [bdd_of(4), bdd_of(2)], read_bdd,
               says=bdd_plainly, checksums=False, bombs=bombs.json()),
        Target("items of Datumaro", "default.json", [datumaro_of(4), datumaro_of(2)],
               read_datumaro, says=datumaro_plainly, checksums=False, bombs=bombs.json()),
    ]  # fmt: skip


def cvat_of(tracks: int) -> bytes:
    """An export of CVAT."""
    shapes = "".join(
        f'<track id="{track}" label="{("person", "car")[track % 2]}">'
        + "".join(
            f'<box frame="{frame}" outside="{int(frame > track + 1)}" occluded="{frame % 2}" '
            f'xtl="{frame + 0.5}" ytl="2" xbr="{frame + 10}" ybr="40"></box>'
            for frame in range(4)
        )
        + "</track>"
        for track in range(tracks)
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("person", "car"))
    meta = f"<meta><task><size>4</size><labels>{labels}</labels></task></meta>"
    return f"<?xml version='1.0'?>\n<annotations>{meta}{shapes}</annotations>".encode()


def read_cvat(path: Path) -> object:
    export = cvat.Export(str(path))
    parse_xml(path.read_bytes(), str(path), export)
    return rows_of(export.annotation())


def cvat_plainly(data: bytes) -> object:
    tree = ElementTree.fromstring(data)
    labels = list(dict.fromkeys((name.text or "").strip()
                                for name in tree.iterfind("meta//labels/label/name")))  # fmt: skip
    found: Rows = []
    for track in tree.iterfind("track"):
        for box in track.iterfind("box"):
            if box.get("outside") == "1":
                continue
            left, top, right, bottom = (float(box.attrib[s]) for s in ("xtl", "ytl", "xbr", "ybr"))
            found.append((int(float(box.attrib["frame"])), int(float(track.attrib["id"])), 1.0,
                          labels.index(track.attrib["label"]) + 1,
                          0.0 if box.get("occluded") == "1" else 1.0,
                          left, top, right - left, bottom - top))  # fmt: skip
    return found


def bdd_of(frames: int) -> bytes:
    """Labels of BDD100K."""
    listed: list[Mapping[str, Any]] = [
        {
            "name": f"video-{frame:07}.jpg",
            "frameIndex": frame - 1,
            "labels": [
                {"id": f"0000{track}", "category": kind,
                 "box2d": {"x1": 1.5, "y1": 2, "x2": 30, "y2": 40},
                 "attributes": {"occluded": track == 1, "crowd": track == 3}}
                for track, kind in enumerate(["pedestrian", "car", "rider", "pedestrian"])
            ],
        }
        for frame in range(1, frames + 1)
    ]  # fmt: skip
    return json.dumps(listed).encode()


def read_bdd(path: Path) -> object:
    images = [f"a/video-{frame:07}.jpg" for frame in range(1, 5)]
    return rows_of(bdd100k.read_labels(path.read_bytes(), str(path), images))


def bdd_plainly(data: bytes) -> object:
    content = json.loads(data.decode("utf-8-sig"))
    frames = content["frames"] if isinstance(content, dict) else content
    known = [str(one["id"]) for frame in frames for one in frame.get("labels") or ()]
    numbers = {text: int(text) for text in known if re.fullmatch("[0-9]{1,15}", text)}
    if set(known) - numbers.keys() or len(set(numbers.values())) < len(numbers):
        numbers = {text: n for n, text in enumerate(dict.fromkeys(known), start=1)}
    found: Rows = []
    for frame in frames:
        number = int(frame["name"].rpartition("/")[2].removeprefix("video-").removesuffix(".jpg"))
        for one in frame.get("labels") or ():
            box, said = one["box2d"], one.get("attributes") or {}
            kind = bdd100k.NUMBERS[one["category"]]
            crowd, occluded = bool(said.get("crowd")), bool(said.get("occluded"))
            found.append((number, -1 if crowd else numbers[str(one["id"])], float(not crowd),
                          0 if crowd else kind, 0.5 if occluded else 1.0, box["x1"], box["y1"],
                          box["x2"] - box["x1"], box["y2"] - box["y1"]))  # fmt: skip
    return found


def datumaro_of(frames: int) -> bytes:
    """An export of Datumaro."""
    items = [
        {
            "id": f"frame_{frame:06}",
            "annotations": [
                {"type": "bbox", "label_id": track % 2, "bbox": [1.5, 2, 30 + track, 40],
                 "attributes": {"track_id": track, "occluded": track == 1}}
                for track in range(3)
            ],
        }
        for frame in range(frames)
    ]  # fmt: skip
    labels = [{"name": "person"}, {"name": "car"}]
    return json.dumps({"categories": {"label": {"labels": labels}}, "items": items}).encode()


def read_datumaro(path: Path) -> object:
    images = {f"images/default/frame_{frame:06}.png": b"" for frame in range(4)}
    archive: Any = InMemory({f"annotations/{path.name}": path.read_bytes(), **images})
    archive.label = str(path)
    names = sorted(archive.contents)
    (found,) = datumaro.find(Members(archive, names, sorted(images))).sequences
    assert found.truth is not None
    return columns(found.truth)


def datumaro_plainly(data: bytes) -> object:
    content = json.loads(data.decode("utf-8-sig"))
    rows = []
    for item in content["items"]:
        path = (item.get("image") or item.get("media") or {}).get("path")
        name = path.rpartition(".")[0] if path else str(item["id"])
        for one in item.get("annotations") or ():
            said = one.get("attributes") or {}
            if one["type"] != "bbox" or said.get("track_id") is None or said.get("outside"):
                continue
            rows.append((int(name.removeprefix("frame_")) + 1, int(said["track_id"]),
                         [float(side) for side in one["bbox"]], 1.0, one["label_id"] + 1,
                         0.0 if said.get("occluded") else 1.0))  # fmt: skip
    rows = sorted((row for row in rows if min(row[2][2:]) > 0), key=lambda row: row[0])
    return [list(column) for column in zip(*rows, strict=True)]
