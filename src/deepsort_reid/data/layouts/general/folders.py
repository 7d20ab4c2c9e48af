"""Layout `folders`: a folder for each identity, as deep_sort_pytorch has it.

All images lie equally deep: `<identity>/<image>`. Where folders are nested, nobody can tell from
names which level is an identity, a tracklet or a class, so that `dataset.identity_level` must say
it. The camera, if known, stands in the file name as `c3` or `cam3`, apart from what surrounds it:
`c3_0007.png`, `walk_c3s1_12.jpg`.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.cameras import (
    CAMERA_FOLDER,
    cameras_of,
    check_cameras,
    said_of_cameras,
)
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.identities import (
    is_junk,
    numbers_disagree,
    pids_of,
    refuse_nobody,
    repeated,
)
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import role_of
from deepsort_reid.data.samples import Role, Sample

STATES = ("identity_level",)


def recognises(files: Files) -> bool:  # noqa: ARG001
    """Any archive, since folders bear any names; so this layout is the last of the table."""
    return True


def read(files: Files) -> Reading:
    """Read identities from folders, numbered from 1 in the order of their names.

    Raises:
        DatasetError: images lie outside an identity's folder or not equally deep, the folder bears
            the name of a part, or only some file names tell a camera.
    """
    level = files.source.identity_level
    if files.source.layout == "auto":
        refuse_parts_among(files)
    identity_of = identities(files.images, level, files.key)
    if files.source.layout == "auto":
        refuse_parts(sorted(set(identity_of.values())), files.key)
        refuse_nobody(identity_of, files.key)
        refuse_strangers(files.images, files.key)
    samples = samples_of(identity_of, {})
    note = repeated(identity_of.values())
    return Reading(
        samples, said(identity_of), said_of_cameras(samples), notes=[note] if note else []
    )


def identities(images: Sequence[str], level: int | None, key: str) -> dict[str, str]:
    """The identity of each image: the folders of its path down to a level.

    Args:
        images: names of members.
        level: how many of the nested folders make an identity, below the folder that all images
            share; None where each image lies in one folder.
        key: what parameters begin with, in messages.

    Raises:
        DatasetError: an image lies in no folder, or folders are nested and no level is stated, or
            less deep than the level.
    """
    folders = {name: PurePosixPath(name).parent.parts for name in images}
    shared = shared_folders(list(folders.values()), level or 1)
    below = {name: parts[shared:] for name, parts in folders.items()}
    depths = {len(parts) for parts in below.values()}
    shallow = next((name for name, parts in below.items() if len(parts) < (level or 1)), None)
    if shallow is not None and level is None:
        raise DatasetError(
            f"'{shallow}' lies in no identity's folder; expected <identity>/<image> for all "
            f"images, or a table that says who is on which image ({key}table)"
        )
    if shallow is not None:
        deep = len(below[shallow])
        raise DatasetError(
            f"{key}identity_level={level}, but '{shallow}' lies only {deep} "
            f"folder{'s' if deep != 1 else ''} deep; expected all images below an identity's folder"
        )
    if level is None and depths != {1}:
        raise DatasetError(ambiguous(below, depths, key))
    return {name: "/".join(parts[: level or 1]) for name, parts in below.items()}


def shared_folders(folders: Sequence[tuple[str, ...]], level: int) -> int:
    """How many of the topmost folders all images share, an identity's level left below them."""
    first, last = min(folders), max(folders)
    alike = 0
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        alike += 1
    return max(0, min(alike, min(map(len, folders)) - level))


def ambiguous(below: dict[str, tuple[str, ...]], depths: set[int], key: str) -> str:
    """The line that refuses nested folders, with an example and what it may mean."""
    name, parts = max(below.items(), key=lambda item: (len(item[1]), item[0]))
    if len(depths) > 1:
        flat = min(below.items(), key=lambda item: (len(item[1]), item[0]))[0]
        return (
            f"images do not lie equally deep: '{flat}' and '{name}'; expected <identity>/<image>, "
            f"or {key}identity_level, which says how many of the nested folders are an identity"
        )
    twice = repeated("/".join(parts) for parts in below.values())
    warning = f"; then {twice}: if they are one, put them into one folder" if twice else ""
    return (
        f"folders are nested, as in '{name}', and names do not say which one is an identity: "
        f"{key}identity_level=1 makes it '{parts[0]}' (with a folder for each tracklet or camera), "
        f"{key}identity_level={len(parts)} makes it '{'/'.join(parts)}' (with a folder for each "
        f"class){warning}"
    )


def refuse_parts_among(files: Files) -> None:
    """Refuse folders of which one is named like a part of a dataset, and holds folders itself.

    Raises:
        DatasetError: there is one, such as 'train' beside 'dev'.
    """
    for name in files.images:
        above = name.removeprefix(files.root).split("/")[:-2]
        part = next((folder for folder in above if role_of(folder)), None)
        if part is None:
            continue
        begin = files.root + "".join(f"{folder}/" for folder in above[: above.index(part)])
        beside = {
            n.removeprefix(begin).partition("/")[0] for n in files.images if n.startswith(begin)
        }
        others = sorted(folder for folder in beside if not role_of(folder))
        what = (
            f"'{others[0]}' beside it does not" if others else "it lies in a folder beside others"
        )
        raise DatasetError(
            f"'{begin}{part}' looks like a part of a dataset, but {what}; expected train, val, "
            "test, query or gallery and nothing beside them: rename it, take it out, or name one "
            f"folder as the source (or set {files.key}layout: folders if it is an identity)"
        )


def refuse_strangers(images: Sequence[str], key: str) -> None:
    """Refuse folders in which names such as Market-1501's tell several identities.

    Raises:
        DatasetError: there is one.
    """
    folder = numbers_disagree(images)
    if folder is not None:
        raise DatasetError(
            f"names in '{folder}' tell several identities, as Market-1501's do; expected a folder "
            f"for each, or a table ({key}table), or {key}layout: folders if the folder is one"
        )


def refuse_parts(names: Sequence[str], key: str) -> None:
    """Refuse identities named like the parts of a dataset, or all like cameras.

    Raises:
        DatasetError: there is one, such as 'train', or they are such as 'cam1'.
    """
    if all(map(CAMERA_FOLDER.fullmatch, names)):
        raise DatasetError(
            f"the folder '{names[0]}' looks like a camera, not like an identity; expected "
            f"{names[0]}/<identity>/<image>, or {key}layout: folders if it is an identity"
        )
    part = next((name for name in names if role_of(name)), None)
    if part is not None:
        raise DatasetError(
            f"the folder '{part}' looks like a part of a dataset, not like an identity; expected "
            f"{part}/<identity>/<image> in each part, or {key}layout: folders if it is an identity"
        )


def said(identity_of: Mapping[str, str]) -> str:
    """What tells the identity, with an example."""
    shown = next(((n, who) for n, who in identity_of.items() if not is_junk(who)), None)
    name, identity = shown or next(iter(identity_of.items()))
    return f"folder ('{identity}' of '{name}')"


def samples_of(identity_of: Mapping[str, str], roles: Mapping[str, Role]) -> list[Sample]:
    """A sample of each image: identities numbered by name, cameras from files or folders.

    Args:
        identity_of: image -> its identity.
        roles: image -> its role, where the dataset says one.

    Raises:
        DatasetError: two identities may be one, or only some file names tell a camera.
    """
    numbers, cameras = pids_of(identity_of.values()), cameras_of(identity_of)
    samples = [
        Sample(name, identity, numbers[identity], cameras[name], roles.get(name, "any"))
        for name, identity in identity_of.items()
    ]
    check_cameras(samples)
    return samples
