"""One archive of images, packed from a folder, checked, and read without unpacking by name."""

import logging
import os
import shutil
import stat
import zipfile
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import Progress, quantity
from deepsort_reid.sources.zip_tar import (
    BLOCK,
    SMALL,
    Kind,
    Member,
    clean,
    damage_in_one_line,
    decode,
    is_litter,
    path_fault,
    recognise,
    tar_members,
    zip_members,
)

logger = logging.getLogger(__name__)

MAX_MEMBER = 64 << 20  # bytes of one member that `read` takes into memory
MAX_RATIO = 200  # bytes an archive may expand to for each of its own; photographs come near 1
HEADER = 512  # bytes that a member without content counts for
UNDATED = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold

Files = Generator[tuple[str, Member], None, None]  # closed by who reads it, and the file with it


class Archive:
    """The regular files of a zip, or of a tar plain or compressed by gzip, bzip2 or xz.

    Nothing is unpacked onto the disk, and nothing is trusted: a member with an absolute path, with
    `..` in it, twice in the archive, encrypted, or that is a link or a device is refused, and so is
    an archive that expands beyond `SMALL` and `MAX_RATIO` times its own size. Hidden files and what
    operating systems leave behind (`Thumbs.db`, `__MACOSX`, …) are passed over.

    Names that are not UTF-8 are read as code page 437, as zip has it: every name can be encoded,
    and is the same on every machine.
    """

    def __init__(self, path: Path, label: str | None = None):
        """Recognise the archive by its content.

        Args:
            path: the archive.
            label: what to call it in errors; its path by default.

        Raises:
            SourceError: it is no zip and no tar.
        """
        self.path = path
        self.label = label or str(path)
        self.size = path.stat().st_size  # bytes
        self.kind: Kind = recognise(path, self.label)
        self.litter = 0  # files that the last pass over the archive has passed over

    def names(self) -> list[str]:
        """The names of the files, sorted, with `/` between their parts.

        Raises:
            SourceError: the archive is damaged or holds something that is refused.
        """
        with damage_in_one_line(self.label), closing(self.tracked("list")) as found:
            return sorted(name for name, _ in found)

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        """Yield each of the named files and its content, in the archive's order, in one pass.

        One file at a time is held in memory.

        Raises:
            SourceError: the archive is damaged, or a file is larger than `MAX_MEMBER`.
            KeyError: the archive has no file of that name.
        """
        wanted = set(names)
        with damage_in_one_line(self.label), closing(self.files()) as found:
            for name, member in found:
                if not wanted:
                    return
                if name in wanted:
                    wanted.remove(name)
                    yield name, self.content(member)
        if wanted:
            raise KeyError(min(wanted))

    def check(self) -> None:
        """Read everything once, against checksums where the format has them.

        Raises:
            SourceError: the archive is empty or damaged, or holds something that is refused.
        """
        empty = True
        with damage_in_one_line(self.label), closing(self.tracked("check")) as found:
            for _, member in found:
                empty = False
                with member.open() as content:
                    while content.read(BLOCK):
                        pass
        if empty:
            raise SourceError(f"{self.label}: holds no files; expected an archive of images")

    def tracked(self, what: str) -> Files:
        """Yield the files while a bar shows how much of the archive is done."""
        with Progress(what, self.size, "B") as progress, closing(self.files()) as found:
            for name, member in found:
                yield name, member
                progress.advance(member.position - progress.count)

    def files(self) -> Files:
        """Yield each file that is no litter under its clean name, in the archive's order."""
        scan = zip_members if self.kind == "zip" else tar_members
        seen: set[str] = set()
        expanded = self.litter = 0
        with closing(scan(self.path)) as members:
            for member in members:
                expanded += member.size + HEADER  # many empty members are a bomb too
                self.refuse_danger(member, expanded)
                name = clean(member.name)
                if member.is_folder:
                    continue
                if is_litter(name):
                    self.litter += 1
                    continue
                self.refuse_twice(name, seen)
                yield name, member

    def refuse_twice(self, name: str, seen: set[str]) -> None:
        """Raise for a name that was seen before, and note it."""
        if name in seen:
            raise SourceError(
                f"{self.label}: {name!r} is there twice, and only one can be meant; "
                "pack the archive again"
            )
        seen.add(name)

    def refuse_danger(self, member: Member, expanded: int) -> None:
        """Raise for a member that is not safe, and for an archive that expands without end."""
        fault = path_fault(member.name) or member.fault
        if fault:
            raise SourceError(f"{self.label}: {member.name!r} {fault}")
        if expanded > SMALL + MAX_RATIO * self.size:
            raise SourceError(
                f"{self.label}: {quantity(self.size, 'B')} that expand to more than "
                f"{quantity(SMALL + MAX_RATIO * self.size, 'B')}, as no archive of images does; "
                "use one you can trust"
            )

    def content(self, member: Member) -> bytes:
        """All bytes of a member."""
        if member.size > MAX_MEMBER:
            raise SourceError(
                f"{self.label}: {member.name!r} is {quantity(member.size, 'B')} large; "
                f"expected an image of {quantity(MAX_MEMBER, 'B')} at most; take it out"
            )
        with member.open() as content:
            return content.read()


