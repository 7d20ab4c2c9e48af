"""The files of an archive as a layout sees them: which are images, and what a text file says."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from deepsort_reid.core.dataset_config import MotConfig, SourceConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.progress import quantity
from deepsort_reid.data.images import OTHER_SUFFIXES, is_image, is_image_data
from deepsort_reid.sources.archive import Archive

UNPACK = {  # files that hold images -> what to do with them
    (".mat", ".h5", ".hdf5", ".npy", ".npz", ".pkl", ".mdb", ".parquet", ".tfrecord"):
        "write the images in it into files, as the dataset's own scripts do",
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"): "unpack the archives in it",
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".m4v", ".mpg", ".mpeg"):
        "a video has to be cut into images of identities first (docs/video.md)",
}  # fmt: skip
UTF_8 = "utf-8-sig"  # with or without a byte order mark
MAX_TEXT = 256 << 20  # bytes of one list or table


@dataclass(frozen=True)
class Members:
    """The members of an archive, and what they hold."""

    archive: Archive
    names: Sequence[str]  # of all members, sorted
    images: Sequence[str]  # those that are images, sorted

    @cached_property
    def known(self) -> frozenset[str]:
        """The names, to look one up."""
        return frozenset(self.names)

    @cached_property
    def root(self) -> str:
        """The folder that all images lie in, with a `/` at its end; '' for the archive itself."""
        return common_folder(self.images)

    def text(self, name: str, encoding: str = UTF_8) -> str:
        """The content of a list or table, without a byte order mark; lines end in a line feed.

        Raises:
            DatasetError: it is no text in this encoding, or too large.
            SourceError: the archive is damaged.
        """
        ((_, data),) = self.archive.read([name])
        return decoded(name, data, encoding)

    def texts(self, names: Collection[str]) -> dict[str, str]:
        """The contents of several, in one pass over the archive; see `text`."""
        return {name: decoded(name, data) for name, data in self.archive.read(names)}

    def named(self, *names: str) -> list[str]:
        """The members whose last part is one of these names, sorted."""
        return [name for name in self.names if name.rpartition("/")[2] in names]


@dataclass(frozen=True)
class Files(Members):
    """The members of an archive, and what params.yaml says of them."""

    source: SourceConfig  # the table, identity level and subset that the user states
    boxes: MotConfig  # which boxes of annotated videos become images
    key: str = "dataset."  # what the source's parameters begin with, in messages


def decoded(name: str, data: bytes, encoding: str = UTF_8) -> str:
    """The text that a member holds."""
    if len(data) > MAX_TEXT:
        raise DatasetError(
            f"'{name}' has {quantity(len(data), 'B')}; expected a list or table of at most "
            f"{quantity(MAX_TEXT, 'B')}"
        )
    known = "UTF-8" if encoding == UTF_8 else encoding
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"'{name}', line {line}: no text in {known}; save it as plain text in {known}, in a "
            "spreadsheet as 'CSV UTF-8'"
        ) from None
    if "\0" in text:
        raise DatasetError(
            f"'{name}' is no text in {known}, or is in UTF-16; save it as plain text in {known}"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def images_among(archive: Archive, names: Iterable[str]) -> list[str]:
    """The images among the members, sorted: by suffix, or by content where the suffix says nothing.

    Raises:
        DatasetError: there are none.
        SourceError: the archive is damaged.
    """
    names = list(names)
    images = {name for name in names if is_image(name)}
    unclear = [name for name in names if name not in images and suffix(name) not in OTHER_SUFFIXES]
    if unclear:
        images |= {name for name, data in archive.read(unclear) if is_image_data(data)}
    if not images:
        raise DatasetError(
            "no images in the dataset; expected files such as .jpg or .png"
            + (f", found {shown(names)}" if names else "")
            + next((f": {do}" for suffixes, do in UNPACK.items()
                    if any(suffix(name) in suffixes for name in names)), "")
        )  # fmt: skip
    return sorted(images)


def suffix(name: str) -> str:
    """The suffix of a name, in small letters, with its dot."""
    return PurePosixPath(name).suffix.lower()


def common_folder(names: Iterable[str]) -> str:
    """The deepest folder that all files lie in, with a `/` at its end; '' if there is none."""
    folders = [PurePosixPath(name).parent.parts for name in names]
    if not folders:
        return ""
    first, last = min(folders), max(folders)
    depth = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
                 min(len(first), len(last)))  # fmt: skip
    return "".join(f"{part}/" for part in first[:depth])


def shown(names: Sequence[str], most: int = 3) -> str:
    """Some names as a text, and how many more there are."""
    some = ", ".join(f"'{name}'" for name in names[:most])
    return some if len(names) <= most else f"{some} and {len(names) - most:,} more"
