"""Packed parts: images decoded once, in one array that all ranks map from disk.

A part named `train` is two files: `train.npy`, a NumPy array (N, H, W, 3) of uint8, RGB, and
`train.csv`, a line an image in the same order: pid, camid, identity, name, and what else a table
said of the image. Beside the four parts stands `summary.json`, with what they hold and the
checksums of their files.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core import files
from deepsort_reid.core.errors import PackedError

PARTS = ("train", "val", "query", "gallery")
COLUMNS = ("pid", "camid", "identity", "name")

Images = NDArray[np.uint8]  # (N, H, W, 3) RGB


@dataclass(frozen=True)
class Part:
    """One part of the split, its images still on disk."""

    images: Images  # (N, H, W, 3) mapped read-only
    pids: NDArray[np.int64]  # (N,)
    camids: NDArray[np.int64]  # (N,) -1 where unknown
    identities: Sequence[str]  # (N,) as the dataset writes them
    names: Sequence[str]  # (N,) in the archive
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)  # further columns, (N,) each

    def __len__(self) -> int:
        return len(self.pids)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]

    @cached_property
    def classes(self) -> list[str]:
        """The identities, in the order of their pids; a label is an index into it."""
        return list(dict(sorted(zip(self.pids.tolist(), self.identities, strict=True))).values())

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class indices, 0 to len(classes) - 1."""
        return np.unique(self.pids, return_inverse=True)[1].astype(np.int64)


def file_names(name: str) -> tuple[str, str]:
    """The names of a part's two files: the array, the index."""
    return f"{name}.npy", f"{name}.csv"


def open_part(folder: Path, name: str) -> Part:
    """Map a part from disk; only the index is read.

    Raises:
        PackedError: a file is missing or damaged, or the two do not belong together.
    """
    array_path, index_path = (folder / file for file in file_names(name))
    try:
        images = np.lib.format.open_memmap(array_path, mode="r")
        pids, camids, identities, names, extra = read_index(index_path)
    except Exception as error:  # NumPy and csv fail in many ways on what they did not write
        raise PackedError(
            f"{array_path}: this part cannot be read ({error}); make it again: dvc repro -f split"
        ) from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[::3] != (len(pids), 3):
        raise PackedError(
            f"{array_path}: {images.dtype} {images.shape} does not fit the {len(pids)} lines of "
            f"{index_path.name}; make both again: dvc repro -f split"
        )
    return Part(images, pids, camids, identities, names, extra)


def read_index(
    path: Path,
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], Sequence[str], Sequence[str], Mapping[str, Sequence[str]]
]:
    """Read the columns of what `write_index` wrote: the four, and the further ones by name.

    Raises:
        ValueError: it is no such table.
        OverflowError: a number is larger than 64 bits.
        csv.Error: it is no table.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    if tuple(header[: len(COLUMNS)]) != COLUMNS or len(set(header)) < len(header):
        raise ValueError(f"columns {','.join(header)}")
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"a line without {len(header)} values")
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    pids, camids, identities, names, *further = columns
    return (
        np.array([int(pid) for pid in pids], np.int64),
        np.array([int(camid) for camid in camids], np.int64),
        identities,
        names,
        dict(zip(header[len(COLUMNS) :], further, strict=True)),
    )


def write_index(
    path: Path, rows: Sequence[tuple[int | str, ...]], further: Sequence[str] = ()
) -> None:
    """Write a part's index, a row (pid, camid, identity, name, further columns) an image."""
    files.write_csv(path, [*COLUMNS, *further], rows)


def write_images(
    path: Path, count: int, images: Iterable[Images], image_size: tuple[int, int]
) -> None:
    """Write a part's array, of so many images (H, W, 3)."""
    with ArrayWriter(path, count, image_size) as writer:
        for place, image in enumerate(images):
            writer.write(place, image)


