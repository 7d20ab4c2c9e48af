"""Layout `split_folders`: a folder for each part, and in it a folder for each identity.

The parts are named `train`, `val`, `test`, `query`, `gallery`, as their owners have divided them:

    train/alice/c1_0001.jpg
    test/bob/c1_0001.jpg

That division holds. `test` holds identities that `train` lacks; queries are drawn from it. With
`query`, `test` is the gallery. A `test` of the same identities as `train` is a closed set, and
serves as `val`. A `val` of other identities is an open set: it serves as the test where there is
none, and else to tune by (`split.tune_fraction`).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.general import folders
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import role_of
from deepsort_reid.data.samples import Role


def recognises(files: Files) -> bool:
    """Whether two or more parts lie beside each other, and nothing else does."""
    tops = {top(files, name) for name in files.images}
    return len(tops) > 1 and all(map(role_of, tops))


def top(files: Files, name: str) -> str:
    """The folder of an image just below the one that all images share; '' if there is none."""
    first, _, rest = name.removeprefix(files.root).partition("/")
    return first if rest else ""


def read(files: Files) -> Reading:
    """Read the part and the identity of each image from its folders.

    Raises:
        DatasetError: an image lies in no part or in no identity's folder, two folders stand for
            one part, the parts do not fit together, or only some file names tell a camera.
    """
    parts = {name: top(files, name) for name in files.images}
    folder_of: dict[Role, str] = {}
    for name, part in parts.items():
        role = role_of(part)
        if role is None:
            raise DatasetError(
                f"'{name}' lies in no part; expected a folder train, val, test, query or gallery "
                "at the top, and in it a folder for each identity"
            )
        if folder_of.setdefault(role, part) != part:
            raise DatasetError(
                f"'{folder_of[role]}' and '{part}' both stand for the part '{role}'; keep one"
            )
    level = files.source.identity_level
    identity_of: dict[str, str] = {}
    for part in folder_of.values():
        begin = f"{files.root}{part}/"
        inside = {n.removeprefix(begin): n for n in files.images if parts[n] == part}
        below = identities_below(inside, begin, level, files.key)
        identity_of |= {inside[name]: identity for name, identity in below.items()}
    roles = settle({name: role_of(part) or "any" for name, part in parts.items()}, identity_of)
    samples = folders.samples_of(identity_of, roles)
    return Reading(samples, folders.said(identity_of), folders.said_of_cameras(samples))


def identities_below(
    inside: Mapping[str, str], part: str, level: int | None, key: str
) -> dict[str, str]:
    """The identity of each image of one part, by its path below the part's folder.

    Raises:
        DatasetError: an image lies in no folder, or deeper or less deep than the level says.
    """
    found = {}
    for name in inside:
        parents = PurePosixPath(name).parent.parts
        if len(parents) < (level or 1):
            raise DatasetError(
                f"'{part}{name}' lies in no identity's folder; expected {part}<identity>/<image>, "
                "or a published dataset's folders and names, or a table (dataset.layout: table)"
            )
        if level is None and len(parents) > 1:
            raise DatasetError(folders.ambiguous({part + name: parents}, {len(parents)}, key))
        found[name] = "/".join(parents[: level or 1])
    return found


def settle(roles: Mapping[str, Role], identity_of: Mapping[str, str]) -> dict[str, Role]:
    """The role of each image, once it is known which identities the parts share.

    Args:
        roles: image -> what its folder is called.
        identity_of: image -> its identity.

    Raises:
        DatasetError: there is a query without a gallery or the reverse, three folders for query
            and gallery, or a part that shares some of its identities with `train` and not all.
    """
    present = Counter(roles.values())
    who = {role: {identity_of[n] for n, r in roles.items() if r == role} for role in present}
    meaning: dict[Role, Role] = {role: role for role in present}
    if present["query"] and present["test"]:
        if present["gallery"]:
            raise DatasetError(
                "there are query, gallery and test; expected query and gallery, or test alone"
            )
        meaning["test"] = "gallery"
    elif present["query"] and not present["gallery"]:
        raise DatasetError("there is a folder of queries, but no gallery to find them in")
    elif present["gallery"] and not present["query"]:
        meaning["gallery"] = "test"  # queries are drawn from it
    tested = present["query"] or present["test"] or present["gallery"]
    if present["train"] and "test" in meaning.values() and not present["query"]:
        folder: Role = "test" if present["test"] else "gallery"
        if closed("train", folder, who):
            meaning[folder] = "val"
            if present["val"]:
                raise DatasetError(
                    "val and test both hold the identities of train; expected a test of others"
                )
            return {name: meaning[role] for name, role in roles.items()}
    if present["train"] and present["val"] and not closed("train", "val", who):
        meaning["val"] = "tune" if tested else "test"
    refuse_overlap(who, meaning)
    return {name: meaning[role] for name, role in roles.items()}


def closed(train: Role, other: Role, who: Mapping[Role, set[str]]) -> bool:
    """Whether a part holds identities of `train` alone; False if it holds none of them.

    Raises:
        DatasetError: it holds some of both.
    """
    shared = who[train] & who[other]
    if shared and shared != who[other]:
        raise DatasetError(
            f"'{min(shared)}' is in {train} and in {other}, while '{min(who[other] - shared)}' is "
            f"in {other} alone; expected {other} to hold identities of {train} only, or none of "
            "them"
        )
    return bool(shared)


def refuse_overlap(who: Mapping[Role, set[str]], meaning: Mapping[Role, Role]) -> None:
    """Refuse identities that are learned and tested with.

    Raises:
        DatasetError: there is one.
    """
    for role, identities in who.items():
        both = identities & who.get("train", set())
        if both and meaning[role] in ("query", "gallery", "test", "tune") and role != "train":
            raise DatasetError(
                f"'{min(both)}' is in train and in {role}; a test shows identities that were not "
                "learned"
            )
