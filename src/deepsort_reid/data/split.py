"""Who serves for what: the images of a dataset, assigned to train, val, query and gallery.

Train and val hold the same identities (a closed set: val tells whether the classifier has learned
them). Query and gallery hold other identities (an open set: they tell whether embeddings serve for
people whom the network has never seen, which is what a tracker needs). Query and gallery are the
test part, or, to choose parameters by, identities held out of the training part.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np

from deepsort_reid.core import files
from deepsort_reid.core.config import SplitConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import packed
from deepsort_reid.data.decode import check_unreadable, decode
from deepsort_reid.data.packed import PARTS
from deepsort_reid.data.samples import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    Dataset,
    ImageSource,
    Sample,
    Split,
)

logger = logging.getLogger(__name__)

REST = "rest"  # images that no part is expected to hold

Key = TypeVar("Key")


def make_parts(source: ImageSource, dataset: Dataset, folder: Path, config: SplitConfig) -> Split:
    """Decode a dataset's images and write its four parts.

    Each image is decoded and resized once, and written to the part it belongs to if all images are
    readable; only parts that turn out otherwise are copied. The same input gives the same bytes on
    any number of cores.

    Args:
        source: where the images' bytes are.
        dataset: which images there are.
        folder: receives `<part>.npy` and `<part>.csv`.
        config: the size of the images, the shares of the parts, and what may be left out.

    Raises:
        DatasetError: more unreadable images or one-image identities than allowed, or too little
            left to learn from or to measure with.
        OSError: the disk is full.
    """
    expected = expect(dataset, config)
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(files.temporary(folder / f"expected-{name}.npy"))
            for name in expected
        }
        losses = decode(source, expected, arrays, config.image_size)
        check_unreadable(losses.unreadable, config.skip_unreadable)
        split = assign(Dataset(dataset.layout, losses.left(dataset.samples)), config)
        write_arrays(folder, split, expected, arrays)
    for part in PARTS:
        rows = [(sample.pid, sample.camid, sample.identity, sample.name) for sample in split[part]]
        packed.write_index(folder / f"{part}.csv", rows)
    return split


def expect(dataset: Dataset, config: SplitConfig) -> Split:
    """The split if all images are readable, and under `REST` the images in none of its parts.

    All images are there where nothing can be expected: of videos, since boxes often lie outside
    their frame, and where the images do not suffice, which is refused once the unreadable ones are
    known.
    """
    try:
        split = {} if dataset.has_tracks else assign(dataset, config)
    except DatasetError:
        split = {}
    used = {sample.name for samples in split.values() for sample in samples}
    rest = [sample for sample in dataset.samples if sample.name not in used]
    return {part: split.get(part, []) for part in PARTS} | {REST: rest}


def write_arrays(folder: Path, split: Split, expected: Split, arrays: Mapping[str, Path]) -> None:
    """Move the arrays of the parts that are as expected into a folder, and copy the others.

    Args:
        folder: receives `<part>.npy`.
        split: what each part holds.
        expected: what each of `arrays` holds.
        arrays: the files; those that were moved are gone afterwards.
    """
    mapped = {name: np.load(arrays[name], mmap_mode="r", allow_pickle=False) for name in arrays}
    places = {
        sample.name: (mapped[name], place)
        for name, samples in expected.items()
        for place, sample in enumerate(samples)
    }
    for part in PARTS:
        with files.replacing(folder / f"{part}.npy") as temporary:
            if split[part] == expected[part]:
                arrays[part].replace(temporary)
            else:
                found = (places[sample.name] for sample in split[part])
                images = (array[place] for array, place in found)
                packed.write_images(temporary, len(split[part]), images, mapped[part].shape[1:3])


# Assigning


def assign(dataset: Dataset, config: SplitConfig) -> Split:
    """Assign each image to a part, or to none.

    Args:
        dataset: the images. If it says itself what is for training and what for testing, that
            holds; else identities are drawn for query and gallery.
        config: the shares of the parts, the seed that draws them, and how many identities with one
            image may be left out of the training part.

    Raises:
        DatasetError: see `make_parts`.
    """
    if dataset.has_tracks:
        return assign_tracks(dataset.samples, config)
    if dataset.has_roles:
        by_role = group(dataset.samples, lambda sample: sample.role)
        learning, query, gallery = by_role["train"], by_role["query"], by_role["gallery"]
        learning = [sample for sample in learning if sample.pid not in (JUNK, DISTRACTOR)]
    else:
        learning, held_out = hold_out_to_test(dataset.samples, config)
        query, gallery = choose_queries(held_out, config.seed)
    if config.tune_fraction:
        learning, held_out = hold_out_to_tune(learning, config)
        query, gallery = choose_queries(held_out, config.seed)
    learning = leave_out_single(learning, config.skip_single)
    train, val = split_each_identity(learning, config)
    split = {"train": train, "val": val, "query": query, "gallery": gallery}
    check_split(split, dataset.has_cameras, config.tune_fraction)
    return split


def assign_tracks(samples: Sequence[Sample], config: SplitConfig) -> Split:
    """Assign each image of annotated videos to a part, or to none.

    Frames that follow each other show the same picture. Images drawn from all of a track would be
    learned in one part and told apart in the other, or be query and answer at once. Tracks are cut
    in time instead. Val is the end of each track of the training part. Of the other tracks the
    query is the last image, and the gallery holds the images of the first half, so that half the
    track's time, at least, lies between them; the images in between are in no part. No track is
    seen by two cameras, so no query is searched for under another camera.

    Raises:
        DatasetError: too little is left to learn from or to measure with.
    """
    tracks = group(sorted(samples, key=moment), lambda sample: sample.identity)
    short = sum(len(track) < 2 for track in tracks.values())
    if short:
        logger.info("%d tracks have one image, too few to learn or to find them: left out", short)
    long = [sample for track in tracks.values() if len(track) > 1 for sample in track]
    learning, held_out = hold_out_to_test(long, config)
    if config.tune_fraction:
        learning, held_out = hold_out_to_tune(learning, config)
    split: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for track in group(learning, lambda sample: sample.identity).values():
        count = val_count(len(track), config.val_fraction)
        split["train"] += track[:-count]
        split["val"] += track[-count:]
    for track in group(held_out, lambda sample: sample.identity).values():
        split["query"].append(track[-1])
        split["gallery"] += first_half(track)
    split = {part: sorted(chosen, key=lambda s: s.name) for part, chosen in split.items()}
    check_split(split, has_cameras=False, tune_fraction=config.tune_fraction)
    return split


def moment(sample: Sample) -> int:
    """The number of the frame that a crop of a video was cut out of."""
    return sample.crop.frame if sample.crop else 0


def first_half(track: Sequence[Sample]) -> list[Sample]:
    """The crops of a track, in time, that lie no later than midway between its ends."""
    ends = moment(track[0]) + moment(track[-1])
    return [sample for sample in track if 2 * moment(sample) <= ends]


# Holding identities out


def hold_out_to_test(
    samples: Sequence[Sample], config: SplitConfig
) -> tuple[list[Sample], list[Sample]]:
    """Part identities into those to learn from and those to test with, at least two each.

    Raises:
        DatasetError: there are fewer than four identities.
    """
    identities = sorted({sample.identity for sample in samples})
    if len(identities) < 4:
        raise DatasetError(
            f"the dataset has {len(identities)} identit{'y' if len(identities) == 1 else 'ies'} "
            f"({', '.join(identities)}); it takes at least 4: two to tell apart in training and "
            "two others to test with"
        )
    return draw_identities(samples, config.test_fraction, config.seed, "identities")


def hold_out_to_tune(
    samples: Sequence[Sample], config: SplitConfig
) -> tuple[list[Sample], list[Sample]]:
    """Part identities into those to learn from and those to choose parameters by.

    Raises:
        DatasetError: there are fewer than four identities.
    """
    count = len({sample.identity for sample in samples})
    if count < 4:
        raise DatasetError(
            f"split.tune_fraction={config.tune_fraction} shares out {count} training "
            f"identit{'y' if count == 1 else 'ies'}; it takes at least 4: two to tell apart in "
            "training and two others to choose parameters by; set it to 0 to evaluate on the test "
            "part, or add identities"
        )
    return draw_identities(samples, config.tune_fraction, config.seed, "tuning")


def draw_identities(
    samples: Sequence[Sample], fraction: float, seed: int, purpose: str
) -> tuple[list[Sample], list[Sample]]:
    """Draw a share of four identities or more.

    Returns:
        the images of the other identities, and those of the identities that were drawn.
    """
    identities = sorted({sample.identity for sample in samples})
    count = min(max(2, round(fraction * len(identities))), len(identities) - 2)
    drawn = set(shuffled(identities, seed, purpose)[:count])
    return (
        [sample for sample in samples if sample.identity not in drawn],
        [sample for sample in samples if sample.identity in drawn],
    )


# Query and gallery


def choose_queries(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Draw one query for each identity and camera; everything else is the gallery.

    An image becomes a query only if another one of its identity stays in the gallery to be found:
    under another camera, where cameras are known.

    Returns:
        the queries, and the gallery.
    """
    queries: set[str] = set()
    for identity, images in group(samples, lambda sample: sample.identity).items():
        by_camera = group(images, lambda sample: sample.camid)
        counts = {camid: len(of_camera) for camid, of_camera in sorted(by_camera.items())}
        for camid in cameras_to_query(counts):
            of_camera = [sample.name for sample in by_camera[camid]]
            queries.add(shuffled(of_camera, seed, f"{identity}/{camid}")[0])
    return pick(samples, queries)


