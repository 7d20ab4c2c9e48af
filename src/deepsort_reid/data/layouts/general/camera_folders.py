"""Layout `camera_folders`: a folder for each camera, and in it a folder for each identity.

    cam_a/person_0001/0001.png
    cam_b/person_0001/0001.png

Folders of one name below different cameras are one identity. So are PRID-2011 (Hirzer et al.,
"Person Re-Identification by Descriptive and Discriminative Classification", SCIA 2011: 385 people
by camera a, 749 by camera b, the first 200 by both) and iLIDS-VID (Wang et al., "Person
Re-Identification by Video Ranking", ECCV 2014: 300 people by two cameras) laid out, and, with an
image in place of the inner folder, PRID's `single_shot` and VIPeR (Gray, Brennan and Tao,
"Evaluating Appearance Models for Recognition, Reacquisition, and Tracking", PETS 2007: 632 people
by two cameras).

In PRID only the first 200 numbers mean the same person in both cameras; `cam_a/person_0201` is
somebody else than `cam_b/person_0201`. `multi_shot` and `single_shot`, and `sequences` and
`images`, show the same people: `dataset.subset` says which.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts import parts
from deepsort_reid.data.layouts.cameras import CAMERA_FOLDER, number_of
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.identities import pids_of
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import role_of
from deepsort_reid.data.samples import Sample

# Where an image stands in place of an identity's folder: PRID, iLIDS-VID, VIPeR.
SINGLE = re.compile(r"(person_[0-9]{4})|cam[12]_(person[0-9]{3})|([0-9]{3})_[0-9]{1,3}")
PRID = re.compile(r"person_([0-9]{4})")
IN_BOTH, IN_A, IN_B = 200, 385, 749  # people of PRID
SPLITS = re.compile(r"(.*/)?(train-test people splits/.*|splits?[^/]*\.(mat|json))")
PUBLISHED = {
    ("prid", "single_shot"): 1_134,
    ("ilids", "images"): 600,
    ("viper", ""): 1_264,
}
STATES = ("subset",)


def recognises(files: Files) -> bool:
    """Whether all images lie in folders that are named like cameras, two or more beside another."""
    if files.source.identity_level is not None:
        return False  # the user states which folder is an identity
    bases = find(files, 1) | find(files, 0)
    if len(bases) > 1 and any(role_of(PurePosixPath(base).name) for base in bases):
        return False  # cameras in each part: to take one part would drop the others
    images = sum(len(images) for tree in bases.values() for images in tree.values())
    return bool(bases) and images == len(files.images) and all(len(t) > 1 for t in bases.values())


def find(files: Files, below: int) -> dict[str, parts.Parts]:
    """Where folders of cameras are: with a folder for each identity (1), or an image (0)."""
    paths = {name.rpartition("/")[0] for name in files.images}
    names = {part for path in paths for part in PurePosixPath(path).parts[-2:]}
    cameras = [name.lower() for name in names if CAMERA_FOLDER.fullmatch(name)]
    found = parts.find_parts(files.images, cameras, below)
    if below:
        return found
    return {
        base: tree
        for base, tree in found.items()
        if all(SINGLE.fullmatch(PurePosixPath(n).stem) for images in tree.values() for n in images)
    }


def read(files: Files) -> Reading:
    """Read cameras and identities from the folders.

    Raises:
        DatasetError: an image lies elsewhere, there is one camera only, or there are several such
            datasets and none is chosen.
    """
    nested, flat = find(files, 1), find(files, 0)
    bases = nested | flat
    base = parts.choose(files, "camera_folders", bases) if bases else ""
    tree = bases.get(base, {})
    if len(tree) < 2:
        raise DatasetError(
            "the layout camera_folders needs two or more folders such as cam1 and cam2, and in "
            "each a folder for each identity"
        )
    cameras = number_cameras(tree)
    identity_of = {
        name: identity(name, single=base not in nested)
        for images in tree.values()
        for name in images
    }
    where = {name: folder for folder, images in tree.items() for name in images}
    if is_prid(base, tree):
        identity_of = {
            name: who if int(who[-4:]) <= IN_BOTH else f"{where[name]}/{who}"
            for name, who in identity_of.items()
        }
    pids = pids_of(identity_of.values())
    samples = [
        Sample(name, who, pids[who], cameras[where[name]], "any")
        for name, who in identity_of.items()
    ]
    shown = samples[0]
    return Reading(
        samples,
        f"{'folder' if base in nested else 'file name'} ('{shown.identity}' of '{shown.name}')",
        f"folder ('{where[shown.name]}' of '{shown.name}')",
        passed_over={
            "files of the other version": parts.others(files, base, bases),
            "files of other splits": [n for n in files.names if SPLITS.fullmatch(n)],
        },
        published=published(base),
    )


def identity(name: str, *, single: bool) -> str:
    """The identity of an image: its folder's name, or what its own name says."""
    path = PurePosixPath(name)
    match = SINGLE.fullmatch(path.stem) if single else None
    return next(filter(None, match.groups())) if match else path.parent.name


def number_cameras(tree: Mapping[str, list[str]]) -> dict[str, int]:
    """A number for each camera's folder: its own, or its letter's place in the alphabet.

    Raises:
        DatasetError: two folders stand for one camera.
    """
    numbers: dict[int, str] = {}
    for folder in tree:
        match = CAMERA_FOLDER.fullmatch(folder)
        number = number_of(match[1]) if match else 0
        if numbers.setdefault(number, folder) != folder:
            raise DatasetError(f"'{numbers[number]}' and '{folder}' both stand for one camera")
    return {folder: number for number, folder in numbers.items()}


def is_prid(base: str, tree: Mapping[str, list[str]]) -> bool:
    """Whether this is PRID-2011: by the names of the folders around, or by its 385 and 749 people.

    Its numbers above 200 mean different people in its two cameras.
    """
    if set(tree) != {"cam_a", "cam_b"}:
        return False
    found = {camera: [PRID.search(name) for name in images] for camera, images in tree.items()}
    if not all(match for matches in found.values() for match in matches):
        return False
    named = "prid" in base.lower() or PurePosixPath(base).name in ("multi_shot", "single_shot")
    last = {c: max(int(m[1]) for m in matches if m) for c, matches in found.items()}
    return named or (last["cam_a"], last["cam_b"]) == (IN_A, IN_B)


def published(base: str) -> dict[str, int]:
    """The number of images as published, by the names of the folders around."""
    path = base.lower()
    version = PurePosixPath(path).name
    return next(
        (
            {"any": count}
            for (name, of), count in PUBLISHED.items()
            if name in path.replace("-", "") and of in ("", version)
        ),
        {},
    )
