"""The default sequences to track people in: rendered, named and laid out like MOTChallenge's."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from deepsort_reid.core.config import SequencesConfig
from deepsort_reid.core.files import replacing
from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import track
from deepsort_reid.synthetic.crop import Box
from deepsort_reid.synthetic.dataset import entry, in_parallel
from deepsort_reid.synthetic.detector import Detection, detect
from deepsort_reid.synthetic.frame import Sight, film
from deepsort_reid.synthetic.street import FRAME_RATE, STREAM, street

FEW = 16  # frames for each process that is worth starting


def write_sequences(path: Path, config: SequencesConfig, *, processes: int | None = None) -> None:
    """Write a zip archive of rendered sequences, in MOTChallenge's folders and columns.

    The same parameters give the same bytes on the same machine, on any number of cores. The
    sequences show none of the people of the rendered dataset and use none of its cameras, whatever
    the seeds.

    Each sequence is a folder `synthetic-01` and so on, with frames in `img1`, the ground truth in
    `gt/gt.txt`, detections in `det/det.txt`, and `seqinfo.ini`. The true boxes frame people as the
    dataset's boxes do, and reach beyond the frame where people do.

    Args:
        path: where the archive goes; what was there stays until it is whole.
        config: decides who walks where, and how many frames of which size show it.
        processes: how many draw at a time; as many as there are cores if None.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    numbers = range(1, config.sequences + 1)
    places = [(number, index) for number in numbers for index in range(config.frames)]
    processes = min(processes or cores(), len(places) // FEW)
    drawn = in_parallel(partial(draw_frame, config), places, processes, chunk=4)
    frames = track(drawn, "render", len(places), "frames")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number in numbers:
            write_sequence(archive, config, number, islice(frames, config.frames))


def write_sequence(
    archive: zipfile.ZipFile,
    config: SequencesConfig,
    number: int,
    frames: Iterable[tuple[bytes, list[Sight]]],
) -> None:
    """Write the frames of a sequence and its tables; `number` counts from 1."""
    name, seen = f"synthetic-{number:02d}", []
    for frame, (image, sights) in enumerate(frames, 1):
        archive.writestr(entry(f"{name}/img1/{frame:06d}.jpg"), image)
        seen.append(sights)
    rng = np.random.default_rng([config.seed, STREAM, number, 3])
    found = detect(rng, seen, config.image_size, config.missed)
    archive.writestr(entry(f"{name}/gt/gt.txt"), truth_table(seen))
    archive.writestr(entry(f"{name}/det/det.txt"), detection_table(found))
    archive.writestr(entry(f"{name}/seqinfo.ini"), sequence_info(name, config))


def draw_frame(config: SequencesConfig, place: tuple[int, int]) -> tuple[bytes, list[Sight]]:
    """One frame as a JPEG file, and who is seen in it.

    Args:
        config: the sequences.
        place: the sequence's number, from 1, and the frame's, from 0.
    """
    number, index = place
    scene = street(config, number)
    picture, sights = film(scene, index)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=scene.eye.quality)
    return file.getvalue(), sights


def truth_table(seen: Sequence[Sequence[Sight]]) -> str:
    """MOT16's nine columns: frame, identity, box, whether it counts, class, visibility."""
    return "".join(
        f"{frame},{sight.identity},{corners(sight.box)},1,1,{sight.visible:.3f}\n"
        for frame, sights in enumerate(seen, 1)
        for sight in sights
    )


def detection_table(found: Sequence[Detection]) -> str:
    """The ten columns of detections: frame, nobody, box, confidence, no place in the world."""
    return "".join(
        f"{detection.frame + 1},-1,{corners(detection.box)},{detection.confidence:.3f},-1,-1,-1\n"
        for detection in found
    )


def corners(box: Box) -> str:
    """Left, top, width and height; MOTChallenge's first pixel is 1."""
    return f"{box.left + 1:.2f},{box.top + 1:.2f},{box.width:.2f},{box.height:.2f}"


def sequence_info(name: str, config: SequencesConfig) -> str:
    """The text of seqinfo.ini."""
    height, width = config.image_size
    lines = {
        "name": name,
        "imDir": "img1",
        "frameRate": f"{FRAME_RATE:g}",
        "seqLength": config.frames,
        "imWidth": width,
        "imHeight": height,
        "imExt": ".jpg",
    }
    return "".join(["[Sequence]\n", *(f"{key}={value}\n" for key, value in lines.items())])
