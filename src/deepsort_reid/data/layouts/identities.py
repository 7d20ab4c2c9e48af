"""Identities as people write them: which words stand for nobody, and which two may be one."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.samples import JUNK

JUNK_NAMES = {"-1", "00-1", "0000-1"}  # as Market-1501 and MARS write what shows nobody properly
NOTHING = {"nan", "none", "null", "<na>"}  # what programs write where a value is missing
# Folders of images that are of no one identity.
NOBODY = """
    unknown unidentified unlabeled unlabelled unsorted distractor distractors junk background
    noise ignore ignored misc other others nobody
"""
# Folders that tell what kind of images they hold, and not of whom.
KINDS = """
    image images img imgs picture pictures photo photos frame frames crop crops label labels
    mask masks annotation annotations jpegimages segmentationclass segmentationobject thumbnails
    depth rgb ir heatmap heatmaps keypoints detections
"""
NO_IDENTITY = dict.fromkeys(NOBODY.split(), "images of nobody in particular") | dict.fromkeys(
    KINDS.split(), "a kind of file"
)
MARKET = re.compile(r"(-1|[0-9]{4,})_c[0-9]+(?:s[0-9]+_[0-9]{5,}|_f[0-9]+)")  # and DukeMTMC's
YEAR = re.compile(r"(?:19|20)[0-9]{2}$")  # COCO has a folder unlabeled2017
NUMBER = re.compile(r"([0-9]+)(?:\.0+)?")


def is_junk(identity: str) -> bool:
    """Whether an identity is what the protocol ignores: `-1`."""
    return identity.rpartition("/")[2] in JUNK_NAMES


def pids_of(identities: Iterable[str], what: str = "identities") -> dict[str, int]:
    """A pid for each identity, from 1 in the order of their names; junk has its own.

    Args:
        identities: all, in any order.
        what: what they are, for messages.

    Raises:
        DatasetError: two of them may be one.
    """
    names = sorted(set(identities))
    refuse_twins(names, what)
    somebody = [name for name in names if not is_junk(name)]
    return dict.fromkeys(names, JUNK) | {name: pid for pid, name in enumerate(somebody, start=1)}


def refuse_twins(names: Iterable[str], what: str) -> None:
    """Refuse two names that differ in nothing that a reader would see, or in case alone.

    They come from two spellings of one: a person would be learned as two, or tested with as
    somebody new.

    Args:
        names: all that there are.
        what: what they name, for the message.

    Raises:
        DatasetError: there are two.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(spelling(name), name)
        if other != name:
            raise DatasetError(
                f"{what} {other!a} and {name!a} differ only in case, spaces, zeros, quotes or "
                "characters that are not seen; write one in one way, or give two names that differ"
            )


def spelling(name: str) -> str:
    """A name without case, leading zeros, blanks around and characters that are not seen."""
    text = unicodedata.normalize("NFC", name)
    if not text.isascii():
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    parts = (" ".join(part.strip("\"' ").split()).casefold() for part in text.split("/"))
    return "/".join(map(plain_number, parts))


def plain_number(text: str) -> str:
    """A text, of a whole number without leading zeros and without `.0`."""
    match = NUMBER.fullmatch(text)
    return str(int(match[1])) if match and len(match[1]) < 1000 else text


def refuse_nobody(identity_of: Mapping[str, str], key: str) -> None:
    """Refuse folders that by their names are no identity.

    Args:
        identity_of: image -> its identity.
        key: what parameters begin with, in messages.

    Raises:
        DatasetError: there is one.
    """
    for name, identity in identity_of.items():
        meant = NO_IDENTITY.get(YEAR.sub("", identity.rpartition("/")[2].lower()))
        if meant is not None:
            raise DatasetError(
                f"the folder '{identity}' of '{name}' looks like {meant}, not like an identity; "
                "take it out of the source, write a table that says who is on which image "
                f"({key}table), or set {key}layout if it is an identity"
            )


def repeated(identities: Iterable[str]) -> str | None:
    """What is to be known of folders that bear one name below several; None if none does.

    Args:
        identities: of nested folders, `sedan/7`.
    """
    first: dict[str, str] = {}
    for identity in sorted(set(identities)):
        above, _, last = identity.rpartition("/")
        if above and first.setdefault(last, identity) != identity:
            return f"'{first[last]}' and '{identity}' are two identities"
    return None


def numbers_disagree(images: Sequence[str]) -> str | None:
    """A folder in which names like Market-1501's tell several identities; None if there is none."""
    first: dict[str, str] = {}
    for name in images:
        folder, _, file = name.rpartition("/")
        match = MARKET.match(file)
        if match and first.setdefault(folder, match[1]) != match[1]:
            return folder
    return None
