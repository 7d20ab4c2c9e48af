"""Layout `veriwild`: VERI-Wild, vehicles by 174 cameras over a month.

Lou et al., "VERI-Wild: A Large Dataset and a New Method for Vehicle Re-Identification in the Wild",
CVPR 2019: 416,314 images of 40,671 vehicles, 277,797 of 30,671 of them to learn from.

    images/00001/000001.jpg
    train_test_split/train_list.txt          lines that begin with `00001/000001.jpg`
    train_test_split/test_3000_id.txt        the gallery; also 5000, 10000
    train_test_split/test_3000_id_query.txt  the queries
    train_test_split/vehicle_info.txt        lines `00001/000001.jpg;camera;time;…`

`dataset.subset` chooses 3000, 5000 or 10000. The vehicle is the folder: further values of the
lists' lines number vehicles anew for training, and agree with the folder in the test lists only.
"""

import re
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, numbers_of, read_list, refuse_shared
from deepsort_reid.data.layouts.published.vehicleid import choose_list
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Role, Sample

TRAIN = ("train_list.txt", "train_list_start0.txt")
LIST = re.compile(r"(?:.*/)?test_([0-9]+)(?:_id)?(_query)?\.txt")
SPLIT = "train_test_split/"
PUBLISHED = {
    "3000": {"query": 3_000, "gallery": 38_816},
    "5000": {"query": 5_000, "gallery": 64_389},
    "10000": {"query": 10_000, "gallery": 128_517},
}
IN_TRAIN = 277_797
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether there is VERI-Wild's list of cameras, or its test lists beside a folder `images`."""
    lists = [name for name in files.names if SPLIT in name]
    return any(
        name.endswith(f"{SPLIT}vehicle_info.txt") or ((m := LIST.fullmatch(name)) and m[2])
        for name in lists
    )  # fmt: skip


def read(files: Files) -> Reading:
    """Read parts from the lists, vehicles from the folders, cameras from vehicle_info.txt.

    Raises:
        DatasetError: a list is missing or none is chosen, or names an image that is not there or
            whose camera is unknown, or a vehicle is learned and tested with.
    """
    tests: dict[str, dict[Role, str]] = {}
    for name in files.names:
        match = LIST.fullmatch(name)
        if match and SPLIT in name:
            tests.setdefault(match[1], {})["query" if match[2] else "gallery"] = name
    chosen = choose_list({size: size for size in tests}, files, "veriwild")
    split = next(name for name in tests[chosen].values()).rpartition("/")[0] + "/"
    train = next((split + name for name in TRAIN if split + name in files.known), split + TRAIN[0])
    lists: dict[Role, str] = {
        "train": train,
        "query": f"{split}test_{chosen}_id_query.txt",
        "gallery": f"{split}test_{chosen}_id.txt",
        **tests[chosen],
    }
    info = f"{split}vehicle_info.txt"
    lost = next((name for name in (*lists.values(), info) if name not in files.known), None)
    if lost is not None:
        raise DatasetError(f"'{lost}' is missing; the layout veriwild needs it")
    begin = split.removesuffix(SPLIT) + "images/"
    roles = read_roles(files, begin, lists)
    cameras = read_cameras(files, info)
    vehicles = {name: name.removeprefix(begin).partition("/")[0] for name in roles}
    numbers = numbers_of(vehicles.values())
    samples = []
    for name, role in roles.items():
        camera = cameras.get(name.removeprefix(begin))
        if camera is None:
            raise DatasetError(f"'{info}' tells no camera of '{name}'")
        samples.append(Sample(name, vehicles[name], numbers[vehicles[name]], camera, role))
    refuse_shared(samples)
    shown = samples[0]
    return Reading(
        samples,
        f"folder ('{shown.identity}' of '{shown.name}')",
        f"'{info}' ({shown.camid} of '{shown.name}')",
        used=[*lists.values(), info],
        passed_over={
            "images of no chosen list": files.images,
            "lists that are not chosen": [n for n in files.names if n.startswith(split)],
        },
        published={"train": IN_TRAIN} | PUBLISHED.get(chosen, {}),
    )


def read_roles(files: Files, begin: str, lists: dict[Role, str]) -> dict[str, Role]:
    """The role of each listed image; one that stands among queries and in the gallery is a query.

    Raises:
        DatasetError: a list names an image that is not there, or one that was learned.
    """
    images = set(files.images)
    roles: dict[str, Role] = {}
    for role in ("train", "query", "gallery"):
        once = Once()  # a query may stand in the gallery's list, too
        for line in read_list(files, lists[role], "vehicle/image.jpg"):
            name = PurePosixPath(line.values[0])
            known = once(line.image(f"{begin}{name.parent}/{name.stem}.jpg", images), line)
            if roles.setdefault(known, role) == "train" and role != "train":
                raise DatasetError(f"{line.where}: '{known}' stands in '{lists['train']}' already")
    return roles


def read_cameras(files: Files, info: str) -> dict[str, int]:
    """The camera of each image, by `vehicle/image.jpg`; a first line may be a header.

    Raises:
        DatasetError: a line is wrong.
    """
    cameras = {}
    lines = read_list(files, info, "vehicle/image;camera", ";", "latin-1")
    for number, line in enumerate(lines):
        if number == 0 and not line.values[1].isdigit():
            continue
        name = PurePosixPath(line.values[0])
        cameras[f"{name.parent}/{name.stem}.jpg"] = line.number(1, "camera")
    return cameras