def cameras_to_query(counts: Mapping[int, int]) -> list[int]:
    """The cameras of one identity that can give up an image, so that each query has an answer.

    Args:
        counts: the identity's images by camera; by NO_CAMERA alone where cameras are unknown.
    """
    if NO_CAMERA in counts:
        return [NO_CAMERA] if counts[NO_CAMERA] > 1 else []
    left = set(counts)  # cameras with images in the gallery
    queried = {camid for camid, count in counts.items() if count > 1 and len(counts) > 1}
    for camid in sorted(left - queried):
        still = left - {camid}
        if len(still) > 1 or still - queried:
            queried.add(camid)
            left = still
    return sorted(queried)


# Train and val


def leave_out_single(samples: Sequence[Sample], allowed: int) -> list[Sample]:
    """Leave out identities with one image, of which none would remain for val.

    Raises:
        DatasetError: there are more of them than allowed.
    """
    counts = Counter(sample.identity for sample in samples)
    single = [sample for sample in samples if counts[sample.identity] == 1]
    if len(single) > allowed:
        raise DatasetError(
            f"{len(single)} identit{'y has' if len(single) == 1 else 'ies have'} one image, "
            f"'{single[0].name}' first; training and validation need one each: add images, or "
            f"leave them out with split.skip_single: {len(single)}"
        )
    return [sample for sample in samples if counts[sample.identity] > 1]


