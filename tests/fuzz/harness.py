"""Runs the cases: damages a file, has it read, judges the outcome, counts.

A case ends in a clear error (one line that names the file), in the right result, or in anything
else: another exception, a wrong result, code that ran, too much time, too much memory.
"""

import itertools
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from deepsort_reid.core.errors import DeepSortReidError
from tests.fuzz import faults

SECONDS = 10.0  # of processor time, for a case; most take milliseconds
MEMORY = 400 << 20  # bytes by which a case may grow the process

Outcome = Literal["clear error", "right result", "anything else"]
OUTCOMES: tuple[Outcome, ...] = ("clear error", "right result", "anything else")


@dataclass(frozen=True)
class Target:
    """A kind of file that the project reads.

    Attributes:
        name: what the table calls it.
        file: the file's name, which an error must name.
        valid: whole files of the kind, of different content; the first one is damaged.
        read: reads the file at a path, and returns something comparable.
        says: tells by other means what bytes hold, for files that were made whole as they are, and
            for damaged ones of a format without checksums.
        checksums: whether the format has checksums, so that every damage must be noticed.
        beside: other files of the same folder, by name, that belong to the first valid one.
        bombs: files that claim or expand to more than they should, by name.
        errors: what counts as clear; the text need not name the file if it is not our own error.
        share: how many cases of the usual number; fewer of what takes long to read.
    """

    name: str
    file: str
    valid: Sequence[bytes]
    read: Callable[[Path], object]
    says: Callable[[bytes], object] | None = None
    checksums: bool = True
    beside: Mapping[str, bytes] = field(default_factory=dict)
    bombs: Mapping[str, bytes] = field(default_factory=dict)
    errors: tuple[type[Exception], ...] = (DeepSortReidError,)
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """A file to be read, and whether somebody made it so rather than damage it."""

    data: bytes
    made: bool


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and why it is called so."""

    outcome: Outcome
    reason: str


class TooSlowError(BaseException):
    """A case took too long; no `except Exception` may hide it."""


class Table:
    """The outcomes of all cases, by target and kind of fault."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter[Outcome]] = defaultdict(Counter)

    def add(self, target: str, kind: str, outcome: Outcome) -> None:
        """Count a case."""
        self.counts[target, kind][outcome] += 1

    def lines(self) -> Iterator[str]:
        """The table, by kind of fault and by target."""
        for column, title in ((1, "kind of fault"), (0, "target")):
            groups: dict[str, Counter[Outcome]] = defaultdict(Counter)
            for key, counts in self.counts.items():
                groups[key[column]].update(counts)
            yield (
                f"{title:<28} {'cases':>7}"
                + "".join(f"{o + 's':>16}" for o in OUTCOMES[:2])
                + (f"{OUTCOMES[2]:>16}")
            )
            total = Counter[Outcome](sum(groups.values(), Counter()))
            for name, counts in [*groups.items(), ("total", total)]:
                numbers = "".join(f"{counts[outcome]:>16,}" for outcome in OUTCOMES)
                yield f"{name:<28} {counts.total():>7,}{numbers}"
            yield ""


TABLE = Table()


class Bench:
    """Tries damaged files of one target in a folder."""

    def __init__(self, target: Target, folder: Path, strangers: Sequence[bytes] = ()):
        """Read the valid files.

        Args:
            target: what to try.
            folder: an empty one, where code that a file brings along would leave its mark.
            strangers: valid files of other kinds.
        """
        self.target, self.strangers = target, strangers
        self.path = folder / "files" / target.file
        self.path.parent.mkdir(parents=True)
        self.marker = folder / "a pickle ran"
        # What lies beside belongs to the first one alone.
        alone = target.valid[:1] if target.beside else target.valid
        self.rights = {data: self.result(data) for data in alone}

    def result(self, data: bytes) -> object:
        """What the target reads from bytes that stand where its file should."""
        for name, content in {**self.target.beside, self.target.file: data}.items():
            (self.path.parent / name).write_bytes(content)
        return self.target.read(self.path)

    def cases(self, kind: str, count: int) -> Iterator[Case]:
        """The cases of one kind of fault, the same ones each time."""
        first, *others = self.target.valid
        made = {
            "swapped": [*others, *self.strangers],
            "emptied": [b"", bytes(len(first))],
            "malicious pickle": faults.malicious(self.marker),
            "bomb": self.target.bombs.values(),
        }
        for data in made.get(kind, []):
            yield Case(data, made=True)
        if kind in faults.RANDOM:
            for number in range(max(1, round(count * self.target.share))):
                rng = Random(f"{self.target.name}/{kind}/{number}")
                yield Case(faults.RANDOM[kind](first, rng), made=False)

    def judge(self, case: Case) -> Verdict:
        """Have a file read, and say what came of it."""
        before = reset_peak_memory()
        started = time.process_time()
        try:
            with limited(SECONDS):
                result = self.result(case.data)
            verdict = self.judge_result(case, result)
        except self.target.errors as error:
            verdict = self.judge_error(error)
        except TooSlowError:
            verdict = Verdict("anything else", f"took more than {SECONDS} s")
        except Exception as error:  # that is the question
            verdict = Verdict("anything else", f"{type(error).__name__}: {error}")
        grown = peak_memory() - before
        if self.marker.exists():
            self.marker.rmdir()
            return Verdict("anything else", "executed code")
        if grown > MEMORY:
            return Verdict("anything else", f"took {grown >> 20} MiB")
        if time.process_time() - started > SECONDS:
            return Verdict("anything else", f"took more than {SECONDS} s")
        return verdict

    def judge_result(self, case: Case, result: object) -> Verdict:
        """Compare a result with that of the whole file, or with what the bytes say."""
        if result == self.rights.get(case.data, self.rights[self.target.valid[0]]):
            return Verdict("right result", "as of the whole file")
        legitimate = case.made or not self.target.checksums
        if self.target.says and legitimate and result == self.target.says(case.data):
            return Verdict("right result", "what the bytes say")
        return Verdict("anything else", f"wrong result: {str(result)[:200]}")

    def judge_error(self, error: Exception) -> Verdict:
        """Check that an error is one line, and names the file."""
        text = str(error)
        named = self.target.file in text or not isinstance(error, DeepSortReidError)
        if not text or len(text.splitlines()) != 1 or not text.isprintable() or not named:
            return Verdict("anything else", f"unclear {type(error).__name__}: {text[:200]}")
        return Verdict("clear error", text)

    def run(self, kind: str, count: int, table: Table) -> list[str]:
        """Try all cases of a kind; return what was neither a clear error nor a right result."""
        wrong = []
        for number, case in enumerate(self.cases(kind, count)):
            verdict = self.judge(case)
            table.add(self.target.name, kind, verdict.outcome)
            if verdict.outcome == "anything else":
                wrong.append(f"case {number}: {verdict.reason}")
        return wrong


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooSlowError in a block that takes more processor time."""

    def stop(*_: object) -> None:
        raise TooSlowError

    # Not SIGALRM, which pytest-timeout uses.
    older = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, older)


def reset_peak_memory() -> int:
    """Forget the highest memory use so far; return the present one, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """The highest memory use since it was reset, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = itertools.islice((line for line in lines if line.startswith("VmHWM")), 1)
    return int(line.split()[1]) * 1024
