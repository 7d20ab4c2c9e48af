"""The members of a zip or tar, in the order in which they lie there, none of them trusted."""

import bz2
import errno
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any, Literal, Self, cast

from deepsort_reid.core.errors import SourceError

Kind = Literal["zip", "tar"]

BLOCK = 1 << 20  # bytes read at a time
SMALL = 1 << 30  # bytes any archive may expand to, whatever its ratio
MAX_TAR_EXTENSION = 1 << 20  # bytes of one of tar's extended headers, which hold long names
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


class StrictTarInfo(tarfile.TarInfo):
    """A tar header that is right, or an error: tarfile takes a bad one for the end of the tar."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a block of 512 bytes.

        Raises:
            tarfile.HeaderError: the block is the mark at the end of a tar.
            tarfile.ReadError: the block is cut short, damaged or absurd.
        """
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == END_OF_TAR:
                raise
            raise tarfile.ReadError(str(error)) from error
        # tarfile takes an extended header whole into memory, and goes back for a negative size.
        extended = not info.isreg() and info.size > MAX_TAR_EXTENSION
        if extended or info.size < 0:
            raise tarfile.ReadError(f"a header that claims {info.size} bytes")
        return info

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next header, and the extended ones before it.

        Raises:
            tarfile.HeaderError: the mark at the end of a tar.
            tarfile.ReadError: an extended header is damaged, as newer Pythons notice.
        """
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Read an extended header of POSIX, which older Pythons read only as far as it is right.

        Raises:
            tarfile.ReadError: it is damaged; the member would go by another name.
        """
        stream = archive.fileobj
        content = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        check_records(content[: self.size])
        archive.fileobj = Again(content, stream)  # type: ignore[assignment]
        try:
            return super()._proc_pax(archive)  # type: ignore[misc, no-any-return]
        finally:
            archive.fileobj = stream


class Again:
    """A stream of which the last thing read is read once more."""

    def __init__(self, last: bytes, stream: Any):
        self.last, self.stream = last, stream

    def read(self, size: int) -> bytes:
        """What was read last, then what follows."""
        data, self.last = self.last or self.stream.read(size), b""
        return cast("bytes", data)

    def tell(self) -> int:
        """Where the stream is."""
        return cast("int", self.stream.tell())

    def seek(self, position: int) -> None:
        """Go on somewhere else."""
        self.stream.seek(position)


def check_records(content: bytes) -> None:
    """Raise where an extended header is not all records, `30 mtime=1350244992.023960108`.

    Raises:
        tarfile.ReadError: it is not.
    """
    while content.rstrip(b"\0"):
        length = re.match(rb"([1-9][0-9]{0,6}) [^=]+=", content)
        end = int(length[1]) if length else 0
        if not length or end > len(content) or content[end - 1 : end] != b"\n":
            raise tarfile.ReadError("an extended header that is no list of records")
        content = content[end:]


def tar_members(path: Path) -> Generator[Member, None, None]:
    """Yield the members of a tar as they come, then read on to the end of the file."""
    with path.open("rb") as file, decompressed(file) as stream:
        with tarfile.open(
            fileobj=stream,
            mode="r:",
            tarinfo=StrictTarInfo,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # all headers it has seen
                yield Member(
                    name=decode(info.name.encode("utf-8", "surrogateescape")),
                    size=info.size,
                    position=file.tell(),
                    is_folder=info.isdir(),
                    fault=tar_fault(info),
                    open=partial(open_in_tar, archive, info),
                )
        drain(stream)  # the checksum of a compressed stream stands at its end


def drain(stream: IO[bytes]) -> None:
    """Read what is left: padding, in an honest archive."""
    left = SMALL
    while block := stream.read(BLOCK):
        left -= len(block)
        if left < 0:
            raise tarfile.ReadError("no end of data after the last member")


def open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    """Open a regular file of a tar."""
    return cast("IO[bytes]", archive.extractfile(info))


def tar_fault(info: tarfile.TarInfo) -> str | None:
    """What forbids reading a member of a tar, and the remedy."""
    if info.issym() or info.islnk():
        return (
            "is a link; expected regular files: "
            "pack the archive again with `tar --dereference --hard-dereference`"
        )
    if not info.isreg() and not info.isdir():
        return "is a device or the like; expected regular files: pack the archive without it"
    if info.size < 0:
        return "has a negative size; pack the archive again"
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
