r"""Seconds and memory that the protocol takes on embeddings, beside torchreid's, and at a million.

The rows of Market-1501's size: queries a second of `metrics.ranking`, and of torchreid's
`compute_distance_matrix` and `evaluate_rank`; what memory their processes hold; and how far both
sides' mAP and CMC lie apart. Each turn is a process of its own, with all cores.

torchreid's compiled ranking is not in what it publishes as a package: without it its ranking in
Python is compared, and the rows say so. With the file from its repository it is compiled first, in
a folder that is removed at the end:

    TORCHREID_RANK_CY=~/deep-person-reid/torchreid/metrics/rank_cylib/rank_cy.pyx \
        uv run benchmarks/speed.py --only ranking

The last row: some queries against a million images, and what 10,000 would take at that rate.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepsort_reid.core.machine import cores
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.ranking import ranking
from ranking_agreement import CMC_AT, TOLERANCE, random_case, scores, their_scores
from speed_items import apart
from speed_items.rows import ROUNDS, Row, compared, in_turns, spread

TORCHREID = "torchreid==0.2.5"
CYTHON = "cython==3.1.4"
MARKET, QUICK_MARKET = (3_368, 15_913), (200, 1_000)  # queries, gallery
MILLION, QUICK_MILLION = (1_024, 1_000_000), (64, 20_000)
ALL_QUERIES = 10_000
DIM = 512
PER_IDENTITY = 16  # images in the gallery of each query's identity; all others are distractors
LEAST = 10
PART = 10_000  # embeddings drawn at a time


@dataclass(frozen=True)
class Peer:
    """torchreid's two modules, in a folder; the fault if they could not be brought there."""

    folder: Path
    fault: str | None
    compiled: bool

    def __str__(self) -> str:
        return f"{TORCHREID}, its ranking {'compiled' if self.compiled else 'in Python'}"


def measure(quick: bool) -> Iterator[Row]:
    """Compare with torchreid, then rank against a million."""
    yield from beside_torchreid(QUICK_MARKET if quick else MARKET, 1 if quick else ROUNDS)
    yield against_a_million(*(QUICK_MILLION if quick else MILLION), 1 if quick else ROUNDS)


def beside_torchreid(size: tuple[int, int], rounds: int) -> Iterator[Row]:
    """Let ours and torchreid's take turns on the same random embeddings."""
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        peer = torchreid(folder / "torchreid")
        case = folder / "case.npz"
        write_case(case, size)
        sides: dict[str, Callable[[], apart.Outcome]] = {"ours": partial(apart.call, ours, case)}
        if not peer.fault:
            sides["theirs"] = partial(apart.call, theirs, case, paths=[peer.folder])
        found = in_turns(sides, rounds)
    what = f"{size[0]:,} queries in {size[1]:,} images, {DIM}-d"
    where = f"{cores()} threads; {peer.fault or peer}"
    seconds, peaks = measured(found["ours"])
    if peer.fault:
        yield alone(what, seconds, "s", where)
        yield alone(f"memory, {what}", peaks, "MB", where)
        return
    their_seconds, their_peaks = measured(found["theirs"])
    yield compared(
        what,
        [size[0] / second for second in seconds],
        [size[0] / second for second in their_seconds],
        unit="queries/s",
        conditions=f"{where}; {spread(seconds, 's')} and {spread(their_seconds, 's')}",
        least=LEAST,
    )
    yield compared(
        f"memory of the process, {what}", peaks, their_peaks, unit="MB", conditions=where
    )
    yield agreement(what, found["ours"][0].value, found["theirs"][0].value, where)


def agreement(what: str, one: Any, other: Any, conditions: str) -> Row:
    """How far the mAP and the CMC of both sides lie apart."""
    apart_by = float(np.abs(one - other).max())
    return Row(
        what=f"largest difference of mAP and CMC, {what}",
        ours=f"{apart_by:.1e}",
        other="",
        ratio=None,
        target=f"at most {TOLERANCE:.0e}",
        met=apart_by <= TOLERANCE,
        n=1,
        conditions=conditions,
    )


def against_a_million(queries: int, gallery: int, rounds: int) -> Row:
    """Rank some queries against a large gallery, and say what `ALL_QUERIES` would take."""
    found = [apart.call(large, queries, gallery) for _ in range(rounds)]
    seconds, peaks = measured(found)
    whole = float(np.median(seconds)) * ALL_QUERIES / queries
    held = 4e-6 * DIM * (gallery + queries)  # MB of the embeddings themselves
    return alone(
        f"{queries:,} queries in {gallery:,} images, {DIM}-d",
        seconds,
        "s",
        f"{cores()} threads; at this rate {whole:,.0f} s for {ALL_QUERIES:,} queries; the process "
        f"held {max(peaks):,.0f} MB at most, {held:,.0f} of them the embeddings",
    )


