"""People of the rendered world under the training's cameras, as they are and with changes.

benchmarks/watch.py looks at them.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepsort_reid.core.dataset_config import SyntheticConfig
from deepsort_reid.core.progress import track
from deepsort_reid.data.images import open_image, resized
from deepsort_reid.data.packed import Images
from deepsort_reid.monitoring.footage import CROPS
from deepsort_reid.synthetic.crop import Place, Stage, beside, compose, detect
from deepsort_reid.synthetic.dataset import in_parallel
from deepsort_reid.synthetic.person.people import (
    COLOURS,
    Fabric,
    Person,
    Rng,
    colour,
    random_person,
)
from deepsort_reid.synthetic.scenery import FRAME, Camera, camera, develop, random_moment

STREAM = 20  # of random numbers: the dataset and the streets have others
UNCHANGED, CHANGED = 800, 160  # people
DARK = {"black": 5, "charcoal": 3, "navy": 2}


def same(eye: Camera) -> Camera:
    """The camera as it was in training."""
    return eye


CHANGES: dict[str, tuple[str, Callable[[Camera], Camera]]] = {
    "none": ("new people, same cameras, same light", same),
    "view": ("other cameras: place, height, lens and colours", same),
    "steeper": (
        "the same cameras, looking down more steeply",
        lambda eye: replace(eye, horizon=eye.horizon - 250, height=eye.height * 1.45),
    ),
    "far": ("a third of the resolution", same),
    "dim": ("exposure 0.85 of what it was", lambda eye: replace(eye, exposure=0.85 * eye.exposure)),
    "dark": (
        "exposure 0.6, and twice the noise",
        lambda eye: replace(eye, exposure=0.6 * eye.exposure, noise=2 * eye.noise),
    ),
    "warm": (
        "red 1.1 and blue 0.85 of what they were",
        lambda eye: replace(eye, gains=(1.1 * eye.gains[0], eye.gains[1], 0.85 * eye.gains[2])),
    ),
    "winter": ("everybody in black, grey or navy, with long sleeves", same),
    "crowd": ("three others beside each person, one of them in front", same),
}


def rendered(config: SyntheticConfig, change: str, size: tuple[int, int]) -> Images:
    """The people of a change: (people, CROPS, *size, 3)."""
    people = UNCHANGED if change == "none" else CHANGED
    first = 10_000 * list(CHANGES).index(change)
    tasks = [(config, change, size, first + person, image)
             for person in range(people) for image in range(CROPS)]  # fmt: skip
    crops = track(in_parallel(draw, tasks, 2, chunk=16), change, len(tasks), "crops")
    return np.stack(list(crops)).reshape(people, CROPS, *size, 3)


def draw(task: tuple[SyntheticConfig, str, tuple[int, int], int, int]) -> Images:
    """One crop, as a JPEG file and back, at the network's size."""
    config, change, size, person, image = task
    number = 1 + person % config.cameras + (config.cameras if change == "view" else 0)
    eye = CHANGES[change][1](camera(config.seed, number))
    who = random_person(np.random.default_rng([config.seed, STREAM, person, 0]))
    rng = np.random.default_rng([config.seed, STREAM, person, image + 1])
    if change == "winter":
        who = in_winter(np.random.default_rng([config.seed, STREAM, person]), who)
    shown = crowded if change == "crowd" else alone
    developed = develop(eye, shown(rng, eye, who, config.image_size), random_moment(rng), rng)
    picture = Image.fromarray(developed)
    if change == "far":
        picture = picture.resize((picture.width // 3, picture.height // 3))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=eye.quality)
    read = open_image(file.getvalue())
    assert not isinstance(read, str)
    return resized(read, size)


def alone(rng: Rng, eye: Camera, who: Person, size: tuple[int, int]) -> NDArray[np.float32]:
    """Somebody as the dataset shows them."""
    return compose(rng, eye, who, size, spoilt=False)


def crowded(rng: Rng, eye: Camera, who: Person, size: tuple[int, int]) -> NDArray[np.float32]:
    """Somebody with two others behind and one in front, to the left or the right."""
    away = rng.uniform(eye.distance(0.97 * FRAME[0]), eye.distance(0.62 * FRAME[0]))
    place = Place(float(away), float(rng.uniform(0.15, 0.85)) * FRAME[1])
    stage = Stage(eye, detect(rng, eye, place, who.build.height, spoilt=False), size)
    for closer, least in ((-1.5, 0.1), (-0.8, 0.2)):
        stage.walk_on(rng, random_person(rng), beside(rng, eye, place, closer=closer, least=least))
    stage.walk_on(rng, who, place)
    stage.walk_on(rng, random_person(rng), beside(rng, eye, place, closer=0.5, least=0.1))
    return stage.picture()


def in_winter(rng: Rng, who: Person) -> Person:
    """Somebody in dark clothes with long sleeves."""
    top = replace(who.top, sleeve=2.0, fabric=dark(rng, who.top.fabric))
    return replace(who, top=top, bottom=replace(who.bottom, fabric=dark(rng, who.bottom.fabric)))


def dark(rng: Rng, fabric: Fabric) -> Fabric:
    """A plain dark cloth in place of another."""
    return replace(fabric, colour=colour(rng, DARK), second=COLOURS["charcoal"], pattern="plain")