def archive_in(folder: Path) -> Path:
    """The one archive that the download stage left in a folder.

    Raises:
        SourceError: there is none, or one of each kind.
    """
    found = [path for path in (folder / "dataset.zip", folder / "dataset.tar") if path.is_file()]
    if len(found) != 1:
        raise SourceError(
            f"{folder}: expected dataset.zip or dataset.tar, found {len(found)} of them; "
            "run the download stage again"
        )
    return found[0]


def pack(folder: Path, target: Path) -> None:
    """Zip the files of a folder: stored, sorted and undated.

    The same contents give the same bytes, whatever the order of the folder, the dates and modes of
    its files, or the locale. Links are followed, since people link their disks together. Hidden
    files and what operating systems leave behind are passed over.

    Raises:
        SourceError: no files, a link to nothing, a link to a folder it stands in, or no room.
    """
    litter: list[Path] = []
    empty: list[Path] = []
    files = sorted(
        (decode(os.fsencode(path.relative_to(folder))), path)
        for path in files_below(folder, litter, empty)
    )
    if litter:
        logger.info("%s: passed over %d hidden and system files", folder, len(litter))
    if empty:
        logger.warning("%s: %d folders are empty, '%s' first", folder, len(empty), min(empty))
    if not files:
        raise SourceError(f"{folder}: holds no files; expected a folder of images")
    total = sum(path.stat().st_size for _, path in files)
    require_space(target.parent, total)
    with Progress("pack", total, "B") as progress, zipfile.ZipFile(target, "w") as archive:
        for name, path in files:
            with path.open("rb") as source, archive.open(entry(name, path), "w") as member:
                pour(source, member, progress)


def entry(name: str, path: Path) -> zipfile.ZipInfo:
    """The description of a file in a zip, with nothing in it but its name and size."""
    info = zipfile.ZipInfo(name, UNDATED)
    info.create_system = 3  # Unix, on every system
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = path.stat().st_size  # tells zipfile when it takes the 64-bit form
    return info


def files_below(
    folder: Path,
    litter: list[Path],
    empty: list[Path],
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[Path]:
    """Yield every regular file below a folder, through links, without hidden ones and litter.

    Args:
        folder: where to look.
        litter: receives the hidden ones and the litter.
        empty: receives the folders that hold nothing.
        above: device and inode of each folder on the way here, by which loops are seen.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise SourceError(f"{folder}: a link back to a folder that it stands in; remove the link")
    inside = list(folder.iterdir())
    if not inside:
        empty.append(folder)
    for path in inside:
        if is_litter(path.name):
            litter.append(path)
            continue
        if path.is_dir():
            yield from files_below(path, litter, empty, (*above, here))
        elif path.is_file():
            yield path
        elif path.is_symlink():
            raise SourceError(f"{path}: a link to nothing; mend or remove it")


def pour(source: IO[bytes], target: IO[bytes], progress: Progress) -> None:
    """Copy all that is left of `source`, counting bytes."""
    while block := source.read(BLOCK):
        target.write(block)
        progress.advance(len(block))


def require_space(folder: Path, needed: int) -> None:
    """Raise at once where the disk will not hold `needed` more bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SourceError(
            f"{folder}: {quantity(needed, 'B')} to be written, {quantity(free, 'B')} free; "
            "make room and run the same command again"
        )
