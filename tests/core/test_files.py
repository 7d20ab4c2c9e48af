"""Files appear whole or not at all."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepsort_reid.core import files


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.json"
    files.write_json(path, {"ü": 1})

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert files.read_json(path) == {"ü": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_a_table(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "t.csv", ["a", "b"], [[1, "x,y"], [0.5, None]])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n1,"x,y"\n0.5,\n'


def test_checksums_of_several_files_at_a_time(tmp_path: Path) -> None:
    contents = {"a": b"abc", "b": b"", "c": bytes(3 << 20)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = files.checksums([tmp_path / name for name in contents])
    assert found == {tmp_path / n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256(tmp_path / "a") == abc


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    parent = os.getppid()
    stale = tmp_path / f".a.{killed.pid}.tmp.npy"
    kept = [
        f".a.{parent}.tmp.npy",
        f".b.{killed.pid}.tmp.npy",
        f".a.{killed.pid}.tmp.csv",
        f"a.{killed.pid}.tmp.npy",
        ".a.0.tmp.npy",
        ".a.b.tmp.npy",
        f".a.{'9' * 40}.tmp.npy",
    ]
    for name in [stale.name, *kept]:
        (tmp_path / name).touch()
    with files.replacing(tmp_path / "a.npy") as temporary:
        temporary.write_bytes(b"new")
        assert not stale.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "a.npy"])


def test_json_nested_without_end_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.read_json(tmp_path / "a.json")


def test_the_error_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, files.replacing(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.csv")
