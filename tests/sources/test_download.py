import errno
import logging
import os
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest
from filelock import FileLock

from deepsort_reid.core.errors import SourceError
from deepsort_reid.sources import download
from deepsort_reid.sources.download import Partial, downloaded
from tests.support.web_server import WebServer, web_server

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server(CONTENT) as served:
        yield served


@pytest.fixture
def memory() -> Iterator[str]:
    url = "memory://downloads/dataset.zip"
    with fsspec.open(url, "wb") as file:
        file.write(CONTENT)
    yield url
    fsspec.filesystem("memory").store.clear()


def content(url: str, folder: Path, pauses: list[float] | None = None) -> bytes:
    """What arrives; the file is moved away, as a user of it does."""
    with downloaded(url, folder, ([] if pauses is None else pauses).append) as path:
        return path.read_bytes()


def leave_part(url: str, folder: Path, held: bytes) -> None:
    """Leave what a run leaves that was killed after so many bytes."""
    with suppress(KeyboardInterrupt), downloaded(url, folder, [].append) as path:
        path.write_bytes(held)
        raise KeyboardInterrupt


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_download_arrives_whole_and_leaves_nothing(server: WebServer, tmp_path: Path) -> None:
    assert content(server.url, tmp_path / "new") == CONTENT
    assert files(tmp_path / "new") == []
    assert server.ranges() == [None]


def test_a_cut_connection_is_continued_where_it_broke(server: WebServer, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    pauses: list[float] = []
    assert content(server.url, tmp_path, pauses) == CONTENT
    assert len(server.requests) == 3
    starts = [int(asked[6:-1]) for asked in server.ranges() if asked]
    assert 700_000 < starts[0] < 1_000_000 < starts[1] < 1_500_000
    assert server.requests[1]["If-Range"] == '"1"'


def test_each_failure_in_a_row_doubles_the_pause(server: WebServer, tmp_path: Path) -> None:
    server.statuses = [500, 503, 429]
    pauses: list[float] = []
    assert content(server.url, tmp_path, pauses) == CONTENT
    assert pauses == [1, 2, 4]


def test_headway_makes_the_next_failure_the_first_again(server: WebServer, tmp_path: Path) -> None:
    server.statuses = [500, 500, 200, 500]
    server.cuts = [2_000_000]
    pauses: list[float] = []
    assert content(server.url, tmp_path, pauses) == CONTENT
    assert pauses == [1, 2, 1, 2]


def test_a_server_that_asks_for_time_gets_some(server: WebServer, tmp_path: Path) -> None:
    server.headers["Retry-After"] = "7"
    server.statuses = [503]
    pauses: list[float] = []
    content(server.url, tmp_path, pauses)
    server.headers["Retry-After"] = "86400"
    server.statuses = [429]
    content(server.url, tmp_path, pauses)
    assert pauses == [7, download.LONGEST_PAUSE]


def test_what_came_before_giving_up_is_kept_for_the_next_run(
    server: WebServer, tmp_path: Path
) -> None:
    server.cuts = [1_000_000]
    server.statuses = [200, 500, 500, 500, 500]
    with pytest.raises(SourceError, match=r"gave up after 5 attempts .*500.* are kept"):
        content(server.url, tmp_path)
    assert content(server.url, tmp_path) == CONTENT
    assert server.ranges()[-1] is not None


def test_a_file_that_changed_meanwhile_starts_over(server: WebServer, tmp_path: Path) -> None:
    for server.heeds_if_range in (True, False):
        server.cuts, server.headers["ETag"] = [1_000_000], '"old"'
        server.content = bytes(len(CONTENT))

        def change(_: float) -> None:
            server.content, server.headers["ETag"] = CONTENT, '"new"'

        with downloaded(server.url, tmp_path, change) as path:
            assert path.read_bytes() == CONTENT


def test_a_file_that_shrank_meanwhile_starts_over(server: WebServer, tmp_path: Path) -> None:
    server.heeds_if_range = False
    server.cuts = [1_000_000]

    def shrink(_: float) -> None:
        server.content = b"short"

    with downloaded(server.url, tmp_path, shrink) as path:
        assert path.read_bytes() == b"short"


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {}, {"ETag": 'W/"1"'}])
def test_a_server_without_ranges_or_versions_starts_over(
    server: WebServer, tmp_path: Path, headers: dict[str, str]
) -> None:
    server.headers, server.serves_ranges = headers, False
    server.cuts = [1_000_000]
    assert content(server.url, tmp_path) == CONTENT
    assert (server.ranges()[1] is not None) == (headers == {"ETag": '"1"'})


def test_what_could_not_be_continued_is_not_kept(server: WebServer, tmp_path: Path) -> None:
    server.headers, server.cuts = {}, [1_000_000] * 5
    with pytest.raises(SourceError, match=r"gave up after 5 attempts .* same command again$"):
        content(server.url, tmp_path)
    assert files(tmp_path) == []