def split_each_identity(
    samples: Sequence[Sample], config: SplitConfig
) -> tuple[list[Sample], list[Sample]]:
    """Draw a share of each identity's images for val: at least one, and never all.

    Returns:
        train, and val.
    """
    chosen: set[str] = set()
    for identity, images in group(samples, lambda sample: sample.identity).items():
        count = val_count(len(images), config.val_fraction)
        names = [sample.name for sample in images]
        chosen.update(shuffled(names, config.seed, identity)[:count])
    val, train = pick(samples, chosen)
    return train, val


def val_count(images: int, fraction: float) -> int:
    """How many of an identity's two or more images go to val: at least one, and never all."""
    return min(max(1, round(fraction * images)), images - 1)


# Checks and counts


def check_split(split: Split, has_cameras: bool, tune_fraction: float) -> None:
    """Refuse a split with which nothing can be learned or measured.

    Args:
        split: the four parts.
        has_cameras: whether an answer must be of another camera than its query.
        tune_fraction: the share that was held out to choose parameters by, for the message.

    Raises:
        DatasetError: fewer than two identities to learn, no query or no gallery, or no query that
            has anything to find.
    """
    held_out = f" with split.tune_fraction={tune_fraction}" if tune_fraction else ""
    identities = {sample.identity for sample in split["train"]}
    if len(identities) < 2:
        raise DatasetError(
            f"the training part has {len(identities)} identit"
            f"{'y' if len(identities) == 1 else 'ies'}{held_out}; "
            "it takes at least 2 to learn to tell them apart"
        )
    for part, other in (("query", "gallery"), ("gallery", "query")):
        if not split[part]:
            raise DatasetError(
                f"there are {len(split[other])} {other} images but no {part} image{held_out}; "
                "an identity is looked for in the gallery by its query"
            )
    seen = defaultdict(set)
    for sample in split["gallery"]:
        seen[sample.pid].add(sample.camid)
    if not any(seen[s.pid] - ({s.camid} if has_cameras else set()) for s in split["query"]):
        other_camera = " under another camera" if has_cameras else ""
        raise DatasetError(
            f"none of the {len(split['query'])} query images has its identity in the "
            f"gallery{other_camera}{held_out}; there is nothing to find"
        )


def count(split: Split) -> dict[str, dict[str, int]]:
    """Images, identities and cameras of each part, and the gallery's distractors and junk.

    Distractors and junk are no identities.
    """
    counts = {}
    for part, samples in split.items():
        counts[part] = {
            "images": len(samples),
            "identities": len(images_per_identity(samples)),
            "cameras": len({sample.camid for sample in samples} - {NO_CAMERA}),
        }
    for kind, pid in (("distractors", DISTRACTOR), ("junk", JUNK)):
        counts["gallery"][kind] = sum(sample.pid == pid for sample in split["gallery"])
    return counts


def images_per_identity(samples: Sequence[Sample]) -> list[int]:
    """How many images each identity has, junk and distractors aside, in the order of pids."""
    counts = Counter(sample.pid for sample in samples)
    return [counts[pid] for pid in sorted(counts) if pid not in (JUNK, DISTRACTOR)]


# Helpers


def group(samples: Iterable[Sample], key: Callable[[Sample], Key]) -> dict[Key, list[Sample]]:
    """Sort samples into lists by a key, in the order they come."""
    groups = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def pick(samples: Iterable[Sample], names: set[str]) -> tuple[list[Sample], list[Sample]]:
    """The samples of these names, and the others."""
    split = group(samples, lambda sample: sample.name in names)
    return split.get(True, []), split.get(False, [])


def shuffled(names: Sequence[str], seed: int, purpose: str) -> list[str]:
    """A random order that depends on the seed, the purpose and the names, and on nothing else.

    Names are sorted by a keyed hash, so an image added to the dataset moves no other one.
    """
    key = f"{seed}/{purpose}".encode()[:64]
    return sorted(names, key=lambda name: (hashlib.blake2b(name.encode(), key=key).digest(), name))
