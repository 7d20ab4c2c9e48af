"""Layout `market1501`: the folders and file names of Market-1501, which many datasets follow.

The folders are `bounding_box_train`, `bounding_box_test` and `query` (Zheng et al., "Scalable
Person Re-identification: A Benchmark", ICCV 2015): 12,936 training images of 751 identities, 3,368
queries, 19,732 gallery images (2,798 distractors and 3,819 junk images among them), 6 cameras,
128×64 pixels. A file is named `0002_c1s1_000451_03.jpg`: identity 2 by camera 1.

Identity -1 is junk: the protocol ignores it. Identity 0 is a distractor, whom no query shows. Other
datasets in these folders count people from 0: where a query or a training image shows identity 0,
it is somebody.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import DISTRACTOR, JUNK, Role, Sample

ROLES: dict[str, Role] = {
    "bounding_box_train": "train",
    "bounding_box_test": "gallery",
    "query": "query",
}
NEEDLESS = ("gt_bbox", "gt_query")  # hand-drawn boxes, and who is junk for which query
PUBLISHED = {"train": 12_936, "query": 3_368, "gallery": 19_732}
NAME = re.compile(r"(-1|\d+)_c(\d+)")


def recognises(files: Files) -> bool:
    """Whether any image lies in one of Market-1501's folders, and not in a folder below."""
    return any(
        role_of(name) in ("train", "gallery") or (role_of(name) and NAME.match(file_name(name)))
        for name in files.images
    )


def read(files: Files) -> Reading:
    """Read identity, camera and role of the images in Market-1501's folders.

    Raises:
        DatasetError: a folder is missing or without images, or a name tells no identity.
    """
    samples = samples_of((name for name in files.images if role_of(name)), ROLES)
    present = Counter(sample.role for sample in samples)
    for folder, role in ROLES.items():
        if not present[role]:
            raise DatasetError(
                f"no images in '{folder}'; the layout market1501 needs images in each of "
                f"{', '.join(ROLES)} (or set {files.key}layout: folders)"
            )
    return reading(files, samples, PUBLISHED if is_market(files) else {})


def reading(files: Files, samples: list[Sample], published: Mapping[str, int]) -> Reading:
    """What is known of a dataset with Market-1501's names, once its samples are."""
    sample = next((s for s in samples if s.is_somebody), samples[0])
    shown = PurePosixPath(sample.name).name
    needless = {
        f"files in {folder}": [name for name in files.names if f"/{folder}/" in f"/{name}"]
        for folder in NEEDLESS
    }
    return Reading(
        samples,
        f"file name ('{sample.identity}' of '{shown}')",
        f"file name ({sample.camid} of '{shown}')",
        passed_over=needless,
        published=published,
    )  # fmt: skip


def is_market(files: Files) -> bool:
    """Whether the files are Market-1501's own, by the name of the folder that publishes them."""
    return "market-1501" in files.root.lower()


def samples_of(names: Iterable[str], roles: Mapping[str, Role]) -> list[Sample]:
    """Read the names of images in folders that stand for parts.

    Args:
        names: members of the archive.
        roles: the name of a folder -> its part.

    Raises:
        DatasetError: a name does not begin with an identity and a camera.
    """
    read = [(name, *read_name(name), roles[folder_of(name)]) for name in names]
    zero = any(pid == DISTRACTOR and role in ("train", "query") for _, _, pid, _, role in read)
    return [
        Sample(name, identity, pid + 1 if zero and pid != JUNK else pid, camid, role)
        for name, identity, pid, camid, role in read
    ]


def folder_of(name: str) -> str:
    """The name of the folder that a member lies in."""
    return PurePosixPath(name).parent.name


def file_name(name: str) -> str:
    """The name of a member without its folders."""
    return PurePosixPath(name).name


def role_of(name: str) -> Role | None:
    """The part that the folder of an image stands for; None outside Market-1501's folders."""
    return ROLES.get(folder_of(name))


def read_name(name: str) -> tuple[str, int, int]:
    """The identity as written, its number and the camera's, by the name of a file.

    Raises:
        DatasetError: it does not begin with an identity and a camera.
    """
    match = NAME.match(file_name(name))
    if match is None:
        raise DatasetError(
            f"'{name}' tells no identity and camera; expected a name like 0002_c1s1_000451_03.jpg"
        )
    return match[1], int(match[1]), int(match[2])
