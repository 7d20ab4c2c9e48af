"""Files on web servers and remote stores, opened where a download of them stopped."""

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.secrets import masked, without_secrets

if TYPE_CHECKING:  # imported where a web server is asked: most stages ask none
    import requests

TIMEOUTS = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
BLOCK = 1 << 18  # bytes read at a time

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "ssh": "ssh", "sftp": "ssh"}
USUAL_SCHEMES = ("http", "https", "s3", "gs", "ssh", "file")
PASSING_STATUSES = (408, 425, 429)  # and 500 and above
REMEDIES = {
    401: "it asks for a login: download the file by hand and give its path",
    403: "it asks for a login: download the file by hand and give its path",
}
VERSION_KEYS = (  # by which one file system or another tells that a file has changed
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "modify",
    "created",
)


class TransferError(Exception):
    """A download stopped, and may go on when it is tried again."""

    def __init__(self, reason: str, wait: float = 0.0):
        """Note the reason and the seconds for which the server asked to be left alone."""
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Incoming:
    """A file on its way.

    Attributes:
        offset: where in the file the first block belongs; 0 where it starts over.
        size: bytes of the whole file, None where nobody says.
        version: what tells this file from a changed one, None where nothing does.
        blocks: the bytes from `offset` to the end.
    """

    offset: int
    size: int | None
    version: str | None
    blocks: Iterator[bytes]


def open_url(url: str, held: int, version: str | None) -> AbstractContextManager[Incoming]:
    """Open a URL behind the `held` bytes of that version, or from the start where need be."""
    opener = open_http if scheme_of(url) in ("http", "https") else open_by_fsspec
    return opener(url, held, version)


@contextmanager
def open_http(url: str, held: int, version: str | None) -> Iterator[Incoming]:
    """Open a file on a web server."""
    with http_errors(url):
        response = ask(url, held, version)
    with response:
        refuse_status(response, url)
        offset, size = 0, number(response.headers.get("Content-Length"))
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            offset, size = content_range(response)
        if not 0 <= offset <= held:
            raise TransferError("the server sent another part of the file than the one asked for")
        yield Incoming(offset, size, version_of(response.headers), http_blocks(response, url))


def ask(url: str, held: int, version: str | None) -> "requests.Response":
    """Ask for what is missing of a file, and for all of it if that is not what comes."""
    import requests

    # Compressed for the journey, the file's length and ranges would mean something else.
    headers = {"Accept-Encoding": "identity"}
    if held and version:
        # The last byte that we hold comes again: there is none after the end of a file.
        headers |= {"Range": f"bytes={held - 1}-", "If-Range": version}
    response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS)
    if "Range" in headers and not is_sequel(response, held, version):
        response.close()
        return ask(url, 0, None)
    return response


def is_sequel(response: "requests.Response", held: int, version: str | None) -> bool:
    """Whether an answer to a Range can be used: the right part of the same file, or no part."""
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        start, _ = content_range(response)
        return start == held - 1 and version_of(response.headers) in (version, None)
    return response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def refuse_status(response: "requests.Response", url: str) -> None:
    """Raise unless the server sends the file."""
    status = response.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    answer = f"the server answered {status} {response.reason}"
    if status in PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TransferError(answer, number(response.headers.get("Retry-After")) or 0)
    remedy = REMEDIES.get(status, "check the address")
    raise SourceError(f"{without_secrets(url)}: {answer}; {remedy}")


def http_blocks(response: "requests.Response", url: str) -> Iterator[bytes]:
    """Yield the bytes of an answer as they were sent."""
    with http_errors(url):
        # `iter_content` would expand a tar.gz that a server declares as gzip encoding.
        yield from response.raw.stream(BLOCK, decode_content=False)


@contextmanager
def http_errors(url: str) -> Iterator[None]:
    """Turn what requests and urllib3 raise into our two kinds of error."""
    import requests
    import urllib3

    try:
        yield
    except (requests.exceptions.InvalidURL, requests.TooManyRedirects) as error:
        raise SourceError(f"{without_secrets(url)}: {cause(error)}; check the address") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransferError(cause(error)) from error


def version_of(headers: Mapping[str, str]) -> str | None:
    """What a server can compare byte for byte: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def content_range(response: "requests.Response") -> tuple[int, int | None]:
    """First byte and total size of a partial answer; (-1, None) if it does not say."""
    match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (int(match[1]), number(match[2])) if match else (-1, None)


def number(text: str | None) -> int | None:
    """The number that a header holds, if it does."""
    return int(text) if text and text.isdecimal() else None


@contextmanager
def open_by_fsspec(url: str, held: int, version: str | None) -> Iterator[Incoming]:
    """Open a file that one of fsspec's file systems reaches."""
    import fsspec  # type: ignore[import-untyped]

    with fsspec_errors(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        info = filesystem.info(path)
    if info.get("type") == "directory":
        raise SourceError(f"{without_secrets(url)}: a folder; expected one archive: name the file")
    current = " ".join(f"{key}={info[key]}" for key in VERSION_KEYS if key in info) or None
    with fsspec_errors(url):
        file = filesystem.open(path, "rb")
    with file:
        offset = held if version and version == current and file.seekable() else 0
        yield Incoming(offset, info.get("size"), current, fsspec_blocks(file, offset, url))


def fsspec_blocks(file: IO[bytes], offset: int, url: str) -> Iterator[bytes]:
    """Yield the bytes of a file from `offset` on."""
    with fsspec_errors(url):
        if offset:
            file.seek(offset)
        while block := file.read(BLOCK):
            yield block


@contextmanager
def fsspec_errors(url: str) -> Iterator[None]:
    """Turn what a file system raises into our two kinds of error."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise SourceError(f"{without_secrets(url)}: no such file; check the address") from error
    except PermissionError as error:
        raise SourceError(
            f"{without_secrets(url)}: permission denied ({cause(error)}); check your credentials"
        ) from error
    except Exception as error:  # each of the file systems has its own kinds
        raise TransferError(cause(error)) from error


def require_filesystem(url: str) -> None:
    """Raise where nothing that is installed can open such a URL.

    Raises:
        SourceError: nobody knows the scheme, or its package is not installed.
    """
    import fsspec

    scheme = scheme_of(url)
    if scheme in ("http", "https"):
        return
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        close = difflib.get_close_matches(scheme, USUAL_SCHEMES, 1)
        hint = f"did you mean '{close[0]}://'? " if close else ""
        raise SourceError(
            f"{without_secrets(url)}: nothing opens '{scheme}://'; {hint}"
            f"expected {', '.join(USUAL_SCHEMES)} or another scheme that fsspec knows"
        ) from error
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"`uv sync --extra {extra}` installs it" if extra else cause(error)
        raise SourceError(
            f"{without_secrets(url)}: the package for '{scheme}://' is not installed; {remedy}"
        ) from error


def scheme_of(url: str) -> str:
    """What stands before `://`, in small letters."""
    return url.partition("://")[0].lower()


def cause(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of exceptions, in one line."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return masked(" ".join(str(error).split())) or type(error).__name__
