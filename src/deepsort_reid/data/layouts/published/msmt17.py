"""Layout `msmt17`: MSMT17, the folders of version 1 or 2 and their four lists.

Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-identification", CVPR 2018:
126,441 images of 4,101 people by 15 cameras; version 2 has the same with blurred faces.

    train/0000/0000_001_01_0303morning_0008_0.jpg   version 2: mask_train_v2/…
    test/0000/0000_002_15_0303noon_0203_0.jpg       version 2: mask_test_v2/…
    list_train.txt, list_val.txt                    lines `path pid`, paths below the folder train
    list_query.txt, list_gallery.txt                likewise, below the folder test

The third number of a name is the camera. Train and val hold the same 1,041 people. Query and
gallery hold 3,060 others, who are counted from 0 again: `test/0000` is another person than
`train/0000`, also in copies whose folders are called `bounding_box_train` and `bounding_box_test`.
Without lists the folders say who is who, and queries are drawn from `test`. A part that its lists
tell only half of is refused.
"""

import re
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, numbers_of, read_list
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Role, Sample

VERSIONS = ({"train": "train", "test": "test"},
            {"train": "mask_train_v2", "test": "mask_test_v2"},
            {"train": "mask_train_V2", "test": "mask_test_V2"},
            {"train": "bounding_box_train", "test": "bounding_box_test"})  # fmt: skip
FOLDERS = [folder for version in VERSIONS for folder in version.values()]
LISTS: dict[str, dict[str, Role]] = {
    "train": {"list_train.txt": "train", "list_val.txt": "val"},
    "test": {"list_query.txt": "query", "list_gallery.txt": "gallery"},
}
WITHOUT_LISTS: dict[str, Role] = {"train": "train", "test": "test"}
NAME = re.compile(r"[0-9]{4,}_[0-9]{1,9}_([0-9]{1,9})_")
OWN_NAME = re.compile(NAME.pattern + r"[0-9]{4}[a-z]+_[0-9]+_[0-9]")
PUBLISHED = {"train": 30_248, "val": 2_373, "query": 11_659, "gallery": 82_161}

Listed = dict[str, tuple[str, Role]]  # image -> its identity and its role
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether images lie in MSMT17's folders, and bear its names or have one of its lists."""
    found = parts.find_parts(files.images, FOLDERS, 1)
    names = [name for of_part in LISTS.values() for name in of_part]
    return any(
        any(base + name in files.known for name in names)
        or any(OWN_NAME.match(PurePosixPath(images[0]).name) for images in tree.values())
        for base, tree in found.items()
    )


def read(files: Files) -> Reading:
    """Read identities from the lists or the folders, and cameras from the names.

    Raises:
        DatasetError: a part is missing, the archive holds both versions and none is chosen, a list
            names an image that is not there, some images of a part are in no list while one of
            its lists is missing, or a name tells no camera.
    """
    version = parts.one_version(files, "msmt17", FOLDERS, 1)
    base, folders = version.base, folders_of(version)
    parts.refuse_elsewhere(files, version, [name for of_part in LISTS.values() for name in of_part])
    lists: list[str] = []
    unlisted: list[str] = []
    listed: Listed = {}
    for part, folder in folders.items():
        images = version.parts[folder]
        of_part = read_part(files, base, part, folder, images)
        lists += [base + name for name in LISTS[part] if base + name in files.known]
        unlisted += [name for name in images if name not in of_part]
        listed |= of_part
    numbers = numbers_of(identity for identity, _ in listed.values())
    samples = [
        Sample(name, identity, numbers[identity], camera_of(name), role)
        for name, (identity, role) in listed.items()
    ]
    shown = samples[0]
    return Reading(
        samples,
        f"{'list' if lists else 'folder'} ('{shown.identity}' of '{shown.name}')",
        f"third number of the file name ({shown.camid} of '{PurePosixPath(shown.name).name}')",
        used=lists,
        passed_over={
            "images that no list names": unlisted,
            "files of the other version": version.others,
        },
        published=PUBLISHED if len(lists) == len(PUBLISHED) else {},
    )


def folders_of(version: parts.Version) -> dict[str, str]:
    """The folders of train and test, by one of the versions.

    Raises:
        DatasetError: one of them is missing, or those of both versions lie beside each other.
    """
    whole = [folders for folders in VERSIONS if set(folders.values()) <= set(version.parts)]
    if len(whole) != 1 or len(version.parts) != len(LISTS):
        known = ", ".join(f"'{version.base}{name}'" for name in sorted(version.parts)) or "none"
        raise DatasetError(
            f"the layout msmt17 needs images in train/<identity> and test/<identity>, or in "
            f"mask_train_v2/<identity> and mask_test_v2/<identity>; the source holds {known}"
        )
    return whole[0]


def read_part(files: Files, base: str, part: str, folder: str, images: list[str]) -> Listed:
    """Who is on each image of one part, by its lists, or without them by its folders.

    Raises:
        DatasetError: see `read`.
    """
    lists = [name for name in LISTS[part] if base + name in files.known]
    if not lists:
        return {
            name: (f"{part}/{PurePosixPath(name).parent.name}", WITHOUT_LISTS[part])
            for name in images
        }
    listed: Listed = {}
    known, once = set(images), Once()
    for name in lists:
        for line in read_list(files, base + name, "path pid"):
            image = once(line.image(f"{base}{folder}/{line.values[0]}", known), line)
            listed[image] = (f"{part}/{line.number(1, 'identity'):04}", LISTS[part][name])
    missing = [name for name in LISTS[part] if name not in lists]
    if missing and len(listed) < len(images):
        raise DatasetError(
            f"'{base}{lists[0]}' names {len(listed):,} of {len(images):,} images in "
            f"'{base}{folder}', and '{missing[0]}', which would name the others, is missing; add "
            f"it, or take the lists of {part} out of the source to go by its folders"
        )
    return listed


def camera_of(name: str) -> int:
    """The camera of an image.

    Raises:
        DatasetError: the name tells none.
    """
    match = NAME.match(PurePosixPath(name).name)
    if match is None:
        raise DatasetError(
            f"'{name}' tells no camera; expected a name like 0000_001_15_0303morning_0008_0.jpg, "
            "whose third number is the camera"
        )
    return int(match[1])
