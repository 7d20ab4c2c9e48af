"""The small sample by which a training is followed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from deepsort_reid.data.packed import Part
from deepsort_reid.data.samples import DISTRACTOR, JUNK
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.ranking import ranking
from deepsort_reid.model import network, retrieval
from deepsort_reid.model.network import Design

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "device": CPU}


def part(pids: Sequence[int], camids: Sequence[int], seed: int) -> Part:
    """Noise over a colour that tells the identity."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(9).integers(60, 200, (64, 3))[np.array(pids) % 64]
    noise = rng.integers(-60, 55, (len(pids), 32, 16, 3))
    images = (colours[:, None, None] + noise).astype(np.uint8)
    names = [f"{number}.jpg" for number in range(len(pids))]
    return Part(images, np.array(pids), np.array(camids), [str(pid) for pid in pids], names)


PIDS = list(range(1, 41))
QUERY = part(PIDS * 2, [1] * 40 + [2] * 40, 0)
GALLERY = part(
    PIDS * 3 + [JUNK] * 20 + [DISTRACTOR] * 30, [1] * 40 + [2] * 40 + [3] * 40 + [1] * 50, 1
)


def net() -> torch.nn.Module:
    recipe: dict[str, Any] = {
        "arch": "deepsort", "head": "linear", "last_stride": 2, "pooling": "average", "neck": "none"
    }  # fmt: skip
    return network.build(Design(**recipe), 4, seed=0)


def sample(query: Part = QUERY, gallery: Part = GALLERY, epoch_images: int = 800) -> Any:
    return retrieval.sample(query, gallery, epoch_images=epoch_images, **OPTIONS)


def test_the_sample_is_small_and_always_the_same() -> None:
    one, other = sample(), sample()
    assert torch.equal(one.images, other.images)
    assert one.relevant.shape == (25, 75)
    assert one.relevant.any(axis=1).sum() >= 20
    assert (one.removed & one.relevant).sum() == 0
    assert one.removed.any()
    assert len(sample(epoch_images=10).images) == retrieval.SMALLEST
    assert len(sample(epoch_images=10**6).images) <= retrieval.LARGEST


@pytest.mark.parametrize("known", [True, False])
def test_the_scores_are_those_of_the_evaluation(known: bool) -> None:
    """By its exact ranking, on the same images."""
    query = part(QUERY.pids.tolist(), [1 if known else -1] * len(QUERY), 0)
    chosen = sample(query)
    queries = len(chosen.relevant)
    predictor = retrieval.Predictor(net(), **OPTIONS)
    embeddings = predictor.embed(chosen.images)
    # One identity a query: the protocol only asks what matches and what is removed.
    for row in range(queries):
        same = chosen.relevant[row] | chosen.removed[row]
        pids, camids = np.where(same, 1, 0), np.where(chosen.removed[row], 1, 2)
        if chosen.relevant[row].any():
            exact = ranking(
                Embedded(embeddings[row : row + 1], [1], [1]),
                Embedded(embeddings[queries:], pids, camids),
            )
            distances = (1 - embeddings[row : row + 1] @ embeddings[queries:].T).numpy()
            found = retrieval.score(
                distances, chosen.relevant[row : row + 1], chosen.removed[row : row + 1]
            )
            assert found.mean_average_precision == pytest.approx(exact.mAP, abs=1e-6)
            assert found.rank1 == exact.cmc[0]


def test_a_network_and_its_random_numbers_stay_as_they_are() -> None:
    trained = net().train()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    scores = sample().scores(trained)
    assert 0 < scores.mean_average_precision < 1
    assert 0 <= scores.rank1 <= 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in trained.modules())
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_where_nobody_is_found_twice_there_is_no_curve() -> None:
    assert sample(gallery=part([JUNK, DISTRACTOR, 99], [1, 1, 1], 1)) is None
