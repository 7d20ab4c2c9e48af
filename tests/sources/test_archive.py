import bz2
import gzip
import io
import lzma
import os
import random
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from deepsort_reid.core.errors import SourceError
from deepsort_reid.sources import archive, zip_tar
from deepsort_reid.sources.archive import Archive, archive_in, pack

FILES = {
    "set/query/-1_c1s1_000401_03.jpg": b"junk",
    "set/query/0001_c1s1_001051_00.jpg.jpg": b"query" * 1000,
    "set/train/Zoë 人.jpg": b"",
    "set/train/a.jpg": random.Random(0).randbytes(200_000),
}
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
FORMATS = ["zip", *COMPRESSORS]


def zip_bytes(files: dict[str, bytes], **attributes: int) -> bytes:
    """A zip of files, whose first one has the attributes of a ZipInfo."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            packed.writestr(info, content)
            attributes = {}
    return stream.getvalue()


def tar_bytes(files: dict[str, bytes], **attributes: bytes | str | int) -> bytes:
    """A tar of files, whose first one has the attributes of a TarInfo."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            packed.addfile(info, io.BytesIO(content))
            attributes = {}
    return stream.getvalue()


def archive_bytes(kind: str, files: dict[str, bytes]) -> bytes:
    return zip_bytes(files) if kind == "zip" else COMPRESSORS[kind](tar_bytes(files))


def opened(content: bytes, folder: Path) -> Archive:
    path = folder / "archive"
    path.write_bytes(content)
    return Archive(path, "sample")


def refusal(content: bytes, folder: Path) -> str:
    """The one line with which an archive is refused."""
    with pytest.raises(SourceError) as error:
        opened(content, folder).check()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("sample: ")
    return str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_names_and_bytes(kind: str, tmp_path: Path) -> None:
    found = opened(archive_bytes(kind, FILES), tmp_path)
    assert found.kind == kind[:3]
    assert found.names() == sorted(FILES)
    assert dict(found.read(found.names())) == FILES
    found.check()


@pytest.mark.parametrize("kind", FORMATS)
def test_reading_goes_in_the_archives_order(kind: str, tmp_path: Path) -> None:
    files = {name: name.encode() for name in ("c", "a", "d", "b")}
    found = opened(archive_bytes(kind, files), tmp_path)
    assert list(found.read({"b", "c", "d"})) == [("c", b"c"), ("d", b"d"), ("b", b"b")]
    assert list(found.read([])) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_that_is_not_there_is_a_key_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="absent"):
        list(opened(archive_bytes(kind, FILES), tmp_path).read(["absent"]))


