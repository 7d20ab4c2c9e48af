"""Gates: what a run's numbers must reach before its model goes into production."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deepsort_reid.core.errors import ConfigError, PromotionError, nearest_hint

# As `dvc metrics` and the closing table call a number -> as a run records it.
METRICS = {
    "mAP": "reid/mAP",
    "rank-1": "reid/rank-1",
    "mINP": "reid/mINP",
    "val_acc": "val/accuracy",
    "HOTA": "track/hota",
    "IDF1": "track/idf1",
    "MOTA": "track/mota",
    "switches": "track/id_switches",
}
EARLIER = {"reid/mAP": "mAP"}  # as earlier versions of this project have recorded it
LESS_IS_BETTER = frozenset({"switches"})
NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)")

# By the last part of a recorded name: `mAP_flip` of `reid/mAP_flip`, `eer_across`, `mota`.
SHARE = re.compile(
    r"(mAP|mINP|rank-\d+|accuracy|error|hota|idf1|mota|eer|tmr)(_.*)?|\w+_rate(_.*)?"
)
COUNTS = frozenset({"id_switches", "fragments"})
EARNED = "track/earned/"  # differences, which may be below 0

Side = Literal["min", "max"]


@dataclass(frozen=True)
class Gate:
    """A bound that a number of a run must keep.

    Attributes:
        metric: one of `METRICS`, or a metric as the run records it.
        side: whether the bound is the least or the largest value.
        bound: the value.
        option: how the user wrote it, in messages: `--min-map`.
    """

    metric: str
    side: Side
    bound: float
    option: str

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound; one that is no number does not."""
        return value >= self.bound if self.side == "min" else value <= self.bound

    def failure(self, values: Mapping[str, float]) -> str | None:
        """What is wrong with a run's numbers, in words; None if the gate is open.

        Args:
            values: the run's metrics, under the names that it records.
        """
        value = values.get(name_in(values, self.metric))
        digits = 1
        if value is not None and spelled(self.metric, value) == spelled(self.metric, self.bound):
            digits = 4  # rounding would hide the reason
        less = "" if self.side == "min" else " or less"
        asked = f"{self.option} asks for {spelled(self.metric, self.bound, digits)}{less}"
        if value is None:
            return f"{self.metric} was not measured, {asked}"
        if self.holds(value):
            return None
        return f"{self.metric} is {spelled(self.metric, value, digits)}, {asked}"

    def told(self, values: Mapping[str, float]) -> str:
        """A gate that is open, with the value that went through: `mAP 70.1 % >= 70 %`."""
        sign = ">=" if self.side == "min" else "<="
        value = spelled(self.metric, values[name_in(values, self.metric)])
        return f"{self.metric} {value} {sign} {spelled(self.metric, self.bound)}"


def recorded(metric: str) -> str:
    """The name under which a run records a metric."""
    return METRICS.get(metric, metric)


def name_in(values: Mapping[str, float], metric: str) -> str:
    """The name that a metric has among a run's, where the run may be of an earlier version."""
    name = recorded(metric)
    return name if name in values else EARLIER.get(name, name)


def is_share(metric: str) -> bool:
    """Whether a metric is known to be a share, of which 1 is all."""
    return SHARE.fullmatch(recorded(metric).rpartition("/")[2]) is not None


def least_of(metric: str) -> float:
    """The least value that a metric can have, as far as that is known."""
    name = recorded(metric)
    last = name.rpartition("/")[2]
    if name.startswith(EARNED) or last == "mota":
        return -1.0 if is_share(metric) else -math.inf
    return 0.0 if is_share(metric) or last in COUNTS else -math.inf


def spelled(metric: str, value: float, digits: int = 1) -> str:
    """A value as a person writes it: `65.1 %` of a share, `19` of a count."""
    if is_share(metric):
        text = f"{100 * value:.{digits}f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
    return f"{value:.{5 + digits}g}"


def parse_gate(text: str, side: Side) -> Gate:
    """A gate as an option states it: `rank-1=85%`.

    Raises:
        ConfigError: it is none.
    """
    option = f"--{side}"
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(f"{option} {text}: expected METRIC=VALUE, such as rank-1=85%")
    name = next((known for known in METRICS if known.lower() == name.lower()), name)
    if name not in METRICS and "/" not in name:
        raise ConfigError(
            f"{option} {text}: no metric {name!r}; {nearest_hint(name, list(METRICS))}; any other "
            "is named as MLflow shows it, with its section: export/least_cosine"
        )
    return Gate(name, side, bound_of(name, value, f"{option} {name}"), f"{option} {name}")


def bound_of(metric: str, text: str, option: str) -> float:
    """A bound as an option states it: `70%`, `0.7`, `20` or `1e-4`.

    Raises:
        ConfigError: it is none; 70 is none of a share, since 1 would be 1 % or all, and 20% none of
            anything else.
    """
    match = NUMBER.fullmatch(text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    most = 1.0 if is_share(metric) else math.inf
    is_wrong = match is not None and bool(match[2]) and not is_share(metric)
    if is_wrong or not math.isfinite(value) or not least_of(metric) <= value <= most:
        wanted = "a share: 70% or 0.7" if is_share(metric) else "a number, such as 20"
        raise ConfigError(f"{option} {text}: expected {wanted}")
    return value


def not_worse(gates: Sequence[Gate], values: Mapping[str, float], than: str) -> list[Gate]:
    """Gates that ask for what another version has: its mAP, and what the gates are about.

    Args:
        gates: what is asked for anyway.
        values: the other version's metrics.
        than: the other version, in messages.

    Raises:
        PromotionError: the other version lacks one of them.
    """
    names = dict.fromkeys(["mAP", *(gate.metric for gate in gates)])
    sides: dict[str, Side] = {gate.metric: gate.side for gate in gates}
    found = []
    for name in names:
        value = values.get(name_in(values, name))
        if value is None:
            raise PromotionError(
                f"--than {than}: {name} was not measured of that version, so the run cannot be "
                "compared with it; leave --than out, or name a version that has it"
            )
        side = sides.get(name, "max" if name in LESS_IS_BETTER else "min")
        found.append(Gate(name, side, value, f"--than {than}"))
    return found
