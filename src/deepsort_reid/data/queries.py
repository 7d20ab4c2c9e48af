"""Who is looked for, and where: identities to test with become queries and a gallery."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from deepsort_reid.data.samples import NO_CAMERA, Sample

Key = TypeVar("Key")


def choose_queries(
    samples: Sequence[Sample], seed: int, across: bool
) -> tuple[list[Sample], list[Sample]]:
    """Draw one query for each identity and camera; everything else is the gallery.

    An image becomes a query only if another one of its identity stays in the gallery to be found.

    Args:
        samples: the images of the identities to test with.
        seed: decides which images are drawn.
        across: whether a match must be by another camera. False where cameras are unknown, and
            where no identity of the dataset is seen by two: then any image is a match, and one of
            each identity is a query.

    Returns:
        the queries, and the gallery.
    """
    queries: set[str] = set()
    somebody = [sample for sample in samples if sample.is_somebody]
    for identity, images in group(somebody, lambda sample: sample.identity).items():
        by_camera = group(images, lambda sample: sample.camid if across else NO_CAMERA)
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


def query_tracks(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The last image of each track, and the images of its first half, by name.

    Returns:
        query, and gallery.
    """
    query: list[Sample] = []
    gallery: list[Sample] = []
    in_time = sorted(samples, key=moment)
    for track in group(in_time, lambda sample: sample.identity).values():
        if len(track) > 1:
            query.append(track[-1])
            gallery += first_half(track)
    return sorted(query, key=lambda s: s.name), sorted(gallery, key=lambda s: s.name)


def moment(sample: Sample) -> int:
    """The number of the frame that an image of a track was taken at."""
    if sample.frame is not None:
        return sample.frame
    return sample.crop.frame if sample.crop else 0


def first_half(track: Sequence[Sample]) -> list[Sample]:
    """The crops of a track, in time, that lie no later than midway between its ends."""
    ends = moment(track[0]) + moment(track[-1])
    return [sample for sample in track if 2 * moment(sample) <= ends]


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
