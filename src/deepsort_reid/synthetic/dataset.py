"""The default dataset: rendered pedestrians, named and laid out like Market-1501."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from deepsort_reid.core.dataset_config import SyntheticConfig
from deepsort_reid.core.files import replacing
from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import track
from deepsort_reid.synthetic.crop import compose
from deepsort_reid.synthetic.person.people import Person, random_person
from deepsort_reid.synthetic.scenery import camera, develop, random_moment

Item = TypeVar("Item")
Result = TypeVar("Result")

ROOT = "synthetic"  # the archive's one folder
TRAIN, GALLERY, QUERY = "bounding_box_train", "bounding_box_test", "query"
PEOPLE, DISTRACTORS, JUNK = 0, 2, 3  # streams of random numbers; 1 is the cameras', 4 street's
EMPTY = 0.3  # the share of distractors with nobody in them
FEW = 64  # images for each process that is worth starting


@dataclass(frozen=True)
class Crop:
    """One image to draw, which depends neither on other images nor on the process that draws it."""

    name: str  # in the archive, below ROOT
    camera: int  # its number, from 1
    person: tuple[int, int] | None  # stream and number of the person; None: a box without one
    moment: tuple[int, ...]  # seeds the image's random numbers
    spoilt: bool = False  # whether the box misses the person


def write_synthetic(path: Path, config: SyntheticConfig, *, processes: int | None = None) -> None:
    """Write a zip archive of rendered pedestrians, in Market-1501's folders and names.

    The same parameters give the same bytes on the same machine, on any number of cores.

    Args:
        path: where the archive goes; what was there stays until it is whole.
        config: decides who is seen, where and when, and how large the images are. The people of
            `bounding_box_train` are numbered from 1, those of `query` and `bounding_box_test`
            after them. One image of each camera is a query. Distractors are named `0000_…`, junk
            `-1_…`.
        processes: how many draw at a time; as many as there are cores if None.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    crops = sorted(all_crops(config), key=lambda crop: crop.name)
    processes = min(processes or cores(), len(crops) // FEW)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        images = in_parallel(partial(draw_crop, config), crops, processes, chunk=16)
        for crop, image in zip(crops, track(images, "render", len(crops), "images"), strict=True):
            archive.writestr(entry(f"{ROOT}/{crop.name}"), image)


def entry(name: str) -> zipfile.ZipInfo:
    """An archive's entry that says nothing of the day or the machine; stored, not deflated."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix: the permissions below are meant
    info.external_attr = 0o100644 << 16
    return info


def all_crops(config: SyntheticConfig) -> Iterator[Crop]:
    """Every image of the dataset."""
    yield from train_crops(config)
    yield from test_crops(config)
    yield from distractor_crops(config)
    yield from junk_crops(config)


def train_crops(config: SyntheticConfig) -> Iterator[Crop]:
    """The images of the training identities."""
    for identity in range(1, config.train_identities + 1):
        for image, (number, name) in enumerate(sightings(config, identity)):
            moment = (config.seed, PEOPLE, identity, image + 1)
            yield Crop(f"{TRAIN}/{name}", number, (PEOPLE, identity), moment)


def test_crops(config: SyntheticConfig) -> Iterator[Crop]:
    """The images of the test identities: a camera's first is a query, its others the gallery's."""
    first = config.train_identities + 1
    for identity in range(first, first + config.test_identities):
        queried: set[int] = set()
        for image, (number, name) in enumerate(sightings(config, identity)):
            folder = GALLERY if number in queried else QUERY
            queried.add(number)
            moment = (config.seed, PEOPLE, identity, image + 1)
            yield Crop(f"{folder}/{name}", number, (PEOPLE, identity), moment)


def distractor_crops(config: SyntheticConfig) -> Iterator[Crop]:
    """Gallery images of people who are in no query, and of nobody."""
    rng = np.random.default_rng([config.seed, DISTRACTORS])
    for image in range(1, config.distractors + 1):
        number = int(rng.integers(1, config.cameras + 1))
        person = None if rng.random() < EMPTY else (DISTRACTORS, image)
        name = f"{GALLERY}/0000_c{number}s1_{image:06d}_00.jpg"
        yield Crop(name, number, person, (config.seed, DISTRACTORS, image, 1))


def junk_crops(config: SyntheticConfig) -> Iterator[Crop]:
    """Images of test identities in boxes that miss the person: the protocol ignores them."""
    rng = np.random.default_rng([config.seed, JUNK])
    for image in range(1, config.junk + 1):
        number = int(rng.integers(1, config.cameras + 1))
        identity = config.train_identities + int(rng.integers(1, config.test_identities + 1))
        name = f"{GALLERY}/-1_c{number}s1_{image:06d}_00.jpg"
        moment = (config.seed, JUNK, image, 1)
        yield Crop(name, number, (PEOPLE, identity), moment, spoilt=True)


def sightings(config: SyntheticConfig, identity: int) -> list[tuple[int, str]]:
    """Camera and file name of each image of a person: at least two of each of some cameras."""
    rng = np.random.default_rng([config.seed, PEOPLE, identity])
    images = config.images_per_identity
    most = min(config.cameras, images // 2)
    count = int(rng.integers(max(2, most - 1), most + 1))
    passed = (1 + np.sort(rng.permutation(config.cameras)[:count])).tolist()
    frame, found = int(rng.integers(1, 60_000)), []
    for image in range(images):
        number = passed[image * count // images]
        frame += int(rng.integers(5, 60))
        box = int(rng.integers(5))
        found.append((number, f"{identity:04d}_c{number}s1_{frame:06d}_{box:02d}.jpg"))
    return found


def in_parallel(
    job: Callable[[Item], Result], items: Sequence[Item], processes: int, *, chunk: int
) -> Iterator[Result]:
    """The job's result for each item, in the items' order, from several processes."""
    if processes <= 1:
        yield from map(job, items)
        return
    # Spawned, not forked: a fork of a process with threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, items, chunksize=chunk)


def draw_crop(config: SyntheticConfig, crop: Crop) -> bytes:
    """One crop as a JPEG file."""
    rng = np.random.default_rng(crop.moment)
    eye = camera(config.seed, crop.camera)
    person = person_of(config.seed, *crop.person) if crop.person else None
    picture = compose(rng, eye, person, config.image_size, spoilt=crop.spoilt)
    developed = develop(eye, picture, random_moment(rng), rng)
    file = io.BytesIO()
    Image.fromarray(developed).save(file, "JPEG", quality=eye.quality)
    return file.getvalue()


@lru_cache(maxsize=64)
def person_of(seed: int, stream: int, number: int) -> Person:
    """The person with a number in a stream of random people."""
    return random_person(np.random.default_rng([seed, stream, number, 0]))
