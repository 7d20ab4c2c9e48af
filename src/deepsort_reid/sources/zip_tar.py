"""The members of a zip or tar, in the order in which they lie there, none of them trusted."""

import bz2
import errno
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any, Literal, cast

from deepsort_reid.core.errors import SourceError

Kind = Literal["zip", "tar"]

BLOCK = 1 << 20  # bytes read at a time
SMALL = 1 << 30  # bytes any archive may expand to, whatever its ratio
MAX_EXTENSION = 1 << 20  # bytes of one of tar's extended headers, which hold long names
MAX_EXTENSIONS = 16  # extended headers before one header of a tar
RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=]+)=")
NEWLINE = ord("\n")
MAX_NAME = 4096  # characters; systems take no longer path
END_OF_TAR = bytes(tarfile.BLOCKSIZE)

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
WINDOWS_MADE = {0, 10}  # zip's numbers for FAT and NTFS, where some tools wrote `\` for `/`
DECOMPRESSORS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
STRANGERS = {  # how files begin that are often taken for an archive we can read
    b"<": "is a web page (does the link ask for a login, or lead to a preview?)",
    b"Rar!": "is a RAR archive",
    b"7z\xbc\xaf": "is a 7z archive",
    b"\x28\xb5\x2f\xfd": "is compressed with Zstandard",
    b"\x1f\x8b": "is compressed, and inside is no tar or a damaged one",
    b"BZh": "is compressed, and inside is no tar or a damaged one",
    b"\xfd7zXZ": "is compressed, and inside is no tar or a damaged one",
}
LITTER = {  # what systems leave beside images; some of it even ends in .jpg
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,
    struct.error,
    MemoryError,  # a dictionary of gigabytes that a compressed stream asks for
    RuntimeError,  # zipfile's, of a member that is encrypted by its own header alone
)


@dataclass(frozen=True)
class Member:
    """One entry of an archive, which can be opened until the next one is asked for.

    Attributes:
        name: the name as it stands in the archive, with `/` between its parts.
        size: bytes once expanded, as the archive declares them.
        position: bytes of the archive's file that lie before it, for progress.
        is_folder: whether it is a folder.
        fault: what is wrong with it and what to do, None for an ordinary file or folder.
        open: opens its content.
    """

    name: str
    size: int
    position: int
    is_folder: bool
    fault: str | None
    open: Callable[[], IO[bytes]]


@contextmanager
def damage_in_one_line(label: str) -> Iterator[None]:
    """Turn what the zip, tar and compression libraries raise into one line."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        # Bad data gives a bare OSError or a seek to nowhere; other numbers come from the disk.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"{label}: damaged or cut short ({reason}); fetch it or pack it again"
        ) from error


def recognise(path: Path, label: str) -> Kind:
    """Tell a zip from a tar by content, whatever the name."""
    with path.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
        if start.startswith(ZIP_STARTS):
            return "zip"
        with damage_in_one_line(label), decompressed(file) as stream:
            if is_tar_header(stream.read(tarfile.BLOCKSIZE)):
                return "tar"
    raise SourceError(
        f"{label}: {stranger(start)}; expected a zip, or a tar, plain or in gz, bz2 or xz"
    )


def is_tar_header(block: bytes) -> bool:
    """Whether a tar can begin with these bytes."""
    if block == END_OF_TAR:
        return True  # a tar of nothing
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def stranger(start: bytes) -> str:
    """What a file is that begins like this and is no archive we can read."""
    if not start:
        return "is an empty file"
    for magic, what in STRANGERS.items():
        if start.lstrip().startswith(magic):
            return what
    return "is no archive"


@contextmanager
def decompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream of what a file holds, from its beginning, expanded if it is compressed."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    for magic, decompressor in DECOMPRESSORS.items():
        if start.startswith(magic):
            with decompressor(file) as stream:
                yield stream
            return
    yield file


def zip_members(path: Path) -> Generator[Member, None, None]:
    """Yield the members of a zip in the order in which they lie on the disk."""
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            name = zip_name(info)
            yield Member(
                name=name,
                size=info.file_size,
                position=info.header_offset,
                is_folder=name.endswith("/"),
                fault=zip_fault(info),
                open=partial(archive.open, info),
            )


def zip_name(info: zipfile.ZipInfo) -> str:
    """The name, also where a packer forgot UTF-8's flag (macOS) or wrote backslashes (Windows)."""
    name = info.filename
    if not info.flag_bits & 0x800:
        name = decode(name.encode("cp437"))
    return name.replace("\\", "/") if info.create_system in WINDOWS_MADE else name


