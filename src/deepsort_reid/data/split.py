"""From a dataset's images to the packed parts train, val, query and gallery.

Train and val hold the same identities (a closed set: val tells whether the classifier has learned
them), query and gallery hold other ones (an open set: they tell whether the embedding serves for
people it has never seen, which is what a tracker needs). Those are of the test part, or, to choose
parameters by, identities held out of the ones to learn from.
"""

import hashlib
import io
import json
import logging
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from deepsort_reid.core import files
from deepsort_reid.core.errors import DatasetError, PackedError, one_line
from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import Progress
from deepsort_reid.data import packed
from deepsort_reid.data.layouts import DISTRACTOR, JUNK, NO_CAMERA, Dataset, Sample
from deepsort_reid.data.packed import ArrayWriter, Images

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "query", "gallery")
REST = "rest"  # images that no part is expected to hold
MAX_PIXELS = 25_000_000  # a crop has thousands, a frame millions; more is damaged or an attack
LEAST_INSIDE = 0.5  # share of a box that must lie within its frame
AHEAD = 256 << 20  # bytes of undecoded images in memory, at most, besides the last bunch read
BUNCH = 32  # members, at most, that a thread is given at a time
BUNCH_BYTES = 1 << 18  # beyond which a bunch gets no more
# No others: of PostScript, which any file may hold whatever its name, Pillow would run the program.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
JPEG = b"\xff\xd8\xff"  # how a file begins
# APP1 (EXIF, XMP), APP2 (several pictures), APP13 (Photoshop), APP14 (Adobe's colours)
READ_BY_PILLOW = (b"\xff\xe1", b"\xff\xe2", b"\xff\xed", b"\xff\xee")
SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}  # Pillow's modes of 16-bit grey

Key = TypeVar("Key")
Places = list[tuple[Sample, ArrayWriter, int]]  # samples of one file, with their places in arrays
Work = tuple[str, bytes, Places]  # a member's name and bytes, and what to cut out of it
Outcome = tuple[str, str | None, list[str]]  # its name, why it is unreadable, samples outside it
Split = Mapping[str, list[Sample]]  # part -> its images, in the order they are packed


class ImageSource(Protocol):
    """What images are read from; an open archive is one."""

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        """Yield (name, bytes) of the named members, in whatever order is fastest."""
        ...


def make_parts(
    source: ImageSource,
    dataset: Dataset,
    folder: Path,
    *,
    image_size: tuple[int, int],
    val_fraction: float,
    test_fraction: float,
    tune_fraction: float,
    seed: int,
    skip_unreadable: int,
    skip_single: int,
) -> Split:
    """Decode a dataset's images and write its four parts into `folder`.

    Each image is decoded and resized once, and written to where it belongs if all are readable;
    only parts that turn out otherwise are copied. The same input gives the same bytes on any number
    of cores.

    Args:
        source: where the images' bytes are.
        dataset: which images there are.
        folder: receives `<part>.npy` and `<part>.csv`.
        image_size: height and width in pixels.
        val_fraction: share of each training identity's images for val, in (0, 1).
        test_fraction: share of identities for query and gallery, in (0, 1); not of market1501.
        tune_fraction: share of the other identities for query and gallery in place of the test
            part, of which no image is packed then; in [0, 1), 0 for the test part.
        seed: draws them.
        skip_unreadable: how many images may be unreadable.
        skip_single: how many training identities may have one image and be left out; of videos
            they always are.

    Raises:
        DatasetError: more unreadable images or one-image identities than allowed, or too little
            left to learn from or to measure with.
        OSError: the disk is full.
    """
    deal_out = partial(
        assign,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        tune_fraction=tune_fraction,
        seed=seed,
        skip_single=skip_single,
    )
    expected = expect(dataset, deal_out)
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(files.temporary(folder / f"expected-{name}.npy"))
            for name in expected
        }
        losses = decode(source, expected, arrays, image_size)
        check_unreadable(losses.unreadable, skip_unreadable)
        split = deal_out(Dataset(dataset.layout, losses.left(dataset.samples)))
        write_arrays(folder, split, expected, arrays)
    for part in PARTS:
        rows = [(sample.pid, sample.camid, sample.identity, sample.name) for sample in split[part]]
        packed.write_index(folder / f"{part}.csv", rows)
    return split


