"""Layout `vric`: VRIC, vehicles cut out of the traffic videos of UA-DETRAC.

Kanacı, Zhu and Gong, "Vehicle Re-Identification in Context", GCPR 2018: 60,430 images of 5,622
vehicles by 60 cameras.

    train_images/, probe_images/, gallery_images/
    vric_train.txt, vric_probe.txt, vric_gallery.txt   lines `image vehicle camera`

Test vehicles are others than those of the training part, whatever numbers they bear.
"""

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, numbers_of, read_list
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Role, Sample

ROLES: dict[str, Role] = {"train": "train", "probe": "query", "gallery": "gallery"}
FOLDERS = [f"{part}_images" for part in ROLES]
PUBLISHED = {"train": 54_808, "query": 2_811, "gallery": 2_811}
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether there is one of VRIC's lists."""
    return bool(files.named(*(f"vric_{part}.txt" for part in ROLES)))


def read(files: Files) -> Reading:
    """Read who is on which image, and by which camera, from the three lists.

    Raises:
        DatasetError: a list is missing, or names an image that is not there.
    """
    version = parts.one_version(files, "vric", FOLDERS, 0, FOLDERS)
    base = version.base
    rows: dict[str, tuple[str, int, Role]] = {}
    images, once = set(files.images), Once()
    lists = [f"{base}vric_{part}.txt" for part in ROLES]
    for (part, role), member in zip(ROLES.items(), lists, strict=True):
        if member not in files.known:
            raise DatasetError(f"'{member}' is missing; the layout vric needs it")
        space = "train" if part == "train" else "test"
        for line in read_list(files, member, "image vehicle camera"):
            name = once(line.image(f"{base}{part}_images/{line.values[0]}", images), line)
            vehicle = f"{space}/{line.number(1, 'vehicle')}"
            rows[name] = (vehicle, line.number(2, "camera"), role)
    numbers = numbers_of(vehicle for vehicle, _, _ in rows.values())
    samples = [
        Sample(name, vehicle, numbers[vehicle], camera, role)
        for name, (vehicle, camera, role) in rows.items()
    ]
    shown = samples[0]
    return Reading(
        samples,
        f"list ('{shown.identity}' of '{shown.name}')",
        f"list ({shown.camid} of '{shown.name}')",
        used=lists,
        passed_over={
            "images that no list names": [n for names in version.parts.values() for n in names],
            "files of the other versions": version.others,
        },
        published=PUBLISHED,
    )