def zip_fault(info: zipfile.ZipInfo) -> str | None:
    """What forbids reading a member of a zip, and the remedy."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link; expected regular files: pack the archive again without `zip -y`"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or the like; expected regular files: pack the archive without it"
    if info.flag_bits & 0x1:
        return "is encrypted; expected plain files: pack the archive again without a password"
    if info.compress_type not in ZIP_METHODS:
        return (
            f"is compressed by method {info.compress_type}, which Python cannot read; "
            "pack the archive again with deflate"
        )
    return None


class Content(io.BufferedIOBase):
    """The content of a tar's member: part of the tar's stream."""

    def __init__(self, stream: IO[bytes], start: int, size: int):
        """Begin at a position of the stream; the content has `size` bytes."""
        self.stream, self.left = stream, size
        stream.seek(start)

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, or all that is left.

        Raises:
            tarfile.ReadError: the tar ends before the content does.
        """
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data = self.stream.read(wanted)
        if len(data) < wanted:
            raise tarfile.ReadError("unexpected end of data")
        self.left -= wanted
        return data


def tar_members(path: Path) -> Generator[Member, None, None]:
    """Yield the members of a tar as they come, then read on to the end of the file.

    tarfile parses the headers' blocks. The rest is read here, since tarfile takes a damaged header
    for the end of the tar, and reads a damaged extended header only as far as it is right: the
    member would go by another name.
    """
    with path.open("rb") as file, decompressed(file) as stream:
        while (info := next_header(stream)) is not None:
            start = stream.tell()
            yield Member(
                name=decode(info.name.encode("utf-8", "surrogateescape")),
                size=info.size,
                position=file.tell(),
                is_folder=info.isdir(),
                fault=tar_fault(info),
                open=partial(open_in_tar, stream, start, info.size),
            )
            stream.seek(start + (padded(info.size) if info.isreg() else 0))
        drain(stream)  # the checksum of a compressed stream stands at its end


def open_in_tar(stream: IO[bytes], start: int, size: int) -> IO[bytes]:
    """Open the content of a member."""
    return cast("IO[bytes]", Content(stream, start, size))


def next_header(stream: IO[bytes]) -> tarfile.TarInfo | None:
    """Read the next member's header, and the extended ones before it; None at the end of the tar.

    Raises:
        tarfile.ReadError: a header is cut short, damaged or absurd.
    """
    name, records = b"", dict[bytes, bytes]()
    for number in range(MAX_EXTENSIONS + 1):
        block = stream.read(tarfile.BLOCKSIZE)
        if block == END_OF_TAR and number == 0:
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.type == tarfile.GNUTYPE_LONGNAME:
            name = read_extension(stream, info.size).partition(b"\0")[0]
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            records = parse_records(read_extension(stream, info.size))
        elif info.type == tarfile.XGLTYPE:
            parse_records(read_extension(stream, info.size))  # tells nothing that is needed here
        elif info.type == tarfile.GNUTYPE_LONGLINK:
            read_extension(stream, info.size)
        else:
            return extended(info, name, records)
    raise tarfile.ReadError(f"more than {MAX_EXTENSIONS} extended headers for one file")


