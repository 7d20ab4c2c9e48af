"""What is recorded, when, and where gradients go; with graphs that stand in for a GPU's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepsort_reid.model import cuda_graph
from deepsort_reid.model.cuda_graph import Replayed


class Graph:
    """Calls what was recorded again, and puts the results where the recording's are."""

    function: Any
    inputs: Any
    output: Tensor
    gradients: list[Tensor]

    def replay(self) -> None:
        weight.grad = None
        self.output.copy_(compute(*self.inputs))
        self.gradients[0].copy_(weight.grad)
        weight.grad = None


weight = nn.Parameter(torch.zeros(3))
calls: list[int] = []


def compute(images: Tensor, **_: int) -> Tensor:
    calls.append(len(images))
    loss = (images * weight).square().sum() + images.sum()
    loss.backward()
    return loss.detach()


@contextmanager
def recording(_: Graph, **options: Any) -> Iterator[None]:
    assert options["pool"] == "pool"
    yield


class Recorded(Replayed):
    """Tells the stand-in what a GPU would have noted."""

    def record(self, tensors: Any, numbers: Any) -> Any:
        made = super().record(tensors, numbers)
        graph: Any = made.graph
        graph.inputs, graph.output = made.inputs, made.output
        graph.gradients = made.gradients
        return made


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    weight.grad = None
    calls.clear()
    return Recorded(compute, [weight])


def test_results_and_gradients_are_the_functions(replayed: Recorded) -> None:
    for seed in range(6):
        images = torch.randn(4 + seed % 2, 3, generator=torch.Generator().manual_seed(seed))
        expected = compute(images).clone()
        assert weight.grad is not None
        gradient = weight.grad.clone()
        weight.grad = None
        assert torch.equal(replayed(images, width=4), expected)
        assert torch.equal(weight.grad, gradient)
        weight.grad = None  # as an optimizer's zero_grad leaves it
        with torch.no_grad():
            weight.add_(0.1)


def test_each_shape_is_recorded_at_its_second_call(replayed: Recorded) -> None:
    for size, recorded in [(4, 0), (5, 0), (4, 1), (4, 1), (5, 2)]:
        replayed(torch.ones(size, 3))
        weight.grad = None
        assert sum(made is not None for made in replayed.recordings.values()) == recorded


def test_gradients_of_several_batches_add_up(replayed: Recorded) -> None:
    sizes = [4, 5, 4, 4, 5, 5, 4]
    for _ in range(3):  # steps
        batches = [torch.full((size, 3), float(place + 1)) for place, size in enumerate(sizes)]
        expected = [compute(images).clone() for images in batches]
        assert weight.grad is not None
        gradient, weight.grad = weight.grad.clone(), None
        assert list(map(replayed, batches)) == expected
        assert torch.equal(weight.grad, gradient)
        weight.grad = None


def test_other_numbers_are_another_recording(replayed: Recorded) -> None:
    for width in (4, 5, 4, 5):
        replayed(torch.ones(4, 3), width=width)
        weight.grad = None
    assert len(replayed.recordings) == 2


def test_there_are_so_many_and_no_more(replayed: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "MAX_GRAPHS", 2)
    for size in (1, 2, 3, 3, 3):
        loss = replayed(torch.ones(size, 3))
        assert loss == pytest.approx(size * (5.25 + 3))
        weight.grad = None
    assert len(replayed.recordings) == 2
    assert calls == [1, 2, 3, 3, 3]
