"""Images of smooth noise in the default dataset's numbers and sizes, and the default recipe."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepsort_reid.core.config import TrainConfig, load_params
from deepsort_reid.data import packed
from deepsort_reid.data.packed import Images, Part

ROOT = Path(__file__).parents[2]
SIZE = (64, 32)  # height and width in pixels, of a packed image
FILE_SIZE = (128, 64)  # of a JPEG
PARTS = ("train", "val")


@dataclass(frozen=True)
class Sizes:
    """How many images there are, and how large."""

    identities: int = 192
    per_identity: int = 12
    in_val: int = 2  # of each identity's: a fifth, rounded
    size: tuple[int, int] = SIZE
    file_size: tuple[int, int] = FILE_SIZE

    def count(self, part: str) -> int:
        """Images of one identity in a part."""
        return self.in_val if part == "val" else self.per_identity - self.in_val


QUICK = Sizes(4, 12, size=(32, 16), file_size=(64, 32))
MARKET = Sizes(751, 17, size=(128, 64))  # Market-1501's training part, about


def config(**changes: Any) -> TrainConfig:
    """The recipe of params.yaml but for the changes."""
    stated = load_params(ROOT / "params.yaml").train
    return TrainConfig(**{**stated.model_dump(), **changes})


def write_parts(folder: Path, sizes: Sizes) -> None:
    """Write the packed parts train and val."""
    for part in PARTS:
        write_part(folder, part, sizes)


def open_parts(folder: Path) -> tuple[Part, Part]:
    """Map what `write_parts` wrote: train and val."""
    train, val = (packed.open_part(folder, part) for part in PARTS)
    return train, val


def write_part(folder: Path, part: str, sizes: Sizes) -> None:
    """Write one part, a line of the index an image."""
    per_identity = sizes.count(part)
    rows = [
        (pid, -1, f"p{pid:04}", f"{pid:04}-{number}.jpg")
        for pid in range(1, sizes.identities + 1)
        for number in range(per_identity)
    ]
    with packed.ArrayWriter(folder / f"{part}.npy", len(rows), sizes.size) as writer:
        for first, image in enumerate(images(len(rows), sizes.size, seed=PARTS.index(part))):
            writer.write(first, image)
    packed.write_index(folder / f"{part}.csv", rows)


def write_files(folder: Path, sizes: Sizes) -> None:
    """Write `train/IDENTITY/N.jpg` and `val/IDENTITY/N.jpg`."""
    for part in PARTS:
        count = sizes.count(part)
        total = count * sizes.identities
        drawn = images(total, sizes.file_size, seed=PARTS.index(part))
        for number, image in enumerate(drawn):
            path = folder / part / f"p{number // count + 1:04}" / f"{number % count}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)


def images(count: int, size: tuple[int, int], seed: int) -> Iterator[Images]:
    """Yield (H, W, 3) uint8 images of smooth noise, as pictures are."""
    rng = np.random.default_rng(seed)
    height, width = size
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        yield np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
