"""The parts of a dataset: how folders and tables call them, and how they fit together."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.identities import is_junk
from deepsort_reid.data.samples import Role

WORDS: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "query": "query",
    "queries": "query",
    "probe": "query",
    "gallery": "gallery",
}
# Occluded-REID (Zhuo et al., "Occluded Person Re-identification", ICME 2018) looks for whole people
# by images on which something hides them.
BODIES: dict[str, Role] = {"occluded_body": "query", "whole_body": "gallery"}
NUMBER = re.compile(r"_?[0-9]+$")
AROUND = ("bounding_box_", "bbox_", "image_", "images_", "_images", "_image", "_set", "_all")


def role_of(folder: str) -> Role | None:
    """The part that a folder's name stands for: `train`, `image_query`, `val2017`; or None."""
    word = NUMBER.sub("", folder.lower().replace("-", "_").replace(" ", "_"))
    for affix in AROUND:
        word = word.removeprefix(affix).removesuffix(affix)
    return WORDS.get(word) or BODIES.get(word)


def part_of(folder: str) -> Role:
    """The part that the nearest of nested folders stands for: `MOT17/train/MOT17-02`; else `any`.

    The last word of a folder's name counts too, as in `VisDrone2019-MOT-val`.
    """
    for name in reversed(PurePosixPath(folder).parts[:-1]):
        role = role_of(name) or role_of(name.rpartition("-")[2])
        if role is not None:
            return role
    return "any"


def roles_of(parts: Mapping[str, str]) -> dict[str, Role]:
    """Image -> the part that its folder stands for, by the folder's name."""
    return {name: role_of(part) or "any" for name, part in parts.items()}


def settle(roles: Mapping[str, Role], identity_of: Mapping[str, str]) -> dict[str, Role]:
    """The role of each image, once it is known which identities the parts share.

    Args:
        roles: image -> what its folder or its line in a table is called.
        identity_of: image -> its identity.

    Raises:
        DatasetError: there is a query without a gallery or the reverse, three parts for query
            and gallery, or a part that shares some of its identities with `train` and not all.
    """
    present = Counter(roles.values())
    who: dict[Role, set[str]] = {role: set() for role in present}
    for name, role in roles.items():
        if not is_junk(identity_of[name]):
            who[role].add(identity_of[name])
        elif role == "query":
            raise DatasetError(
                f"the query '{name}' shows '{identity_of[name]}', which is nobody; take it out"
            )
    meaning: dict[Role, Role] = {role: role for role in present}
    if present["query"] and present["test"]:
        if present["gallery"]:
            raise DatasetError(
                "there are query, gallery and test; expected query and gallery, or test alone"
            )
        meaning["test"] = "gallery"
    elif present["query"] and not present["gallery"]:
        raise DatasetError("there are queries, but no gallery to find them in")
    elif present["gallery"] and not present["query"]:
        meaning["gallery"] = "test"  # queries are drawn from it
    tested = present["query"] or present["test"] or present["gallery"]
    if present["train"] and "test" in meaning.values() and not present["query"]:
        folder: Role = "test" if present["test"] else "gallery"
        if closed("train", folder, who):
            meaning[folder] = "val"
            if present["val"]:
                raise DatasetError(
                    "val and test both hold the identities of train; expected a test of others: "
                    "put one of the two into train, or take it out"
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


def served(given: Mapping[str, Role], settled: Mapping[str, Role]) -> list[str]:
    """What is to be known of parts that serve as another one than they are called.

    Args:
        given: image -> what its folder or line is called.
        settled: image -> its role.
    """
    pairs = sorted({(given[name], role) for name, role in settled.items() if given[name] != role})
    return [f"'{part}' serves as '{role}'{WHY[role]}" for part, role in pairs]


WHY = {
    "val": ", since it holds the identities of train",
    "tune": ", since it holds other identities than train",
    "test": ", of which queries are drawn",
    "gallery": ", beside the queries",
}
