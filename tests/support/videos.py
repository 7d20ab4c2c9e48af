"""Made-up annotated videos: people who are rectangles of one colour each, on a grey street."""

import io
import zipfile
from collections.abc import Collection, Generator, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from deepsort_reid.sources.archive import Archive

SIZE = (60, 100)  # height and width of every frame

Box = tuple[int, int, int, int]  # left, top, width, height, from 0


def colour(sequence: int, person: int) -> tuple[int, int, int]:
    """What somebody looks like, different for everybody."""
    return 40 + 37 * person % 200, 30 + 83 * person % 200, 20 + 61 * sequence % 200


def place(person: int, frame: int) -> Box:
    """Where somebody is: each walks in a lane of their own, to the right."""
    return 2 + (2 * frame + 3 * person) % 80, 1 + 9 * (person % 4), 8, 20


def frame_of(sequence: int, people: Iterable[int], frame: int) -> bytes:
    """A frame as a PNG; whoever has the higher number stands in front."""
    image = Image.new("RGB", SIZE[::-1], (128, 128, 128))
    for person in sorted(people):
        left, top, width, height = place(person, frame)
        image.paste(colour(sequence, person), (left, top, left + width, top + height))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def line(frame: int, person: int, box: Box | None = None, end: str = "1,1,1.0") -> str:
    """A line of gt.txt, which counts pixels from 1."""
    left, top, width, height = box or place(person, frame)
    return f"{frame},{person},{left + 1},{top + 1},{width},{height},{end}\n"


def sequence(
    number: int, *, people: int = 4, frames: int = 12, gt: str | None = None
) -> dict[str, bytes]:
    """The files of a sequence named `s<number>`, in a folder of that name."""
    everybody = range(1, people + 1)
    numbers = range(1, frames + 1)
    files = {
        f"s{number}/img1/{frame:06}.png": frame_of(number, everybody, frame) for frame in numbers
    }
    if gt is None:
        gt = "".join(line(frame, person) for frame in numbers for person in everybody)
    return files | {f"s{number}/gt/gt.txt": gt.encode()}


def zipped(path: Path, files: dict[str, bytes]) -> Archive:
    """An archive of files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return Archive(path)


class Counting:
    """An archive that counts how often each member is read."""

    def __init__(self, archive: Archive):
        self.archive, self.reads = archive, list[str]()

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        for name, data in self.archive.read(names):
            self.reads.append(name)
            yield name, data


def pixels(data: bytes) -> np.ndarray:
    """An image, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)))