def test_a_date_serves_where_the_etag_is_weak(server: WebServer, tmp_path: Path) -> None:
    date = "Mon, 02 Nov 2026 10:00:00 GMT"
    server.headers = {"ETag": 'W/"1"', "Last-Modified": date}
    server.cuts = [1_000_000]
    assert content(server.url, tmp_path) == CONTENT
    assert server.requests[1]["If-Range"] == date


def test_a_server_may_not_say_the_length(server: WebServer, tmp_path: Path) -> None:
    server.says_length = False
    assert content(server.url, tmp_path) == CONTENT


def test_bytes_come_as_they_are_though_declared_as_gzip(server: WebServer, tmp_path: Path) -> None:
    server.headers["Content-Encoding"] = "gzip"
    assert content(server.url, tmp_path) == CONTENT


def test_a_whole_part_costs_one_more_byte(server: WebServer, tmp_path: Path) -> None:
    leave_part(server.url, tmp_path, CONTENT)
    assert content(server.url, tmp_path) == CONTENT
    assert server.ranges() == [None, f"bytes={len(CONTENT) - 1}-"]


def test_a_file_that_is_refused_is_discarded(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(SourceError), downloaded(server.url, tmp_path, [].append):
        raise SourceError("not what it should be")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("status", "remedy"), [(404, "address"), (403, "login"), (410, "address")])
def test_a_missing_file_is_one_line_at_once(
    server: WebServer, tmp_path: Path, status: int, remedy: str
) -> None:
    server.statuses = [status]
    with pytest.raises(SourceError, match=f"{server.url}: the server answered {status} .*{remedy}"):
        content(server.url, tmp_path)
    assert len(server.requests) == 1


def test_a_dead_host_is_one_line_after_some_attempts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}/a.zip?signature=secret"
        pauses: list[float] = []
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(SourceError, match=r"gave up after 5 attempts .*refused") as error,
        ):
            content(url, tmp_path, pauses)
    assert pauses == [1, 2, 4, 8]
    assert len(caplog.messages) == 4
    assert "secret" not in str(error.value) + caplog.text
    assert files(tmp_path) == []


def test_an_address_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="check the address") as error:
        content("http://me:sec/ret@host:80/a.zip", tmp_path)  # requests tells the whole of it
    assert "ret@" not in str(error.value)


def test_a_full_disk_keeps_what_came(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(download.Progress):
        def advance(self, units: int = 1) -> None:
            super().advance(units)
            if self.count > 1_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "Progress", Full)
        with pytest.raises(OSError, match=r"No space.*\.part") as error:
            content(server.url, tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert content(server.url, tmp_path) == CONTENT
    assert server.ranges()[1] is not None


def test_too_little_room_is_seen_before_the_download(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")(1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(SourceError, match=r"3\.0 MB to be written, 1\.0 MB free"):
        content(server.url, tmp_path)


def test_a_second_process_waits_for_the_first(
    server: WebServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock = FileLock(Partial(tmp_path, server.url).path.with_suffix(".lock"))
    with lock:
        second = threading.Thread(target=content, args=(server.url, tmp_path))
        with caplog.at_level(logging.WARNING):
            second.start()
            second.join(0.3)
        assert "another process downloads it" in caplog.text
        assert server.requests == []
    second.join(10)
    assert len(server.requests) == 1


def test_fsspec_brings_a_whole_file(memory: str, tmp_path: Path) -> None:
    assert content(memory, tmp_path) == CONTENT
    assert files(tmp_path) == []


def test_fsspec_continues_the_same_file(memory: str, tmp_path: Path) -> None:
    leave_part(memory, tmp_path, b"?" * 1000)  # would be noticed if they came again
    assert content(memory, tmp_path) == b"?" * 1000 + CONTENT[1000:]


def test_fsspec_starts_over_where_the_file_changed(memory: str, tmp_path: Path) -> None:
    leave_part(memory, tmp_path, b"?" * 1000)
    with fsspec.open(memory, "wb") as file:
        file.write(b"a new one")
    assert content(memory, tmp_path) == b"a new one"


def test_fsspec_tries_again(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    whole = MemoryFileSystem.info
    failures = iter([ConnectionError("lost"), RuntimeError("busy")])

    def info(self: MemoryFileSystem, path: str) -> dict[str, object]:
        for failure in failures:
            raise failure
        return whole(self, path)

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    pauses: list[float] = []
    assert content(memory, tmp_path, pauses) == CONTENT
    assert pauses == [1, 2]


@pytest.mark.usefixtures("memory")
def test_fsspec_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"memory://downloads/other\.zip: no such file"):
        content("memory://downloads/other.zip", tmp_path)
    with pytest.raises(SourceError, match="memory://downloads: a folder; expected one archive"):
        content("memory://downloads", tmp_path)
