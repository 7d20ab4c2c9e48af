"""The images of an archive, decoded on every core into the arrays of packed parts."""

import logging
import warnings
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import Progress
from deepsort_reid.data.images import open_image, resized
from deepsort_reid.data.packed import ArrayWriter, Images
from deepsort_reid.data.samples import ImageSource, Sample, Split

logger = logging.getLogger(__name__)

LEAST_INSIDE = 0.5  # share of a box that must lie within its frame
AHEAD = 256 << 20  # bytes of undecoded images in memory, at most, besides the last bunch read
BUNCH = 32  # members of the archive, at most, that a thread is given at a time
BUNCH_BYTES = 1 << 18  # a bunch of so many bytes gets no further member
SHOWN = 20  # unreadable images named in the log

Places = list[tuple[Sample, ArrayWriter, int]]  # the samples of one member, and where each goes
Work = tuple[str, bytes, Places]  # a member's name and bytes, and what to cut out of it
# its name, its digest, why it is unreadable, samples outside it
Outcome = tuple[str, bytes, str | None, list[str]]


@dataclass(frozen=True)
class Losses:
    """The samples that have no image."""

    unreadable: dict[str, str]  # member of the archive -> why it cannot be read
    outside: set[str]  # samples whose box lies mostly outside its frame
    digests: dict[str, bytes]  # member -> of its bytes: equal ones are copies

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
        arrays: the files that receive the images, under the names of `samples`.
        image_size: height and width in pixels.

    Returns:
        the samples whose places stay black.

    Raises:
        OSError: the disk is full.
    """
    losses = Losses({}, set(), {})
    with strict_about_size(), ExitStack() as stack:
        wanted: dict[str, Places] = defaultdict(list)
        for name, path in arrays.items():
            writer = stack.enter_context(ArrayWriter(path, len(samples[name]), image_size))
            for place, sample in enumerate(samples[name]):
                wanted[sample.member].append((sample, writer, place))
        items = stack.enter_context(closing(source.read(list(wanted))))
        progress = stack.enter_context(Progress("decode", len(wanted), "images"))
        todo = ((name, data, wanted[name]) for name, data in items)
        for name, digest, fault, outside in in_parallel(todo, image_size):
            losses.digests[name] = digest
            if fault is not None:
                losses.unreadable[name] = fault
            losses.outside.update(outside)
            progress.advance()
    if losses.outside:
        logger.info("%d boxes lie mostly outside their frame: left out", len(losses.outside))
    return losses


def check_unreadable(unreadable: Mapping[str, str], allowed: int) -> None:
    """Name the unreadable images in the log, and refuse more than allowed.

    Args:
        unreadable: member of the archive -> why it cannot be read.
        allowed: how many there may be.

    Raises:
        DatasetError: there are more.
    """
    named = sorted(unreadable.items())
    for name, reason in named[:SHOWN]:
        logger.warning("unreadable image '%s': %s", name, reason)
    if len(named) > SHOWN:
        logger.warning("… and %d more unreadable images", len(named) - SHOWN)
    if len(named) > allowed:
        name, reason = named[0]
        raise DatasetError(
            f"{len(named)} unreadable image(s), '{name}' first ({reason}); mend or remove them, "
            f"or allow them with split.skip_unreadable: {len(named)}"
        )


@contextmanager
def strict_about_size() -> Iterator[None]:
    """Make Pillow refuse an image of too many pixels, where it would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def in_parallel(items: Iterable[Work], image_size: tuple[int, int]) -> Iterator[Outcome]:
    """Decode members and write what is cut out of them, a bounded number of members ahead.

    The threads write, so that no more decoded images are in memory than there are threads.

    Args:
        items: the members, and what to cut out of each.
        image_size: height and width in pixels.

    Yields:
        each member's name, its digest, why it cannot be read, and which samples lie mostly outside
        it.
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
    return [
        (name, blake2b(data, digest_size=12).digest(), *cut_all(data, places, image_size))
        for name, data, places in bunch
    ]


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
    """Cut a box out of a frame: edges rounded to whole pixels and clipped to the frame.

    Args:
        image: a frame, (H, W, 3).
        ltwh: left, top, width and height in pixels, the last two above 0.

    Returns:
        (h, w, 3), at least one pixel; None if most of the box lies outside the frame.
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
