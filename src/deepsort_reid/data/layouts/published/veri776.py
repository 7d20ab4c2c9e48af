"""Layout `veri776`: VeRi-776, vehicles by the cameras of a city.

Liu et al., "A Deep Learning-Based Approach to Progressive Vehicle Re-identification for Urban
Surveillance", ECCV 2016: 49,357 images of 776 vehicles by 20 cameras; 37,778 of 576 vehicles to
learn from, 1,678 queries and 11,579 gallery images of 200 others.

    image_train/0001_c001_00016450_0.jpg   vehicle 1 by camera 1
    image_query/, image_test/              queries (copies of gallery images), and the gallery
    name_train.txt, name_query.txt, name_test.txt

The copy of a query in the gallery is by the query's own camera, whose images the protocol leaves
out. Where a list of names is there, it rules: an image that it lacks is left out.
"""

import re
from pathlib import PurePosixPath

from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Once, read_list
from deepsort_reid.data.layouts.published import market1501
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Role

ROLES: dict[str, Role] = {"image_train": "train", "image_query": "query", "image_test": "gallery"}
LISTS = {"image_train": "name_train.txt", "image_query": "name_query.txt",
         "image_test": "name_test.txt"}  # fmt: skip
# Indices of right answers and junk, colours, types, tracks, cameras, key points; a map.
EXTRA = re.compile(
    r"(gt|jk)_(index|image)\.txt|list_(color|type)\.txt|(train|test)_label\.xml|"
    r"(test|train)_track(_VeRi)?\.txt|camera_(Dist|ID)\.txt|keypoint_\w+\.txt|"
    r"YongtaiPoint_Google\.jpg",
    re.IGNORECASE,
)
PUBLISHED = {"train": 37_778, "query": 1_678, "gallery": 11_579}
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether images lie in VeRi's folders, and not in folders below, and bear its names."""
    found = parts.find_parts(files.images, ROLES, 0)
    return any(
        market1501.NAME.match(market1501.file_name(images[0]))
        for tree in found.values()
        for images in tree.values()
    )


def read(files: Files) -> Reading:
    """Read identity, camera and role of the images in VeRi's folders.

    Raises:
        DatasetError: a folder is missing, a name tells no identity, a list names an image that is
            not there, or a vehicle is learned and tested with.
    """
    version = parts.one_version(files, "veri776", ROLES, 0, ROLES)
    base = version.base
    parts.refuse_elsewhere(files, version, LISTS.values())
    used: list[str] = []
    names: list[str] = []
    for folder, of_folder in LISTS.items():
        images = set(version.parts[folder])
        if base + of_folder in files.known:
            used.append(base + of_folder)
            lines = read_list(files, base + of_folder, "name")
            once = Once()
            images = {
                once(line.image(f"{base}{folder}/{line.values[0]}", images), line) for line in lines
            }
        names += sorted(images)
    needless = {
        "images that no list names": [n for images in version.parts.values() for n in images],
        "index and label files, which the names repeat": [
            name for name in parts.directly_in(files, base)
            if EXTRA.fullmatch(PurePosixPath(name).name)
        ],
        "files of the other versions": version.others,
    }  # fmt: skip
    return market1501.reading(market1501.samples_of(names, ROLES), needless, PUBLISHED, used)
