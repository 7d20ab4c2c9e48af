"""Layout `table`: a CSV or TSV file that says who is on which image, for everything else.

The file lies in the archive, and `dataset.table` names it. Its first line names the columns, in any
order: `path` and `identity`, and where they are known

    camera   a number or a name; for all images or for none
    part     train, val, query, gallery, test, or ignore
    frame    the number of the video's frame, from 0 or 1
    box      left, top, width and height in pixels, of a crop in a larger image: "10 20 64 128";
             or four columns left, top, width, height

Identity -1 is junk, which the evaluation ignores; without a part it is left out. The parts have to
fit together as folders have (split_folders.py). Further columns are kept: they stand in the index
of the packed parts, as `frame` does.
"""

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath
from unicodedata import normalize

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.boxes import refuse_other_columns, refuse_other_forms
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.identities import NOTHING, pids_of, refuse_twins
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import WORDS, served, settle
from deepsort_reid.data.packed import COLUMNS
from deepsort_reid.data.samples import NO_CAMERA, Crop, Role, Sample

NEEDED = ("path", "identity")
CORNERS = ("left", "top", "width", "height")
KNOWN = (*NEEDED, "camera", "part", "frame", "box", *CORNERS)
ALIASES = {  # what others call the columns
    "path": "file filename file_name image img image_path img_path filepath file_path image_name",
    "identity": "id pid label person person_id vehicle vehicle_id track_id identity_id class",
    "camera": "cam camid cam_id cameraid camera_id",
    "part": "split set role subset fold",
    "frame": "frame_id frameid frame_number frame_no",
    "box": "bbox xywh ltwh tlwh bounding_box",
}
MEANT = {alias: column for column, names in ALIASES.items() for alias in names.split()}
MAX_COLUMNS = 1000
MAX_FIELD = 4096  # characters
NO_CAMERAS = {*NOTHING, "-1", "unknown"}
FARTHEST = 1e6  # pixels
MAX_FRAME = 10**9


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    where: str  # the file and the line's number, for messages
    path: str
    identity: str
    camera: str  # '' if unknown
    role: Role | None  # None: to be ignored
    frame: int | None
    box: tuple[float, float, float, float] | None  # left, top, width, height
    extra: tuple[str, ...]

    @property
    def name(self) -> str:
        """What is unique to the image or crop."""
        if self.box is None:
            return self.path
        return f"{self.path}@{','.join(f'{side:g}' for side in self.box)}"


STATES = ("table",)


def recognises(files: Files) -> bool:
    """Whether the user names a table."""
    return files.source.table is not None


def read(files: Files) -> Reading:
    """Read who is on which image from the table.

    Raises:
        DatasetError: there is no such table, a column is missing, or a line is wrong; with the
            line's number.
    """
    member = find(files)
    columns, rows = parse(files.text(member), member)
    rows = with_paths(rows, files, member)
    for column in ("camera", "frame"):
        check_all_or_none(rows, column)
    listed = {row.path for row in rows}
    kept = [row for row in rows if row.role is not None]
    if not kept:
        raise DatasetError(f"'{member}' lists no image that is not to be ignored")
    refuse_other_forms({row.name: (row.path, row.box) for row in kept if row.box}, files)
    cameras, camera_is = numbered([row.camera for row in kept], kept[0])
    numbers = pids_of((row.identity for row in kept), f"'{member}': identities")
    given: dict[str, Role] = {row.name: row.role or "any" for row in kept}
    roles = settle(given, {row.name: row.identity for row in kept})
    samples = [
        Sample(
            row.name, row.identity, numbers[row.identity], camid, roles[row.name],
            Crop(row.path, row.frame or 0, row.box) if row.box else None, row.frame,
            row.extra if row.frame is None else (str(row.frame), *row.extra),
        )
        for row, camid in zip(kept, cameras, strict=True)
    ]  # fmt: skip
    return Reading(
        samples,
        f"column 'identity' of '{member}' ('{kept[0].identity}' of '{kept[0].path}')",
        camera_is,
        used=[member],
        passed_over={"images that the table does not list": set(files.images) - listed,
                     "images of part 'ignore'": listed - {row.path for row in kept}},
        in_time=kept[0].frame is not None
        and not kept[0].camera
        and all(row.role == "any" for row in kept),
        columns=columns if kept[0].frame is None else ("frame", *columns),
        notes=served(given, roles),
    )  # fmt: skip


