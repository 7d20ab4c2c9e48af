"""Layout `market1501`: the folders and file names of Market-1501, which many datasets follow.

The folders are `bounding_box_train`, `bounding_box_test` and `query` (Zheng et al., "Scalable
Person Re-identification: A Benchmark", ICCV 2015): 12,936 training images of 751 identities, 3,368
queries, 19,732 gallery images (2,798 distractors and 3,819 junk images among them), 6 cameras,
128×64 pixels. A file is named `0002_c1s1_000451_03.jpg`: identity 2 by camera 1.

Identity -1 is junk: the protocol ignores it. Identity 0 is a distractor, whom no query shows. Other
datasets in these folders count people from 0: where a query or a training image shows identity 0,
it is somebody.

CUHK03-NP (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR
2017) has these folders twice, below `detected` and `labeled`: 14,096 or 14,097 images of the same
1,467 people by 2 cameras. `dataset.subset` says which; the two are never pooled.
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import refuse_shared
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import DISTRACTOR, JUNK, Role, Sample

ROLES: dict[str, Role] = {
    "bounding_box_train": "train",
    "bounding_box_test": "gallery",
    "query": "query",
}
NEEDLESS = {
    "gt_bbox": "hand-drawn boxes of gt_bbox",
    "gt_query": "files of gt_query, which say who is junk for which query",
    "pytorch": "copies in a folder 'pytorch', as a well-known script sorts them",
}
MARKET = {"train": 12_936, "query": 3_368, "gallery": 19_732}
CUHK03_NP = {
    "detected": {"train": 7_365, "query": 1_400, "gallery": 5_332},
    "labeled": {"train": 7_368, "query": 1_400, "gallery": 5_328},
}
logger = logging.getLogger(__name__)

NAME = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})")
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether any image lies in one of Market-1501's folders, and not in a folder below."""
    return any(
        role_of(name) in ("train", "gallery") or (role_of(name) and NAME.match(file_name(name)))
        for name in files.images
    )


def read(files: Files) -> Reading:
    """Read identity, camera and role of the images in Market-1501's folders.

    Raises:
        DatasetError: a folder is missing or without images, the archive holds several such
            datasets and none is chosen, a name tells no identity, or an identity is learned and
            tested with.
    """
    found = parts.find_parts(files.images, ROLES, 0)
    base = parts.choose(files, "market1501", found) if found else ""
    tree = found.get(base, {})
    missing = next((folder for folder in ROLES if folder not in tree), None)
    if missing is not None:
        raise DatasetError(
            f"no images in '{base}{missing}'; the layout market1501 needs images in each of "
            f"{', '.join(ROLES)}{parts.other_case(files, missing)}; bring it, or write a table "
            f"that says who is on which image ({files.key}table)"
        )
    names = (name for images in tree.values() for name in images)
    samples = numbered_apart(samples_of(names, ROLES))
    needless = {
        reason: [name for name in files.names if name.startswith(f"{base}{folder}/")]
        for folder, reason in NEEDLESS.items()
    }
    needless["files of the other versions"] = parts.others(files, base, found)
    return reading(samples, needless, published(base))


def reading(
    samples: list[Sample],
    needless: Mapping[str, Collection[str]],
    published: Mapping[str, int],
    used: Collection[str] = (),
) -> Reading:
    """What is known of a dataset with Market-1501's names, once its samples are.

    Raises:
        DatasetError: an identity is learned and tested with.
    """
    refuse_shared(samples)
    sample = next((s for s in samples if s.is_somebody), samples[0])
    shown = file_name(sample.name)
    return Reading(
        samples,
        f"file name ('{sample.identity}' of '{shown}')",
        f"file name ({sample.camid} of '{shown}')",
        used=used,
        passed_over=needless,
        published=published,
    )


def published(base: str) -> dict[str, int]:
    """The numbers of images as published, by the names of the folders that publish them."""
    path = base.lower()
    return MARKET if "market-1501" in path else CUHK03_NP.get(PurePosixPath(path).name, {})


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


def numbered_apart(samples: list[Sample]) -> list[Sample]:
    """The samples with other numbers for the people of the test, where both parts count anew.

    MSMT17 in these folders numbers its people from 0 in the training part, and from 0 again in the
    test part: they are other people. This is certain enough where both count without a gap from the
    same number to different last ones. What shares numbers otherwise is refused by `reading`.
    """
    learned, tested = (
        sorted({s.pid for s in samples if s.is_somebody and (s.role == "train") == is_train})
        for is_train in (True, False)
    )
    ranges = [range(pids[0], pids[-1] + 1) for pids in (learned, tested) if pids]
    if (
        len(ranges) < 2
        or ranges[0].start != ranges[1].start
        or len(ranges[0]) == len(ranges[1])
        or learned != list(ranges[0])
        or tested != list(ranges[1])
    ):
        return samples
    logger.warning(
        "train and test both count people from %d without a gap, %d and %d of them: read as "
        "different people, as MSMT17 numbers them",
        int(min(s.identity for s in samples if s.is_somebody)), len(learned), len(tested),
    )  # fmt: skip
    return [
        replace(s, pid=s.pid + learned[-1], identity=f"test/{s.identity}")
        if s.is_somebody and s.role != "train"
        else s
        for s in samples
    ]


def folder_of(name: str) -> str:
    """The name of the folder that a member lies in."""
    return name.rpartition("/")[0].rpartition("/")[2]


def file_name(name: str) -> str:
    """The name of a member without its folders."""
    return name.rpartition("/")[2]


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
