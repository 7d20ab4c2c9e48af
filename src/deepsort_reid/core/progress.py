"""A bar in a terminal, a plain line every few seconds in a log."""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

DELAY = 2.0  # seconds before anything shows: shorter work needs no bar
INTERVAL = 10.0  # seconds between two lines of a log


class Progress:
    """Counts towards a total, and shows rate and time left once it takes over two seconds."""

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        stream: TextIO | None = None,
        *,
        shown: bool = True,
    ):
        """Start counting.

        Args:
            what: what is being done, "decode" or "epoch 3/10".
            total: how many units there are; None where nobody knows.
            unit: the unit's name, "images"; "B" is shown with its SI prefix.
            stream: where to show it; standard error by default.
            shown: whether to show anything, which one of several ranks does.
        """
        self.what, self.total, self.unit = what, total, unit
        self.stream = stream or sys.stderr
        self.count = 0
        self.started = time.monotonic()
        self.next_line = self.started + DELAY if shown else math.inf
        self.bar = self.make_bar() if shown and self.stream.isatty() else None

    def make_bar(self) -> Any:
        """A bar of tqdm; None where tqdm is not installed, which the use of a network needs not."""
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return None
        return tqdm(
            total=self.total,
            desc=self.what,
            unit=self.unit if self.unit == "B" else f" {self.unit}",
            unit_scale=self.unit == "B",
            delay=DELAY,
            leave=False,
            file=self.stream,
        )

    def advance(self, units: int = 1) -> None:
        """Count some more units."""
        self.count += units
        if self.bar is not None:
            self.bar.update(units)
        elif time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + INTERVAL
            print(self.line(), file=self.stream, flush=True)

    def line(self) -> str:
        """The state in one line: `decode: 3% of 36,036 images, 410 images/s, 85 s left`."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        rate = self.count / elapsed
        speed = f"{quantity(rate, self.unit)}/s"
        if self.total is None:
            return f"{self.what}: {quantity(self.count, self.unit)}, {speed}"
        left = (self.total - self.count) / rate if rate > 0 else float("inf")
        done = f"{self.count / max(self.total, 1):.0%} of {quantity(self.total, self.unit)}"
        return f"{self.what}: {done}, {speed}, {left:.0f} s left"

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def track(items: Iterable[T], what: str, total: int | None, unit: str) -> Iterator[T]:
    """Yield the items, counting each one."""
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def quantity(number: float, unit: str) -> str:
    """A number with its unit: `1,200 images`, `31.0 MB`."""
    if unit != "B":
        return f"{number:,.0f} {unit}"
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.1f} {prefix}B"
        number /= 1000
    return f"{number:.1f} TB"
