import errno
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import Progress
from deepsort_reid.sources import archive
from deepsort_reid.sources import fetch as fetching
from deepsort_reid.sources.archive import Archive, archive_in
from deepsort_reid.sources.fetch import fetch
from tests.support.web_server import WebServer, web_server

FILES = {"query/-1_c1s1.jpg": b"junk" * 100, "train/0002_c1s1.jpg.jpg": b"image" * 100}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def raw(root: Path) -> Path:
    """Where archives go, with an older one in it."""
    folder = root / "data" / "raw"
    folder.mkdir(parents=True)
    (folder / "dataset.tar").write_bytes(b"older")
    return folder


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        served.content = zip_bytes()
        yield served


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in FILES.items():
            packed.writestr(name, content)
    return stream.getvalue()


def tar_bytes(compression: str = "gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as packed:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_folder(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def fetched(source: object, root: Path, sha256: str | None = None) -> Path:
    folder = root / "data" / "raw"
    return fetch(str(source), folder, sha256=sha256, root=root, pause=[].append)


def refusal(source: object, root: Path, sha256: str | None = None) -> str:
    """The one line with which a source is refused, while the older archive stays."""
    with pytest.raises(SourceError) as error:
        fetched(source, root, sha256)
    assert "\n" not in str(error.value)
    assert_only_the_older_archive(root)
    return str(error.value)


def assert_only_the_older_archive(root: Path) -> None:
    (older,) = (root / "data" / "raw").iterdir()
    assert older.read_bytes() == b"older"


def assert_is_whole(path: Path, content: bytes | None = None) -> None:
    assert list(path.parent.iterdir()) == [path]
    assert archive_in(path.parent) == path
    assert dict(Archive(path).read(FILES)) == FILES
    assert content is None or path.read_bytes() == content


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (zip_bytes(), "dataset.zip"),
        *[(tar_bytes(compression), "dataset.tar") for compression in ("", "gz", "bz2", "xz")],
    ],
)
def test_a_local_archive_is_copied_as_it_is(content: bytes, name: str, root: Path) -> None:
    (root / "misnamed.zip.bin").write_bytes(content)
    path = fetched("misnamed.zip.bin", root)
    assert path == root / "data" / "raw" / name
    assert_is_whole(path, content)
    assert (root / "misnamed.zip.bin").exists()


@pytest.mark.usefixtures("raw")
def test_a_folder_becomes_a_zip(root: Path) -> None:
    write_folder(root / "folder")
    path = fetched("folder", root)
    assert path.name == "dataset.zip"
    assert_is_whole(path)
    assert_is_whole(fetched("folder/", root, hashlib.sha256(path.read_bytes()).hexdigest()))


