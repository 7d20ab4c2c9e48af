"""Exported files run by their own runtimes, and compared with the checkpoint they came from."""

import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from deepsort_reid.core.errors import ExportError
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.export.formats import Trained
from deepsort_reid.export.runtimes import Runtime
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.onnx_file import Floats

logger = logging.getLogger(__name__)

BATCHES = (1, 7, 64)
TIMED = 3  # calls, of which the median counts


@dataclass(frozen=True)
class Parity:
    """How near one file's embeddings of one batch are to the checkpoint's."""

    file: str
    runtime: str
    batch: int
    cosine: float  # of the crop that is farthest off
    least: float  # what was demanded
    speed: float  # crops a second, from uint8 pixels to embeddings

    @property
    def passed(self) -> bool:
        """Whether the file does what the checkpoint does."""
        return self.cosine >= self.least  # False for NaN


def spread_sample(part: Part, count: int) -> Images:
    """(count, H, W, 3): images from all over a part, again from its start if it has too few."""
    every = max(1, len(part) // count)
    return np.ascontiguousarray(part.images[(np.arange(count) * every) % len(part)])


def reference(trained: Trained, images: Images) -> Floats:
    """(N, D): the checkpoint's own embeddings, by its network as it was trained."""
    about = trained.about
    predictor = Predictor(trained.net, mean=about.mean, std=about.std, device=torch.device("cpu"))
    return cast("Floats", predictor.embed(torch.from_numpy(images)).numpy())


def cosines(found: Floats, expected: Floats) -> NDArray[np.float64]:
    """(N,) float64: cosines of rows with rows, of any length."""
    a, b = (np.asarray(side, np.float64) for side in (found, expected))
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.asarray((a * b).sum(1) / norms)


def measure_parity(
    file: str,
    name: str,
    run: Runtime,
    images: Images,
    expected: Floats,
    *,
    least: float,
    remedy: str = "",
) -> list[Parity]:
    """Run a file on batches of each of the sizes, and time it.

    Args:
        file: its name, for the table.
        name: its runtime's, likewise.
        run: what was loaded from it.
        images: (N, H, W, 3) uint8 RGB, at least the largest of BATCHES.
        expected: (N, D), the checkpoint's embeddings of them.
        least: the cosine demanded.
        remedy: what to do where it is not reached, at the end of the error's line.

    Raises:
        ExportError: a batch fails, or its embeddings differ from the checkpoint's.
    """
    rows = []
    for batch in BATCHES:
        found = run(images[:batch])
        if found.shape != (batch, expected.shape[1]):
            raise ExportError(
                f"{file}: {name} returns {found.shape} for a batch of {batch}; "
                f"expected {(batch, expected.shape[1])}; nothing was exported"
            )
        cosine = float(cosines(found, expected[:batch]).min())
        rows.append(Parity(file, name, batch, cosine, least, speed(run, images[:batch])))
        if not rows[-1].passed:
            logger.info("%s", table(rows))
            raise ExportError(
                f"{file}: in {name}, in a batch of {batch}, the cosine with the checkpoint's "
                f"embeddings is {cosine:.7f}; expected at least {least}; nothing was exported"
                f"{remedy}"
            )
    return rows


def speed(run: Runtime, images: Images, calls: int = TIMED) -> float:
    """Crops a second, by the median of some calls; the first call has been made already."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - started)
    return len(images) / statistics.median(seconds)


def summary(rows: Sequence[Parity]) -> str:
    """The closing line of stage export; one for each cosine that was demanded."""
    lines = []
    for least in dict.fromkeys(row.least for row in rows):
        alike = [row for row in rows if row.least == least]
        names = dict.fromkeys(row.file for row in alike)
        speeds = [row.speed for row in alike if row.batch == max(BATCHES)]
        lines.append(
            f"  {len(names)} files give the checkpoint's embeddings: cosine at least "
            f"{min(row.cosine for row in alike):.7f} (needs {least}), {min(speeds):,.0f} to "
            f"{max(speeds):,.0f} crops/s"
        )
    return "\n".join(lines)


def table(rows: Sequence[Parity]) -> str:
    """All rows, with the speeds, which no file keeps: they are never the same twice."""
    head = (
        f"{'file':<24} {'runtime':<14} {'batch':>5}  {'cosine':<10} {'at least':<8} {'crops/s':>8}"
    )
    lines = [
        f"{row.file:<24} {row.runtime:<14} {row.batch:>5}  {row.cosine:<10.7f} {row.least:<8} "
        f"{row.speed:>8,.0f}"
        for row in rows
    ]
    return "\n".join([head, *lines])
