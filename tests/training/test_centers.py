"""The center loss is the paper's, and moves its centers by what all ranks see."""

import torch
from deepsort_reid.training.centers import Centers

from deepsort_reid.training.distributed import Process
from tests.support.ranks import on_ranks

EMBEDDINGS = torch.tensor([[2.0, 0.0], [4.0, 0.0], [0.0, 6.0], [1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 2])


def centers() -> Centers:
    return Centers(4, 2, device=torch.device("cpu"), dtype=torch.float64)


def test_one_step_by_hand() -> None:
    mine = centers()
    embeddings = EMBEDDINGS.clone().requires_grad_()
    loss = mine.loss(embeddings, LABELS)
    assert loss.item() == (4 + 16 + 36 + 2) / 2
    loss.backward()
    assert torch.equal(embeddings.grad, EMBEDDINGS)  # from centers that lie at the origin still
    assert not mine.positions.any()
    mine.move()  # half of 6 / 3, of 6 / 2 and of 1 / 2; nobody showed the last one
    assert mine.positions.tolist() == [[1, 0], [0, 1.5], [0.25, 0.25], [0, 0]]
    assert mine.loss(EMBEDDINGS[:1], LABELS[:1]).item() == 0.5


def test_batches_of_one_step_are_one_batch() -> None:
    whole, parts = centers(), centers()
    total = whole.loss(EMBEDDINGS, LABELS)
    assert parts.loss(EMBEDDINGS[:3], LABELS[:3]) + parts.loss(EMBEDDINGS[3:], LABELS[3:]) == total
    for mine in (whole, parts):
        mine.move()
        mine.move()  # nothing was seen since
    assert torch.equal(whole.positions, parts.positions)


def seen_by(process: Process) -> torch.Tensor:
    mine = centers()
    share = slice(0, 3) if process.rank == 0 else slice(3, 4)
    mine.loss(EMBEDDINGS[share], LABELS[share])
    mine.move()
    return mine.positions


def test_ranks_move_their_centers_together() -> None:
    alone = centers()
    alone.loss(EMBEDDINGS, LABELS)
    alone.move()
    first, second = on_ranks(2, seen_by)
    assert torch.equal(first, alone.positions)
    assert torch.equal(second, alone.positions)


def test_half_precision_is_not_enough_for_centers() -> None:
    mine = Centers(4, 2, device=torch.device("cpu"), dtype=torch.float32)
    assert mine.loss(EMBEDDINGS.bfloat16(), LABELS).dtype == torch.float32