def find(files: Files) -> str:
    """The member that is the table.

    Raises:
        DatasetError: there is none, or `dataset.table` is not set.
    """
    wanted = files.source.table and str(PurePosixPath(files.source.table.replace("\\", "/")))
    if wanted is None:
        raise DatasetError(
            f"{files.key}layout: table needs {files.key}table, the name of a CSV or TSV file in "
            "the source"
        )
    at = [name for name in (wanted, files.root + wanted) if name in files.known]
    found = at or [name for name in files.names if name.endswith(f"/{wanted}")]
    if len(found) != 1 and not at:
        tables = [name for name in files.names if name.lower().endswith((".csv", ".tsv", ".txt"))]
        known = ", ".join(f"'{name}'" for name in tables[:5]) or "no table"
        what = f"holds {len(found)} of them" if found else f"holds {known}"
        raise DatasetError(f"{files.key}table: {wanted}: the source {what}; name one by its path")
    return found[0]


# Lines


def parse(text: str, member: str) -> tuple[tuple[str, ...], list[Row]]:
    """Read all lines of a table.

    Returns:
        the names of the further columns, and the rows.

    Raises:
        DatasetError: the header lacks a column or has one twice, or a line is wrong.
    """
    lines = csv.reader(
        io.StringIO(text), delimiter=separator(text, member), skipinitialspace=True, strict=True
    )
    header = [name.strip() for name in next(checked(lines, member), (0, []))[1]]
    check_header(header, member)
    extra = tuple(name for name in header if name not in KNOWN)
    rows: list[Row] = []
    first: dict[str, str] = {}
    for number, values in checked(lines, member):
        if not any(value.strip() for value in values):
            continue
        where = f"'{member}', line {number}"
        if len(values) != len(header):
            raise DatasetError(
                f"{where}: {len(values)} values; expected {len(header)}: {', '.join(header)}"
            )
        row = row_of(dict(zip(header, values, strict=True)), extra, where)
        if first.setdefault(row.name, where) != where:
            raise DatasetError(f"{where}: '{row.name}' stands in {first[row.name]} already")
        rows.append(row)
    return extra, rows


def separator(text: str, member: str) -> str:
    """What parts the values of a table: a tab, a comma, or as some spreadsheets write it, `;`."""
    header = text.partition("\n")[0]
    if member.lower().endswith(".tsv") or "\t" in header:
        return "\t"
    return ";" if ";" in header and "," not in header else ","