def extended(info: tarfile.TarInfo, name: bytes, records: Mapping[bytes, bytes]) -> tarfile.TarInfo:
    """A header with the name of GNU's extension, and the name and size of POSIX's.

    Raises:
        tarfile.ReadError: the size is negative.
    """
    name = records.get(b"path", name).rstrip(b"/")
    info.name = name.decode("utf-8", "surrogateescape") if name else info.name
    info.size = int(records.get(b"size", info.size))
    if any(key.startswith(b"GNU.sparse.") for key in records):
        info.type = tarfile.GNUTYPE_SPARSE
    if info.size < 0:
        raise tarfile.ReadError(f"a header that claims {info.size} bytes")
    return info


def read_extension(stream: IO[bytes], size: int) -> bytes:
    """Read the content of an extended header.

    Raises:
        tarfile.ReadError: it is cut short, or too large to be one.
    """
    if not 0 <= size <= MAX_EXTENSION:
        raise tarfile.ReadError(f"a header that claims {size} bytes")
    content = stream.read(padded(size))
    if len(content) < padded(size):
        raise tarfile.ReadError("an extended header is cut short")
    return content[:size]


def parse_records(content: bytes) -> dict[bytes, bytes]:
    """The records of a POSIX extended header, `30 mtime=1350244992.023960108`, by keyword.

    Raises:
        tarfile.ReadError: not all of it is records.
    """
    records, at = {}, 0
    content = content.rstrip(b"\0")
    while at < len(content):
        start = RECORD.match(content, at)
        end = at + int(start[1]) if start else 0
        if not start or not start.end() < end <= len(content) or content[end - 1] != NEWLINE:
            raise tarfile.ReadError("an extended header that is no list of records")
        records[start[2]] = content[start.end() : end - 1]
        at = end
    return records


def padded(size: int) -> int:
    """The bytes that a content of that size takes in a tar: whole blocks."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def drain(stream: IO[bytes]) -> None:
    """Read what is left: padding, in an honest archive."""
    left = SMALL
    while block := stream.read(BLOCK):
        left -= len(block)
        if left < 0:
            raise tarfile.ReadError("no end of data after the last member")


def tar_fault(info: tarfile.TarInfo) -> str | None:
    """What forbids reading a member of a tar, and the remedy."""
    if info.issym() or info.islnk():
        return (
            "is a link; expected regular files: "
            "pack the archive again with `tar --dereference --hard-dereference`"
        )
    if info.type == tarfile.GNUTYPE_SPARSE:
        return "is stored with holes; pack the archive again without `tar --sparse`"
    if not info.isreg() and not info.isdir():
        return "is a device or the like; expected regular files: pack the archive without it"
    return None


def path_fault(name: str) -> str | None:
    """What is wrong with a name that could lead out of a folder, and the remedy."""
    if len(name) > MAX_NAME:
        return f"has a name of {len(name):,} characters; give it one of {MAX_NAME:,} at most"
    if not name.startswith(("/", "\\")) and ":" not in name and ".." not in name:
        return None  # as for nearly every name, and twenty times as fast as by pathlib
    path = PureWindowsPath(name)  # knows both separators, drives and shares
    if path.anchor:
        return "is an absolute path; expected relative ones: pack the archive from inside a folder"
    if ".." in path.parts:
        return "leads out of the archive by `..`; pack the archive from inside a folder"
    return None


def clean(name: str) -> str:
    """A name without its empty and `.` parts: `./a//b.jpg` is `a/b.jpg`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def decode(name: bytes) -> str:
    """A name's text: UTF-8, and code page 437, which gives every byte a character, where it isn't.

    The file systems and packers that wrote it may have meant another encoding; what matters is that
    the text can be written, and is the same on every machine.
    """
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")


def is_litter(name: str) -> bool:
    """Whether a path is hidden or left behind by an operating system, or lies in such a folder."""
    return any(part.startswith(".") or part.lower() in LITTER for part in name.split("/"))
