"""Layout `market1501`: the folders and file names of Market-1501, which many datasets follow.

The folders are `bounding_box_train`, `bounding_box_test` and `query` (Zheng et al., "Scalable
Person Re-identification: A Benchmark", ICCV 2015): 12,936 training images of 751 identities, 3,368
queries, 19,732 gallery images, 6 cameras, 128×64 pixels. A file is named `0002_c1s1_000451_03.jpg`:
identity 2 by camera 1. Identity 0 is a distractor (no query shows that person), -1 is junk (the
protocol ignores it).
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.samples import Role, Sample, images_among, is_image

ROLES: dict[str, Role] = {
    "bounding_box_train": "train",
    "bounding_box_test": "gallery",
    "query": "query",
}
NAME = re.compile(r"(-1|\d+)_c(\d+)")


def recognises(names: Sequence[str]) -> bool:
    """Whether any image lies in one of Market-1501's folders."""
    return any(role_of(name) and is_image(name) for name in names)


def read(names: Sequence[str]) -> list[Sample]:
    """Read identity, camera and role of the images in Market-1501's folders.

    Raises:
        DatasetError: a folder is missing or without images, or a name tells no identity.
    """
    samples = [read_name(name) for name in images_among(names) if role_of(name)]
    present = Counter(sample.role for sample in samples)
    for folder, role in ROLES.items():
        if not present[role]:
            raise DatasetError(
                f"no images in '{folder}'; the layout market1501 needs images in each of "
                f"{', '.join(ROLES)} (or set dataset.layout: folders)"
            )
    return samples


def role_of(name: str) -> Role | None:
    """The part that the folder of an image stands for; None outside Market-1501's folders."""
    return ROLES.get(PurePosixPath(name).parent.name)


def read_name(name: str) -> Sample:
    """Read the name of a file in one of Market-1501's folders.

    Raises:
        DatasetError: it does not begin with an identity and a camera.
    """
    path = PurePosixPath(name)
    match = NAME.match(path.name)
    if match is None:
        raise DatasetError(
            f"'{name}' tells no identity and camera; expected a name like 0002_c1s1_000451_03.jpg"
        )
    return Sample(name, match[1], int(match[1]), int(match[2]), ROLES[path.parent.name])
