"""A moving average of a network's weights, which is measured and kept in the network's stead."""

import copy

import torch
from torch import Tensor, nn


class MovingAverage:
    """The exponential moving average of all weights and running statistics.

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; with a decay
    as in Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017. In the first
    steps the decay is smaller, (1 + n) / (10 + n), or the random weights would count for long.
    """

    def __init__(self, net: nn.Module, decay: float):
        """Begin with the network's weights as they are.

        Args:
            net: what is trained; its weights must stay where they are in memory.
            decay: share of the average that a step leaves as it was, in (0, 1).
        """
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay = decay
        self._own, self._trained = _tensors(self.net), _tensors(net)

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Move towards the trained network's weights.

        Args:
            step: how many steps were made before the last one.
        """
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._own, self._trained, share)


def _tensors(net: nn.Module) -> list[Tensor]:
    """The weights and running statistics; counters of batches are none."""
    return [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
