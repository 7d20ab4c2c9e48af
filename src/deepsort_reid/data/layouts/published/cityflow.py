"""Layout `cityflow`: CityFlow-ReID, the vehicles of the AI City Challenge.

Tang et al., "CityFlow: A City-Scale Benchmark for Multi-Target Multi-Camera Vehicle Tracking and
Re-Identification", CVPR 2019: 56,277 images of 666 vehicles by 40 cameras, 36,935 of 333 of them
with labels; the release of 2021 has 85,058 images of 880 vehicles by 46 cameras, 52,717 of 440 of
them with labels.

    image_train/000001.jpg, image_query/, image_test/
    train_label.xml   <Item imageName="000001.jpg" vehicleID="0001" cameraID="c001" />

The challenge keeps the labels of query and test. Without them their images are left out, and
vehicles to test with are drawn from the training part. With `query_label.xml` and `test_label.xml`
that tell vehicles, they are used. The files are encoded in GB 2312.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import Line, Once, refuse_shared
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import Role, Sample

ROLES: dict[str, Role] = {"train": "train", "query": "query", "test": "gallery"}
FOLDERS = [f"image_{part}" for part in ROLES]
LABELS = "train_label.xml"
ITEM = re.compile(r"<Item\b([^<>]{0,1000})>")
ATTRIBUTE = re.compile(r'(\w+)\s*=\s*"([^"<>]*)"')
ENCODING = "gb18030"  # has GB 2312 in it
EXTRA = re.compile(
    r"name_(train|query|test)\.txt|(train|test)_track(_id)?\.txt|train_label\.csv|"
    r"(query|test)_label\.(xml|csv)"
)
PUBLISHED = ({"train": 36_935}, {"train": 52_717})  # of 2019 and of 2021
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether there are labels beside images that bear numbers alone."""
    return any(
        PurePosixPath(images[0]).stem.isdigit()
        for base, tree in parts.find_parts(files.images, FOLDERS, 0).items()
        for folder, images in tree.items()
        if folder == "image_train" and base + LABELS in files.known
    )


def read(files: Files) -> Reading:
    """Read vehicles and cameras from the labels.

    Raises:
        DatasetError: the labels are missing, wrong, or name an image that is not there, or a
            vehicle is learned and tested with.
    """
    version = parts.one_version(files, "cityflow", FOLDERS, 0, FOLDERS[:1])
    base = version.base
    if base + LABELS not in files.known:
        raise DatasetError(f"'{base}{LABELS}' is missing; the layout cityflow needs it")
    images, once = set(files.images), Once()
    samples: list[Sample] = []
    used = []
    for part, role in ROLES.items():
        member = f"{base}{part}_label.xml"
        if member not in files.known:
            continue
        of_part = [
            sample_of(line, once(line.image(f"{base}image_{part}/{line.values[0]}", images), line),
                      role)
            for line in read_items(files, member) if line.values[1] or part == "train"
        ]  # fmt: skip
        used += [member] if of_part else []
        samples += of_part
    if not samples:
        raise DatasetError(
            f"'{base}{LABELS}' holds no line like <Item imageName=\"000001.jpg\" "
            'vehicleID="0001" cameraID="c001" />'
        )
    refuse_shared(samples)
    shown = samples[0]
    count = sum(sample.role == "train" for sample in samples)
    return Reading(
        samples,
        f"'{base}{LABELS}' ('{shown.identity}' of '{shown.name}')",
        f"'{base}{LABELS}' ({shown.camid} of '{shown.name}')",
        used=used,
        passed_over={
            "images without a label": [n for names in version.parts.values() for n in names],
            "files of the other versions": version.others,
            "lists of names and tracks": [
                name for name in parts.directly_in(files, base)
                if EXTRA.fullmatch(PurePosixPath(name).name)
            ],
            "files of tool": [name for name in files.names if name.startswith(f"{base}tool/")],
        },
        published=min(PUBLISHED, key=lambda counts: abs(counts["train"] - count)),
    )  # fmt: skip


def read_items(files: Files, member: str) -> Iterator[Line]:
    """The image, vehicle ('' if not told) and camera of each item of a file of labels.

    Raises:
        DatasetError: an item names no image or no camera.
    """
    text = files.text(member, ENCODING)
    number, last = 1, 0
    for item in ITEM.finditer(text):
        number, last = number + text.count("\n", last, item.start()), item.start()
        values = dict(ATTRIBUTE.findall(item[1]))
        where = f"'{member}', line {number}"
        camera = values.get("cameraID", "").lstrip("c")
        if "imageName" not in values or not camera:
            raise DatasetError(f"{where}: {item[0][:80]!r}; expected imageName and cameraID")
        yield Line(where, (values["imageName"], values.get("vehicleID", ""), camera))


def sample_of(line: Line, name: str, role: Role) -> Sample:
    """One labelled image.

    Raises:
        DatasetError: vehicle or camera is no number.
    """
    vehicle, camera = line.number(1, "vehicle"), line.number(2, "camera")
    return Sample(name, line.values[1], vehicle + 1, camera, role)
