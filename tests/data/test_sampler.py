"""Every image once an epoch, on exactly one rank, in an order nobody has to send."""

import numpy as np
import pytest

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.data.loading.sampler import Step, plan_epoch, plan_validation, steps_per_epoch


def plans(
    labels: np.ndarray,
    batch_size: int,
    accumulate: int,
    world_size: int,
    epoch: int = 1,
    num_instances: int = 0,
) -> list[list[Step]]:
    steps = steps_per_epoch(
        len(labels),
        batch_size=batch_size,
        accumulate_steps=accumulate,
        world_size=world_size,
        num_instances=num_instances,
    )
    return [
        plan_epoch(
            labels, steps, seed=0, epoch=epoch, rank=rank, world_size=world_size,
            accumulate_steps=accumulate, num_instances=num_instances,
        )
        for rank in range(world_size)
    ]  # fmt: skip


def labels_of(count: int) -> np.ndarray:
    """Identities with seven images each, more or less."""
    return np.random.default_rng(count).integers(0, max(count // 7, 1), count)


@pytest.mark.parametrize("count", [50, 51, 96, 97, 576])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_an_epoch_covers_each_image_once(count: int, world_size: int, accumulate: int) -> None:
    ranks = plans(labels_of(count), 8, accumulate, world_size)
    for of_ranks in zip(*ranks, strict=True):
        batches = [batch for step in of_ranks for batch in step.batches]
        assert {step.size for step in of_ranks} == {sum(len(batch) for batch in batches)}
        assert all(2 <= len(batch) <= 8 for batch in batches)
        assert all(len(step.batches) == accumulate for step in of_ranks)
        for number in range(accumulate):
            sizes = [len(step.batches[number]) for step in of_ranks]
            assert {step.widths[number] for step in of_ranks} == {max(sizes)}
            assert max(sizes) - min(sizes) <= 1
    seen = np.concatenate([b for plan in ranks for step in plan for b in step.batches])
    assert sorted(seen) == list(range(count))


def test_each_epoch_has_an_order_of_its_own() -> None:
    first, again, second = (
        np.concatenate([step.batches[0] for step in plans(labels_of(64), 8, 1, 1, epoch)[0]])
        for epoch in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != second).any()


@pytest.mark.parametrize("num_instances", [0, 4])
def test_two_ranks_share_the_global_batches_of_one(num_instances: int) -> None:
    (one,) = plans(labels_of(100), 16, 2, 1, num_instances=num_instances)
    two = plans(labels_of(100), 8, 2, 2, num_instances=num_instances)
    for number, step in enumerate(one):
        for micro, share in enumerate(step.batches):
            halves = np.concatenate([plan[number].batches[micro] for plan in two])
            assert (halves == share).all()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_images_of_an_identity_come_together(world_size: int, accumulate: int) -> None:
    counts = [12] * 20 + [5, 6, 7, 3, 2, 1]  # images of each identity
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    ranks = plans(labels, 16, accumulate, world_size, num_instances=4)
    seen = np.concatenate([b for plan in ranks for step in plan for b in step.batches])
    assert sorted(seen) == list(range(len(labels)))
    alone = 0
    for of_ranks in zip(*ranks, strict=True):
        for number in range(accumulate):
            batch = np.concatenate([step.batches[number] for step in of_ranks])
            found = np.unique(labels[batch], return_counts=True)[1]
            alone += int((found == 1).sum())
            assert len(found) >= 2
            assert abs(len(batch) - 16 * world_size) <= 16 * world_size * 0.5 + 6
    assert alone <= 1  # the identity that has one image


def test_groups_of_an_identity_seldom_share_a_batch() -> None:
    labels = np.repeat(np.arange(40), 16)
    (plan,) = plans(labels, 32, 1, 1, num_instances=4)
    most = [np.unique(labels[step.batches[0]], return_counts=True)[1].max() for step in plan]
    assert np.mean(np.array(most) > 4) < 0.2


def test_too_few_images_for_groups() -> None:
    with pytest.raises(ConfigError, match="num_instances=8 needs batches of at least 16 images"):
        plans(labels_of(100), 8, 1, 1, num_instances=8)


@pytest.mark.parametrize(("count", "world_size"), [(3, 2), (1, 1), (7, 8), (9, 4)])
def test_more_ranks_than_images(count: int, world_size: int) -> None:
    with pytest.raises(ConfigError, match=f"the training part has {count} images"):
        plans(labels_of(count), 2, 1, world_size)


@pytest.mark.parametrize("count", [1, 5, 16, 17])
def test_validation_has_no_padding(count: int) -> None:
    batches = [
        batch
        for rank in range(3)
        for batch in plan_validation(count, batch_size=4, rank=rank, world_size=3)
    ]
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert all(len(batch) <= 4 for batch in batches)
