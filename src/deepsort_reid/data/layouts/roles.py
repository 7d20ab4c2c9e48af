"""The names by which folders and tables call the parts of a dataset."""

from pathlib import PurePosixPath

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
AROUND = ("bounding_box_", "bbox_", "image_", "images_", "_images", "_image", "_set", "_all")


def role_of(folder: str) -> Role | None:
    """The part that a folder's name stands for: `train`, `image_query`; None for other names."""
    word = folder.lower().replace("-", "_")
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
