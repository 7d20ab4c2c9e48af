"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from deepsort_reid import files


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


def test_sha256_is_of_the_bytes_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256(tmp_path / "a", tmp_path / "b") == abc


def test_where_relative_paths_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert files.resolve("w.pth") == tmp_path / "w.pth"
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert files.resolve("w.pth") == Path("/elsewhere/w.pth")
    assert files.resolve("/abs/w.pth") == Path("/abs/w.pth")
    assert files.resolve("~/w.pth") == Path.home() / "w.pth"
