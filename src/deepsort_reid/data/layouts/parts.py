"""Folders that stand for the parts of a published dataset, and which version of it is meant."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files

Parts = dict[str, list[str]]  # folder -> its images, or those of the folders in it


@dataclass(frozen=True)
class Version:
    """The one dataset of a layout that is meant, among those in an archive."""

    base: str  # the folder that holds it, with a `/` at its end, or ''
    parts: Parts
    others: list[str]  # members of the datasets that are not meant


def find_parts(images: Sequence[str], folders: Collection[str], below: int) -> dict[str, Parts]:
    """Where the folders of a dataset are, and their images.

    Args:
        images: names of members.
        folders: what the folders are called.
        below: how many folders lie between such a folder and its images: 1 for a folder for each
            identity, 0 if images lie in the folder itself.

    Returns:
        for each folder that holds some of them (with a `/` at its end, or ''): name -> images.
    """
    found: dict[str, Parts] = {}
    for name in images:
        above = name.rsplit("/", 2 + below)
        if len(above) < 2 + below:
            continue
        base, folder = ("", above[0]) if len(above) == 2 + below else (f"{above[0]}/", above[1])
        if folder in folders:
            found.setdefault(base, {}).setdefault(folder, []).append(name)
    return found


def one_version(
    files: Files, layout: str, folders: Collection[str], below: int, needed: Collection[str] = ()
) -> Version:
    """Find the folders of the one dataset that is meant.

    Args:
        files: all members, and the subset that the user states.
        layout: the layout's name.
        folders: what the folders are called.
        below: as `find_parts` has it.
        needed: those of the folders that must hold images.

    Raises:
        DatasetError: one of these holds none, or it is not clear which dataset is meant.
    """
    found = find_parts(files.images, folders, below)
    base = choose(files, layout, found) if found else ""
    missing = next((name for name in needed if name not in found.get(base, {})), None)
    if missing is not None:
        deep = "/<identity>" * below
        raise DatasetError(
            f"no images in '{base}{missing}{deep}'; the layout {layout} needs images in each of "
            f"{', '.join(needed)}{other_case(files, missing)}"
        )
    return Version(base, found.get(base, {}), others(files, base, found))


def refuse_elsewhere(files: Files, version: Version, names: Collection[str]) -> None:
    """Refuse lists that lie elsewhere than beside the folders that they are of.

    Args:
        files: all members.
        version: the dataset that is meant.
        names: what its lists are called.

    Raises:
        DatasetError: there is one.
    """
    expected = {version.base + name for name in names}
    for name in files.named(*names):
        if name not in expected and name not in version.others:
            raise DatasetError(
                f"'{name}' has to lie beside the folders that it lists, in "
                f"'{version.base or './'}'; move it there, or take it out of the source"
            )


def other_case(files: Files, folder: str) -> str:
    """A hint at a folder whose name differs in case from the expected one; '' if there is none."""
    wanted = folder.lower()
    for name in files.images:
        for part in name.split("/")[:-1]:
            if part != folder and part.lower() == wanted:
                return f" (rename '{part}' to '{folder}')"
    return ""


def choose(files: Files, layout: str, bases: Collection[str]) -> str:
    """The one dataset of a layout that is meant, among those in the archive.

    Versions show the same identities, as `detected` and `labeled` of CUHK03-NP do. So they are
    never pooled.

    Args:
        files: all members, and the subset that the user states.
        layout: the layout's name.
        bases: the folders that hold one each.

    Raises:
        DatasetError: there are several and none is chosen, or the chosen one is not there.
    """
    subset = files.source.subset
    names = {base: PurePosixPath(base).name or "." for base in sorted(bases)}
    if subset is None and len(names) == 1:
        return next(iter(names))
    fitting = [
        base for base, name in names.items()
        if subset and subset.lower() in (name.lower(), base.strip("/").lower())
    ]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    if not any(names):
        raise DatasetError(
            f"{files.key}subset: {subset}: the source is one dataset in layout {layout}, without a "
            f"folder of that name; set {files.key}subset to null"
        )
    known = " or ".join(names.values() if len(set(names.values())) == len(names) else names)
    if subset is None:
        raise DatasetError(
            f"the source holds {len(names)} versions in layout {layout}; set {files.key}subset to "
            f"{known}"
        )
    raise DatasetError(f"{files.key}subset: {subset}: the source holds {known}")


def others(files: Files, base: str, bases: Collection[str]) -> list[str]:
    """The members of the datasets that are not meant."""
    if len(bases) < 2:
        return []
    deepest = sorted(bases, key=len, reverse=True)
    return [
        name for name in files.names
        if next((other for other in deepest if name.startswith(other)), base) != base
    ]  # fmt: skip


def directly_in(files: Files, folder: str) -> list[str]:
    """The members that lie in a folder (with a `/` at its end, or '') and in none below it."""
    return [
        name for name in files.names if name.startswith(folder) and "/" not in name[len(folder) :]
    ]
