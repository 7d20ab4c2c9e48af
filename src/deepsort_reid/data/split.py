"""Who serves for what: the images of a dataset, assigned to train, val, query and gallery.

Train and val hold the same identities (a closed set: val tells whether the classifier has learned
them). Query and gallery hold other identities (an open set: they tell whether embeddings serve for
people whom the network has never seen, which is what a tracker needs). Query and gallery are the
test part, or, to choose parameters by, identities held out of the training part.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from deepsort_reid.core.config import SplitConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.packed import PARTS
from deepsort_reid.data.queries import (
    choose_queries,
    group,
    moment,
    pick,
    query_tracks,
    shuffled,
)
from deepsort_reid.data.samples import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    Dataset,
    Role,
    Sample,
    Split,
    source_of,
)

logger = logging.getLogger(__name__)


def assign_all(datasets: Sequence[Dataset], config: SplitConfig) -> Split:
    """Assign each image of one dataset or several to a part, or to none.

    Raises:
        DatasetError: see `pack.make_parts`.
    """
    splits = [assign_as_alone(dataset, config) for dataset in datasets]
    across = any(dataset.crosses_cameras for dataset in datasets)
    last = max((sample.camid for dataset in datasets for sample in dataset.samples), default=0)
    for place, dataset in enumerate(datasets):
        if across and not dataset.crosses_cameras:
            splits[place] = on_two_cameras(splits[place], last + 1 + 2 * place)
    split = {part: [s for one in splits for s in one[part]] for part in PARTS}
    check_split(split, config.tune_fraction)
    return split


def assign_as_alone(dataset: Dataset, config: SplitConfig) -> Split:
    """Assign the images of a dataset, and of one among several as if it were alone.

    The draws depend on names. So a second dataset moves no image of the first.

    Raises:
        DatasetError: as in `assign`; the line begins with the dataset's name.
    """
    if not dataset.alone:
        return assign(dataset, config)
    own = [dataset.alone[sample.name] for sample in dataset.samples]
    joined = {alone.name: sample for alone, sample in zip(own, dataset.samples, strict=True)}
    with naming(source_of(next(iter(dataset.alone)))):
        split = assign(replace(dataset, samples=own, alone={}), config)
    return {part: [joined[s.name] for s in samples] for part, samples in split.items()}


@contextmanager
def naming(dataset: str) -> Iterator[None]:
    """Begin what is said of one dataset among several with its name; '' is the only one."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{dataset}: {error}" if dataset else str(error)) from None


def on_two_cameras(split: Split, first: int) -> Split:
    """A split whose queries have one camera and whose gallery another.

    A dataset none of whose identities is seen by two cameras asks for any image of the identity.
    Beside datasets that ask across cameras, this lets it go on doing so.
    """
    camera = {"query": first, "gallery": first + 1}
    return {
        part: [replace(s, camid=camera.get(part, s.camid)) for s in samples]
        for part, samples in split.items()
    }


def assign(dataset: Dataset, config: SplitConfig) -> Split:
    """Assign each image of one dataset to a part, or to none.

    Args:
        dataset: the images. If it says itself what is for training and what for testing, that
            holds; else identities are drawn for query and gallery.
        config: the shares of the parts, the seed that draws them, and how many identities with one
            image may be left out of the training part.

    Raises:
        DatasetError: there are too few identities to part, or ones with one image.
    """
    if dataset.in_time:
        return assign_tracks(dataset.samples, config)
    across = dataset.crosses_cameras
    role: Mapping[Role, list[Sample]] = group(dataset.samples, lambda sample: sample.role)
    if dataset.has_roles:
        learning, query, gallery = role["train"], role["query"], role["gallery"]
        learning = [sample for sample in learning if sample.is_somebody]
        if role["test"]:
            query, gallery = choose_queries(role["test"], config.seed, across)
        if not query and not gallery:
            learning, held_out = hold_out_to_test(learning, config)
            query, gallery = choose_queries(held_out, config.seed, across)
    else:
        somebody = [sample for sample in dataset.samples if sample.is_somebody]
        learning, held_out = hold_out_to_test(somebody, config)
        query, gallery = choose_queries(held_out, config.seed, across)
    if config.tune_fraction and role["tune"]:
        query, gallery = choose_queries(role["tune"], config.seed, across)
    elif config.tune_fraction:
        learning, held_out = hold_out_to_tune(learning, config)
        query, gallery = choose_queries(held_out, config.seed, across)
    if given := role["val"]:
        train, val = learning, of_learned(given, learning)
    else:
        learning = leave_out_single(learning, config.skip_single)
        train, val = split_each_identity(learning, config)
    return {"train": train, "val": val, "query": query, "gallery": gallery}


