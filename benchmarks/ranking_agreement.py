"""Our ranking and re-ranking beside torchreid's, on random embeddings and on those of a file.

Run it as:

    uv run --with torchreid==0.2.5 benchmarks/ranking_agreement.py [embeddings.npz]

The file holds query_embeddings (N, D) float32, query_pids (N,), query_camids (N,) and the same
three for gallery. torchreid leaves junk (pid -1) out when it lists a dataset, so its side gets the
gallery without junk; both sides then get the same arrays, torchreid's as float64: in float32 its
distances round at 6e-8, near ties change places, and the mAP of a network that has hardly learned,
whose embeddings lie close together, moved by 2e-6. Its re-ranking rounds to float32 by itself, and
holds all distances at once, many GB at Market-1501's size: such cases are re-ranked with `--large`.
Ranking and re-ranking are loaded from their modules by
path, since the package itself imports all its datasets, models and loggers.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from deepsort_reid.evaluation.distances import TICKS, Embedded, Tile
from deepsort_reid.evaluation.ranking import Ranking, ranking, ranking_by
from deepsort_reid.evaluation.reranking import reranked

TOLERANCE = 1e-6
K1, K2, WEIGHT = 20, 6, 0.3  # the paper's
LARGE = 10_000  # images, which torchreid needs GB to re-rank
CMC_AT = (1, 5, 10, 20)
RANDOM_SIZES = [(100, 1_000, 64), (1_000, 5_000, 256), (3_368, 15_913, 512)]  # queries, gallery, D
Scores = NDArray[np.float64]  # mAP, then the CMC at 1, 5, 10 and 20


def main() -> None:
    """Print the conditions, both sides and their largest difference; fail above the tolerance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("npz", type=Path, nargs="?", help="query_* and gallery_* arrays")
    parser.add_argument("--large", action="store_true", help="re-rank large cases too")
    options = parser.parse_args()
    npz = options.npz
    distance, rank = torchreid_module("metrics/distance"), torchreid_module("metrics/rank")
    rerank = torchreid_module("utils/rerank")
    cases = [
        (f"random, seed {seed}", *random_case(seed, *s)) for seed, s in enumerate(RANDOM_SIZES)
    ]
    if npz is not None:
        cases.append((npz.name, *from_file(npz)))

    print_conditions(compiled=rank.IS_CYTHON_AVAI)
    differences = [compare(*case, distance, rank) for case in cases]
    for name, query, gallery in cases:
        if options.large or len(query) + len(gallery) < LARGE:
            differences.append(compare_reranked(name, query, gallery, rank, rerank))
    print(f"largest difference of all: {max(differences):.2e} (tolerance {TOLERANCE:.0e})")
    sys.exit(max(differences) > TOLERANCE)


def torchreid_module(name: str) -> ModuleType:
    """Load one of torchreid's modules from where it is installed, without the package."""
    package = importlib.util.find_spec("torchreid")
    if package is None or not package.submodule_search_locations:
        sys.exit(
            "error: torchreid is not installed; run this with `uv run --with torchreid==0.2.5`"
        )
    path = Path(package.submodule_search_locations[0]) / "reid" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"torchreid_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its compiled form is missing; the report says so
        spec.loader.exec_module(module)
    return module


