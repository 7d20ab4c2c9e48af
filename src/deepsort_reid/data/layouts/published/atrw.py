"""Layout `atrw`: ATRW, tigers of ten zoos, by their stripes.

Li et al., "ATRW: A Benchmark for Amur Tiger Re-identification in the Wild", ACM MM 2020; a flank of
a tiger is an identity: 3,649 images of 182, of which 1,887 images of 107 are for training.

    train/000000.jpg, test/000000.jpg
    reid_list_train.csv       lines `identity,image`, without a header
    reid_list_test.csv        lines `image`
    gt_test_plain.json        of the challenge's evaluation: who is on the test images

Cameras are unknown. Without gt_test_plain.json the test images are left out, and identities to test
with are drawn from the training part. With it, queries are drawn from the test part. Test
identities are others than those of the training part, whatever numbers they bear.
"""

import json
from pathlib import PurePosixPath

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.files import Files
from deepsort_reid.data.layouts.lists import NUMBER, Line, Once, numbers_of, read_list
from deepsort_reid.data.layouts.reading import Reading
from deepsort_reid.data.samples import NO_CAMERA, Role, Sample

LIST = "reid_list_train.csv"
TRUTH = "gt_test_plain.json"
EXTRA = ("reid_list_test.csv", "reid_keypoints_train.json", "reid_keypoints_test.json",
         "gt_test_wild.json")  # fmt: skip
PUBLISHED = {"train": 1_887}


def recognises(files: Files) -> bool:
    """Whether there is ATRW's training list."""
    return bool(files.named(LIST))


def read(files: Files) -> Reading:
    """Read who is on which image from the list, and from the evaluation's file if it is there.

    Raises:
        DatasetError: there is not one list, or it names an image that is not there.
    """
    lists = files.named(LIST)
    if len(lists) != 1:
        raise DatasetError(f"the layout atrw needs one '{LIST}'; the source holds {len(lists)}")
    trees: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    for name in files.images:
        path = PurePosixPath(name)
        if path.parent.name in trees:
            trees[path.parent.name][path.name] = name
    rows: dict[str, tuple[str, Role]] = {}
    once = Once()
    for line in read_list(files, lists[0], "identity,image", ","):
        who = f"train/{line.number(0, 'identity')}"
        name = trees["train"].get(line.values[1], f"train/{line.values[1]}")
        rows[once(line.image(name, files.known), line)] = (who, "train")
    truth = files.named(TRUTH)[:1]
    for member in truth:
        for line in read_truth(files, member):
            who = f"test/{line.number(1, 'entityid')}"
            name = trees["test"].get(line.values[0], f"test/{line.values[0]}")
            rows[once(line.image(name, files.known), line)] = (who, "test")
    numbers = numbers_of(who for who, _ in rows.values())
    samples = [Sample(n, who, numbers[who], NO_CAMERA, role) for n, (who, role) in rows.items()]
    return Reading(
        samples,
        f"'{lists[0]}' ('{samples[0].identity}' of '{samples[0].name}')",
        "unknown",
        used=[*lists, *truth],
        passed_over={
            "images whose identity is not told": [n for t in trees.values() for n in t.values()],
            "lists of test images and key points": files.named(*EXTRA),
        },
        published=PUBLISHED,
    )


def read_truth(files: Files, member: str) -> list[Line]:
    """The image and the identity of each entry of the evaluation's file.

    Raises:
        DatasetError: it is no list of entries with `imgid` and `entityid`.
    """
    try:
        entries = json.loads(files.text(member))
        found = [(str(entry["imgid"]), str(entry["entityid"])) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DatasetError(
            f"'{member}' is no list of entries with 'imgid' and 'entityid'; take the file that "
            "ships with the challenge's evaluation, or none"
        ) from None
    return [
        Line(f"'{member}', entry {place}", (f"{image:0>6}.jpg" if NUMBER.fullmatch(image) else
                                            image, who))
        for place, (image, who) in enumerate(found, start=1)
    ]  # fmt: skip
