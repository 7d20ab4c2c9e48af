"""A search: trials are drawn, begun, watched, pruned and scored, until there are enough."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import Trial, TrialState

from deepsort_reid.core.errors import ConfigError, SearchError
from deepsort_reid.search.devices import Slot
from deepsort_reid.search.space import Space
from deepsort_reid.search.study import ARITHMETIC, CODE, REASON, SEVERAL, VALUES, Study, tags_of
from deepsort_reid.search.trial import Failure, Points

logger = logging.getLogger(__name__)

POLL = 0.5  # seconds between two looks at the trials
LEAVE = 6.0  # seconds that the trials have to end when the search does
MOST_FAILURES = 3  # trials in a row that fail, or that run out of memory


class Job(Protocol):
    """A trial that runs; see `trial.Running`."""

    failure: Failure | None

    @property
    def seconds(self) -> float:
        """How long it has run."""

    def advance(self) -> bool:
        """Go on; return whether it is over."""

    def curve(self) -> Points:
        """The mAP of each epoch so far."""

    def score(self) -> float | None:
        """The mAP of the finished network."""

    def chosen(self) -> str | None:
        """The arithmetic that it has chosen by a measurement; None: there was no choice."""

    def stop(self) -> None:
        """Tell it to end."""

    def wait(self, seconds: float) -> None:
        """Wait at most so long for its end."""

    def conclude(self, tags: Mapping[str, object]) -> None:
        """Tell its run what became of it."""


Begin = Callable[[int, Mapping[str, Any], Slot], Job]


@dataclass(eq=False)
class InFlight:
    """A trial, and what runs for it."""

    trial: Trial
    values: Mapping[str, Any]
    job: Job
    slot: Slot
    points: int = -1  # of its curve that were noted
    has_ended: bool = False  # for the study; its process may still be leaving


class Search:
    """Runs the trials of a study until it has as many as wanted."""

    def __init__(
        self,
        study: Study,
        space: Space,
        *,
        slots: list[Slot],
        begin: Begin,
        total: int,
        code: Callable[[], str] = lambda: "",
        on_end: Callable[[], None] = lambda: None,
    ):
        """Run nothing yet.

        Args:
            study: keeps the trials.
            space: what is searched.
            slots: a trial at a time runs on each.
            begin: begins a trial with all parameters on a slot, or goes on with it.
            total: trials that the study shall have.
            code: a checksum of what trains and measures, kept with each trial.
            on_end: called when a trial has ended.
        """
        self.study, self.space, self.slots = study, space, slots
        self.begin, self.total, self.code, self.on_end = begin, total, code, on_end
        self.running: list[InFlight] = []
        self.waiting: list[tuple[Trial, bool]] = []  # for one with the same values; whether new
        self.failures, self.last_failure = 0, ""

    def run(self) -> None:
        """Run until there are enough trials.

        Raises:
            SearchError: several trials in a row have failed, or the study's database fails.
        """
        try:
            with self.study.answering():
                self.go_on()
                while self.fill() or self.running:
                    time.sleep(POLL)
                    self.watch()
        finally:
            self.leave()

    # Beginning

    def go_on(self) -> None:
        """Go on with the trials that a search has left."""
        for left in self.study.left():
            while not self.free_slots():
                time.sleep(POLL)
                self.watch()
            self.start(self.study.take_up(left), is_new=False)

    def fill(self) -> bool:
        """Begin trials as long as there are a slot and too few; return whether one was begun.

        None is drawn while one waits: its score, or the slot, is there soon.
        """
        has_begun = False
        waiting, self.waiting = self.waiting, []
        for trial, is_new in waiting:
            self.start(trial, is_new=is_new)
        while not self.waiting and self.free_slots() and self.study.count() < self.total:
            trial = self.study.ask()
            if self.study.is_surplus(trial, self.total):
                self.study.fail(trial, "one more than wanted")
                continue
            self.start(trial, is_new=True)
            has_begun = True
        return has_begun

    def free_slots(self) -> list[Slot]:
        """The slots on which no trial runs."""
        return [slot for slot in self.slots if slot not in [one.slot for one in self.running]]

    def start(self, trial: Trial, *, is_new: bool) -> None:
        """Begin a trial, unless its values cannot work, or were or are being tried."""
        values = self.space.draw(trial)
        trial.set_user_attr(VALUES, values)
        if self.repeats(trial, values):
            return
        if not self.free_slots() or self.is_tried(values):
            self.waiting.append((trial, is_new))
            return
        self.note_code(trial)
        try:
            params = self.space.params_of(values)
        except ConfigError as error:
            self.study.prune(trial, f"does not go together: {error}")
            self.say(trial, f"left out: {error}")
            return
        self.say(trial, f"{'begins' if is_new else 'goes on'}: {spelled(values)}")
        slot = self.free_slots()[0]
        self.running.append(InFlight(trial, values, self.begin(trial.number, params, slot), slot))

    def note_code(self, trial: Trial) -> None:
        """Keep the present code with a trial; if it has another, no code has made all of it."""
        here = self.code()
        known = trial.user_attrs.get(CODE, here)
        trial.set_user_attr(CODE, here if known == here else SEVERAL)

    def is_tried(self, values: Mapping[str, Any]) -> bool:
        """Whether a trial with these values runs."""
        return any(one.values == values for one in self.running if not one.has_ended)

    def repeats(self, trial: Trial, values: Mapping[str, Any]) -> bool:
        """End a trial at once if one with the same values has ended, and say so."""
        before = self.study.same(values)
        if before is None:
            return False
        trial.set_user_attr(CODE, before.user_attrs.get(CODE, ""))
        reason = f"same values as trial {before.number}"
        if before.state == TrialState.COMPLETE and before.value is not None:
            trial.set_user_attr(REASON, reason)
            self.study.tell(trial, before.value)
        else:
            self.study.prune(trial, reason)
        self.say(trial, f"not run: {reason}")
        return True

    # Watching

    def watch(self) -> None:
        """Note the trials' curves, and end those that are over or to be pruned."""
        for one in list(self.running):
            is_over = one.job.advance()
            if not one.has_ended:
                self.judge(one, is_over=is_over)
            if is_over:
                self.running.remove(one)
                one.job.conclude(tags_of(self.study.trials()[one.trial.number]))
                self.on_end()
        if self.failures >= MOST_FAILURES:
            raise SearchError(
                f"{self.failures} trials in a row have failed or ran out of memory; the last one: "
                f"{self.last_failure}; mend it, and the same command goes on"
            )

    def judge(self, one: InFlight, *, is_over: bool) -> None:
        """Prune a trial by its curve, or end it if it is over."""
        # The whole curve first: what is pruned must not depend on how often this process looks.
        points = one.job.curve()
        is_new, one.points = len(points) != one.points, len(points)
        if is_new and self.study.report(one.trial, points):
            epoch, value = self.last_point(one.trial)
            self.prune(one, f"{value:.1%} mAP at epoch {epoch}, in the lowest quarter until there")
            one.job.stop()
        elif is_over and one.job.failure is not None:
            self.fail(one, one.job.failure)
        elif is_over:
            self.score(one)

    def last_point(self, trial: Trial) -> tuple[int, float]:
        """The last point of a trial's curve that was noted."""
        known = self.study.trials()[trial.number].intermediate_values
        epoch = max(known)
        return epoch, known[epoch]

    def score(self, one: InFlight) -> None:
        """End a trial with its score."""
        score = one.job.score()
        if score is None:
            self.fail(one, Failure("nothing could be measured", is_result=False))
            return
        self.note_code(one.trial)
        before = self.study.best()
        if chosen := one.job.chosen():
            one.trial.set_user_attr(ARITHMETIC, chosen)
        self.study.tell(one.trial, score, one.job.seconds)
        is_best = before is None or score > (before.value or 0.0)
        self.failures, one.has_ended = 0, True
        best = ", the best so far" if is_best else ""
        self.say(one.trial, f"{score:.1%} mAP in {one.job.seconds:.0f} s{best}")

    def fail(self, one: InFlight, failure: Failure) -> None:
        """End a trial that has failed: a result if its parameters are at fault."""
        if failure.is_result:
            before = self.failures
            self.prune(one, failure.reason)
            if failure.is_memory:  # which another program may have taken
                self.failures, self.last_failure = before + 1, failure.reason
            return
        self.study.fail(one.trial, failure.reason)
        self.failures, self.last_failure, one.has_ended = self.failures + 1, failure.reason, True
        self.say(one.trial, f"failed, and does not count: {failure.reason}")

    def prune(self, one: InFlight, reason: str) -> None:
        """End a trial without a score, which counts."""
        self.study.prune(one.trial, reason, one.job.seconds)
        self.failures, one.has_ended = 0, True
        self.say(one.trial, f"pruned: {reason}")

    def say(self, trial: Trial, text: str) -> None:
        """Log what becomes of a trial."""
        logger.info("trial %d %s", trial.number, text)

    def leave(self) -> None:
        """End what runs; the next search goes on with it."""
        if self.running:
            count = len(self.running) + len(self.waiting)
            logger.info("%d in flight: the same command goes on", count)
        for one in self.running:
            one.job.stop()
        deadline = time.monotonic() + LEAVE
        for one in self.running:
            one.job.wait(max(0.0, deadline - time.monotonic()))


def spelled(values: Mapping[str, Any]) -> str:
    """Values in a line."""
    return " ".join(f"{name}={value}" for name, value in values.items())
