"""Cameras in the names of files and folders: `c3`, `cam3`, `camera_b`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.samples import NO_CAMERA, Sample

# Apart from what surrounds it. `cam_7` may be the seventh image; with a number after it, or with a
# letter, it is a camera.
CAMERA = re.compile(
    r"(?<![a-z0-9])(?:c(?:am(?:era)?)?([0-9]{1,9})(?:s[0-9]+)?"
    r"|cam(?:era)?([a-d]|[-_ ]+[a-z]|[-_ ]+[0-9]{1,9}(?=[^0-9].*[0-9])))(?![a-z0-9])",
    re.IGNORECASE,
)
CAMERA_FOLDER = re.compile(r"cam(?:era)?[-_ ]?([0-9]{1,4}|[a-z])", re.IGNORECASE)
MANY = 16  # cameras; more of them, each with one image of an identity, are a counter


def read_camera(name: str) -> int:
    """The camera in a file's name, `c3` or `cam3`; NO_CAMERA if there is none.

    Raises:
        DatasetError: the name tells two.
    """
    text = camera_text(PurePosixPath(name).stem)
    return number_of(text) if text else NO_CAMERA


def camera_text(stem: str) -> str:
    """The number or the letter of the camera in a name without suffix; '' if there is none.

    Raises:
        DatasetError: there are two.
    """
    found = {(m[1] or m[2]).strip("-_ ").lower() for m in CAMERA.finditer(stem)}
    if len({number_of(text) for text in found}) > 1:
        raise DatasetError(
            f"'{stem}' tells two cameras, {' and '.join(sorted(found))}; write one into each name "
            "(c3_…), or write a table with a column camera (dataset.table)"
        )
    return next(iter(found), "")


def number_of(text: str) -> int:
    """The number of a camera: its own, or its letter's place in the alphabet."""
    return int(text) if text.isdigit() else ord(text.lower()) - ord("a") + 1


def cameras_of(identity_of: Mapping[str, str]) -> dict[str, int]:
    """The camera of each image by its name, or else by its folder below the identity's.

    Raises:
        DatasetError: a name tells two, or some cameras have letters and others numbers.
    """
    paths = {name: PurePosixPath(name) for name in identity_of}
    texts = {name: camera_text(path.stem) for name, path in paths.items()}
    if not any(texts.values()):
        for name, path in paths.items():
            match = CAMERA_FOLDER.fullmatch(path.parent.name)
            below = path.parent.name != PurePosixPath(identity_of[name]).name
            texts[name] = match[1] if match and below else ""
    kinds = {text.isdigit(): name for name, text in texts.items() if text}
    if len(kinds) > 1:
        raise DatasetError(
            f"'{kinds[True]}' tells a camera by a number and '{kinds[False]}' by a letter; write "
            "them in one way"
        )
    return {name: number_of(text) if text else NO_CAMERA for name, text in texts.items()}


def check_cameras(samples: Sequence[Sample]) -> None:
    """Refuse cameras that only some names tell, since the protocol needs all, and counters.

    Raises:
        DatasetError: some names tell one, some do not; or what looks like a camera counts images.
    """
    without = [sample.name for sample in samples if sample.camid == NO_CAMERA]
    if without and len(without) < len(samples):
        raise DatasetError(
            f"'{without[0]}' tells no camera, while {len(samples) - len(without)} of "
            f"{len(samples)} names do; write the camera into all of them (c3_…) or into none"
        )
    count = len({sample.camid for sample in samples})
    if count > MANY and max(Counter((s.pid, s.camid) for s in samples).values()) == 1:
        raise DatasetError(
            f"names tell {count} cameras, '{samples[0].name}' first, and none has two images of an "
            "identity: the number seems to count images; rename them without c or cam, or write a "
            "table (dataset.table)"
        )


def said_of_cameras(samples: Sequence[Sample]) -> str:
    """What tells the camera, with an example."""
    sample = samples[0]
    if sample.camid == NO_CAMERA:
        return "unknown"
    path = PurePosixPath(sample.name)
    by = f"file name ({sample.camid} of '{path.name}')"
    return by if camera_text(path.stem) else f"folder ({sample.camid} of '{sample.name}')"
