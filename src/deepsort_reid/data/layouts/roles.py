"""The names by which folders and tables call the parts of a dataset."""

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
