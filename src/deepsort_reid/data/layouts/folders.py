"""Layout `folders`: a folder for each identity, as deep_sort_pytorch has it.

The camera, if known, stands in the file name as `c3` or `cam3`, apart from what surrounds it:
`c3_0007.png`, `walk_c3s1_12.jpg`.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import market1501
from deepsort_reid.data.samples import NO_CAMERA, Sample, images_among

CAMERA = re.compile(r"(?<![a-z0-9])c(?:am)?(\d+)(?:s\d+)?(?![a-z0-9])", re.IGNORECASE)


def recognises(names: Sequence[str]) -> bool:  # noqa: ARG001
    """Any archive, since folders bear any names; so this layout is the last of the table."""
    return True


def read(names: Sequence[str]) -> list[Sample]:
    """Read identities from folders, numbered from 1 in the order of their names.

    Raises:
        DatasetError: images lie outside an identity's folder, two folders deep in the archive bear
            the same name, or only some file names tell a camera.
    """
    folder_of = {name: PurePosixPath(name).parent for name in images_among(names)}
    outside = [name for name, folder in folder_of.items() if not folder.name]
    if outside:
        raise DatasetError(
            f"'{outside[0]}' lies in no identity's folder; expected <identity>/<image>, "
            f"or Market-1501's {', '.join(market1501.ROLES)}"
        )
    check_distinct(set(folder_of.values()))
    identities = sorted({folder.name for folder in folder_of.values()})
    pids = {identity: pid for pid, identity in enumerate(identities, start=1)}
    samples = [
        Sample(name, folder.name, pids[folder.name], read_camera(name), "any")
        for name, folder in folder_of.items()
    ]
    check_cameras(samples)
    return samples


def check_distinct(folders: set[PurePosixPath]) -> None:
    """Refuse two folders of one name, which may or may not be one identity.

    Raises:
        DatasetError: there are two.
    """
    seen: dict[str, PurePosixPath] = {}
    for folder in sorted(folders):
        if folder.name in seen:
            raise DatasetError(
                f"'{seen[folder.name]}' and '{folder}' bear the same name; "
                "give each identity one folder, with a name of its own"
            )
        seen[folder.name] = folder


def read_camera(name: str) -> int:
    """The camera in a file's name, `c3` or `cam3`; NO_CAMERA if there is none."""
    match = CAMERA.search(PurePosixPath(name).name)
    return int(match[1]) if match else NO_CAMERA


def check_cameras(samples: Sequence[Sample]) -> None:
    """Refuse a dataset in which only some names tell a camera: the protocol needs all or none.

    Raises:
        DatasetError: some names tell one, some do not.
    """
    without = [sample.name for sample in samples if sample.camid == NO_CAMERA]
    if without and len(without) < len(samples):
        raise DatasetError(
            f"'{without[0]}' tells no camera, while {len(samples) - len(without)} of "
            f"{len(samples)} names do; write the camera into all of them (c3_…) or into none"
        )