class ArrayWriter:
    """Writes an image array of known length, image by image and in any order.

    The room is taken at the start, and images go through `pwrite`: on a full disk that is an
    error, while writing into a mapped file would kill the process.
    """

    def __init__(self, path: Path, count: int, image_size: tuple[int, int]):
        """Take the room for `count` images.

        Raises:
            OSError: the disk is full.
        """
        self.shape = (count, *image_size, 3)
        self.image_bytes = image_size[0] * image_size[1] * 3
        self.file = path.open("wb", buffering=0)
        try:
            self.offset = self.take_room(count)
        except OSError as error:
            self.file.close()
            error.filename = str(path)
            raise

    def take_room(self, count: int) -> int:
        """Write the header and take the room for `count` images, which begin at the offset."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        )
        # One that ends short is followed by one that says why.
        left = memoryview(header.getbuffer())
        while left:
            left = left[self.file.write(left) :]
        offset = header.tell()
        if count:
            os.posix_fallocate(self.file.fileno(), offset, count * self.image_bytes)
        return offset

    def write(self, first: int, images: NDArray[Any]) -> None:
        """Write (n, H, W, 3) uint8 images, or one (H, W, 3), from number `first` on."""
        data = memoryview(np.ascontiguousarray(images).data).cast("B")
        position = self.offset + first * self.image_bytes
        while data:
            written = os.pwrite(self.file.fileno(), data, position)
            data, position = data[written:], position + written

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()


# The summary


@dataclass(frozen=True)
class Summary:
    """What the parts hold; `summary.json` beside them."""

    layout: str  # of the dataset
    digest: str  # SHA-256 over all the other fields: the same digest, the same data
    tuning: bool  # whether query and gallery are held out of the training part, to tune by
    counts: Mapping[str, Mapping[str, int]]  # part -> images, identities, cameras, …
    files: Mapping[str, str]  # name of a part's file -> its SHA-256
    # Of several datasets: dataset -> part -> images, identities, cameras, …; of one nothing.
    sources: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    def flat(self) -> dict[str, int]:
        """The counts under names like `train_images`, and `tuning`."""
        flat = {f"{part}_{kind}": n for part, kinds in self.counts.items()
                for kind, n in kinds.items()}  # fmt: skip
        flat |= {f"{source}_{part}_{kind}": n for source, parts in self.sources.items()
                 for part, kinds in parts.items() for kind, n in kinds.items()}  # fmt: skip
        return flat | {"tuning": self.tuning}


def write_summary(
    folder: Path,
    layout: str,
    counts: Mapping[str, Mapping[str, int]],
    *,
    tuning: bool,
    sources: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
) -> Summary:
    """Checksum the parts in a folder, and write the summary beside them.

    Args:
        folder: holds the parts.
        layout: the dataset's.
        counts: what each part holds, as `split.count` says.
        tuning: whether query and gallery are held out of the training part, to tune by.
        sources: of several datasets what each part holds of each.

    Raises:
        OSError: a part is missing, or the disk is full.
    """
    found = files.checksums([folder / name for part in PARTS for name in file_names(part)])
    sums = {path.name: checksum for path, checksum in found.items()}
    of_each = sources or {}
    digest = digest_of(layout, tuning, counts, sums, of_each)
    summary = Summary(layout, digest, tuning, counts, sums, of_each)
    content = asdict(summary)
    if not of_each:
        del content["sources"]
    files.write_json(folder / "summary.json", content)
    return summary


def digest_of(
    layout: object, tuning: object, counts: object, sums: object, sources: object = None
) -> str:
    """The SHA-256 of a summary's content, in 64 hexadecimal digits."""
    content = [layout, counts, sums, *([] if tuning is False else [tuning])]
    content += [sources] if sources else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_summary(folder: Path) -> Summary:
    """Read what `write_summary` wrote.

    Raises:
        PackedError: it is missing or damaged.
    """
    path = folder / "summary.json"
    try:
        content = files.read_json(path)
        sources = content.pop("sources", {})
        names = [f.name for f in fields(Summary) if f.name != "sources"]
        layout, digest, tuning, counts, sums = (content.pop(name) for name in names)
        if content or digest != digest_of(layout, tuning, counts, sums, sources):
            raise ValueError("its content does not fit its digest")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PackedError(
            f"{path}: cannot be read ({error}); make the parts again: dvc repro -f split"
        ) from None
    return Summary(layout, digest, tuning, counts, sums, sources)


def verify_parts(folder: Path, summary: Summary, parts: Sequence[str]) -> None:
    """Compare the files of parts with their checksums, before anything is read from them.

    Args:
        folder: holds the parts.
        summary: the one that `read_summary` finds there.
        parts: names among `PARTS`.

    Raises:
        PackedError: a file is missing, or not the one that stage split wrote.
    """
    paths = [folder / name for part in parts for name in file_names(part)]
    try:
        found = files.checksums(paths)
    except OSError as error:
        raise PackedError(
            f"{error.filename}: cannot be read ({error.strerror}); "
            "make the parts again: dvc repro -f split"
        ) from None
    for path in paths:
        if found[path] != summary.files.get(path.name):
            raise PackedError(
                f"{path}: damaged, or not of the split that summary.json describes; "
                "make the parts again: dvc repro -f split"
            )