def test_paths_begin_at_the_root_the_home_or_the_top(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (home / "what?.zip").write_bytes(zip_bytes())
    for source in (
        "../my home/what?.zip",
        "~/what?.zip",
        home / "what?.zip",
        (home / "what?.zip").as_uri(),
        f"FILE://localhost{home}/what%3F.zip",
    ):
        assert_is_whole(fetched(source, root))
        archive_in(root / "data" / "raw").unlink()


@pytest.mark.usefixtures("raw")
def test_a_download_arrives_and_leaves_no_part(root: Path, server: WebServer) -> None:
    server.statuses = [500]
    digest = hashlib.sha256(server.content).hexdigest()
    assert_is_whole(fetched(server.url, root, digest.upper()), server.content)
    assert not list((root / ".downloads").glob("*.part"))


@pytest.mark.usefixtures("raw")
def test_fsspec_reaches_other_stores(root: Path) -> None:
    with fsspec.open("memory://set.tar.gz", "wb") as file:
        file.write(tar_bytes())
    assert_is_whole(fetched("memory://set.tar.gz", root))


def test_the_parts_folder_can_be_chosen(root: Path, server: WebServer, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(SourceError, match="404"):
        fetch(server.url, root, sha256=None, root=root, partial_folder=tmp_path / "parts")
    assert (tmp_path / "parts").is_dir()
    assert not (root / ".downloads").exists()


@pytest.mark.usefixtures("raw")
def test_a_source_that_is_missing_is_one_line(root: Path) -> None:
    (root / "market1501.zip").touch()
    line = refusal("market1510.zip", root)
    assert line.startswith(f"{root}/market1510.zip: no such file or folder; did you mean")
    assert "'market1501.zip'" in line
    assert "expected 'synthetic', a folder, an archive or a URL" in line
    assert "no such file" in refusal("~nobody/set.zip", root)
    assert "no such file" in refusal("x" * 5000, root)
    assert "no such file" in refusal("file:///absent/set.zip", root)
    assert "expected an absolute path after file://" in refusal("file://set.zip", root)
    assert "dataset.source is empty" in refusal(" ", root)
    assert "/dev/null: a device" in refusal("/dev/null", root)


@pytest.mark.usefixtures("raw")
def test_a_source_around_its_own_archive_is_refused(root: Path) -> None:
    assert "where its archive goes" in refusal(".", root)
    assert "where its archive goes" in refusal(root / "data" / "raw", root)


@pytest.mark.usefixtures("raw")
def test_what_is_no_archive_is_refused(root: Path) -> None:
    (root / "set.zip").write_bytes(b"<html>")
    assert refusal("set.zip", root).startswith("set.zip: is a web page")
    (root / "set.zip").write_bytes(zip_bytes()[:-10])
    assert refusal("set.zip", root).startswith("set.zip: damaged or cut short")
    (root / "set.tgz").write_bytes(tar_bytes()[:-10])
    assert refusal("set.tgz", root).startswith("set.tgz: damaged or cut short")
    (root / "folder").mkdir()
    assert "folder: holds no files" in refusal("folder", root)


@pytest.mark.usefixtures("raw")
def test_a_wrong_checksum_names_both(root: Path) -> None:
    (root / "set.zip").write_bytes(zip_bytes())
    actual, expected = hashlib.sha256(zip_bytes()).hexdigest(), "0" * 64
    for sha256 in (expected, expected.upper()):
        line = refusal("set.zip", root, sha256)
        assert f"set.zip: its SHA-256 is {actual}, dataset.sha256 expects {expected}" in line
    write_folder(root / "folder")
    assert "folder: its SHA-256 is" in refusal("folder", root, expected)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("sha256", ["0" * 63, "0" * 65, "sha256:" + "0" * 64, "g" * 64])
def test_a_checksum_that_is_none_is_one_line(sha256: str, root: Path) -> None:
    (root / "set.zip").write_bytes(zip_bytes())
    assert "dataset.sha256: " in refusal("set.zip", root, sha256)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("sha256", ["0" * 64, None])
def test_a_bad_download_is_discarded(sha256: str | None, root: Path, server: WebServer) -> None:
    server.content = zip_bytes() if sha256 else b"<html>"
    line = refusal(f"{server.url}?signature=secret", root, sha256)
    assert line.startswith(f"{server.url}: ")
    assert "secret" not in line
    assert not list((root / ".downloads").glob("*.part"))


@pytest.mark.usefixtures("raw")
def test_an_interrupted_check_keeps_the_download(
    root: Path, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Archive) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "check", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetched(server.url, root)
    assert_only_the_older_archive(root)
    assert_is_whole(fetched(server.url, root), server.content)
    assert len(server.ranges()) == 2
    assert server.ranges()[1] is not None


@pytest.mark.usefixtures("raw")
def test_a_scheme_that_nobody_knows_is_one_line(root: Path) -> None:
    assert "nothing opens 'htps://'; did you mean 'https://'?" in refusal("htps://a/b.zip", root)
    assert "expected http, https, s3" in refusal("xyzzy://a/b.zip", root)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://bucket/set.zip", "s3fs", "s3"),
        ("gs://bucket/set.zip", "gcsfs", "gs"),
        ("ssh://host/set.zip", "paramiko", "ssh"),
    ],
)
def test_a_package_that_is_missing_is_one_line(
    url: str, package: str, extra: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    loaded = sys.modules["fsspec.registry"]._registry
    monkeypatch.delitem(loaded, url.partition(":")[0], raising=False)
    assert f"`uv sync --extra {extra}`" in refusal(url, root)


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("source", ["set.zip", "folder"])
def test_a_full_disk_leaves_the_older_archive(
    source: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pour(_: object, target: io.BytesIO, __: Progress) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (root / "set.zip").write_bytes(zip_bytes())
    write_folder(root / "folder")
    for module in (fetching, archive):
        monkeypatch.setattr(module, "pour", pour)
    with pytest.raises(OSError, match=re.escape(str(root / "data" / "raw"))) as error:
        fetched(source, root)
    assert error.value.errno == errno.ENOSPC
    assert_only_the_older_archive(root)


@pytest.mark.usefixtures("raw")
def test_a_file_that_may_not_be_read_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(path: Path, _: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (root / "set.zip").write_bytes(zip_bytes())
    monkeypatch.setattr(fetching, "copy", deny)
    assert refusal("set.zip", root) == f"{root}/set.zip: permission denied; make it readable"
