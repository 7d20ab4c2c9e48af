"""Layout `unrealperson`: UnrealPerson, rendered people, to learn from.

Zhang et al., "UnrealPerson: An Adaptive Pipeline towards Costless Person Re-identification", CVPR
2021: the list names 120,000 images of 3,000 people by 34 cameras.

    unreal_v1.2/images/0001_c01_0001.jpg   scene 1, person 1 of model set 2, camera 1 of the scene
    list_unreal_train.txt                  lines `path person camera`, people and cameras renumbered

People of different model sets are different ones, and so are cameras of different scenes. Where the
list is there, it rules. The dataset has no test part; people to test with are drawn.
"""

import re
from collections.abc import Iterable

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, numbers_of, read_list
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Sample

LIST = "list_unreal_train.txt"
FOLDER = re.compile(r"(?:.*/)?(unreal_v[0-9]+\.[0-9]+/images/[^/]+)")
NAME = re.compile(r"unreal_v([0-9]+)\.([0-9]+)/images/([0-9]{1,9})_c([0-9]{1,4})_")
PUBLISHED = {"any": 120_000}


def recognises(files: Files) -> bool:
    """Whether images lie in UnrealPerson's folders."""
    return any("unreal_v" in name and FOLDER.fullmatch(name) for name in files.images)


def read(files: Files) -> Reading:
    """Read person and camera of each image from the list, or from folder and name.

    Raises:
        DatasetError: there are no such images, two lists, a list names an image that is not there,
            or without a list a name tells no person.
    """
    paths = {match[1]: name for name in files.images if (match := FOLDER.fullmatch(name))}
    lists = files.named(LIST)
    if len(lists) > 1 or not paths:
        raise DatasetError(
            f"the layout unrealperson needs images in unreal_v1.1/images and one '{LIST}'; the "
            f"source holds {len(paths)} and {len(lists)}"
        )
    if lists:
        rows = read_lines(files, lists[0], paths)
        known = f"'{lists[0]}'"
    else:
        rows = read_names(paths)
        known = "folder and file name"
    people = numbers_of(who for who, _ in rows.values())
    cameras = numbers_of(camera for _, camera in rows.values())
    samples = [
        Sample(paths[path], who, people[who], cameras[camera], "any")
        for path, (who, camera) in rows.items()
    ]
    who, camera = next(iter(rows.values()))
    return Reading(
        samples,
        f"{known} ('{who}' of '{samples[0].name}')",
        f"{known} ('{camera}' of '{samples[0].name}')",
        used=lists,
        passed_over={"images that the list does not name": set(paths.values())},
        published=PUBLISHED if lists else {},
    )


def read_lines(files: Files, member: str, paths: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Person and camera of each image that the list names, by its path from `unreal_v` on.

    Raises:
        DatasetError: a line is wrong, or names an image that is not there, or one twice.
    """
    once = Once()
    rows = {}
    for line in read_list(files, member, "path person camera"):
        match = FOLDER.fullmatch(line.values[0])
        path = once(line.image(match[1] if match else line.values[0], paths), line)
        rows[path] = (f"{line.number(1, 'person'):04}", f"{line.number(2, 'camera'):02}")
    return rows


def read_names(paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Person and camera of each image by its path: model set and person, scene and camera.

    Raises:
        DatasetError: a name tells none.
    """
    rows = {}
    for path in paths:
        match = NAME.match(path)
        if match is None:
            raise DatasetError(
                f"'{path}' tells no person and camera; expected unreal_v1.1/images/0001_c01_….jpg"
            )
        scene, models, who, camera = match.groups()
        rows[path] = (f"models {models}/{who}", f"scene {scene}/c{camera}")
    return rows
