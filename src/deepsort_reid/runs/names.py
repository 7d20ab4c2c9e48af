"""Names and values as MLflow takes them."""

import re
from collections.abc import Mapping

LONGEST_NAME = 250  # characters; MLflow's limits
LONGEST_PARAM = 6000
LONGEST_TAG = 5000


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


def valid_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags."""
    return {valid_name(name): cut(text, LONGEST_TAG) for name, text in tags.items()}


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
