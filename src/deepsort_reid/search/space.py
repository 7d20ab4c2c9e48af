"""search.yaml: which parameters vary, in which range or among which values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import optuna
from pydantic import Field, ValidationError, create_model

from deepsort_reid.core import config
from deepsort_reid.core.config import SECTIONS, TrainConfig
from deepsort_reid.core.config_errors import explain, most_telling
from deepsort_reid.core.errors import ConfigError, nearest_hint
from deepsort_reid.core.section import Section
from deepsort_reid.core.yaml_file import read_yaml, show

DIGITS = 3  # of a number that is drawn from a range, so that the command can be read
TRIES = 200  # combinations drawn to see whether any of them can work
RANGE = "{low: 0.001, high: 0.1}"
FORMS = f"a range such as {RANGE}, or a list of values such as [16, 32]"
REFUSED = {  # parameters of the training -> why they are not searched
    "nnodes": "a trial runs on one machine",
    "nproc_per_node": "it says how many GPUs a trial gets",
    "num_workers": "it changes no result",
    "deterministic": "without it no number comes out again",
    "seed": "the best of several seeds is luck, which another seed does not have",
}
Plain = bool | int | float | str | None


class SearchConfig(Section):
    """search.yaml."""

    tune_fraction: float = Field(gt=0, lt=1)
    pruning: bool
    seed: int = Field(ge=0)
    parameters: Mapping[str, Any]


class Bounds(Section):
    """A range as search.yaml states it."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        log: whether the logarithm is drawn evenly.
        step: between the numbers; None: any number is drawn.
        is_whole: whether these are whole numbers.
    """

    key: str
    low: float
    high: float
    log: bool
    step: float | None
    is_whole: bool

    def draw(self, trial: optuna.Trial) -> Any:
        """The trial's value, of a few digits; the same one whenever it is asked for."""
        if self.is_whole:
            step, low, high = int(self.step or 1), int(self.low), int(self.high)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        value = trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        digits = 10 if self.step else DIGITS  # with a step, these are errors of rounding
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    values: tuple[Any, ...]

    def draw(self, trial: optuna.Trial) -> Any:
        """The trial's value; the same one whenever it is asked for."""
        # Optuna keeps plain values alone; a list is kept as params.yaml spells it.
        names = [one if isinstance(one, Plain) else show(one) for one in self.values]
        return self.values[names.index(trial.suggest_categorical(self.key, names))]


@dataclass(frozen=True)
class Space:
    """What is searched, in the parameters that everything else is taken from.

    Attributes:
        config: search.yaml.
        params: params.yaml as read, with the search's `split.tune_fraction`, and without what no
            trial is compared by: other datasets, other ways to rank.
        dimensions: the parameters that vary.
    """

    config: SearchConfig
    params: Mapping[str, Any]
    dimensions: tuple[Range | Choice, ...]

    @cached_property
    def keys(self) -> list[str]:
        """The parameters that vary."""
        return [dimension.key for dimension in self.dimensions]

    @property
    def epochs(self) -> int | None:
        """The epochs by which trials are pruned; None: none is, also where they vary."""
        is_pruned = self.config.pruning and "epochs" not in self.keys
        return int(self.params["epochs"]) if is_pruned else None

    def draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """A trial's values; what was drawn for it before stays."""
        return {dimension.key: dimension.draw(trial) for dimension in self.dimensions}

    def params_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with a trial's values, as params.yaml nests them.

        Raises:
            ConfigError: the values do not go together.
        """
        params = {**self.params, **values}
        config.parse(params)
        return params

    def changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial with these values has beside params.yaml, by names with dots."""
        return {"split.tune_fraction": self.config.tune_fraction, **values}


def read_space(path: Path, params: Path) -> Space:
    """Read search.yaml, and check all that can be checked before a trial begins.

    Raises:
        ConfigError: either file cannot be read, a parameter is unknown or not to be searched, a
            value is not allowed, or no combination of the values can work; one line.
    """
    if (nnodes := config.load_params(params).train.nnodes) > 1:
        raise ConfigError(f"{params}: nnodes={nnodes}, but a search's trial runs on one machine")
    stated, raw = read_yaml(path), read_yaml(params)
    try:
        found = checked(stated)
        dimensions = tuple(dimension(key, value) for key, value in found.parameters.items())
        if not dimensions:
            raise ConfigError(f"parameters: names none; expected names, each with {FORMS}")
        split = {**raw["split"], "tune_fraction": found.tune_fraction}
        evaluate = {**raw["evaluate"], "also": [], "flip": False, "rerank": False}
        space = Space(found, {**raw, "split": split, "evaluate": evaluate}, dimensions)
        check_that_any_works(space)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return space


