"""Layout `randperson`: RandPerson, rendered people, to learn from.

Wang, Liao and Shao, "Surpassing Real-World Source Training Data: Random 3D Characters for
Generalizable Person Re-Identification", ACM MM 2020: 1,801,816 images of 8,000 people by 19 cameras
in 11 scenes; most use the subset of 132,145 images.

    000000_c00_s00_f000264.jpg or 000000_s00_c00_f000264.jpg   person, camera, scene, frame

People are counted from 0. The releases differ in the order of camera and scene, and cameras are
counted anew in each scene: so both numbers together are a camera. The dataset has no test part;
people to test with are drawn.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import role_of
from deepsort_reid.data.samples import Sample

NAME = re.compile(r"([0-9]{4,9})_(c[0-9]{1,4}_s[0-9]{1,4}|s[0-9]{1,4}_c[0-9]{1,4})_f[0-9]+\.\w+")
PUBLISHED = ({"any": 132_145}, {"any": 1_801_816})  # the subset, and all


def recognises(files: Files) -> bool:
    """Whether all images bear RandPerson's names, and none lies in a folder named like a part."""
    return all(
        NAME.fullmatch(PurePosixPath(name).name) and not role_of(PurePosixPath(name).parent.name)
        for name in files.images
    )


def read(files: Files) -> Reading:
    """Read person and camera of each image from its name.

    Raises:
        DatasetError: a name is none of RandPerson's, or there are two images of one name.
    """
    found = dict(read_names(name for name in files.images if not is_deleted(name)))
    if not found:
        raise DatasetError("no image of RandPerson; expected names 000000_c00_s00_f000264.jpg")
    cameras = {
        pair: camid for camid, pair in enumerate(sorted({pair for _, pair in found.values()}), 1)
    }
    samples = [
        Sample(name, who, int(who) + 1, cameras[pair], "any") for name, (who, pair) in found.items()
    ]
    who, pair = next(iter(found.values()))
    file = PurePosixPath(samples[0].name).name
    return Reading(
        samples,
        f"file name ('{who}' of '{file}')",
        f"camera and scene of the file name ('{pair}' of '{file}')",
        passed_over={
            "images in folders 'delete_…'": [n for n in files.images if is_deleted(n)],
            "lists of key points": [n for n in files.names if n.endswith("_point.txt")],
        },
        published=min(PUBLISHED, key=lambda counts: abs(counts["any"] - len(samples))),
    )


def is_deleted(name: str) -> bool:
    """Whether an image lies in a folder of images that the authors have taken out."""
    return any(part.startswith("delete_") for part in PurePosixPath(name).parent.parts)


def read_names(names: Iterable[str]) -> Iterable[tuple[str, tuple[str, str]]]:
    """Yield each image, and its person and camera.

    Raises:
        DatasetError: a name is none of RandPerson's, or there are two images of one name.
    """
    first: dict[str, str] = {}
    for name in names:
        file = PurePosixPath(name).name
        match = NAME.fullmatch(file)
        if match is None:
            raise DatasetError(
                f"'{name}' is no name of RandPerson; expected 000000_c00_s00_f000264.jpg"
            )
        if first.setdefault(file, name) != name:
            raise DatasetError(
                f"'{first[file]}' and '{name}' are one image; keep RandPerson's subset or its "
                "scenes, not both"
            )
        yield name, (match[1], match[2])
