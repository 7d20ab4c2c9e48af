"""A log gets a line now and then, a terminal a bar, and short work nothing."""

import io

import pytest

from deepsort_reid.core import progress
from deepsort_reid.core.progress import Progress, quantity, track


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_short_work_shows_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("decode", 10, "images", stream) as bar:
        clock.now += 1
        bar.advance(10)
    assert stream.getvalue() == ""


def test_a_log_gets_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("decode", 4000, "images", stream) as bar:
        for _ in range(15):
            clock.now += 1
            bar.advance(100)
    assert stream.getvalue().splitlines() == [
        "decode: 5% of 4,000 images, 100 images/s, 38 s left",
        "decode: 30% of 4,000 images, 100 images/s, 28 s left",
    ]


def test_without_a_total(clock: Clock) -> None:
    bar = Progress("fetch", None, "B", io.StringIO())
    clock.now += 2
    bar.advance(5_000_000)
    assert bar.line() == "fetch: 5.0 MB, 2.5 MB/s"


def test_a_terminal_gets_a_bar(clock: Clock) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with Progress("decode", 10, "images", Terminal()) as bar:
        assert bar.bar is not None
        clock.now += 60
        bar.advance(3)
        assert bar.bar.n == 3


def test_tracking_an_iterable() -> None:
    assert list(track(iter("abc"), "letters", 3, "letters")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [(1234, "images", "1,234 images"), (999, "B", "999.0 B"), (31e6, "B", "31.0 MB")],
)
def test_quantities(number: float, unit: str, text: str) -> None:
    assert quantity(number, unit) == text
