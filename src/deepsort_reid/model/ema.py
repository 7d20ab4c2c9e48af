"""A moving average of a network's weights, validated and saved in place of the network's own."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    """The exponential moving average of all weights and running statistics.

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; with a decay
    as in Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. In the first
    steps the decay is smaller, (1 + n) / (10 + n), or the initial weights would count for long.
    """

    def __init__(self, net: nn.Module, decay: float):
        """Begin with the present weights of a network.

        Args:
            net: the network that is trained; its weights must stay where they are in memory.
            decay: share of the average that a step keeps, in (0, 1).
        """
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay = decay
        self._own, self._trained = _tensors(self.net), _tensors(net)

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Move the average towards the network's weights.

        Args:
            step: number of the step that was just made, from 0.
        """
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._trained, share)


def _tensors(net: nn.Module) -> list[Tensor]:
    """The weights and running statistics of a network, without its counters of batches."""
    return [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
