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

from deepsort_reid.core.errors import DatasetError
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
    """One image to draw.

    `person` is the stream and the number that somebody comes from, None for a box about nothing;
    `moment` what the image's random numbers start from, and nothing else: an image depends neither
    on its neighbours nor on the process that draws it.
    """

    name: str  # in the archive, below ROOT
    camera: int
    person: tuple[int, int] | None
    moment: tuple[int, ...]
    spoilt: bool = False


def write_synthetic(
    path: Path,
    *,
    seed: int,
    train_identities: int,
    test_identities: int,
    images_per_identity: int,
    cameras: int,
    distractors: int,
    junk: int,
    image_size: tuple[int, int],
    processes: int | None = None,
) -> None:
    """Write a zip archive of rendered pedestrians, in Market-1501's folders and names.

    The same arguments give the same bytes on the same machine, on any number of cores.

    Args:
        path: where the archive goes; what was there stays until it is whole.
        seed: decides who is seen, where, and when.
        train_identities: people of `bounding_box_train`, numbered from 1.
        test_identities: other people, of `query` and `bounding_box_test`, numbered after those.
        images_per_identity: images of each, over two cameras or more; at least 4. One of each
            camera is a query.
        cameras: how many there are; at least 2.
        distractors: images `0000_…` of other people, or of nobody, in `bounding_box_test`.
        junk: images `-1_…` of test people in useless boxes, in `bounding_box_test`.
        image_size: height and width, in pixels.
        processes: how many draw at a time; as many as there are cores if None.

    Raises:
        DatasetError: too few images or cameras to ask for anybody across cameras.
        OSError: the disk is full or the folder cannot be written.
    """
    for name, value, least in (
        ("cameras", cameras, 2),
        ("images_per_identity", images_per_identity, 4),
    ):
        if value < least:
            raise DatasetError(f"synthetic dataset: {name}={value} must be at least {least}")
    crops = [
        *train_crops(seed, range(1, train_identities + 1), images_per_identity, cameras),
        *test_crops(
            seed,
            range(train_identities + 1, train_identities + test_identities + 1),
            images_per_identity,
            cameras,
        ),
        *distractor_crops(seed, distractors, cameras),
        *junk_crops(seed, junk, cameras, train_identities, test_identities),
    ]
    crops.sort(key=lambda crop: crop.name)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        images = draw_all(crops, seed, image_size, processes)
        for crop, image in zip(crops, track(images, "render", len(crops), "images"), strict=True):
            archive.writestr(entry(f"{ROOT}/{crop.name}"), image)


def entry(name: str) -> zipfile.ZipInfo:
    """An archive's entry that says nothing of the day or the machine; stored, not deflated."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix: the permissions below are meant
    info.external_attr = 0o100644 << 16
    return info


def train_crops(seed: int, identities: range, images: int, cameras: int) -> Iterator[Crop]:
    """Every image of the people to learn from."""
    for identity in identities:
        for image, (number, name) in enumerate(sightings(seed, identity, images, cameras)):
            moment = (seed, PEOPLE, identity, image + 1)
            yield Crop(f"{TRAIN}/{name}", number, (PEOPLE, identity), moment)


def test_crops(seed: int, identities: range, images: int, cameras: int) -> Iterator[Crop]:
    """Every image of the people to be found again: a camera's first is a query."""
    for identity in identities:
        asked: set[int] = set()
        for image, (number, name) in enumerate(sightings(seed, identity, images, cameras)):
            folder = GALLERY if number in asked else QUERY
            asked.add(number)
            moment = (seed, PEOPLE, identity, image + 1)
            yield Crop(f"{folder}/{name}", number, (PEOPLE, identity), moment)


def distractor_crops(seed: int, count: int, cameras: int) -> Iterator[Crop]:
    """Images of people nobody asks for, and of nobody."""
    rng = np.random.default_rng([seed, DISTRACTORS])
    for image in range(1, count + 1):
        number = int(rng.integers(1, cameras + 1))
        person = None if rng.random() < EMPTY else (DISTRACTORS, image)
        name = f"{GALLERY}/0000_c{number}s1_{image:06d}_00.jpg"
        yield Crop(name, number, person, (seed, DISTRACTORS, image, 1))


def junk_crops(seed: int, count: int, cameras: int, train: int, test: int) -> Iterator[Crop]:
    """Images of the people asked for in boxes so bad that nobody can be blamed for missing them."""
    rng = np.random.default_rng([seed, JUNK])
    for image in range(1, count + 1):
        number = int(rng.integers(1, cameras + 1))
        person = (PEOPLE, train + int(rng.integers(1, test + 1)))
        name = f"{GALLERY}/-1_c{number}s1_{image:06d}_00.jpg"
        yield Crop(name, number, person, (seed, JUNK, image, 1), spoilt=True)


def sightings(seed: int, identity: int, images: int, cameras: int) -> list[tuple[int, str]]:
    """Camera and file name of each image of somebody: at least two of each of some cameras."""
    rng = np.random.default_rng([seed, PEOPLE, identity])
    most = min(cameras, images // 2)
    count = int(rng.integers(max(2, most - 1), most + 1))
    passed = (1 + np.sort(rng.permutation(cameras)[:count])).tolist()
    frame, found = int(rng.integers(1, 60_000)), []
    for image in range(images):
        number = passed[image * count // images]
        frame += int(rng.integers(5, 60))
        box = int(rng.integers(5))
        found.append((number, f"{identity:04d}_c{number}s1_{frame:06d}_{box:02d}.jpg"))
    return found


def draw_all(
    crops: list[Crop], seed: int, size: tuple[int, int], processes: int | None
) -> Iterator[bytes]:
    """The crops as JPEG files, in order."""
    job = partial(draw_crop, seed=seed, size=size)
    yield from in_order(job, crops, min(processes or cores(), len(crops) // FEW), chunk=16)


def in_order(
    job: Callable[[Item], Result], items: Sequence[Item], processes: int, *, chunk: int
) -> Iterator[Result]:
    """What a job makes of each item, in the items' order, by so many processes."""
    if processes <= 1:
        yield from map(job, items)
        return
    # Spawned, not forked: a fork of a process with threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, items, chunksize=chunk)


def draw_crop(crop: Crop, seed: int, size: tuple[int, int]) -> bytes:
    """One crop as a JPEG file."""
    rng = np.random.default_rng(crop.moment)
    eye = camera(seed, crop.camera)
    person = somebody(seed, *crop.person) if crop.person else None
    picture = compose(rng, eye, person, size, spoilt=crop.spoilt)
    file = io.BytesIO()
    developed = develop(eye, picture, random_moment(rng), rng)
    Image.fromarray(developed).save(file, "JPEG", quality=eye.quality)
    return file.getvalue()


@lru_cache(maxsize=64)
def somebody(seed: int, stream: int, number: int) -> Person:
    """The person of a stream's number."""
    return random_person(np.random.default_rng([seed, stream, number, 0]))
