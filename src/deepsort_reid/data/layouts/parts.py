"""Folders that stand for the parts of a published dataset, and which version of it is meant."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files

Parts = dict[str, list[str]]  # folder -> its images, or those of the folders in it


def find_parts(images: Sequence[str], folders: Collection[str], below: int) -> dict[str, Parts]:
    """Where the folders of a dataset are, and their images.

    Args:
        images: names of members.
        folders: what the folders are called, in small letters.
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
        if folder.lower() in folders:
            found.setdefault(base, {}).setdefault(folder, []).append(name)
    return found


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