def random_case(seed: int, num_query: int, num_gallery: int, dim: int) -> tuple[Embedded, Embedded]:
    """Noisy embeddings of num_query / 4 identities, six cameras, junk and distractors."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(num_query // 4 + 1, dim))
    sides = []
    for count, lowest in [(num_query, 1), (num_gallery, -1)]:
        pids = draw.integers(lowest, len(centres), count)
        noise = draw.normal(size=(count, dim))
        # Junk and distractors, below 1, are nobody: noise alone.
        points = np.where(pids[:, None] > 0, 0.3 * centres[pids], 0) + noise
        unit = torch.nn.functional.normalize(torch.from_numpy(points).float())
        sides.append(Embedded(unit, pids, draw.integers(1, 7, count)))
    return sides[0], sides[1]


def from_file(path: Path) -> tuple[Embedded, Embedded]:
    """Read both sides of an .npz file."""
    with np.load(path) as arrays:
        query, gallery = (
            Embedded(
                torch.from_numpy(arrays[f"{side}_embeddings"]),
                arrays[f"{side}_pids"],
                arrays[f"{side}_camids"],
            )
            for side in ("query", "gallery")
        )
    return query, gallery


def print_conditions(*, compiled: bool) -> None:
    """Say what was compared, and on what."""
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads\n"
        f"torchreid {importlib.metadata.version('torchreid')}: compute_distance_matrix(cosine, "
        f"float64), eval_market1501, {'compiled' if compiled else 'in Python'}, and re_ranking"
    )


def compare(
    name: str, query: Embedded, gallery: Embedded, distance: ModuleType, rank: ModuleType
) -> float:
    """Print both sides of one case and return their largest absolute difference."""
    print(
        f"\n{name}: {len(query):,} queries, {len(gallery):,} in the gallery, "
        f"{query.embeddings.shape[1]}-d"
    )
    start = time.perf_counter()
    ours = scores(ranking(query, gallery, depth=max(CMC_AT)))
    middle = time.perf_counter()
    kept = gallery.embeddings[gallery.pids != -1].double()
    distances = distance.compute_distance_matrix(query.embeddings.double(), kept, "cosine")
    theirs = their_scores(distances.numpy(), query, gallery, rank)
    end = time.perf_counter()
    return report(ours, middle - start, theirs, end - middle)


def compare_reranked(
    name: str, query: Embedded, gallery: Embedded, rank: ModuleType, rerank: ModuleType
) -> float:
    """The same of the paper's re-ranking; and how far the final distances lie apart."""
    print(f"\n{name}, re-ranked with k1={K1}, k2={K2}, weight={WEIGHT}")
    start = time.perf_counter()
    tiles = reranked(query, gallery, k1=K1, k2=K2, weight=WEIGHT)
    ours = scores(ranking_by(tiles, query, gallery, depth=max(CMC_AT)))
    middle = time.perf_counter()
    sides = query.embeddings.double(), gallery.embeddings[gallery.pids != -1].double()
    pairs = [(0, 1), (0, 0), (1, 1)]
    apart = [torch.cdist(sides[a], sides[b]).numpy() for a, b in pairs]  # it squares them
    distances = rerank.re_ranking(*apart, K1, K2, WEIGHT)
    theirs = their_scores(distances, query, gallery, rank)
    end = time.perf_counter()
    print_distances(reranked(query, gallery, k1=K1, k2=K2, weight=WEIGHT), distances)
    return report(ours, middle - start, theirs, end - middle)


def print_distances(tiles: Iterable[Tile], distances: NDArray[np.float32]) -> None:
    """Say how far the final distances of both sides differ, and how often."""
    largest, many = 0.0, 0
    for tile in tiles:
        apart = np.abs(tile.ticks.numpy() / TICKS - distances[tile.rows.numpy()])
        largest, many = max(largest, float(apart.max())), many + int((apart > TOLERANCE).sum())
    print(
        f"  distances: largest difference {largest:.2e}; "
        f"{many:,} of {distances.size:,} differ by more than {TOLERANCE:.0e}"
    )


def report(ours: Scores, our_seconds: float, theirs: Scores, their_seconds: float) -> float:
    """Print both sides' scores and return their largest absolute difference."""
    print(f"  {'':10}{'mAP':>10}" + "".join(f"{f'CMC@{k}':>10}" for k in CMC_AT))
    for side, found, seconds in [
        ("ours", ours, our_seconds),
        ("torchreid", theirs, their_seconds),
    ]:
        print(f"  {side:10}" + "".join(f"{s:10.7f}" for s in found) + f"{seconds:8.1f} s")
    difference = float(np.abs(ours - theirs).max())
    print(f"  largest difference {difference:.2e}")
    return difference


def scores(result: Ranking) -> Scores:
    """The scores of deepsort_reid."""
    return np.array([result.mAP, *(result.cmc[k - 1] for k in CMC_AT)])


def their_scores(
    distances: NDArray[np.floating], query: Embedded, gallery: Embedded, rank: ModuleType
) -> Scores:
    """Score distances from the gallery without junk with torchreid."""
    assert query.camids is not None
    assert gallery.camids is not None
    kept = gallery.pids != -1
    cmc, mean_average_precision = rank.evaluate_rank(
        distances,
        query.pids.numpy(),
        gallery.pids[kept].numpy(),
        query.camids.numpy(),
        gallery.camids[kept].numpy(),
        max_rank=max(CMC_AT),
    )
    return np.array([mean_average_precision, *(cmc[k - 1] for k in CMC_AT)], dtype=np.float64)


if __name__ == "__main__":
    main()
