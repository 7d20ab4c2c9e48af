"""Lists that datasets ship with, a line for each image, and the checks that all readers share."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import UTF_8, Files
from deepsort_reid.data.samples import Sample

NUMBER = re.compile(r"[0-9]{1,9}")
MAX_LINE = 4096  # characters
TESTED = ("query", "gallery", "test", "tune")


@dataclass(frozen=True)
class Line:
    """A line of a list."""

    where: str  # the list and the line's number, for messages
    values: Sequence[str]

    def number(self, place: int, what: str) -> int:
        """A whole number from 0.

        Args:
            place: which value it is.
            what: what it stands for, for the message.

        Raises:
            DatasetError: it is none.
        """
        if not NUMBER.fullmatch(self.values[place]):
            raise DatasetError(
                f"{self.where}: {what} {self.values[place][:50]!r}; expected a whole number from 0"
            )
        return int(self.values[place])

    def image(self, name: str, images: Collection[str]) -> str:
        """The image that the line names.

        Args:
            name: its name in the archive, if it is there.
            images: the images that can be meant.

        Raises:
            DatasetError: it is none of them.
        """
        if name not in images:
            raise DatasetError(
                f"{self.where}: there is no image '{name[:200]}' in the source; expected every "
                "image that the list names: is the source whole?"
            )
        return name


def read_list(
    files: Files, member: str, form: str, separator: str | None = None, encoding: str = UTF_8
) -> Iterator[Line]:
    """Yield the lines of a list; empty ones are skipped.

    Args:
        files: all members.
        member: the list.
        form: what a line holds, `path pid`: at least so many values, and for the message.
        separator: what parts the values; None for blanks.
        encoding: of the text.

    Raises:
        DatasetError: a line has too few values or is no line of a list, or there is no line.
    """
    least = len(re.split(r"[ ,;]", form))
    empty = True
    for number, text in enumerate(files.text(member, encoding).split("\n"), start=1):
        values = [value.strip() for value in text[:MAX_LINE].strip().split(separator)]
        if not any(values):
            continue
        where = f"'{member}', line {number}"
        if len(values) < least or len(text) > MAX_LINE:
            raise DatasetError(f"{where}: {text[:80]!r}; expected '{form}'")
        empty = False
        yield Line(where, values)
    if empty:
        raise DatasetError(f"'{member}' lists nothing; expected lines '{form}'")


class Once:
    """A check that no image is listed twice."""

    def __init__(self) -> None:
        """Begin with no image."""
        self.first: dict[str, str] = {}

    def __call__(self, image: str, line: Line) -> str:
        """Note where an image is listed, and return it.

        Raises:
            DatasetError: it was listed before.
        """
        if self.first.setdefault(image, line.where) != line.where:
            raise DatasetError(f"{line.where}: '{image}' stands in {self.first[image]} already")
        return image


def numbers_of(identities: Iterable[str]) -> dict[str, int]:
    """A pid for each identity, from 1 in the order of their names."""
    return {who: pid for pid, who in enumerate(sorted(set(identities)), start=1)}


def refuse_shared(samples: Iterable[Sample]) -> None:
    """Refuse identities that are learned and tested with, where a dataset shares none.

    Raises:
        DatasetError: there is one.
    """
    samples = list(samples)
    learned = {s.pid: s.name for s in samples if s.role in ("train", "val") and s.is_somebody}
    both = next((s for s in samples if s.role in TESTED and s.pid in learned), None)
    if both is not None:
        raise DatasetError(
            f"identity '{both.identity}' is learned ('{learned[both.pid]}') and tested with "
            f"('{both.name}'); expected other identities in the test. If these are others of the "
            "same numbers, renumber them, or write a table (layout: table)"
        )
