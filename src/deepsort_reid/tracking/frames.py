"""The frames of videos, decoded out of an archive one at a time."""

from collections.abc import Generator, Sequence
from contextlib import closing

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.images import open_image
from deepsort_reid.data.packed import Images
from deepsort_reid.sources.archive import Archive


def read_frames(
    archive: Archive, names: Sequence[str]
) -> Generator[tuple[str, Images], None, None]:
    """Yield each of the named images as (H, W, 3) uint8 RGB, in the archive's order.

    Raises:
        DatasetError: an image cannot be decoded.
        SourceError: the archive is damaged.
    """
    with closing(archive.read(names)) as members:
        for name, data in members:
            image = open_image(data)
            if isinstance(image, str):
                raise DatasetError(
                    f"{archive.label}: {name} cannot be read ({image}); replace it, or take its "
                    "sequence out"
                )
            yield name, image


def frames_in_order(archive: Archive, names: Sequence[str]) -> Generator[Images, None, None]:
    """Yield the named images in the order of `names`, each of which is there once.

    An image that comes too early is kept until it is due. In sorted archives none does.

    Raises:
        DatasetError, SourceError: as in `read_frames`.
    """
    early: dict[str, Images] = {}
    due = iter(names)
    expected = next(due, None)
    with closing(read_frames(archive, names)) as found:
        for name, image in found:
            early[name] = image
            while expected in early:
                yield early.pop(expected)
                expected = next(due, None)