def measured(found: Sequence[apart.Outcome]) -> tuple[list[float], list[float]]:
    """The seconds of each turn, and the MB that its process held at most."""
    return [outcome.seconds for outcome in found], [outcome.peak for outcome in found]


def alone(what: str, values: Sequence[float], unit: str, conditions: str) -> Row:
    """A row of one side."""
    return Row(
        what=what,
        ours=spread(values, unit),
        other="",
        ratio=None,
        target="",
        met=None,
        n=len(values),
        conditions=conditions,
    )


# The sides, each in a process of its own


def write_case(path: Path, size: tuple[int, int]) -> None:
    """Draw both sides' embeddings, identities and cameras."""
    arrays = {}
    for name, side in zip(("query", "gallery"), random_case(0, *size, DIM), strict=True):
        arrays[f"{name}_embeddings"] = side.embeddings.numpy()
        arrays[f"{name}_pids"] = side.pids.numpy()
        arrays[f"{name}_camids"] = np.asarray(side.camids)
    np.savez(path, allow_pickle=False, **arrays)


def read_case(path: Path) -> list[Embedded]:
    """Read the two sides, query and gallery, and use all cores."""
    torch.set_num_threads(cores())
    with np.load(path) as arrays:
        return [
            Embedded(
                torch.from_numpy(arrays[f"{name}_embeddings"]),
                arrays[f"{name}_pids"],
                arrays[f"{name}_camids"],
            )
            for name in ("query", "gallery")
        ]


def ours(path: Path) -> tuple[Any, float]:
    """Our scores, and the seconds that they took."""
    query, gallery = read_case(path)
    found, seconds = apart.timed(ranking, query, gallery, depth=max(CMC_AT))
    return scores(found), seconds


def theirs(path: Path) -> tuple[Any, float]:
    """The scores of torchreid, of float64 as ours are, and the seconds that they took."""
    from torchreid.reid.metrics import distance, rank

    query, gallery = read_case(path)
    kept = gallery.embeddings[gallery.pids != -1].double()

    def score() -> Any:
        distances = distance.compute_distance_matrix(query.embeddings.double(), kept, "cosine")
        return their_scores(distances.numpy(), query, gallery, rank)

    return apart.timed(score)


def large(queries: int, gallery: int) -> tuple[float, float]:
    """Our mAP on a large gallery, most of it distractors, and the seconds that it took."""
    torch.set_num_threads(cores())
    generator = torch.Generator().manual_seed(0)

    def draw(pids: torch.Tensor) -> Embedded:
        embeddings = torch.empty(len(pids), DIM)
        for part in embeddings.split(PART):
            torch.nn.functional.normalize(part.normal_(generator=generator), out=part)
        camids = torch.randint(1, 7, (len(pids),), generator=generator)
        return Embedded(embeddings, pids, camids)

    identities = torch.arange(1, queries + 1)
    pids = torch.zeros(gallery, dtype=torch.int64)
    right = identities.repeat(PER_IDENTITY)[:gallery]
    pids[: len(right)] = right
    query, offered = draw(identities), draw(pids)
    found, seconds = apart.timed(ranking, query, offered)
    return found.mAP, seconds


# torchreid


def torchreid(folder: Path) -> Peer:
    """Bring torchreid's metrics into a folder as a package of their own, compiled if possible.

    Its package itself imports all its datasets, models and loggers.
    """
    whole = folder / "whole"
    fault = apart.install([TORCHREID], whole)
    if fault:
        return Peer(folder, fault, compiled=False)
    metrics = folder / "torchreid" / "reid" / "metrics"
    library = metrics / "rank_cylib"
    library.mkdir(parents=True)
    for package in (metrics.parents[1], metrics.parent, metrics, library):
        (package / "__init__.py").touch()
    for module in ("distance.py", "rank.py"):
        shutil.copyfile(whole / "torchreid" / "reid" / "metrics" / module, metrics / module)
    shutil.rmtree(whole)
    source = os.environ.get("TORCHREID_RANK_CY")
    if source:
        compile_into(library, Path(source).expanduser(), folder / "cython")
    return Peer(folder, None, compiled=bool(source))


def compile_into(folder: Path, source: Path, cython: Path) -> None:
    """Compile torchreid's ranking by Cython and the C compiler.

    Raises:
        RuntimeError: Cython cannot be had.
        subprocess.CalledProcessError: it does not compile.
    """
    fault = apart.install([CYTHON], cython)
    if fault:
        raise RuntimeError(fault)
    shutil.copyfile(source, folder / "rank_cy.pyx")
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "rank_cy.pyx"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(cython)},
        check=True,
    )
    name = f"rank_cy{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{np.get_include()}"]
    subprocess.run(
        ["cc", "-O3", "-shared", "-fPIC", "-w", *includes, "rank_cy.c", "-o", name],
        cwd=folder,
        check=True,
    )