@pytest.mark.parametrize("kind", FORMATS)
def test_litter_is_passed_over(kind: str, tmp_path: Path) -> None:
    litter = ["Thumbs.db", "a/THUMBS.DB", "__MACOSX/a/._1.jpg", "a/.hidden/1.jpg", "@eaDir/1.jpg"]
    files = dict.fromkeys(["./a/1.jpg", *litter], b"")
    assert opened(archive_bytes(kind, files), tmp_path).names() == ["a/1.jpg"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_folders_are_no_files(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    path = tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.write(folder / "a", "a")
            packed.writestr("a/1.jpg", b"")
    else:
        with tarfile.open(path, "w") as packed:
            packed.add(folder, ".")
            packed.add(folder / "a", "a")
            packed.addfile(tarfile.TarInfo("a/1.jpg"))
    assert Archive(path).names() == ["a/1.jpg"]


def test_names_in_no_known_encoding_can_be_written(tmp_path: Path) -> None:
    latin = tar_bytes({"caf\udce9.jpg": b"1"})
    found = opened(latin, tmp_path)
    (name,) = found.names()
    assert name.encode("utf-8")
    assert dict(found.read([name])) == {name: b"1"}


def test_a_zip_whose_packer_forgot_the_flag_for_utf8(tmp_path: Path) -> None:
    content = zip_bytes({"Zo__.jpg": b"1"}).replace(b"Zo__", "Zoë".encode())
    assert opened(content, tmp_path).names() == ["Zoë.jpg"]


def test_a_zip_with_names_in_code_page_437(tmp_path: Path) -> None:
    content = zip_bytes({"caf_.jpg": b"1"}).replace(b"caf_", "café".encode("cp437"))
    found = opened(content, tmp_path)
    assert dict(found.read(found.names())) == {"café.jpg": b"1"}


def test_backslashes_separate_in_a_zip_from_windows(tmp_path: Path) -> None:
    assert opened(zip_bytes({"a\\1.jpg": b""}, create_system=0), tmp_path).names() == ["a/1.jpg"]
    assert opened(zip_bytes({"a\\1.jpg": b""}, create_system=3), tmp_path).names() == ["a\\1.jpg"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:\\a.jpg", "is an absolute path"),
        ("\\\\server\\share\\a.jpg", "is an absolute path"),
        ("a/../../b.jpg", "leads out of the archive"),
        ("a\\..\\b.jpg", "leads out of the archive"),
    ],
)
def test_paths_that_lead_out_are_refused(kind: str, name: str, what: str, tmp_path: Path) -> None:
    content = archive_bytes(kind, {"a.jpg": b"", name: b""})
    assert f"{name!r} {what}" in refusal(content, tmp_path)
    with pytest.raises(SourceError, match=what):
        opened(content, tmp_path).names()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    line = refusal(tar_bytes({"a.jpg": b"", "b.jpg": b""}, type=kind, linkname="b.jpg"), tmp_path)
    assert "'a.jpg' is a link" in line
    assert "--dereference" in line


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    assert "'a.jpg' is a device" in refusal(tar_bytes({"a.jpg": b""}, type=kind), tmp_path)


def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zip_bytes({"a.jpg": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    assert "'a.jpg' is a link" in refusal(link, tmp_path)
    device = zip_bytes({"a.jpg": b""}, external_attr=(stat.S_IFCHR | 0o644) << 16)
    assert "'a.jpg' is a device" in refusal(device, tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"a.jpg": b"secret"}))
    directory = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[directory + 8] |= 1
    assert "'a.jpg' is encrypted" in refusal(bytes(content), tmp_path)


def test_a_zip_by_a_method_that_python_lacks_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"a.jpg": b"image"}))
    content[content.index(b"PK\x01\x02") + 10] = 9  # deflate64, of Windows's larger zips
    assert "'a.jpg' is compressed by method 9" in refusal(bytes(content), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack_pair", [zip_bytes, tar_bytes])
def test_a_name_that_is_there_twice_is_refused(
    pack_pair: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    assert "'a/1.jpg' is there twice" in refusal(
        pack_pair({"a/1.jpg": b"one", "./a//1.jpg": b"two"}), tmp_path
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is an empty file"),
        (b"neither one nor the other", "is no archive"),
        (b"\n<!DOCTYPE html><title>Log in</title>", "is a web page"),
        (b"Rar!\x1a\x07\x01\x00", "is a RAR archive"),
        (gzip.compress(b"an image, not a tar", mtime=0), "inside is no tar"),
    ],
)
def test_what_is_no_archive_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    line = refusal(content, tmp_path)
    assert what in line
    assert "expected a zip, or a tar" in line


@pytest.mark.parametrize("kind", FORMATS)
def test_an_archive_cut_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    content = archive_bytes(kind, FILES)
    end = len(content.rstrip(b"\0")) if kind == "tar" else len(content)
    for length in {10, 300, end // 3, end // 2, end - 1000, end - 1} & set(range(5, end)):
        line = refusal(content[:length], tmp_path)
        assert "damaged or cut short" in line or "is no archive" in line, line


def test_a_tar_cut_between_two_members_is_refused(tmp_path: Path) -> None:
    content = tar_bytes({"a.jpg": bytes(512), "b.jpg": bytes(512)})
    assert "damaged or cut short" in refusal(content[:1024], tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_archive_is_refused(kind: str, tmp_path: Path) -> None:
    content = bytearray(archive_bytes(kind, FILES))
    at = content.index(b"set/train/a.jpg") if kind == "tar" else len(content) // 2
    content[at] ^= 0xFF
    assert "damaged" in refusal(bytes(content), tmp_path)


def test_a_zip_that_points_to_nowhere_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"a.jpg": b"image"}))
    directory = content.index(b"PK\x01\x02")
    content[directory + 42 : directory + 46] = b"\xff\xff\xff\xff"
    assert "damaged" in refusal(bytes(content), tmp_path)
    end = content.index(b"PK\x05\x06")
    content[end + 16 : end + 20] = (1 << 20).to_bytes(4, "little")
    content[directory + 42 : directory + 46] = bytes(4)
    assert "damaged" in refusal(bytes(content), tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_archive_without_files_is_refused(kind: str, tmp_path: Path) -> None:
    assert "holds no files" in refusal(archive_bytes(kind, {}), tmp_path)
    assert "holds no files" in refusal(archive_bytes(kind, {"Thumbs.db": b""}), tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_an_archive_that_expands_without_end_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SMALL", 100_000)
    content = archive_bytes(kind, {f"{n}.jpg": bytes(2_000_000) for n in range(5)})
    assert "expand to more than" in refusal(content, tmp_path)


def test_endless_padding_of_a_tar_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_tar, "SMALL", 10_000_000)
    content = gzip.compress(tar_bytes({"a.jpg": b""}) + bytes(20_000_000))
    assert "no end of data" in refusal(content, tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_member_too_large_for_memory_is_not_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(archive_bytes(kind, FILES), tmp_path)
    monkeypatch.setattr(archive, "MAX_MEMBER", 100_000)
    assert dict(found.read(["set/query/-1_c1s1_000401_03.jpg"]))
    with pytest.raises(SourceError, match=r"a\.jpg' is 200\.0 kB large; .* 100\.0 kB at most"):
        list(found.read(["set/train/a.jpg"]))


def test_absurd_tar_headers_are_refused(tmp_path: Path) -> None:
    long_name = tarfile.TarInfo("a")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    assert "a header that claims" in refusal(
        long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1024), tmp_path
    )
    negative = tarfile.TarInfo("a")
    negative.size = -512
    header = negative.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    assert "a header that claims" in refusal(header, tmp_path)
    pax = tarfile.TarInfo("a")
    pax.pax_headers = {"size": "-512"}
    assert "a header that claims -512 bytes" in refusal(
        pax.tobuf(tarfile.PAX_FORMAT) + bytes(1024), tmp_path
    )


def test_the_downloaded_archive_is_found(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="found 0"):
        archive_in(tmp_path)
    (tmp_path / "dataset.tar").touch()
    assert archive_in(tmp_path) == tmp_path / "dataset.tar"
    (tmp_path / "dataset.zip").touch()
    with pytest.raises(SourceError, match="found 2"):
        archive_in(tmp_path)


def write_folder(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_packed_folder_depends_on_names_and_contents_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["b/2.jpg", "a/1.jpg", "人/-1.jpg.jpg"]
    one = write_folder(tmp_path / "one", names)
    two = write_folder(tmp_path / "two", names[::-1])
    (two / "a/1.jpg").chmod(0o755)
    os.utime(two / "b/2.jpg", (0, 0))
    pack(one, tmp_path / "1.zip")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")  # zipfile notes the system
        pack(two, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    found = Archive(tmp_path / "1.zip")
    assert dict(found.read(found.names())) == {name: name.encode() for name in sorted(names)}
    assert [name for name, _ in found.read(names)] == sorted(names)


def test_a_packed_folder_does_not_depend_on_the_locale(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", ["Zoë.jpg"])
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    pack(folder, tmp_path / "here.zip")
    script = "import sys; from pathlib import Path; from deepsort_reid.sources.archive import pack;"
    script += "pack(Path(sys.argv[1]), Path(sys.argv[2]))"
    subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "there.zip"],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        check=True,
    )
    assert (tmp_path / "here.zip").read_bytes() == (tmp_path / "there.zip").read_bytes()
    assert len(Archive(tmp_path / "here.zip").names()) == 2


def test_a_packed_folder_follows_links_and_leaves_litter(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", ["1.jpg", "Thumbs.db", ".git/config"])
    other = write_folder(tmp_path / "other", ["2.jpg", "._2.jpg"])
    (folder / "linked").symlink_to(other)
    (folder / "3.jpg").symlink_to(other / "2.jpg")
    os.mkfifo(folder / "pipe")
    pack(folder, tmp_path / "a.zip")
    assert Archive(tmp_path / "a.zip").names() == ["1.jpg", "3.jpg", "linked/2.jpg"]


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", ["a/1.jpg"])
    (folder / "a" / "loop").symlink_to(folder)
    with pytest.raises(SourceError, match="a/loop: a link back to a folder that it stands in"):
        pack(folder, tmp_path / "a.zip")
    (folder / "a" / "loop").unlink()
    for target in ("gone.jpg", "2.jpg"):
        (folder / "2.jpg").symlink_to(target)
        with pytest.raises(SourceError, match=r"2\.jpg: a link to nothing"):
            pack(folder, tmp_path / "a.zip")
        (folder / "2.jpg").unlink()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    with pytest.raises(SourceError, match="folder: holds no files"):
        pack(tmp_path / "folder", tmp_path / "a.zip")


def test_too_little_room_is_seen_before_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "folder", ["1.jpg"])
    usage = namedtuple("usage", "free")(3)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(SourceError, match=r"5\.0 B to be written, 3\.0 B free"):
        pack(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_damaged_extended_header_of_a_tar_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("Zoë.jpg")
    content = bytearray(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    assert opened(bytes(content), tmp_path).names() == ["Zoë.jpg"]
    at = content.index(b"path=")
    for damaged in (content[:at] + b"path " + content[at + 5 :],
                    content[: at - 3] + b"\0" + content[at - 2 :]):  # fmt: skip
        assert "extended header" in refusal(bytes(damaged), tmp_path)


def test_an_extended_header_without_end_is_refused_at_once(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.XHDTYPE, 1 << 19
    digits = header.tobuf(tarfile.USTAR_FORMAT) + b"9" * (1 << 19)  # once quadratic in tarfile
    assert "an extended header that is no list" in refusal(digits + bytes(1024), tmp_path)
    many = tarfile.TarInfo("a")
    many.type, many.size = tarfile.XGLTYPE, 0
    assert "extended headers for one file" in refusal(
        many.tobuf(tarfile.USTAR_FORMAT) * 99 + bytes(1024), tmp_path
    )


def test_long_names_and_sizes_of_every_kind_of_tar_are_read(tmp_path: Path) -> None:
    name = "/".join(["ä" * 60] * 5) + ".jpg"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=kind) as packed:
            info = tarfile.TarInfo(name)
            info.size = 700
            packed.addfile(info, io.BytesIO(b"x" * 700))
            packed.addfile(tarfile.TarInfo("after.jpg"))
        found = opened(stream.getvalue(), tmp_path)
        assert dict(found.read(found.names())) == {name: b"x" * 700, "after.jpg": b""}
    pax = tarfile.TarInfo("a.jpg")
    pax.pax_headers = {"size": "3"}
    found = opened(pax.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0") + bytes(1024), tmp_path)
    assert dict(found.read(["a.jpg"])) == {"a.jpg": b"abc"}


def test_a_file_stored_with_holes_is_refused(tmp_path: Path) -> None:
    old = tarfile.TarInfo("a.jpg")
    old.type = tarfile.GNUTYPE_SPARSE
    new = tarfile.TarInfo("a.jpg")
    new.pax_headers = {"GNU.sparse.major": "1"}
    for info, kind in ((old, tarfile.GNU_FORMAT), (new, tarfile.PAX_FORMAT)):
        assert "without `tar --sparse`" in refusal(info.tobuf(kind) + bytes(1024), tmp_path)


def test_empty_folders_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in/bob").mkdir(parents=True)
    (tmp_path / "in/a.txt").write_text("a")
    pack(tmp_path / "in", tmp_path / "out.zip")
    assert "1 folders are empty" in caplog.text
    assert "bob' first" in caplog.text
