"""Layout `split_folders`: a folder for each part, and in it a folder for each identity.

The parts are named `train`, `val`, `test`, `query`, `gallery`, as their owners have divided them:

    train/alice/c1_0001.jpg
    test/bob/c1_0001.jpg

That division holds. `test` holds identities that `train` lacks; queries are drawn from it. With
`query`, `test` is the gallery. A `test` of the same identities as `train` is a closed set, and
serves as `val`. A `val` of other identities is an open set: it serves as the test where there is
none, and else to tune by (`split.tune_fraction`).
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.cameras import CAMERA_FOLDER, said_of_cameras
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.general import folders
from deepsort_reid.data.layouts.identities import refuse_nobody
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.layouts.roles import role_of, roles_of, served, settle

STATES = ("identity_level",)


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
    folder_of: dict[str, str] = {}
    for name, part in parts.items():
        role = role_of(part)
        if role is None:
            raise DatasetError(
                f"'{name}' lies in no part; expected a folder train, val, test, query or gallery "
                "at the top, and in it a folder for each identity"
            )
        if folder_of.setdefault(role, part) != part:
            raise DatasetError(
                f"'{folder_of[role]}' and '{part}' both stand for the part '{role}'; keep one (or "
                f"set {files.key}layout: folders if they are identities)"
            )
    level = files.source.identity_level
    identity_of: dict[str, str] = {}
    for part in folder_of.values():
        begin = f"{files.root}{part}/"
        inside = {n.removeprefix(begin): n for n in files.images if parts[n] == part}
        below = identities_below(inside, begin, level, files.key)
        identity_of |= {inside[name]: identity for name, identity in below.items()}
    if files.source.layout == "auto":
        refuse_nobody(identity_of, files.key)
    given = roles_of(parts)
    roles = settle(given, identity_of)
    samples = folders.samples_of(identity_of, roles)
    return Reading(
        samples, folders.said(identity_of), said_of_cameras(samples), notes=served(given, roles)
    )


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
                f"or a published dataset's folders and names, or a table ({key}table)"
            )
        if CAMERA_FOLDER.fullmatch(parents[0]):
            raise DatasetError(
                f"'{part}{name}': '{parents[0]}' looks like a camera, not like an identity; "
                f"expected {part}<identity>/{parents[0]}/<image>, with {key}identity_level: 1"
            )
        if level is None and len(parents) > 1:
            raise DatasetError(folders.ambiguous({part + name: parents}, {len(parents)}, key))
        found[name] = "/".join(parents[: level or 1])
    return found