def checked(lines: Iterator[list[str]], member: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a CSV with their numbers, from 1.

    Raises:
        DatasetError: a line is no CSV, or a value is longer than any should be.
    """
    while True:
        number = lines.line_num + 1  # type: ignore[attr-defined]
        try:
            values = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(f"'{member}', line {number}: no CSV ({error})") from None
        if any(len(value) > MAX_FIELD or "\0" in value for value in values):
            raise DatasetError(
                f"'{member}', line {number}: a value of more than {MAX_FIELD} characters; is a "
                "quotation mark left open?"
            )
        yield number, values


def check_header(header: Sequence[str], member: str) -> None:
    """Refuse a header that lacks a column, names one twice, or spells one in another way.

    Raises:
        DatasetError: see above. A column `cam` would be kept as one that says nothing.
    """
    where = f"'{member}', line 1"
    if len(header) > MAX_COLUMNS:
        raise DatasetError(f"{where}: {len(header):,} columns; expected {MAX_COLUMNS:,} at most")
    twice = next((name for name, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise DatasetError(f"{where}: two columns '{twice}'; expected one of each name")
    for name in header:
        meant = None if name in KNOWN else meaning(name)
        if meant is not None and meant not in header:
            raise DatasetError(f"{where}: column '{name}' seems to be '{meant}'; rename it to that")
        if name in COLUMNS and name not in KNOWN:
            raise DatasetError(
                f"{where}: column '{name}' bears a name that the index of parts uses; rename it"
            )
    refuse_other_columns(header, where)
    missing = [name for name in NEEDED if name not in header]
    if any(name in header for name in CORNERS):
        missing += [name for name in CORNERS if name not in header]
    if missing:
        raise DatasetError(
            f"{where}: no column '{missing[0]}' among {', '.join(header[:20])}; "
            "expected path, identity, and if known camera, part, frame, box, in the first line"
        )


def meaning(name: str) -> str | None:
    """The known column that an unknown one seems to be; None if it resembles none."""
    word = name.lower().replace(" ", "_").replace("-", "_")
    close = get_close_matches(word, KNOWN, 1, 0.8)
    return MEANT.get(word) or (close[0] if close else None)


def row_of(values: Mapping[str, str], extra: Sequence[str], where: str) -> Row:
    """Read one line.

    Raises:
        DatasetError: a value is missing or none of those that can be.
    """
    given = {name: value.strip() for name, value in values.items()}
    for name in NEEDED:
        if not given[name]:
            raise DatasetError(f"{where}: no {name}")
    if given["identity"].lower() in NOTHING:
        raise DatasetError(
            f"{where}: identity {given['identity']!r}, as programs write a missing value; fill it "
            "in, or take the line out"
        )
    return Row(
        where=where,
        path=str(PurePosixPath(given["path"].replace("\\", "/"))),
        identity=given["identity"],
        camera="" if (camera := given.get("camera", "")).lower() in NO_CAMERAS else camera,
        role=read_part(given["part"], where) if "part" in given else "any",
        frame=read_frame(given.get("frame", ""), where),
        box=read_box(given, where),
        extra=tuple(values[name] for name in extra),
    )


def read_part(text: str, where: str) -> Role | None:
    """The part that a line names; None for `ignore`.

    Raises:
        DatasetError: it is none.
    """
    if text.lower() == "ignore":
        return None
    role = WORDS.get(text.lower())
    if role is None:
        raise DatasetError(
            f"{where}: part {text!r}; expected train, val, query, gallery, test or ignore"
        )
    return role


def read_frame(text: str, where: str) -> int | None:
    """The number of a frame; None if none is given.

    Raises:
        DatasetError: it is no whole number from 0.
    """
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_FRAME:
        raise DatasetError(f"{where}: frame {text[:50]!r}; expected a whole number from 0")
    return int(text)


def read_box(given: Mapping[str, str], where: str) -> tuple[float, float, float, float] | None:
    """Left, top, width and height; None for a whole image.

    Raises:
        DatasetError: these are no four numbers, or the box has no area.
    """
    corners = [given.get(name, "") for name in CORNERS]
    text = given.get("box") or " ".join(corners)
    if not text.strip():
        return None
    parts = [part for part in re.split(r"[\s,;]+", text.strip("[]() ")) if part]
    try:
        left, top, width, height = map(float, parts)
    except ValueError:
        raise DatasetError(
            f"{where}: box {text[:60]!r}; expected left, top, width and height in pixels"
        ) from None
    sides = (left, top, width, height)
    if not all(map(math.isfinite, sides)) or max(map(abs, sides)) > FARTHEST:
        raise DatasetError(f"{where}: box {text[:60]!r}; expected pixels of an image")
    if width <= 0 or height <= 0:
        raise DatasetError(f"{where}: box {text[:60]!r} has no area; expected width and height > 0")
    return sides


# All lines together


def with_paths(rows: Sequence[Row], files: Files, member: str) -> list[Row]:
    """The rows with the names of members, which are relative to the archive, or to the table.

    Raises:
        DatasetError: an image is not in the archive.
    """
    if not rows:
        raise DatasetError(f"'{member}' lists no image; expected a line for each")
    beside = str(PurePosixPath(member).parent) + "/"
    bases = ["", files.root] if beside == "./" else [beside, "", files.root]
    spelt = {normalize("NFC", name): name for name in files.images}
    named = [spelt.get(normalize("NFC", base + rows[0].path)) for base in bases]
    base = next((base for base, name in zip(bases, named, strict=True) if name), bases[0])
    placed = [Row(**{**vars(row), "path": member_of(base + row.path, files, spelt)})
              for row in rows]  # fmt: skip
    lost = next((row for row in placed if row.path not in files.known), None)
    if lost is not None:
        close = get_close_matches(lost.path, files.images[:20_000], 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        expected = "; expected paths that begin at the table or at the source"
        raise DatasetError(
            f"{lost.where}: '{lost.path[:200]}' is not in the source{hint or expected}"
        )
    return placed


def member_of(path: str, files: Files, spelt: Mapping[str, str]) -> str:
    """The image of a path, whichever way Unicode lets its accents be written."""
    return path if path in files.known else spelt.get(normalize("NFC", path), path)


def check_all_or_none(rows: Sequence[Row], column: str) -> None:
    """Refuse a column that is filled in for some images only.

    Raises:
        DatasetError: it is.
    """
    without = [row for row in rows if getattr(row, column) in ("", None)]
    if without and len(without) < len(rows):
        raise DatasetError(
            f"{without[0].where}: no {column}, while {len(rows) - len(without):,} lines have one; "
            "fill it in for all images or for none"
        )


def numbered(cameras: Sequence[str], example: Row) -> tuple[list[int], str]:
    """Numbers of cameras: as given where all are whole numbers, else from 1 by name.

    Returns:
        a number for each, and what tells the camera.
    """
    if not cameras[0]:
        return [NO_CAMERA] * len(cameras), "unknown"
    if all(re.fullmatch(r"[0-9]{1,9}", camera) for camera in cameras):
        numbers = [int(camera) for camera in cameras]
    else:
        order = {name: number for number, name in enumerate(sorted(set(cameras)), start=1)}
        refuse_twins(order, f"{example.where.partition(',')[0]}: cameras")
        numbers = [order[camera] for camera in cameras]
    return numbers, f"column 'camera' ('{example.camera}' of '{example.path}')"
