"""Train the appearance network of a Deep SORT tracker, and use it.

`Extractor` embeds crops by a trained network, `read_threshold` reads the distance at which a
tracker should stop matching. Each is imported when it is first used: this package alone imports
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepsort_reid.evaluation.threshold import read_threshold
    from deepsort_reid.model.extractor import Extractor

__all__ = ["Extractor", "read_threshold"]

HOMES = {
    "Extractor": "deepsort_reid.model.extractor",
    "read_threshold": "deepsort_reid.evaluation.threshold",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
