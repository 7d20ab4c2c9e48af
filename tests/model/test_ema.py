"""The average follows the weights as its decay says, running statistics included."""

import pytest
import torch
from torch import nn

from deepsort_reid.model.ema import MovingAverage


def test_it_is_the_exponential_average() -> None:
    net = nn.Linear(2, 2)
    averaged = MovingAverage(net, 0.9)
    expected = net.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            net.weight.add_(1.0)
        averaged.add(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.weight.detach()
    torch.testing.assert_close(averaged.net.weight, expected)
    # Following a rise of 1 a step, it lags decay / (1 - decay) steps behind.
    assert (net.weight - averaged.net.weight).mean().item() == pytest.approx(9, rel=1e-3)


def test_running_statistics_are_averaged_and_counters_are_not() -> None:
    net = nn.BatchNorm1d(3)
    averaged = MovingAverage(net, 0.5)
    net(torch.randn(8, 3) + 5)
    before = averaged.net.running_mean.clone()  # type: ignore[union-attr]
    averaged.add(100)
    expected = (before + net.running_mean) / 2  # type: ignore[operator]
    torch.testing.assert_close(averaged.net.running_mean, expected)
    assert averaged.net.num_batches_tracked == 0


def test_it_is_not_trained() -> None:
    net = nn.Linear(2, 2)
    averaged = MovingAverage(net, 0.9)
    assert not any(parameter.requires_grad for parameter in averaged.net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
