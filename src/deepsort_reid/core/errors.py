"""What can go wrong, each in one line that says what to do about it."""

import difflib
import re
from collections.abc import Sequence

MOST_KNOWN = 40  # names that are listed
LONGEST = 2000  # characters of a message; a damaged file may hold a name of a million


def one_line(text: str) -> str:
    """A text as one line of a bounded length, its control characters spelled out.

    Messages quote names and values out of files, which may hold anything.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    shown = (c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
    return " ".join("".join(shown).split())


def first_line(error: BaseException) -> str:
    """The beginning of a library's message, without the stack or the help that follows."""
    return str(error).strip().partition("\n")[0][:200]


def shortened(value: object) -> str:
    """A value as text, a digest in hexadecimal by its first twelve digits."""
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{32,64}", text) else text


def nearest_hint(name: str, known: Sequence[str], most: int = 1) -> str:
    """`did you mean 'epochs'?`, or the known names where none is near.

    Args:
        name: what was written.
        known: what would be right.
        most: near names that are proposed at most.
    """
    near = [f"'{one}'" for one in difflib.get_close_matches(name, known, n=most)]
    if near:
        *others, last = near
        return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
    more = f", … ({len(known)})" if len(known) > MOST_KNOWN else ""
    return f"known: {', '.join(known[:MOST_KNOWN])}{more}"


class DeepSortReidError(Exception):
    """The base of every error a user can cause and can mend.

    Its text is one line: the thing, where it stands, what was expected, what to do.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))


class ConfigError(DeepSortReidError):
    """params.yaml holds something it should not, or lacks something it should."""


class MissingPackageError(DeepSortReidError):
    """A package that only some uses of this project need is not installed."""


class SourceError(DeepSortReidError):
    """A dataset's source cannot be reached, read or trusted."""


class DatasetError(DeepSortReidError):
    """The images are there, but nothing can be learned or measured from them."""


class TooLittleError(DatasetError):
    """There is too little new footage to say whether it differs."""


class PackedError(DeepSortReidError):
    """A packed part is damaged, or does not belong to its index."""


class WeightsError(DeepSortReidError):
    """A file of weights or a checkpoint cannot be used."""


class EmbeddingError(WeightsError):
    """A network does not turn each crop into a vector."""


class TrainingError(DeepSortReidError):
    """Training cannot go on."""


class LostContactError(TrainingError):
    """Another process of the training is gone."""


class StoreError(DeepSortReidError):
    """The MLflow store cannot be opened."""


class SearchError(DeepSortReidError):
    """A search cannot begin or go on."""


class PromotionError(DeepSortReidError):
    """A run's model does not go into production."""


class LineageError(DeepSortReidError):
    """What was asked for leads to no checkpoint, or to several."""


class CropError(DeepSortReidError):
    """What was given to be embedded is no crop, or no box of the frame."""


class ReportError(DeepSortReidError):
    """What an earlier stage has reported is missing, or cannot be."""


class ExportError(DeepSortReidError):
    """An exported file does not do what the checkpoint does, or cannot be made."""
