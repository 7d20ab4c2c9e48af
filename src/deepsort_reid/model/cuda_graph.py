"""A function's work on a GPU, recorded once and replayed without launching each kernel.

The kernels of a small network finish faster than a CPU can launch them, so that the GPU waits. A
CUDA graph (NVIDIA, "CUDA Programming Guide", chapter on graphs) launches all of them at once. The
results are the same to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MAX_GRAPHS = 16  # each of them keeps gradients of its own


@dataclass(frozen=True)
class Recording:
    """A graph, and the places in memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    output: Tensor
    gradients: Sequence[Tensor | None]  # of the parameters


class Replayed:
    """A function that leaves gradients in parameters, replayed from graphs.

    Inputs of each shape have a graph of their own. The first call with a shape runs the function
    itself, since libraries then set up what cannot be recorded; the second call is recorded.
    """

    def __init__(self, function: Callable[..., Tensor], parameters: Iterable[nn.Parameter]):
        """Record nothing yet.

        Args:
            function: takes GPU tensors, and numbers as keyword arguments. Which kernels it runs
                depends on the tensors' shapes and on the numbers alone. It reads and writes
                nothing on the CPU.
            parameters: receive the gradients, which are added to those that they have.
        """
        self.function = function
        self.parameters = list(parameters)
        self.recordings: dict[object, Recording | None] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, *tensors: Tensor, **numbers: int) -> Tensor:
        """Call the function; gradients may lie where a later call writes its own."""
        key = (*(tensor.shape for tensor in tensors), *numbers.values())
        if key not in self.recordings:
            if len(self.recordings) < MAX_GRAPHS:
                self.recordings[key] = None
            return self.function(*tensors, **numbers)
        earlier = self.take_gradients()
        recording = self.recordings[key]
        if recording is None:
            recording = self.recordings[key] = self.record(tensors, numbers)
        for place, tensor in zip(recording.inputs, tensors, strict=True):
            place.copy_(tensor)
        recording.graph.replay()
        for parameter, gradient in zip(self.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        if earlier:
            torch._foreach_add_([g for g in recording.gradients if g is not None], earlier)
        return recording.output.clone()

    def take_gradients(self) -> list[Tensor]:
        """Copies of the gradients that the parameters have, and lose."""
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        for parameter in self.parameters:
            parameter.grad = None
        return list(torch._foreach_mul(gradients, 1.0)) if gradients else []

    def record(self, tensors: Sequence[Tensor], numbers: dict[str, int]) -> Recording:
        """Record a call; nothing is computed meanwhile."""
        inputs = [tensor.clone() for tensor in tensors]
        graph = torch.cuda.CUDAGraph()
        # Threads that read ahead go on using the GPU meanwhile: only this thread's calls count.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            output = self.function(*inputs, **numbers)
        return Recording(graph, inputs, output, [parameter.grad for parameter in self.parameters])
