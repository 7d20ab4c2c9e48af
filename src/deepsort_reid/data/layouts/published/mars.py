"""Layout `mars`: MARS, tracklets of people cut out of videos.

Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-identification", ECCV 2016:
1,191,003 images in 20,478 tracklets of 1,261 people by 6 cameras.

    bbox_train/0001/0001C1T0001F001.jpg   person 1, camera 1, tracklet 1, frame 1 of the tracklet
    bbox_test/00-1/00-1C1T0001F001.jpg    junk, which the protocol ignores
    bbox_test/0000/0000C1T0001F001.jpg    distractors, whom no query shows
    info/                                 lists of tracklets and queries, as text and for MATLAB

The published queries are whole tracklets, one of each person and camera, in a file for MATLAB. A
query here is an image. So the lists are passed over, and one image of each person and camera is
drawn, as `split.seed` says. Results are not those of the published protocol.
"""

import re
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import refuse_shared
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import JUNK, SEQUENCE, Role, Sample

FOLDERS: dict[str, Role] = {"bbox_train": "train", "bbox_test": "test"}
NAME = re.compile(r"(00-1|[0-9]{1,9})C([0-9]{1,9})T([0-9]{1,6})F([0-9]{1,9})(?![0-9])")
PUBLISHED = {"train": 509_914, "test": 681_089}
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether images lie in MARS's folders for identities, and bear its names."""
    found = parts.find_parts(files.images, FOLDERS, 1)
    first = (images[0] for tree in found.values() for images in tree.values())
    return any(NAME.match(PurePosixPath(name).name) for name in first)


def read(files: Files) -> Reading:
    """Read identity, camera and moment of each image from its name.

    Raises:
        DatasetError: a part is missing, a name is none of MARS's or contradicts its folder, or a
            person is learned and tested with.
    """
    version = parts.one_version(files, "mars", FOLDERS, 1, FOLDERS)
    samples = [
        sample_of(name, FOLDERS[part]) for part, images in version.parts.items() for name in images
    ]
    refuse_shared(samples)
    shown = next((sample for sample in samples if sample.is_somebody), samples[0])
    file = PurePosixPath(shown.name).name
    return Reading(
        samples,
        f"file name ('{shown.identity}' of '{file}')",
        f"file name ({shown.camid} of '{file}')",
        passed_over={
            "lists of tracklets in info, since queries are drawn": [
                name for name in files.names if name.startswith(f"{version.base}info/")
            ],
            "files of the other versions": version.others,
        },
        published=PUBLISHED,
        columns=("frame",),
    )


def sample_of(name: str, role: Role) -> Sample:
    """Read the name of one image. Tracklets of a camera count as far apart in time.

    Raises:
        DatasetError: it is no name of MARS, or its folder names another identity.
    """
    path = PurePosixPath(name)
    match = NAME.match(path.name)
    if match is None or match[1] != path.parent.name:
        raise DatasetError(
            f"'{name}' is no name of MARS; expected <identity>/<identity>C1T0001F001.jpg with "
            "camera, tracklet and frame"
        )
    pid = JUNK if match[1] == "00-1" else int(match[1])
    moment = SEQUENCE * int(match[3]) + int(match[4])
    return Sample(name, match[1], pid, int(match[2]), role, frame=moment, extra=(str(moment),))
