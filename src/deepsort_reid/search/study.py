"""The study: every trial of a search with its values and its score, in a database of Optuna's."""

import hashlib
import json
import socket
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from deepsort_reid.core import files
from deepsort_reid.core.errors import SearchError, one_line, shortened
from deepsort_reid.core.secrets import masked
from deepsort_reid.runs.mlflow.failures import reason
from deepsort_reid.runs.mlflow.store import quoted
from deepsort_reid.runs.names import flattened

MADE_OF, RUN = "made_of", "run"  # attributes of a study
VALUES, REASON, PLACE, SECONDS, CODE = "values", "reason", "place", "seconds", "code"  # of a trial
SEVERAL = "several"  # the code of a trial that was interrupted, and ended under another one
ARITHMETIC = "arithmetic"  # what a CPU has chosen for a trial by a measurement
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
AGAIN = 2.0  # seconds before a second try to open a database
STARTUP = 5  # finished trials before any is pruned
WARM_UP = 1 / 3  # share of the epochs before which no trial is pruned
KEPT = 75.0  # per cent of the trials; docs/search.md has what a median would have cost


class Study:
    """A study, and this search's part in it.

    Attributes:
        name: the study's.
        place: names the search's folder where others may share the study; empty if none can.
        optuna: Optuna's own study.
    """

    def __init__(self, folder: Path, name: str, url: str | None, *, seed: int, epochs: int | None):
        """Open a study, or begin it.

        Args:
            folder: of the search; the study lies in it if no URL is given.
            name: the study's.
            url: of a database that several machines may share.
            seed: of the draws.
            epochs: of a trial; None prunes none.

        Raises:
            SearchError: the database cannot be opened.
        """
        self.name = name
        self.place = place_of(folder) if url else ""
        self.address = url or f"sqlite:///{quoted(folder / 'study.db')}"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.answering():
            try:
                self.optuna = opened(self.address, name, seed, epochs)
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                time.sleep(AGAIN)  # another search has made the tables at the same moment
                self.optuna = opened(self.address, name, seed, epochs)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Let a fault of the database be one line.

        Raises:
            SearchError: the database cannot be opened, or fails.
        """
        try:
            yield
        except ImportError:
            raise SearchError(
                f"study {masked(self.address)}: the package for this database is not installed; "
                "for postgresql: uv sync --extra postgres"
            ) from None
        except (OptunaError, sqlalchemy.exc.SQLAlchemyError) as error:
            raise SearchError(
                f"study {masked(self.address)} cannot be used: {why(error)}; once it answers, the "
                "same command goes on"
            ) from error

    def bind(self, made_of: Mapping[str, Any]) -> None:
        """Note what all trials have in common, or compare it with what is noted.

        Raises:
            SearchError: something else was noted, so that the trials could not be compared.
        """
        here = json.loads(json.dumps(made_of))
        known = self.optuna.user_attrs.get(MADE_OF, {})
        for part in here:
            if part in known and (others := different(known[part], here[part])):
                raise SearchError(
                    f"study {self.name!r} was begun with {part} {others}; go back to that, or "
                    "begin another: --study NAME"
                )
        self.optuna.set_user_attr(MADE_OF, {**known, **here})

    def run_key(self, new: str) -> str:
        """The key of this search's run: the one that is noted, else a new one."""
        name = f"{RUN} {self.place}".strip()
        if name not in self.optuna.user_attrs:
            self.optuna.set_user_attr(name, new)
        return str(self.optuna.user_attrs[name])

    # Trials

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.optuna.get_trials(deepcopy=False)

    def ended(self) -> list[FrozenTrial]:
        """The trials that count: they have a score, or were pruned."""
        return [trial for trial in self.trials() if trial.state in ENDED]

    def count(self) -> int:
        """How many trials count, with those in flight."""
        return len(self.ended()) + len(self.in_flight())

    def elsewhere(self) -> list[FrozenTrial]:
        """The trials that another search has in flight, or has left."""
        return [trial for trial in self.in_flight() if not self.is_mine(trial)]

    def left(self) -> list[FrozenTrial]:
        """The trials that this search has in flight, or has left when it was killed."""
        return [trial for trial in self.in_flight() if self.is_mine(trial)]

    def in_flight(self) -> list[FrozenTrial]:
        """The trials without an end."""
        return [trial for trial in self.trials() if trial.state == TrialState.RUNNING]

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Whether a trial is this search's; alone, all are."""
        return not self.place or trial.user_attrs.get(PLACE) == self.place

    def ask(self) -> Trial:
        """Begin a trial, which is this search's from the first moment on."""
        new = create_trial(state=TrialState.RUNNING, user_attrs={PLACE: self.place})
        self.optuna.add_trial(new)
        return self.take_up(self.left()[-1])

    def take_up(self, trial: FrozenTrial) -> Trial:
        """A trial that was left, to go on with."""
        return Trial(self.optuna, trial._trial_id)

    def report(self, trial: Trial, points: list[tuple[int, float]]) -> bool:
        """Note points of a trial's curve, in order; return whether it is to be pruned."""
        known = self.trials()[trial.number].intermediate_values
        if known and trial.should_prune():  # a search that was killed may not have come to it
            return True
        for step, value in points:
            if step not in known:
                trial.report(value, step)
                if trial.should_prune():
                    return True
        return False

    def tell(self, trial: Trial, score: float, seconds: float = 0.0) -> None:
        """End a trial with its score."""
        trial.set_user_attr(SECONDS, round(seconds, 1))
        self.optuna.tell(trial, score)

    def prune(self, trial: Trial, why: str, seconds: float = 0.0) -> None:
        """End a trial without a score."""
        trial.set_user_attr(REASON, why)
        trial.set_user_attr(SECONDS, round(seconds, 1))
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, why: str) -> None:
        """End a trial that is no result and does not count."""
        trial.set_user_attr(REASON, why)
        self.optuna.tell(trial, state=TrialState.FAIL)

    def best(self) -> FrozenTrial | None:
        """The trial with the highest score, the first of equals; None without a score."""
        scored = [trial for trial in self.ended() if trial.state == TrialState.COMPLETE]
        return max(scored, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def is_surplus(self, trial: Trial, total: int) -> bool:
        """Whether another search began the last of the wanted trials at the same moment."""
        before = [one for one in self.in_flight() if one.number < trial.number]
        return bool(self.place) and len(self.ended()) + len(before) >= total

    def same(self, values: Mapping[str, Any]) -> FrozenTrial | None:
        """A trial of these values that has ended."""
        wanted = json.loads(json.dumps(values))
        return next((t for t in self.ended() if t.user_attrs.get(VALUES) == wanted), None)


class Sampler(optuna.samplers.TPESampler):
    """TPE, seeded by trial and parameter.

    A draw depends on the seed and on the other trials, and not on whether this search was
    interrupted before it. Searches that draw at the same moment draw different values, since their
    trials have different numbers. Nothing is drawn near the values of trials in flight.
    """

    def __init__(self, seed: int):
        """Draw nothing yet."""
        self.seed = seed
        super().__init__()

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> Any:
        """A trial's value of a parameter."""
        text = f"{self.seed} {trial.number} {param_name}"
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            tpe = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return tpe.sample_independent(study, trial, param_name, param_distribution)


def place_of(folder: Path) -> str:
    """The name of a search's folder among those that share a study; it stays when the host changes.

    It begins with the host on which the folder was made, so that people can tell it.
    """
    path = folder / PLACE
    if not path.exists():
        files.write_text(path, f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}\n")
    return path.read_text(encoding="utf-8").strip()


def opened(address: str, name: str, seed: int, epochs: int | None) -> optuna.Study:
    """Optuna's study of this name in a database, begun if it is not there."""
    return optuna.create_study(
        storage=address,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        sampler=Sampler(seed),
        pruner=pruner(epochs),
    )


def tags_of(trial: FrozenTrial) -> dict[str, str]:
    """What became of a trial, as its run says it; nothing while it is in flight."""
    if not trial.state.is_finished():
        return {}
    state = "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
    reason = trial.user_attrs.get(REASON)
    return {"trial_state": state, **({"trial_reason": reason} if reason else {})}


def pruner(epochs: int | None) -> optuna.pruners.BasePruner:
    """What prunes: being in the lowest quarter of the finished trials; None prunes none."""
    if epochs is None:
        return optuna.pruners.NopPruner()
    first = max(1, round(WARM_UP * epochs))
    return optuna.pruners.PercentilePruner(KEPT, STARTUP, n_warmup_steps=first)


def different(known: Any, here: Any) -> str:
    """What differs, in a few words; empty if nothing does."""
    old, new = (
        flattened(side) if isinstance(side, Mapping) else {"": side} for side in (known, here)
    )
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            label = f"{name}=" if name else ""
            return f"{label}{shown(old, name)}, and here is {label}{shown(new, name)}"
    return ""


def shown(table: Mapping[str, Any], name: str) -> str:
    """A value, or that there is none; the beginning of a checksum."""
    return shortened(table.get(name, "(nothing)"))


def why(error: BaseException) -> str:
    """The first line of what a database says."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return one_line(reason(cause).partition(" (Background")[0])


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a search.

    Raises:
        SearchError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "search.lock", timeout=0):
            yield
    except Timeout:
        raise SearchError(
            f"study {name!r} is being searched by another process here; wait for it, or begin "
            "another: --study NAME"
        ) from None
