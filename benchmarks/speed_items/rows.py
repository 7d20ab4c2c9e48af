"""A row of the table of speeds, and what rates come to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

ROUNDS = 5  # the sides take turns at least so many times
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One comparison: two sides, measured in turns on one machine."""

    what: str  # "whole pipeline over the bare network, 2 ranks, 64×32, batch 16"
    ours: str  # "241 images/s (236 to 245)", as `spread` writes it
    other: str  # the other side; empty where there is none
    ratio: float | None  # ours over the other, where that says something
    target: str  # "at least 0.97"; empty where there is none
    met: bool | None  # None where there is no target
    n: int  # measurements of each side
    conditions: str  # sizes, threads, versions of the peer


def spread(values: Sequence[float], unit: str) -> str:
    """The median, and the 10th to the 90th percentile; least to most of fewer than ten values."""
    low, high = (10, 90) if len(values) >= 10 else (0, 100)
    numbers = np.percentile(values, (50, low, high)).tolist()
    middle, least, most = (shown(number) for number in numbers)
    return f"{middle} {unit} ({least} to {most})"


def compared(
    what: str,
    ours: Sequence[float],
    other: Sequence[float],
    *,
    unit: str,
    conditions: str,
    least: float | None = None,
) -> Row:
    """A row of two sides that took turns, and of the least ratio where there is a target."""
    share = ratio(ours, other)
    return Row(
        what=what,
        ours=spread(ours, unit),
        other=spread(other, unit),
        ratio=share,
        target="" if least is None else f"at least {least}",
        met=None if least is None else share >= least,
        n=len(ours),
        conditions=conditions,
    )


def shown(number: float) -> str:
    """Three digits, or all before the point."""
    if number == 0:
        return "0"
    decimals = max(0, 2 - int(np.floor(np.log10(abs(number)))))
    return f"{number:,.{decimals}f}"


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of ours over the other's, each in the round that it shares with it."""
    return float(np.median(np.divide(ours, other)))


def in_turns(sides: Mapping[str, Callable[[], T]], rounds: int = ROUNDS) -> dict[str, list[T]]:
    """Call each side once a round, a round beginning with another each time: what they returned."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            found[name].append(sides[name]())
    return found


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes, by the clock on the wall."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