def checked(stated: Mapping[str, Any]) -> SearchConfig:
    """The sections of search.yaml.

    Raises:
        ConfigError: a key is unknown or missing, or of the wrong type.
    """
    try:
        return SearchConfig.model_validate(stated)
    except ValidationError as error:
        fault = most_telling(error.errors(include_url=False))
        raise ConfigError(explain(fault, SearchConfig)) from None


def dimension(key: object, stated: Any) -> Range | Choice:
    """A parameter of search.yaml.

    Raises:
        ConfigError: it is no parameter, it is not to be searched, or not by these values.
    """
    check_key(str(key))
    name = str(key)
    try:
        if isinstance(stated, list):
            return choice(name, stated)
        if isinstance(stated, dict):
            return range_of(name, stated)
    except ConfigError as error:
        raise ConfigError(f"parameters.{name}: {error}") from None
    raise ConfigError(f"parameters.{name}={show(stated)} must be {FORMS}")


def check_key(key: str) -> None:
    """Refuse what is no parameter of the training.

    Raises:
        ConfigError: it is not.
    """
    if key in REFUSED:
        raise ConfigError(f"parameters: '{key}' is not searched: {REFUSED[key]}")
    known = [name for name in TrainConfig.model_fields if name not in REFUSED]
    if key in known:
        return
    if key in config.meanings() or key in SECTIONS:
        raise ConfigError(
            f"parameters: '{key}' is not searched: all trials share one split and one measure, and "
            f"differ in the training alone; known: {', '.join(known)}"
        )
    raise ConfigError(f"parameters: unknown key '{key}'; {nearest_hint(key, known)}")


def choice(key: str, values: list[Any]) -> Choice:
    """A list of values.

    Raises:
        ConfigError: one is not allowed or stands twice, or there are fewer than two.
    """
    for value in values:
        check_value(key, value)
    if len(values) < 2:
        raise ConfigError(
            f"{show(values)} leaves nothing to choose; expected at least two values, or {RANGE}; a "
            "fixed value stands in params.yaml"
        )
    spelled = [show(value) for value in values]
    if twice := next((one for one in spelled if spelled.count(one) > 1), None):
        raise ConfigError(f"{twice} stands twice")
    return Choice(key, tuple(values))


def range_of(key: str, stated: Mapping[str, Any]) -> Range:
    """A range.

    Raises:
        ConfigError: it is none, a bound is not allowed, or the parameter is no number.
    """
    kinds = {*get_args(TrainConfig.model_fields[key].annotation)} or {
        TrainConfig.model_fields[key].annotation
    }
    if not kinds & {int, float} or get_origin(TrainConfig.model_fields[key].annotation) is Literal:
        raise ConfigError(f"{show(stated)} is a range, but {key} is no number; expected a list")
    try:
        bounds = Bounds.model_validate(stated)
    except ValidationError as error:
        raise ConfigError(explain(most_telling(error.errors(include_url=False)), Bounds)) from None
    for name in ("low", "high"):
        check_value(key, stated[name])
    if not bounds.low < bounds.high:
        raise ConfigError(f"low={show(stated['low'])} must be below high={show(stated['high'])}")
    is_whole, step = int in kinds, bounds.step
    if bounds.log and (step is not None or bounds.low <= 0):
        raise ConfigError("log=true needs a low above 0, and no step")
    if step is not None:
        check_step(stated, step, (bounds.high - bounds.low) / step, is_whole=is_whole)
    return Range(key, bounds.low, bounds.high, bounds.log, step, is_whole)


def check_step(stated: Mapping[str, Any], step: float, steps: float, *, is_whole: bool) -> None:
    """Refuse a step that does not lead from low to high.

    Raises:
        ConfigError: it does not, or is no whole number where the values are.
    """
    if is_whole and step != int(step):
        raise ConfigError(f"step={show(stated['step'])} must be a whole number")
    if not math.isclose(steps, round(steps), abs_tol=1e-9) or round(steps) < 1:
        low, high = show(stated["low"]), show(stated["high"])
        raise ConfigError(f"step={show(stated['step'])} does not lead from {low} to {high}")


def check_value(key: str, value: Any) -> None:
    """Check a value as params.yaml would be, by the parameter alone.

    Raises:
        ConfigError: it is not allowed.
    """
    field = TrainConfig.model_fields[key]
    fields: dict[str, Any] = {key: (field.annotation, field)}
    one = create_model("One", __base__=Section, **fields)
    try:
        one.model_validate({key: value})
    except ValidationError as error:
        raise ConfigError(explain(most_telling(error.errors(include_url=False)), one)) from None


def check_that_any_works(space: Space) -> None:
    """Draw some combinations, until one works.

    Raises:
        ConfigError: none does.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    refusal = ""
    for _ in range(TRIES):
        try:
            space.params_of(space.draw(study.ask()))
        except ConfigError as error:
            refusal = str(error)
        else:
            return
    raise ConfigError(f"of {TRIES} combinations none can work: {refusal}")
