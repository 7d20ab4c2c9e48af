"""Losses against their definitions, written out image by image."""

import math

import pytest
import torch

from deepsort_reid.training.losses.center import CenterLoss
from deepsort_reid.training.losses.classification import classification
from deepsort_reid.training.losses.pairs import (
    NO_IMAGE,
    Pairs,
    batch_hard,
    euclidean,
    pairs_among,
)
from deepsort_reid.training.ranks.distributed import Process
from tests.support.ranks import on_ranks


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten embeddings of three identities, one of which has a single image."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    return embeddings, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 2])


def all_of(embeddings: torch.Tensor, labels: torch.Tensor) -> Pairs:
    """The pairs of one rank that has every image."""
    return pairs_among(embeddings, labels, embeddings, labels, first=0)


def by_hand(embeddings: torch.Tensor, labels: torch.Tensor, margin: float | None) -> float:
    total = 0.0
    for a, anchor in enumerate(embeddings):
        apart = [float((anchor - other).norm()) for other in embeddings]
        same = [d for n, d in enumerate(apart) if labels[n] == labels[a] and n != a]
        other = [d for n, d in enumerate(apart) if labels[n] != labels[a]]
        if same and other:
            gap = max(same) - min(other)
            total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    return total


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 2.0])
def test_batch_hard_is_what_it_says(margin: float | None) -> None:
    embeddings, labels = batch()
    loss = batch_hard(all_of(embeddings, labels), margin=margin)
    assert loss.item() == pytest.approx(by_hand(embeddings, labels, margin), rel=1e-9)


def test_shares_add_up_to_the_whole_and_empty_places_change_nothing() -> None:
    embeddings, labels = batch()
    nobody = torch.zeros(2, 6, dtype=torch.float64)
    everything = torch.cat([embeddings, nobody])
    all_labels = torch.cat([labels, torch.tensor([NO_IMAGE, NO_IMAGE])])
    shares = [
        batch_hard(
            pairs_among(embeddings[part], labels[part], everything, all_labels, first=part.start),
            margin=0.3,
        ).item()
        for part in (slice(0, 3), slice(3, 7), slice(7, 10))
    ]
    assert sum(shares) == pytest.approx(by_hand(embeddings, labels, 0.3), rel=1e-9)


def test_a_batch_of_one_identity_teaches_nothing() -> None:
    embeddings, _ = batch()
    labels = torch.zeros(10, dtype=torch.int64)
    embeddings.requires_grad_()
    loss = batch_hard(all_of(embeddings, labels), margin=None)
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_images_in_the_same_place_have_a_finite_gradient() -> None:
    embeddings = torch.ones(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    batch_hard(all_of(embeddings, labels), margin=0.3).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def test_the_gradient_is_that_of_the_function() -> None:
    embeddings, labels = batch()
    embeddings.requires_grad_()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return batch_hard(all_of(x, labels), margin=0.3)

    assert torch.autograd.gradcheck(loss, embeddings)


def test_distances_in_bfloat16_are_taken_in_float32() -> None:
    embeddings = torch.randn(5, 8).bfloat16()
    distances = euclidean(embeddings, embeddings)
    assert distances.dtype == torch.float32
    expected = torch.cdist(embeddings.float(), embeddings.float())
    torch.testing.assert_close(distances, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_a_margin_is_added_to_the_angle_of_the_own_class(margin: float) -> None:
    generator = torch.Generator().manual_seed(1)
    cosines = torch.rand(6, 4, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    labels, scale = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor(10.0, dtype=torch.float64)
    expected = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        logits = [10 * cosine for cosine in row]
        logits[label] = 10 * math.cos(math.acos(row[label]) + margin)
        expected -= logits[label] - math.log(sum(math.exp(logit) for logit in logits))
    loss = classification(cosines * scale, labels, angular_margin=margin, scale=scale)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_the_widest_angle_stays_the_widest() -> None:
    """Past half a turn the cosine would rise again, and the worst image count as a good one."""
    scale = torch.tensor(4.0)
    logits = torch.tensor([[-4.0, 0.0], [-3.9, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    loss = classification(logits, labels, angular_margin=0.5, scale=scale)
    most = 2 * math.log1p(math.exp(4.0))
    assert loss.item() == pytest.approx(most, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_margin_needs_angles() -> None:
    with pytest.raises(ValueError, match="cosines times a scale"):
        classification(torch.zeros(1, 2), torch.tensor([0]), angular_margin=0.1)


# Centers

EMBEDDINGS = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 6.0], [1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 2])


def centers() -> CenterLoss:
    return CenterLoss(4, 2, device=torch.device("cpu"), dtype=torch.float64)


def test_one_step_by_hand() -> None:
    mine = centers()
    embeddings = EMBEDDINGS.clone().requires_grad_()
    loss = mine(embeddings, LABELS)
    assert loss.item() == (4 + 16 + 36 + 2) / 2
    loss.backward()
    assert torch.equal(embeddings.grad, EMBEDDINGS)  # from centers that lie at the origin still
    assert not mine.centers.any()
    mine.move_centers()  # half of 6 / 3, of 6 / 2 and of 1 / 2; nobody showed the last one
    assert mine.centers.tolist() == [[1, 0], [0, 1.5], [0.25, 0.25], [0, 0]]
    assert mine(EMBEDDINGS[:1], LABELS[:1]).item() == 0.5


def test_batches_of_one_step_are_one_batch() -> None:
    whole, parts = centers(), centers()
    total = whole(EMBEDDINGS, LABELS)
    assert parts(EMBEDDINGS[:3], LABELS[:3]) + parts(EMBEDDINGS[3:], LABELS[3:]) == total
    for mine in (whole, parts):
        mine.move_centers()
        mine.move_centers()  # nothing was seen since
    assert torch.equal(whole.centers, parts.centers)


def seen_by(process: Process) -> torch.Tensor:
    mine = centers()
    share = slice(0, 3) if process.rank == 0 else slice(3, 4)
    mine(EMBEDDINGS[share], LABELS[share])
    mine.move_centers()
    return mine.centers


@pytest.mark.slow
def test_ranks_move_their_centers_together() -> None:
    alone = centers()
    alone(EMBEDDINGS, LABELS)
    alone.move_centers()
    first, second = on_ranks(2, seen_by)
    assert torch.equal(first, alone.centers)
    assert torch.equal(second, alone.centers)


def test_half_precision_is_not_enough_for_centers() -> None:
    mine = CenterLoss(4, 2, device=torch.device("cpu"), dtype=torch.float32)
    assert mine(EMBEDDINGS.bfloat16(), LABELS).dtype == torch.float32
