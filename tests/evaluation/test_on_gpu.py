"""On a GPU: the distances of pairs, and all that is made of them, are a CPU's to the bit.

Where there is none, these are skipped, and nothing else tells what they tell.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from deepsort_reid.evaluation.calibration import calibrate
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.pairs import PairCounter, Sightings
from deepsort_reid.evaluation.ranking import ranking_by, search
from deepsort_reid.evaluation.reranking import reranked
from deepsort_reid.model.device import set_determinism

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As in stage evaluate, where some of torch's functions refuse a GPU."""
    set_determinism(True)
    yield
    set_determinism(False)


def side(count: int, device: str, seed: int) -> Sightings:
    rng = np.random.default_rng(seed)
    pids = rng.integers(-1, 40, count)
    rows = np.random.default_rng(0).normal(size=(42, 32))[pids] + rng.normal(size=(count, 32))
    embeddings = torch.from_numpy(rows.astype(np.float32)).to(device)
    return Sightings(
        Embedded(embeddings, pids, rng.integers(0, 4, count)), rng.integers(0, 900, count)
    )


def everything(device: str) -> list[Any]:
    query, gallery = side(300, device, 1), side(3000, device, 2)
    sides = query.images, gallery.images
    counter = PairCounter(query, gallery, short_range=100)
    found = search(*sides, k=10, bins=200, others=[counter])
    options = {"false_match_rate": 0.01, "short_range": 100}
    calibrated = calibrate(query, gallery, pairs=counter.counts(), **options)  # type: ignore[arg-type]
    again = ranking_by(reranked(*sides, k1=20, k2=6, weight=0.3), *sides)
    return [found.ranking(), found.neighbours(), found.histograms(), calibrated.metrics(), again]


def test_what_is_found_is_what_a_cpu_finds() -> None:
    for on_gpu, on_cpu in zip(everything("cuda"), everything("cpu"), strict=True):
        one, other = (
            found if isinstance(found, dict) else vars(found) for found in (on_gpu, on_cpu)
        )
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
