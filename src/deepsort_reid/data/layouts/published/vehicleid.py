"""Layout `vehicleid`: PKU VehicleID, vehicles from in front and behind.

Liu et al., "Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles", CVPR
2016; as released, 221,567 images of 26,328 vehicles, 113,346 of 13,164 of them to learn from.
Cameras are unknown.

    image/0000001.jpg
    train_test_split/train_list.txt        lines `image vehicle`, the image without .jpg
    train_test_split/test_list_800.txt     likewise; also 1600, 2400, 3200, 6000, 13164
    attribute/                             models, colours

`dataset.subset` chooses the test list. By the protocol the gallery holds one image of each vehicle,
drawn at random, and all others are queries. The draw here depends on the images' names alone, so it
is the same everywhere.
"""

import re
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, read_list, refuse_shared
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.queries import shuffled
from deepsort_reid.data.samples import NO_CAMERA, Role, Sample

TRAIN = "train_test_split/train_list.txt"
TEST = re.compile(r"(.*/)?train_test_split/test_list_([0-9]+)\.txt")
IN_TRAIN = 113_346
QUERIES = {"800": 5_693, "1600": 11_777, "2400": 17_377, "13164": 95_057}
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether there are VehicleID's lists beside a folder `image`."""
    bases = {match[1] or "" for match in find_tests(files)}
    return any(name.startswith(f"{base}image/") for base in bases for name in files.images)


def read(files: Files) -> Reading:
    """Read who is on which image from the training list and one test list.

    Raises:
        DatasetError: a list is missing or none is chosen, or names an image that is not there, or
            a vehicle is learned and tested with.
    """
    tests = {match[2]: match[0] for match in find_tests(files)}
    chosen = choose_list(tests, files, "vehicleid")
    test = tests[chosen]
    base = test.removesuffix(f"train_test_split/{PurePosixPath(test).name}")
    train = base + TRAIN
    if train not in files.known:
        raise DatasetError(f"'{train}' is missing; the layout vehicleid needs it beside '{test}'")
    once = Once()
    learned = read_images(files, base, train, once)
    tested = read_images(files, base, test, once)
    samples = [sample_of(name, vehicle, "train") for name, vehicle in learned.items()]
    by_vehicle: dict[int, list[str]] = {}
    for name, vehicle in tested.items():
        by_vehicle.setdefault(vehicle, []).append(name)
    drawn = {shuffled(names, 0, f"gallery/{vehicle}")[0] for vehicle, names in by_vehicle.items()}
    samples += [
        sample_of(name, vehicle, "gallery" if name in drawn else "query")
        for name, vehicle in tested.items()
    ]
    refuse_shared(samples)
    queries = QUERIES.get(chosen)
    return Reading(
        samples,
        f"list ('{samples[0].identity}' of '{samples[0].name}')",
        "unknown",
        used=[train, test],
        passed_over={
            "images of no chosen list": files.images,
            "lists that are not chosen": set(tests.values()),
            "files of attributes": [n for n in files.names if n.startswith(f"{base}attribute/")],
        },
        published={"train": IN_TRAIN}
        | ({} if queries is None else {"query": queries, "gallery": int(chosen)}),
    )


def find_tests(files: Files) -> list[re.Match[str]]:
    """The test lists: what lies above them, and how many vehicles each names."""
    names = (name for name in files.names if "train_test_split/test_list_" in name)
    return [match for match in map(TEST.fullmatch, names) if match]


def choose_list(lists: dict[str, str], files: Files, layout: str) -> str:
    """The test list that is meant, by its size: the only one, or the one that the user states.

    Args:
        lists: size -> list.
        files: what the user states.
        layout: the layout's name.

    Raises:
        DatasetError: there are several and none is chosen, or the chosen one is not there.
    """
    subset = files.source.subset
    if subset in lists:
        return subset
    if subset is None and len(lists) == 1:
        return next(iter(lists))
    known = " or ".join(sorted(lists, key=int)) or "none"
    if subset is None and lists:
        raise DatasetError(
            f"the source holds {len(lists)} test lists; set {files.key}subset to {known}, the "
            "number of vehicles to test with"
        )
    stated = f"{files.key}subset: {subset}: " if subset else ""
    raise DatasetError(f"{stated}the layout {layout} needs a test list; the source holds {known}")


def read_images(files: Files, base: str, member: str, once: Once) -> dict[str, int]:
    """The vehicle on each image that a list names.

    Raises:
        DatasetError: a line is wrong, or names an image that is not there or was named before.
    """
    images = set(files.images)
    found = {}
    for line in read_list(files, member, "image vehicle"):
        name = f"{base}image/{line.values[0].removesuffix('.jpg')}.jpg"
        found[once(line.image(name, images), line)] = line.number(1, "vehicle")
    return found


def sample_of(name: str, vehicle: int, role: Role) -> Sample:
    """An image of a vehicle, the first of which may be number 0."""
    return Sample(name, str(vehicle), vehicle + 1, NO_CAMERA, role)