def expect(dataset: Dataset, deal_out: Callable[[Dataset], Split]) -> Split:
    """The split if all images are readable, and under `REST` the images in none of its parts.

    Where nothing can be said they all are there: of videos, whose boxes lie outside too often, and
    where the images do not suffice, which is refused once the unreadable ones are known.
    """
    try:
        split = {} if dataset.layout == "mot" else deal_out(dataset)
    except DatasetError:
        split = {}
    used = {sample.name for samples in split.values() for sample in samples}
    rest = [sample for sample in dataset.samples if sample.name not in used]
    return {part: split.get(part, []) for part in PARTS} | {REST: rest}


def write_arrays(folder: Path, split: Split, expected: Split, arrays: Mapping[str, Path]) -> None:
    """Move the arrays of the parts that are as expected into `folder`, and copy the others.

    Args:
        folder: receives `<part>.npy`.
        split: what each part holds.
        expected: what each of `arrays` holds.
        arrays: the files, of which those moved are gone.
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


# Decoding


@dataclass(frozen=True)
class Losses:
    """The samples of which there are no images."""

    unreadable: dict[str, str]  # member of the archive -> why it cannot be read
    outside: set[str]  # samples whose box lies mostly outside its frame

    def left(self, samples: Iterable[Sample]) -> list[Sample]:
        """The other samples."""
        return [
            sample
            for sample in samples
            if sample.member not in self.unreadable and sample.name not in self.outside
        ]


def decode(
    source: ImageSource, samples: Split, arrays: Mapping[str, Path], image_size: tuple[int, int]
) -> Losses:
    """Decode images into arrays, on every core.

    A member of the archive is decoded once, however many samples are cut out of it. The decoders
    release the interpreter's lock, so threads suffice.

    Args:
        source: where the images' bytes are.
        samples: what to write into each array, in this order.
        arrays: receive the images.
        image_size: height and width in pixels.

    Returns:
        the samples whose places stay black.
    """
    losses = Losses({}, set())
    with strict_about_size(), ExitStack() as stack:
        wanted: dict[str, Places] = defaultdict(list)
        for name, path in arrays.items():
            writer = stack.enter_context(ArrayWriter(path, len(samples[name]), image_size))
            for place, sample in enumerate(samples[name]):
                wanted[sample.member].append((sample, writer, place))
        items = stack.enter_context(closing(source.read(list(wanted))))
        progress = stack.enter_context(Progress("decode", len(wanted), "images"))
        todo = ((name, data, wanted[name]) for name, data in items)
        for name, fault, outside in in_parallel(todo, image_size):
            if fault is not None:
                losses.unreadable[name] = fault
            losses.outside.update(outside)
            progress.advance()
    if losses.outside:
        logger.info("%d boxes lie mostly outside their frame: left out", len(losses.outside))
    return losses


@contextmanager
def strict_about_size() -> Iterator[None]:
    """Let Pillow refuse an image of too many pixels where it only would have warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def in_parallel(items: Iterable[Work], image_size: tuple[int, int]) -> Iterator[Outcome]:
    """Decode members and write what is cut out of them, a bounded number of members ahead.

    The threads write, so that no more images are in memory than there are threads.

    Args:
        items: name and bytes of a member, and what to cut out of it.
        image_size: height and width in pixels.

    Yields:
        name of a member, why it cannot be read, and which samples lie mostly outside it.
    """
    threads = cores()
    pending: deque[tuple[int, Future[list[Outcome]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for bunch in bunches(items):
            future = pool.submit(cut_bunch, bunch, image_size)
            pending.append((sum(len(data) for _, data, _ in bunch), future))
            while len(pending) > 2 * threads or sum(size for size, _ in pending) > AHEAD:
                yield from pending.popleft()[1].result()
        for _, future in pending:
            yield from future.result()


def bunches(items: Iterable[Work]) -> Iterator[list[Work]]:
    """Put small members together: handing one to a thread takes as long as decoding it."""
    bunch: list[Work] = []
    size = 0
    for item in items:
        bunch.append(item)
        size += len(item[1])
        if len(bunch) >= BUNCH or size >= BUNCH_BYTES:
            yield bunch
            bunch, size = [], 0
    if bunch:
        yield bunch


def cut_bunch(bunch: Iterable[Work], image_size: tuple[int, int]) -> list[Outcome]:
    """Decode some members and write what is cut out of each; see `cut_all`."""
    return [(name, *cut_all(data, places, image_size)) for name, data, places in bunch]


def cut_all(
    data: bytes, places: Places, image_size: tuple[int, int]
) -> tuple[str | None, list[str]]:
    """Decode a member and write each sample of it to its place.

    Returns:
        why the member cannot be read, None if it can; the samples that lie mostly outside it.
    """
    image = open_image(data)
    if isinstance(image, str):
        return image, []
    outside = []
    for sample, writer, place in places:
        part = cut(image, sample.crop.ltwh) if sample.crop else image
        if part is None:
            outside.append(sample.name)
        else:
            writer.write(place, resized(part, image_size))
    return None, outside


def cut(image: Images, ltwh: tuple[float, float, float, float]) -> Images | None:
    """The whole pixels next to a box, clipped to the image; None if most of it lies outside.

    Args:
        image: a frame, (H, W, 3).
        ltwh: left, top, width and height in pixels, the last two above 0.
    """
    left, top, width, height = ltwh
    right, bottom = left + width, top + height
    rows, columns, _ = image.shape
    inside_x = min(right, columns) - max(left, 0)
    inside_y = min(bottom, rows) - max(top, 0)
    if min(inside_x, inside_y) <= 0 or inside_x * inside_y < LEAST_INSIDE * width * height:
        return None
    x, y = (
        (max(0, min(round(first), size - 1)), min(round(end), size))
        for first, end, size in ((left, right, columns), (top, bottom, rows))
    )
    return image[y[0] : max(y[1], y[0] + 1), x[0] : max(x[1], x[0] + 1)]


def decode_image(data: bytes, image_size: tuple[int, int]) -> Images | str:
    """Decode one image to (H, W, 3) uint8 RGB, or say in a few words why that is impossible."""
    image = open_image(data)
    return image if isinstance(image, str) else resized(image, image_size)


def resized(image: Images, image_size: tuple[int, int]) -> Images:
    """An image (H, W, 3) of uint8 at the network's size, in training and in use alike."""
    if image.shape[:2] == image_size:
        return image
    height, width = image_size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def open_image(data: bytes) -> Images | str:
    """Decode one image to RGB, upright, or say in a few words why that is impossible.

    Returns:
        (H, W, 3) uint8, or the reason.
    """
    if not data:
        return "the file is empty"
    image = decode_plain_jpeg(data)
    return open_by_pillow(data) if image is None else image


def decode_plain_jpeg(data: bytes) -> Images | None:
    """Decode a JPEG to the pixels that Pillow makes of it, in half the time.

    Returns:
        (H, W, 3) RGB; None where Pillow shall look: at what is no JPEG or damaged, has too many
        pixels or other colours, or holds what could turn the image or change its colours.
    """
    if not data.startswith(JPEG) or any(marker in data for marker in READ_BY_PILLOW):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        image: Images = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return image


def open_by_pillow(data: bytes) -> Images | str:
    """Decode an image of any kind; see `open_image`."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width}×{image.height} pixels are too many; {MAX_PIXELS:,} at most"
            check_png(image, data)
            ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(as_rgb(image))
    except UnidentifiedImageError:
        return f"no image of a known format ({', '.join(FORMATS)})"
    except Exception as error:  # a decoder may fail in any way on bytes that are not its own
        return one_line(f"{type(error).__name__}: {error}").removesuffix(".")


def check_png(image: Image.Image, data: bytes) -> None:
    """Compare a PNG with its checksums, which Pillow passes over when it decodes one.

    Raises:
        SyntaxError: a chunk is damaged.
    """
    if image.format == "PNG":
        with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
            again.verify()


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode in 8-bit RGB; its transparency is dropped, its darkest 8 bits of 16.

    Raises:
        ValueError: its greys have 32 bits, of which nobody knows which one is white.
    """
    if image.mode in SIXTEEN_BITS:  # Pillow would take everything above 255 for white
        greys = np.asarray(image, dtype=np.uint16) >> 8
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit greys; expected 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")


def check_unreadable(unreadable: Mapping[str, str], allowed: int) -> None:
    """Name the unreadable images, and refuse more than allowed.

    Raises:
        DatasetError: there are too many.
    """
    named = sorted(unreadable.items())
    for name, reason in named[:20]:
        logger.warning("unreadable image '%s': %s", name, reason)
    if len(named) > 20:
        logger.warning("… and %d more unreadable images", len(named) - 20)
    if len(named) > allowed:
        name, reason = named[0]
        raise DatasetError(
            f"{len(named)} unreadable image(s), '{name}' first ({reason}); mend or remove them, "
            f"or allow them with split.skip_unreadable: {len(named)}"
        )


# Dealing out


def assign(
    dataset: Dataset,
    *,
    val_fraction: float,
    test_fraction: float,
    tune_fraction: float,
    seed: int,
    skip_single: int,
) -> Split:
    """Say which image goes into which part; see `make_parts`.

    Raises:
        DatasetError: see `make_parts`.
    """
    if dataset.layout == "market1501":
        by_role = group(dataset.samples, lambda sample: sample.role)
        learning, query, gallery = by_role["train"], by_role["query"], by_role["gallery"]
        learning = [sample for sample in learning if sample.pid not in (JUNK, DISTRACTOR)]
    elif dataset.layout == "mot":
        return assign_tracks(dataset.samples, val_fraction, test_fraction, tune_fraction, seed)
    else:
        learning, held_out = hold_out_identities(dataset.samples, test_fraction, seed)
        query, gallery = choose_queries(held_out, seed)
    if tune_fraction:
        learning, held_out = hold_out_to_tune(learning, tune_fraction, seed)
        query, gallery = choose_queries(held_out, seed)
    learning = leave_out_single(learning, skip_single)
    train, val = split_each_identity(learning, val_fraction, seed)
    split = {"train": train, "val": val, "query": query, "gallery": gallery}
    check_split(split, dataset.has_cameras, tune_fraction)
    return split


def hold_out_identities(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Deal identities out into those to learn from and those to test with, at least two each.

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
    return deal_identities(samples, fraction, seed, "identities")


def hold_out_to_tune(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Deal identities out into those to learn from and those to choose parameters by.

    Raises:
        DatasetError: there are fewer than four identities.
    """
    count = len({sample.identity for sample in samples})
    if count < 4:
        raise DatasetError(
            f"split.tune_fraction={fraction} shares out {count} training "
            f"identit{'y' if count == 1 else 'ies'}; it takes at least 4: two to tell apart in "
            "training and two others to choose parameters by; set it to 0 to evaluate on the test "
            "part, or add identities"
        )
    return deal_identities(samples, fraction, seed, "tuning")


def deal_identities(
    samples: Sequence[Sample], fraction: float, seed: int, purpose: str
) -> tuple[list[Sample], list[Sample]]:
    """Draw a share of four identities or more: images of the others, images of those drawn."""
    identities = sorted({sample.identity for sample in samples})
    count = min(max(2, round(fraction * len(identities))), len(identities) - 2)
    drawn = set(shuffled(identities, seed, purpose)[:count])
    return (
        [sample for sample in samples if sample.identity not in drawn],
        [sample for sample in samples if sample.identity in drawn],
    )


def choose_queries(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Draw one query for each identity and camera; everything else is the gallery.

    An image becomes a query only if another one of its identity stays in the gallery to be found:
    under another camera, where cameras are known.
    """
    queries: set[str] = set()
    for identity, images in group(samples, lambda sample: sample.identity).items():
        by_camera = group(images, lambda sample: sample.camid)
        counts = {camid: len(of_camera) for camid, of_camera in sorted(by_camera.items())}
        for camid in cameras_to_query(counts):
            of_camera = [sample.name for sample in by_camera[camid]]
            queries.add(shuffled(of_camera, seed, f"{identity}/{camid}")[0])
    return (
        [sample for sample in samples if sample.name in queries],
        [sample for sample in samples if sample.name not in queries],
    )


def cameras_to_query(counts: Mapping[int, int]) -> list[int]:
    """The cameras of one identity that can give up an image, each still finding another one.

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
    samples: Sequence[Sample], val_fraction: float, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Draw `val_fraction` of each identity's images for val: at least one, and never all."""
    chosen: set[str] = set()
    for identity, images in group(samples, lambda sample: sample.identity).items():
        count = val_count(len(images), val_fraction)
        chosen.update(shuffled([sample.name for sample in images], seed, identity)[:count])
    return (
        [sample for sample in samples if sample.name not in chosen],
        [sample for sample in samples if sample.name in chosen],
    )


def val_count(images: int, fraction: float) -> int:
    """How many of an identity's two or more images go to val: at least one, and never all."""
    return min(max(1, round(fraction * images)), images - 1)


def assign_tracks(
    samples: Sequence[Sample],
    val_fraction: float,
    test_fraction: float,
    tune_fraction: float,
    seed: int,
) -> Split:
    """Say which image of videos goes into which part.

    Frames that follow each other show the same picture, so a draw among a track's images would ask
    for what was learned, and find what was asked for. Tracks are parted in time instead: val is the
    end of each track that is learned; of the others the query is the last image, and the gallery
    holds those of the first half, so that half the track's time, at least, lies between them. What
    lies in between is used for nothing. No track is seen by two cameras, so none is asked for under
    another one.

    Raises:
        DatasetError: too little is left to learn from or to measure with.
    """
    tracks = group(sorted(samples, key=moment), lambda sample: sample.identity)
    short = sum(len(track) < 2 for track in tracks.values())
    if short:
        logger.info("%d tracks have one image, too few to learn or to find them: left out", short)
    long = [sample for track in tracks.values() if len(track) > 1 for sample in track]
    learning, held_out = hold_out_identities(long, test_fraction, seed)
    if tune_fraction:
        learning, held_out = hold_out_to_tune(learning, tune_fraction, seed)
    split: dict[str, list[Sample]] = {part: [] for part in PARTS}
    for track in group(learning, lambda sample: sample.identity).values():
        count = val_count(len(track), val_fraction)
        split["train"] += track[:-count]
        split["val"] += track[-count:]
    for track in group(held_out, lambda sample: sample.identity).values():
        split["query"].append(track[-1])
        split["gallery"] += first_half(track)
    split = {part: sorted(chosen, key=lambda s: s.name) for part, chosen in split.items()}
    check_split(split, has_cameras=False, tune_fraction=tune_fraction)
    return split


def moment(sample: Sample) -> int:
    """The number of the frame that a crop of a video was cut out of."""
    return sample.crop.frame if sample.crop else 0


def first_half(track: Sequence[Sample]) -> list[Sample]:
    """The crops of a track, in time, that lie no later than midway between its ends."""
    ends = moment(track[0]) + moment(track[-1])
    return [sample for sample in track if 2 * moment(sample) <= ends]


def check_split(split: Split, has_cameras: bool, tune_fraction: float) -> None:
    """Refuse a split of which nothing can be learned or measured.

    Args:
        split: what was dealt out.
        has_cameras: whether a right answer is by another camera.
        tune_fraction: the share that was held out to choose parameters by, for the message.

    Raises:
        DatasetError: fewer than two identities to learn, no query or no gallery, or no query that
            has anything to find.
    """
    held_out = f" with split.tune_fraction={tune_fraction}" if tune_fraction else ""
    identities = sorted({sample.identity for sample in split["train"]})
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


def group(samples: Iterable[Sample], key: Callable[[Sample], Key]) -> dict[Key, list[Sample]]:
    """Sort samples into lists by a key, in the order they come."""
    groups = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def shuffled(names: Sequence[str], seed: int, purpose: str) -> list[str]:
    """A random order that depends on the seed, the purpose and the names, and on nothing else.

    Names are sorted by a keyed hash, so an image added to the dataset moves no other one.
    """
    key = f"{seed}/{purpose}".encode()[:64]
    return sorted(names, key=lambda name: (hashlib.blake2b(name.encode(), key=key).digest(), name))


# Telling


@dataclass(frozen=True)
class Summary:
    """What the parts hold; `summary.json` beside them."""

    layout: str
    digest: str  # SHA-256 over all that follows and the layout: the same digest, the same data
    tuning: bool  # whether query and gallery are held out of the training part to choose by
    counts: Mapping[str, Mapping[str, int]]  # part -> images, identities, cameras, …
    files: Mapping[str, str]  # name of a part's file -> its SHA-256

    def flat(self) -> dict[str, int]:
        """The counts under names like `train_images`, and whether it is for tuning."""
        counts = {
            f"{part}_{kind}": number
            for part, kinds in self.counts.items()
            for kind, number in kinds.items()
        }
        return counts | {"tuning": self.tuning}


def summarise(folder: Path, layout: str, split: Split, *, tuning: bool) -> Summary:
    """Count and checksum the parts in `folder`, and leave the summary there.

    Args:
        folder: where `make_parts` has written them.
        layout: the dataset's.
        split: what `make_parts` returned.
        tuning: whether it held identities out to choose parameters by.
    """
    names = [name for part in PARTS for name in packed.file_names(part)]
    found = files.checksums([folder / name for name in names])
    sums = {path.name: checksum for path, checksum in found.items()}
    counts = count(split)
    summary = Summary(layout, digest_of(layout, tuning, counts, sums), tuning, counts, sums)
    files.write_json(folder / "summary.json", asdict(summary))
    return summary


def digest_of(layout: object, tuning: object, counts: object, sums: object) -> str:
    """The SHA-256 of a summary's content, in 64 hexadecimal digits."""
    content = [layout, counts, sums, *([] if tuning is False else [tuning])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def read_summary(folder: Path) -> Summary:
    """Read what `summarise` left.

    Raises:
        PackedError: it is missing or damaged.
    """
    path = folder / "summary.json"
    try:
        content = files.read_json(path)
        layout, digest, tuning, counts, sums = (content.pop(f.name) for f in fields(Summary))
        if content or digest != digest_of(layout, tuning, counts, sums):
            raise ValueError("its content does not fit its digest")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PackedError(
            f"{path}: cannot be read ({error}); make the parts again: dvc repro -f split"
        ) from None
    return Summary(layout, digest, tuning, counts, sums)


def verify_parts(folder: Path, summary: Summary, parts: Sequence[str]) -> None:
    """Compare the files of parts with their checksums, before anything is read from them.

    Args:
        folder: where the parts are.
        summary: the one that `read_summary` finds there.
        parts: their names, of `PARTS`.

    Raises:
        PackedError: a file is missing, or not the one that stage split wrote.
    """
    paths = [folder / name for part in parts for name in packed.file_names(part)]
    try:
        found = files.checksums(paths)
    except OSError as error:
        raise PackedError(
            f"{error.filename}: cannot be read ({error.strerror}); "
            "make the parts again: dvc repro -f split"
        ) from None
    for path in paths:
        if found[path] != summary.files.get(path.name):
            raise PackedError(
                f"{path}: damaged, or not of the split that summary.json describes; "
                "make the parts again: dvc repro -f split"
            )


def count(split: Split) -> dict[str, dict[str, int]]:
    """Images, identities and cameras of each part, and the gallery's distractors and junk.

    The gallery's identities are those that can be asked for.
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
