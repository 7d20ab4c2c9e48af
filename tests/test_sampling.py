"""Every image once an epoch, on exactly one rank, in an order nobody has to send."""

import numpy as np
import pytest

from deepsort_reid.errors import ConfigError
from deepsort_reid.sampling import ReadAhead, plan_epoch, plan_validation, steps_per_epoch


def plans(
    count: int, batch_size: int, accumulate: int, world_size: int, epoch: int = 1
) -> list[list[tuple[int, list[np.ndarray]]]]:
    steps = steps_per_epoch(
        count, batch_size=batch_size, accumulate_steps=accumulate, world_size=world_size
    )
    return [
        plan_epoch(
            count, steps, seed=0, epoch=epoch, rank=rank, world_size=world_size,
            accumulate_steps=accumulate,
        )
        for rank in range(world_size)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [50, 51, 96, 97, 576])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_an_epoch_covers_each_image_once(count: int, world_size: int, accumulate: int) -> None:
    ranks = plans(count, 8, accumulate, world_size)
    for step in zip(*ranks, strict=True):
        sizes = {declared for declared, _ in step}
        batches = [batch for _, shares in step for batch in shares]
        assert sizes == {sum(len(batch) for batch in batches)}
        assert all(2 <= len(batch) <= 8 for batch in batches)
        assert all(len(shares) == accumulate for _, shares in step)
    seen = np.concatenate([b for plan in ranks for _, shares in plan for b in shares])
    assert sorted(seen) == list(range(count))


def test_each_epoch_has_an_order_of_its_own() -> None:
    first, again, second = (
        np.concatenate([shares[0] for _, shares in plans(64, 8, 1, 1, epoch)[0]])
        for epoch in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != second).any()


def test_two_ranks_share_the_global_batches_of_one() -> None:
    (one,) = plans(100, 16, 2, 1)
    two = plans(100, 8, 2, 2)
    for number, (_, shares) in enumerate(one):
        for micro, share in enumerate(shares):
            halves = np.concatenate([plan[number][1][micro] for plan in two])
            assert set(halves) == set(share)


@pytest.mark.parametrize(("count", "world_size"), [(3, 2), (1, 1), (7, 8), (9, 4)])
def test_more_ranks_than_images(count: int, world_size: int) -> None:
    with pytest.raises(ConfigError, match=f"the training part has {count} images"):
        plans(count, 2, 1, world_size)


@pytest.mark.parametrize("count", [1, 5, 16, 17])
def test_validation_has_no_padding(count: int) -> None:
    batches = [
        batch
        for rank in range(3)
        for batch in plan_validation(count, batch_size=4, rank=rank, world_size=3)
    ]
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert all(len(batch) <= 4 for batch in batches)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_counts_the_wait(num_workers: int) -> None:
    batches = [np.array([i]) for i in range(20)]
    reader = ReadAhead(num_workers)
    assert list(reader(lambda batch: int(batch[0]) ** 2, batches)) == [i * i for i in range(20)]
    assert reader.waited > 0


def test_a_reading_error_reaches_the_loop() -> None:
    def fail(_: object) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(ReadAhead(1)(fail, [np.array([0])]))
