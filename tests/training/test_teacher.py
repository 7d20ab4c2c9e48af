"""A student follows its teacher's similarities, whatever the sizes of the two and the ranks."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deepsort_reid.data.loading.augment import normalise
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.training.losses.pairs import pairs_over_ranks
from deepsort_reid.training.losses.teacher import Teacher, similarity_preserving
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer
from tests.support.exports import trained
from tests.support.ranks import on_ranks
from tests.support.trainings import config, part, tiny

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 0, 1])


def embeddings(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(LABELS), size, generator=generator, dtype=torch.float64)


def loss_and_gradient(
    process: Process, student: Tensor, teacher: Tensor, shares: list[int]
) -> tuple[float, Tensor]:
    """This rank's share of a batch: its loss, and the gradient of all ranks' for its images."""
    place = slice(sum(shares[: process.rank]), sum(shares[: process.rank + 1]))
    own, labels = student[place].clone().requires_grad_(), LABELS[place]
    how: dict[str, Any] = {"rank": process.rank, "width": max(shares)}
    loss = similarity_preserving(
        pairs_over_ranks(own, labels, **how), pairs_over_ranks(teacher[place], labels, **how)
    )
    loss.backward()
    assert own.grad is not None
    return loss.item(), own.grad


def by_hand(student: Tensor, teacher: Tensor) -> float:
    """The squared difference of the two rows of cosines with the other images, image by image."""
    total = 0.0
    for number in range(len(LABELS)):
        others = [other for other in range(len(LABELS)) if other != number]
        rows = []
        for seen in (student, teacher):
            unit = F.normalize(seen)
            row = torch.stack([unit[number] @ unit[other] for other in others])
            rows.append(row / row.norm())
        total += float((rows[0] - rows[1]).square().sum())
    return total


def test_it_is_the_difference_of_the_similarities() -> None:
    student, teacher = embeddings(5, 0), embeddings(7, 1)
    loss, _ = loss_and_gradient(ALONE, student, teacher, [len(LABELS)])
    assert loss == pytest.approx(by_hand(student, teacher), rel=1e-9)


def test_a_student_that_agrees_has_nothing_to_learn() -> None:
    teacher = embeddings(7, 1)
    turned = teacher @ torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    loss, gradient = loss_and_gradient(ALONE, turned * 3, teacher, [len(LABELS)])
    assert loss == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)
    other, _ = loss_and_gradient(ALONE, embeddings(7, 2), teacher, [len(LABELS)])
    assert other > 0.01


def test_ranks_add_up_to_the_whole() -> None:
    student, teacher = embeddings(5, 0), embeddings(7, 1)
    whole, gradient = loss_and_gradient(ALONE, student, teacher, [len(LABELS)])
    parts = on_ranks(2, loss_and_gradient, student, teacher, [5, 4])
    assert sum(loss for loss, _ in parts) == pytest.approx(whole, rel=1e-12)
    together = torch.cat([share for _, share in parts])
    torch.testing.assert_close(together, gradient, rtol=1e-9, atol=1e-12)


def teacher_of(size: tuple[int, int], **about: Any) -> Teacher:
    made = trained("osnet_x0_25", size)
    told = {**made.about.__dict__, **about}
    return Teacher(made.net, Description(**told), torch.device("cpu"))


def test_the_teacher_sees_what_the_student_sees_in_its_own_size_and_colours() -> None:
    images = torch.randint(0, 256, (3, 32, 16, 3), dtype=torch.uint8)
    teacher = teacher_of((64, 32), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.25])
    found = teacher(normalise(images))
    larger = F.interpolate(
        normalise(images, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), (64, 32), mode="bilinear"
    )
    expected = network.embed(trained("osnet_x0_25", (64, 32)).net, larger)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not found.requires_grad


@pytest.mark.usefixtures("narrow_networks")
def test_a_training_follows_its_teacher_and_leaves_it_as_it_is() -> None:
    teacher = teacher_of((32, 16))
    before = copy.deepcopy(teacher.net.state_dict())
    ends = []
    for followed in (None, teacher):
        recipe = config(teacher="t.pth", teacher_weight=20.0, epochs=6, lr=0.05)
        own = Trainer(tiny(recipe), part(11, 0), part(3, 1), recipe, ALONE, teacher=followed)
        own.fit()
        images = normalise(torch.from_numpy(part(11, 0).images[:24].copy()))
        labels = torch.arange(24)
        student, seen = (
            pairs_over_ranks(one, labels, rank=0, width=24)
            for one in (network.embed(own.learner.net.eval(), images), teacher(images))
        )
        ends.append(similarity_preserving(student, seen).item())
    assert ends[1] < 0.8 * ends[0]
    after = teacher.net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def trained_by(process: Process) -> dict[str, Tensor]:
    recipe = config(
        teacher="t.pth", teacher_weight=5.0, batch_size=16 // process.world_size, erase=0.0
    )
    torch.set_num_threads(1)
    own = Trainer(
        tiny(recipe), part(11, 0), part(3, 1), recipe, process, teacher=teacher_of((32, 16))
    )
    own.fit()
    return own.learner.net.state_dict()


def test_two_ranks_follow_as_one_would() -> None:
    """But for rounding: the teacher computes in float32, in batches of another size."""
    alone = trained_by(ALONE)
    first, second = on_ranks(2, trained_by)
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, atol=1e-4, rtol=1e-3)