def of_learned(given: Sequence[Sample], learning: Sequence[Sample]) -> list[Sample]:
    """The validation images that the dataset brings, of the identities that are still learned."""
    learned = {sample.pid for sample in learning}
    return [sample for sample in given if sample.pid in learned]


def assign_to_test(dataset: Dataset, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Query and gallery of a dataset that is only tested on: its test part, else all of it.

    Returns:
        query, and gallery.

    Raises:
        DatasetError: there is nothing to find.
    """
    role: Mapping[Role, list[Sample]] = group(dataset.samples, lambda sample: sample.role)
    if dataset.in_time:
        query, gallery = query_tracks(role["test"] or list(dataset.samples))
    elif role["query"] and role["gallery"]:
        query, gallery = role["query"], role["gallery"]
    else:
        samples = role["test"] or role["tune"] or list(dataset.samples)
        query, gallery = choose_queries(samples, seed, dataset.crosses_cameras)
    check_test({"query": query, "gallery": gallery}, "")
    return query, gallery


def assign_tracks(samples: Sequence[Sample], config: SplitConfig) -> Split:
    """Assign each image of annotated videos to a part, or to none.

    Frames that follow each other show the same picture. Images drawn from all of a track would be
    learned in one part and told apart in the other, or be query and answer at once. Tracks are cut
    in time instead. Val is the end of each track of the training part. Of the other tracks the
    query is the last image, and the gallery holds the images of the first half, so that half the
    track's time, at least, lies between them; the images in between are in no part. No track is
    seen by two cameras, so no query is searched for under another camera.

    Where the dataset says which sequences are for training, that holds; else tracks are held out.

    Raises:
        DatasetError: too little is left to learn from or to measure with.
    """
    tracks = group(sorted(samples, key=moment), lambda sample: sample.identity)
    short = sum(len(track) < 2 for track in tracks.values())
    if short:
        logger.info("%d tracks have one image, too few to learn or to find them: left out", short)
    long = [sample for track in tracks.values() if len(track) > 1 for sample in track]
    role: Mapping[Role, list[Sample]] = group(long, lambda sample: sample.role)
    if role["train"]:  # the dataset says which sequences are for what
        learning, held_out = role["train"], role["test"]
    else:
        learning, held_out = hold_out_to_test(long, config)
    if config.tune_fraction and role["tune"]:
        held_out = role["tune"]
    elif config.tune_fraction:
        learning, held_out = hold_out_to_tune(learning, config)
    split: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for track in group(learning, lambda sample: sample.identity).values():
        count = val_count(len(track), config.val_fraction)
        split["train"] += track[:-count]
        split["val"] += track[-count:]
    split["query"], split["gallery"] = query_tracks(held_out)
    return {part: sorted(chosen, key=lambda s: s.name) for part, chosen in split.items()}


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


def check_split(split: Split, tune_fraction: float) -> None:
    """Refuse a split with which nothing can be learned or measured.

    Args:
        split: the four parts.
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
    check_test(split, held_out)


def check_test(split: Split, held_out: str) -> None:
    """Refuse a query and a gallery with which nothing can be measured.

    Where no identity is seen by two cameras, the evaluation takes any image for an answer. So it
    does not matter here which camera the answer is of.

    Args:
        split: has the parts query and gallery.
        held_out: how they came about, for the message.

    Raises:
        DatasetError: one of them is empty, no query has anything to find, or nothing wrong to find.
    """
    for part, other in (("query", "gallery"), ("gallery", "query")):
        if not split[part]:
            raise DatasetError(
                f"there are {len(split[other])} {other} images but no {part} image{held_out}; "
                "an identity is looked for in the gallery by its query"
            )
    there = {sample.pid for sample in split["gallery"]}
    if not any(sample.pid in there for sample in split["query"]):
        raise DatasetError(
            f"none of the {len(split['query'])} query images has its identity in the "
            f"gallery{held_out}; there is nothing to find"
        )
    if len(there - {JUNK} | {sample.pid for sample in split["query"]}) == 1:
        raise DatasetError(
            f"query and gallery show one identity, '{split['query'][0].identity}', and nobody to "
            f"mistake for it{held_out}; every image found would be right: add identities"
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
