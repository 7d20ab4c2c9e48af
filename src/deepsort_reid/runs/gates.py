"""Gates: what a run's numbers must reach before its model goes into production."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deepsort_reid.core.errors import ConfigError, nearest_hint

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
COUNTS = frozenset({"switches"})  # the others are shares
LESS_IS_BETTER = frozenset({"switches"})
NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)")

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

    @property
    def recorded(self) -> str:
        """The metric's name in a run."""
        return METRICS.get(self.metric, self.metric)

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound; one that is no number does not."""
        return value >= self.bound if self.side == "min" else value <= self.bound

    def failure(self, values: Mapping[str, float]) -> str | None:
        """What is wrong with a run's numbers, in words; None if the gate is open.

        Args:
            values: the run's metrics, under the names that it records.
        """
        value = values.get(self.recorded)
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
        value = spelled(self.metric, values[self.recorded])
        return f"{self.metric} {value} {sign} {spelled(self.metric, self.bound)}"


def is_share(metric: str) -> bool:
    """Whether a metric is known to be a share from 0 to 1."""
    return metric in METRICS and metric not in COUNTS


def spelled(metric: str, value: float, digits: int = 1) -> str:
    """A value as a person writes it: `65.1 %` of a share, `19` of a count."""
    if is_share(metric):
        text = f"{100 * value:.{digits}f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
    return f"{value:g}"


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
            "is named as MLflow shows it, with its section: export/onnx_speedup"
        )
    return Gate(name, side, bound_of(name, value, f"{option} {name}"), f"{option} {name}")


def bound_of(metric: str, text: str, option: str) -> float:
    """A bound as an option states it: `70%`, `0.7` or `20`.

    Raises:
        ConfigError: it is none; 70 is none of a share, since 1 would be 1 % or all.
    """
    match = NUMBER.fullmatch(text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if match is None or (is_share(metric) and value > 1):
        wanted = "a share: 70% or 0.7" if is_share(metric) else "a number, such as 20"
        raise ConfigError(f"{option} {text}: expected {wanted}")
    return value


def not_worse(gates: Sequence[Gate], values: Mapping[str, float], than: str) -> list[Gate]:
    """Gates that ask for what another version has: its mAP, and what the gates are about.

    Args:
        gates: what is asked for anyway.
        values: the other version's metrics; what it lacks cannot be compared, and is left out.
        than: the other version, in messages.
    """
    names = dict.fromkeys(["mAP", *(gate.metric for gate in gates)])
    sides: dict[str, Side] = {gate.metric: gate.side for gate in gates}
    found = []
    for name in names:
        value = values.get(METRICS.get(name, name))
        if value is not None:
            side = sides.get(name, "max" if name in LESS_IS_BETTER else "min")
            found.append(Gate(name, side, value, f"--than {than}"))
    return found
