"""Names and values as MLflow takes them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

LONGEST_NAME = 250  # characters; MLflow's limits
LONGEST_PARAM = 6000
LONGEST_TAG = 5000


class Numbers(NamedTuple):
    """What a stage's report tells of its results, as a run records it.

    Attributes:
        metrics: measured numbers by `section/name`; MLflow's pages draw a chart of each.
        tags: counts, settings and answers, which belong beside the metrics and into no chart.
    """

    metrics: Mapping[str, float]
    tags: Mapping[str, object]


def valid_name(name: str) -> str:
    """The nearest name that MLflow takes: `rank@1` becomes `rank_1`.

    MLflow allows letters, digits and `_-. :/`, and nothing that means another place as a path.
    """
    parts = re.sub(r"[^\w\-. :/]", "_", name).split("/")
    valid = "/".join(part for part in parts if part not in ("", ".", "..")) or "_"
    return cut(valid, LONGEST_NAME, "_")


def valid_params(params: Mapping[str, object]) -> dict[str, str]:
    """Parameters; those of nested mappings get names with dots: `dataset.source`."""
    flat = flattened(params).items()
    return {valid_name(name): cut(str(value), LONGEST_PARAM) for name, value in flat}


def valid_tags(tags: Mapping[str, object]) -> dict[str, str]:
    """Tags; `True` becomes `true`."""
    return {valid_name(name): cut(tag_text(value), LONGEST_TAG) for name, value in tags.items()}


def tag_text(value: object) -> str:
    """A value as a tag shows it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def flattened(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dots in the names."""
    flat: dict[str, object] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def cut(text: str, length: int, mark: str = "…") -> str:
    """The text, or its beginning and a mark if it is too long."""
    return text if len(text) <= length else f"{text[: length - 1]}{mark}"
