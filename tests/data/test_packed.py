"""Packed parts: written in any order, mapped back, and refused when damaged."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from deepsort_reid.core.errors import PackedError
from deepsort_reid.data.packed import ArrayWriter, open_part, write_index

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 2, 3)).astype(np.uint8)
ROWS = [
    (7, 1, "g", "g/1"),
    (3, -1, "b", "b/2"),
    (7, 2, "g", "g,3"),
    (9, 1, "z", 'z"4'),
    (3, 1, "b", "ü"),
]


def write(folder: Path) -> None:
    with ArrayWriter(folder / "part.npy", 5, (4, 2)) as writer:
        for number in (3, 0, 4):
            writer.write(number, IMAGES[number])
        writer.write(1, IMAGES[1:3])
    write_index(folder / "part.csv", ROWS)


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write(tmp_path)
    part = open_part(tmp_path, "part")
    assert (part.images == IMAGES).all()
    assert isinstance(part.images, np.memmap)
    assert list(zip(part.pids, part.camids, part.identities, part.names, strict=True)) == ROWS
    assert part.classes == ["b", "g", "z"]
    assert part.labels.tolist() == [1, 0, 1, 2, 0]
    assert (np.load(tmp_path / "part.npy") == IMAGES).all()  # an ordinary NumPy file


@pytest.mark.parametrize(
    "damage", ["array gone", "index gone", "cut", "short index", "no number", "dtype"]
)
def test_damage_is_said_in_one_line(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    array, index = tmp_path / "part.npy", tmp_path / "part.csv"
    if damage == "array gone":
        array.unlink()
    elif damage == "index gone":
        index.unlink()
    elif damage == "cut":
        array.write_bytes(array.read_bytes()[:-1])
    elif damage == "short index":
        write_index(index, ROWS[:-1])
    elif damage == "no number":
        index.write_text(index.read_text().replace("7,", "seven,"))
    else:
        np.save(array, IMAGES.astype(np.float32))
    with pytest.raises(PackedError, match="dvc repro -f split") as caught:
        open_part(tmp_path, "part")
    assert str(tmp_path / "part.npy") in str(caught.value)


def test_a_full_disk_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as caught:
        ArrayWriter(tmp_path / "part.npy", 5, (4, 2))
    assert caught.value.filename == str(tmp_path / "part.npy")
