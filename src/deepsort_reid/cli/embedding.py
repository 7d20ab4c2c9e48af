"""Images of single people, or of whatever was learned, in files -> a table of their embeddings."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

import numpy as np

from deepsort_reid.core import files
from deepsort_reid.core.errors import ConfigError, DatasetError
from deepsort_reid.data.images import IMAGE_SUFFIXES, is_image_file, open_image
from deepsort_reid.data.packed import Images
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.runtimes import Embeddings

DELIMITERS = {"csv": ",", "tsv": "\t"}
NUMPY = "npz"
FORMATS = (*DELIMITERS, NUMPY)


def find_images(places: Sequence[Path]) -> list[Path]:
    """The image files at some places: files as they are, of folders all images below them, sorted.

    Raises:
        DatasetError: a place is not there, or a folder holds no image.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise DatasetError(f"{place}: no such file or folder; expected images")
        inside = [place]
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if is_image_file(p))
        if not inside:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DatasetError(f"{place}: holds no image; expected files such as {suffixes}")
        found += inside
    return found


def read_image(path: Path) -> Images:
    """An image file, (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        image = open_image(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; expected an image") from None
    if isinstance(image, str):
        raise DatasetError(f"{path}: {image}; replace the file or leave it out")
    return image


def embedded(
    extractor: Extractor, paths: Sequence[Path]
) -> Iterator[tuple[Sequence[Path], Embeddings]]:
    """Yield the paths of a batch, and their embeddings (N, D), until all are done."""
    for first in range(0, len(paths), extractor.batch_size):
        batch = paths[first : first + extractor.batch_size]
        yield batch, extractor([read_image(path) for path in batch], order="rgb")


def format_of(output: Path | None, wanted: str | None) -> str:
    """How to write a table: as is wanted, else by the file's suffix, else `csv`.

    Raises:
        ConfigError: the suffix says nothing, or NumPy's format is to go to a terminal or a pipe.
    """
    suffix = output.suffix.lower().removeprefix(".") if output else "csv"
    chosen = wanted or suffix
    if chosen not in FORMATS:
        if wanted:
            raise ConfigError(f"--format {wanted}: expected {', '.join(FORMATS)}")
        raise ConfigError(f"{output}: expected .{', .'.join(FORMATS)}, or --format")
    if chosen == NUMPY and output is None:
        raise ConfigError("--format npz needs --output FILE")
    return chosen


def write_table(
    extractor: Extractor, paths: Sequence[Path], output: Path | None, form: str
) -> None:
    """Embed images, and write a row for each: its path and the embedding's numbers.

    Args:
        extractor: the network.
        paths: of the images.
        output: a file, written whole or not at all; None: standard output, as it comes.
        form: one of `FORMATS`. `npz` holds `images`, (N,) texts, and `embeddings`, (N, D) float32.
    """
    with files.replacing(output) if output else nullcontext() as temporary:
        if form == NUMPY and temporary is not None:
            parts = [embeddings for _, embeddings in embedded(extractor, paths)]
            names = np.array([str(path) for path in paths])
            np.savez(temporary, images=names, embeddings=np.concatenate(parts))
        elif temporary is None:
            write_rows(sys.stdout, extractor, paths, DELIMITERS[form])
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                write_rows(file, extractor, paths, DELIMITERS[form])


def write_rows(file: TextIO, extractor: Extractor, paths: Sequence[Path], delimiter: str) -> None:
    """Write a header and a row for each image; a float32 is read back as it was.

    The header comes with the first rows, so that nothing is written where the first image fails.
    """
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    for number, (batch, embeddings) in enumerate(embedded(extractor, paths)):
        if number == 0:
            columns = (f"e{column}" for column in range(extractor.embedding_size))
            writer.writerow(["image", *columns])
        writer.writerows(
            [str(path), *map(str, row)] for path, row in zip(batch, embeddings, strict=True)
        )
