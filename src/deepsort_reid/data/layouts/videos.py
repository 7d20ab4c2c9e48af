"""The formats of annotated videos, and the sequences of an archive that is in one of them."""

import logging
from collections.abc import Sequence

from deepsort_reid.core.errors import SourceError
from deepsort_reid.data.layouts.files import Members, images_among, shown
from deepsort_reid.data.layouts.video import bdd100k, cvat, datumaro, kitti, mot, visdrone
from deepsort_reid.data.video import sequence
from deepsort_reid.sources.archive import Archive

logger = logging.getLogger(__name__)

# The first one that recognises an archive reads it: those with folders of a name of their own come
# first. Each has `recognises`, `find` for sequences, and `read` for images cut out of them.
FORMATS = (visdrone, kitti, datumaro, cvat, bdd100k, mot)


def read_sequences(archive: Archive, names: Sequence[str] | None = None) -> list[sequence.Sequence]:
    """Find the sequences of an archive, in any format, and read all their files but the frames.

    Args:
        archive: holds the sequences.
        names: the archive's members, if they are known; to list them takes a pass over a tar.

    Returns:
        the sequences by name.

    Raises:
        SourceError: there is none, two bear one name, a frame is missing, or a file cannot be
            read: its name, and the number of the line, are in the error.
        DatasetError: there are no images.
    """
    known = archive.names() if names is None else sorted(names)
    members = Members(archive, known, images_among(archive, known))
    reader = next((one for one in FORMATS if one.recognises(members)), None)
    if reader is None:
        raise SourceError(
            f"{archive.label}: holds no sequence of a known format; expected "
            "<name>/img1/000001.jpg and what follows, with <name>/gt/gt.txt or <name>/det/det.txt "
            "beside img1"
        )
    found = reader.find(members)
    found.notes.log()
    if found.notes.left_out:
        counts = ((what, n) for what, n in found.notes.left_out.items() if n)
        for what, number in counts:
            logger.info("left out: %d %s", number, what)
    frames = {image for one in found.sequences for image in one.images}
    passed_over = {name for names in found.passed_over.values() for name in names}
    if strange := sorted(set(members.images) - frames - passed_over):
        logger.warning("%d images belong to no sequence: %s", len(strange), shown(strange))
    return list(found.sequences)
