"""The default sequences to track people in: rendered, named and laid out like MOTChallenge's."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.files import replacing
from deepsort_reid.core.machine import cores
from deepsort_reid.core.progress import track
from deepsort_reid.synthetic.crop import Box
from deepsort_reid.synthetic.dataset import entry, in_order
from deepsort_reid.synthetic.detector import Detection, detect
from deepsort_reid.synthetic.frame import Sight, film
from deepsort_reid.synthetic.street import FRAME_RATE, STREAM, street

FEW = 16  # frames for each process that is worth starting


def write_sequences(
    path: Path,
    *,
    seed: int,
    sequences: int,
    frames: int,
    people: int,
    image_size: tuple[int, int],
    missed: float,
    processes: int | None = None,
) -> None:
    """Write a zip archive of rendered sequences, in MOTChallenge's folders and columns.

    The same arguments give the same bytes on the same machine, on any number of cores. Nobody of
    the images that `synthetic` renders is seen, nor any of its cameras used, whatever the seeds.

    Each sequence is a folder `synthetic-01` and so on, with frames in `img1`, what is true in
    `gt/gt.txt`, what a detector found in `det/det.txt`, and `seqinfo.ini`. The true boxes are
    framed as `crops` frames people, and reach beyond the frame where people do.

    Args:
        path: where the archive goes; what was there stays until it is whole.
        seed: decides who walks where.
        sequences: how many.
        frames: of each.
        people: who walk through each, about two thirds of them in view at a time.
        image_size: height and width of a frame, in pixels.
        missed: share of the people in view whom the detector misses; see `detector.detect`.
        processes: how many draw at a time; as many as there are cores if None.

    Raises:
        DatasetError: there is nothing to render.
        OSError: the disk is full or the folder cannot be written.
    """
    for name, value in (("sequences", sequences), ("frames", frames), ("people", people)):
        if value < 1:
            raise DatasetError(f"synthetic sequences: {name}={value} must be at least 1")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number in range(1, sequences + 1):
            name = f"synthetic-{number:02d}"
            drawn = draw_all((seed, number, frames, people, image_size), processes)
            seen = []
            for index, (image, sights) in enumerate(
                track(drawn, f"render {name}", frames, "frames")
            ):
                archive.writestr(entry(f"{name}/img1/{index + 1:06d}.jpg"), image)
                seen.append(sights)
            rng = np.random.default_rng([seed, STREAM, number, 3])
            found = detect(rng, seen, image_size, missed)
            archive.writestr(entry(f"{name}/gt/gt.txt"), truth_table(seen))
            archive.writestr(entry(f"{name}/det/det.txt"), detection_table(found))
            archive.writestr(entry(f"{name}/seqinfo.ini"), information(name, frames, image_size))


Story = tuple[int, int, int, int, tuple[int, int]]  # the arguments of `street`


def draw_all(story: Story, processes: int | None) -> Iterator[tuple[bytes, list[Sight]]]:
    """The frames of a sequence as JPEG files, in order, and who is seen in each."""
    frames = story[2]
    count = min(processes or cores(), frames // FEW)
    return in_order(partial(draw_frame, story), range(frames), count, chunk=4)


def draw_frame(story: Story, index: int) -> tuple[bytes, list[Sight]]:
    """One frame, from 0, as a JPEG file, and who is seen in it."""
    scene = street(*story)
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


def information(name: str, frames: int, size: tuple[int, int]) -> str:
    """What seqinfo.ini says."""
    lines = {
        "name": name,
        "imDir": "img1",
        "frameRate": f"{FRAME_RATE:g}",
        "seqLength": frames,
        "imWidth": size[1],
        "imHeight": size[0],
        "imExt": ".jpg",
    }
    return "".join(["[Sequence]\n", *(f"{key}={value}\n" for key, value in lines.items())])
