"""Texts with a line for each box: their numbers, and the line that does not fit."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import SourceError
from deepsort_reid.core.progress import quantity

MAX_TEXTS = 256 << 20  # bytes of all tables together; MOT20 has 60 MB
MAX_LINE = 1000  # characters of one box
MAX_WHOLE = 2**53  # beyond it, not every whole number is a float64
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)


def check_total(total: int, label: str) -> None:
    """Refuse annotations that together are larger than any should be.

    Raises:
        SourceError: they are.
    """
    if total > MAX_TEXTS:
        raise SourceError(
            f"{label}: the tables of its sequences have more than {quantity(MAX_TEXTS, 'B')}; "
            "use fewer sequences at a time"
        )


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers of a file, a row for each line."""

    values: NDArray[np.float64]  # (N, columns)
    where: str

    def whole(self, column: int, what: str) -> NDArray[np.int64]:
        """A column of whole numbers."""
        values = self.values[:, column]
        good = (values == np.rint(values)) & (np.abs(values) <= MAX_WHOLE)
        self.demand(good, f"column {column + 1} is the {what}; expected a whole number")
        return np.where(good, values, 0).astype(np.int64)

    def demand(self, good: NDArray[np.bool_], message: str) -> None:
        """Raise with the number of the first line that is not good."""
        if not good.all():
            raise SourceError(f"{self.where}, line {int(np.argmin(good)) + 1}: {message}")


@dataclass(frozen=True)
class Columns:
    """What the lines of a table hold, between commas."""

    least: int  # how many columns there are
    most: int
    names: str  # of the first ones, for messages

    @property
    def count(self) -> str:
        """How many there may be, as a text."""
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


def decoded(data: bytes, where: str) -> str:
    """The text of a file, without a byte order mark, Windows' line ends and blank lines at its end.

    Raises:
        SourceError: it is no text in UTF-8.
    """
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").rstrip()
    except UnicodeDecodeError:
        raise SourceError(f"{where}: is no text in UTF-8; write it as plain text") from None


def numbers(data: bytes, where: str, columns: Columns) -> Table:
    """The finite numbers of a table; (0, least) of an empty file.

    Raises:
        SourceError: a line has another number of columns, or a field is no finite number.
    """
    text = decoded(data, where)
    if not text:
        return Table(np.zeros((0, columns.least)), where)
    try:
        values = np.loadtxt(lines(text, where, columns), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        explain(text, where, columns)
        raise SourceError(f"{where}: is no table of numbers ({error})") from None
    table = Table(values, where)
    table.demand(np.isfinite(values).min(axis=1), "NaN or infinite; expected finite numbers")
    return table


def lines(text: str, where: str, columns: Columns) -> Iterator[str]:
    """Yield the lines of a table, each as long and with as many columns as it should have."""
    first = text.partition("\n")[0].count(",") + 1
    expected = f"{first}, as in line 1"
    if not columns.least <= first <= columns.most:
        expected = f"{columns.count}: {columns.names}, …"
    for number, line in whole_lines(text, where, columns.names):
        count = line.count(",") + 1
        if count != first or not columns.least <= count <= columns.most:
            shown = f"{count} column{'' if count == 1 else 's'}"
            raise SourceError(
                f"{where}, line {number}: {shown} between commas; expected {expected}"
            )
        yield line


def whole_lines(
    text: str, where: str, names: str, most: int = MAX_LINE
) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line.

    Raises:
        SourceError: a line is empty or too long.
    """
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if len(line) > most or not line.strip():
            fault = "an empty line" if not line.strip() else f"more than {most} characters"
            raise SourceError(f"{where}, line {number}: {fault}; expected a box: {names}, …")
        yield number, line


def explain(text: str, where: str, columns: Columns) -> None:
    """Raise for the first field that is no number, if there is one."""
    for number, line in enumerate(lines(text, where, columns), start=1):
        for column, value in enumerate(line.split(","), start=1):
            if not NUMBER.fullmatch(value):
                raise SourceError(
                    f"{where}, line {number}: column {column} is {value.strip()[:50]!r}; "
                    "expected a finite number"
                )


def finite(text: str, what: str, where: str) -> float:
    """A finite number.

    Args:
        text: what should be one.
        what: it is, in the error.
        where: it stands, in the error.

    Raises:
        SourceError: it is none.
    """
    value = float(text) if len(text) < MAX_LINE and NUMBER.fullmatch(text) else np.nan
    if not np.isfinite(value):
        raise SourceError(f"{where}: {what} is {text.strip()[:50]!r}; expected a finite number")
    return float(value)


def whole(text: str, what: str, where: str) -> int:
    """A whole number; see `finite`."""
    value = finite(text, what, where)
    if value != int(value) or abs(value) > MAX_WHOLE:
        raise SourceError(f"{where}: {what} is {text.strip()[:50]!r}; expected a whole number")
    return int(value)
