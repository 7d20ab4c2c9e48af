"""Train the appearance network of a Deep SORT tracker, reproducibly and on many GPUs.

    from deepsort_reid import Extractor, read_threshold

is all that a tracker needs. Both are imported when they are asked for: importing the package, as
every stage does, imports nothing else.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepsort_reid.evaluation.threshold import read_threshold
    from deepsort_reid.model.extractor import Extractor

__all__ = ["Extractor", "read_threshold"]


def __getattr__(name: str) -> object:
    """Import one of the public names (PEP 562)."""
    if name == "Extractor":
        from deepsort_reid.model.extractor import Extractor

        return Extractor
    if name == "read_threshold":
        from deepsort_reid.evaluation.threshold import read_threshold

        return read_threshold
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
