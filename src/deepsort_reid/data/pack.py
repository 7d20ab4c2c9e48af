"""The images of datasets, decoded and written into packed parts as split.py assigns them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepsort_reid.core import files
from deepsort_reid.core.config import SplitConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import packed
from deepsort_reid.data.decode import Losses, check_unreadable, decode
from deepsort_reid.data.packed import PARTS
from deepsort_reid.data.samples import Dataset, ImageSource, Sample, Split
from deepsort_reid.data.split import assign_all, assign_to_test, check_test, count

logger = logging.getLogger(__name__)

REST = "rest"  # images that no part is expected to hold


def make_parts(
    source: ImageSource, datasets: Sequence[Dataset], folder: Path, config: SplitConfig
) -> Split:
    """Decode the images of one dataset or several, and write the four parts.

    Each image is decoded and resized once, and written to the part it belongs to if all images are
    readable; only parts that turn out otherwise are copied. The same input gives the same bytes on
    any number of cores.

    Args:
        source: where the images' bytes are.
        datasets: which images there are. Of several, names, identities and cameras are distinct,
            as `joint.join` makes them.
        folder: receives `<part>.npy` and `<part>.csv`.
        config: the size of the images, the shares of the parts, and what may be left out.

    Raises:
        DatasetError: more unreadable images or one-image identities than allowed, or too little
            left to learn from or to measure with.
        OSError: the disk is full.
    """
    expected = expect(datasets, config)
    with decoded(source, expected, folder, config) as (arrays, losses):
        left = [replace(dataset, samples=losses.left(dataset.samples)) for dataset in datasets]
        split = assign_all(left, config)
        warn_of_copies(split, losses.digests)
        write_arrays(folder, split, expected, arrays)
    write_indices(folder, split, left)
    return split


def make_test_parts(
    source: ImageSource, dataset: Dataset, folder: Path, config: SplitConfig
) -> None:
    """Write query and gallery of a dataset that is only tested on, and their summary.

    Args:
        source: where the images' bytes are.
        dataset: which images there are.
        folder: receives the two parts, two empty ones, and summary.json.
        config: the size of the images, the seed that draws queries, and how many images may be
            unreadable.

    Raises:
        DatasetError: more unreadable images than allowed, or nothing to find.
        OSError: the disk is full.
    """
    tested = dict(zip(("query", "gallery"), assign_to_test(dataset, config.seed), strict=True))
    wanted = {part: tested.get(part, []) for part in PARTS}
    with decoded(source, wanted, folder, config) as (arrays, losses):
        split: Split = {part: losses.left(samples) for part, samples in wanted.items()}
        check_test(split, "")
        write_arrays(folder, split, wanted, arrays)
    write_indices(folder, split, [dataset])
    packed.write_summary(folder, dataset.layout, count(split), tuning=False)


def warn_of_copies(split: Split, digests: Mapping[str, bytes]) -> None:
    """Say which image is there twice, where it should not: as two identities, or learned and asked.

    A query may be a copy of a gallery image: the protocol leaves out those of its own camera.

    Args:
        split: what each part holds.
        digests: member of the archive -> digest of its bytes.
    """
    first: dict[bytes, tuple[str, Sample]] = {}
    two: list[tuple[Sample, Sample]] = []
    learned: list[tuple[Sample, Sample]] = []
    for part, samples in split.items():
        for sample in samples:
            if sample.crop is not None or not sample.is_somebody:
                continue  # many boxes are of one image
            origin, other = first.setdefault(digests[sample.member], (part, sample))
            if other.pid != sample.pid:
                two.append((other, sample))
            elif origin == "train" != part:
                learned.append((other, sample))
    for copies, meaning in (
        (two, "are of two identities"),
        (learned, "are in training and in a test or val part"),
    ):
        if copies:
            one, again = copies[0]
            logger.warning(
                "%d images are copies of others and %s, '%s' and '%s' first; take one of each out",
                len(copies), meaning, one.name, again.name,
            )  # fmt: skip


def write_indices(folder: Path, split: Split, datasets: Sequence[Dataset]) -> None:
    """Write the index of each part: the four columns, and the datasets' further ones.

    Args:
        folder: receives `<part>.csv`.
        split: the images of each part.
        datasets: whose images these are, with the names of their further columns.
    """
    columns = tuple(dict.fromkeys(name for dataset in datasets for name in dataset.columns))
    extra = {
        s.name: dict(zip(d.columns, s.extra, strict=True)) for d in datasets for s in d.samples
    }
    for part, samples in split.items():
        rows: list[tuple[int | str, ...]] = [
            (s.pid, s.camid, s.identity, s.name, *(extra[s.name].get(name, "") for name in columns))
            for s in samples
        ]
        packed.write_index(folder / f"{part}.csv", rows, columns)


@contextmanager
def decoded(
    source: ImageSource, samples: Split, folder: Path, config: SplitConfig
) -> Iterator[tuple[dict[str, Path], Losses]]:
    """Decode images into arrays beside the parts, which are gone after the block.

    Raises:
        DatasetError: more unreadable images than allowed.
        OSError: the disk is full.
    """
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(files.temporary(folder / f"expected-{name}.npy"))
            for name in samples
        }
        losses = decode(source, samples, arrays, config.image_size)
        check_unreadable(losses.unreadable, config.skip_unreadable)
        yield arrays, losses


def expect(datasets: Sequence[Dataset], config: SplitConfig) -> Split:
    """The split if all images are readable, and under `REST` the images in none of its parts.

    All images are there where nothing can be expected: of videos, since boxes often lie outside
    their frame, and where the images do not suffice, which is refused once the unreadable ones are
    known.
    """
    try:
        split = {} if any(d.in_time for d in datasets) else assign_all(datasets, config)
    except DatasetError:
        split = {}
    used = {sample.name for samples in split.values() for sample in samples}
    rest = [sample for d in datasets for sample in d.samples if sample.name not in used]
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
