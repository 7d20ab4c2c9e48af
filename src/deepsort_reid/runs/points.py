"""Points of curves in a CSV file that is only ever appended to."""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)


class Point(NamedTuple):
    """One point of a curve."""

    time: int  # milliseconds since 1970
    step: int | None  # None for a number of the finished network
    name: str
    value: float

    def line(self) -> str:
        """The point as a line of the file."""
        return f"{self.time},{'' if self.step is None else self.step},{self.name},{self.value!r}\n"


class Points:
    """The points of a file, which other processes may append to as well."""

    def __init__(self, path: Path, writing: Callable[[], AbstractContextManager[None]]):
        """Read nothing yet.

        Args:
            path: the file; made by the first point.
            writing: gives the lock that is held while the file is written to.
        """
        self.path, self.writing = path, writing
        self.points: list[Point] = []
        self.known: dict[tuple[str, int | None], float] = {}  # the last value of each
        self.size = 0  # bytes that were read

    def read(self) -> list[Point]:
        """All points, in the order in which they were written.

        The last line may be torn, by a process that was killed or is writing: it is left out. A
        damaged line is left out with a warning.
        """
        if not self.path.exists():
            return self.points
        with self.path.open("rb") as file:
            file.seek(self.size)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self.size += len(data)
        parsed = [parse(line) for line in data.split(b"\n")[:-1]]
        new = [point for point in parsed if point is not None]
        self.points = [*self.points, *new]
        self.known |= {(point.name, point.step): point.value for point in new}
        if len(new) < len(parsed):
            damaged = len(parsed) - len(new)
            logger.warning("%s: %d of its lines are damaged, and skipped", self.path, damaged)
        return self.points

    def add(self, points: Sequence[Point], *, sync: bool = True) -> None:
        """Append those points that are not there, to stay whatever happens from then on.

        A curve has one point for each step, the first: a training that goes on from an earlier
        epoch measures the same again, but for its speed. A number without a step is appended when
        it has changed.

        Args:
            points: in order.
            sync: False does not wait for the disk.

        Raises:
            OSError: the disk is full. The file is as it was.
        """
        with self.writing():
            self.read()
            lines = "".join(point.line() for point in points if not self._has(point))
            if lines:
                self._append(lines.encode(), sync=sync)

    def next_step(self) -> int:
        """The step after the last."""
        return 1 + max((point.step or 0 for point in self.read()), default=-1)

    def _has(self, point: Point) -> bool:
        value = self.known.get((point.name, point.step))
        # As text, since a number that is none does not equal itself.
        return value is not None and (point.step is not None or repr(value) == repr(point.value))

    def _append(self, data: bytes, *, sync: bool) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.fstat(file).st_size > self.size:  # a torn last line
                os.ftruncate(file, self.size)
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(file)
        except OSError as error:
            os.ftruncate(file, self.size)
            error.filename = error.filename or str(self.path)
            raise
        finally:
            os.close(file)


def parse(line: bytes) -> Point | None:
    """The point that a line states; None if it is damaged."""
    try:
        time, step, name, value = line.decode().split(",")
        return Point(int(time), int(step) if step else None, name, float(value))
    except ValueError:
        return None
