"""A step's work on a GPU, recorded once and replayed: the CPU no longer names every kernel.

A small network's kernels are done sooner than they are asked for, so that the GPU waits for the
CPU. A CUDA graph (NVIDIA, "CUDA Programming Guide", chapter on graphs) asks for all of them at
once; the numbers stay the same, to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MOST = 16  # graphs, each of which keeps gradients of its own


@dataclass(frozen=True)
class Recording:
    """A graph, and the places in memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    output: Tensor
    gradients: Sequence[Tensor | None]  # of the parameters


class Replayed:
    """A function that leaves gradients in parameters, as fast as the GPU can run it.

    For inputs of each shape there is one graph. The first call with a shape runs as it is, since
    libraries then set up what cannot be recorded; the second is recorded.
    """

    def __init__(self, function: Callable[..., Tensor], parameters: Iterable[nn.Parameter]):
        """Record nothing yet.

        Args:
            function: of GPU tensors, whose sizes and what lies behind them alone decide what it
                does; keyword arguments are numbers. It reads and writes nothing on the CPU.
            parameters: what it leaves gradients in; theirs are None before each call.
        """
        self.function = function
        self.parameters = list(parameters)
        self.recordings: dict[object, Recording | None] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *tensors: Tensor, **numbers: int) -> Tensor:
        """Call the function; its result is overwritten by a later call."""
        key = (*(tensor.shape for tensor in tensors), *numbers.values())
        if key not in self.recordings:
            if len(self.recordings) < MOST:
                self.recordings[key] = None
            return self.function(*tensors, **numbers)
        recording = self.recordings[key]
        if recording is None:
            recording = self.recordings[key] = self.record(tensors, numbers)
        for place, tensor in zip(recording.inputs, tensors, strict=True):
            place.copy_(tensor)
        recording.graph.replay()
        for parameter, gradient in zip(self.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return recording.output

    def record(self, tensors: Sequence[Tensor], numbers: dict[str, int]) -> Recording:
        """Record a call; nothing is computed meanwhile."""
        inputs = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        # Threads that read ahead go on using the GPU meanwhile: only this one's calls must be fit
        # to be recorded.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            output = self.function(*inputs, **numbers)
        return Recording(graph, inputs, output, [parameter.grad for parameter in self.parameters])
