"""How a part's images get to a device: from its own memory where they fit, else from the disk."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from deepsort_reid.data.loading.sampler import Indices
from deepsort_reid.data.packed import Part

SHARE = 0.25  # of a GPU's free memory that a part may take
CHUNK = 1024  # images copied at a time

Batch = TypeVar("Batch")


class Loader:
    """Loads the images and labels of a part, batch by batch, in two halves.

    `read` may run ahead on threads. `place` belongs to the thread that computes, since the
    device's queue of work needs it in order.
    """

    def __init__(self, part: Part, device: torch.device):
        """Copy the images to the device's memory, if it is a GPU with enough room.

        Args:
            part: the images and labels, on the disk.
            device: the device that computes.
        """
        self.part, self.device = part, device
        self.stored = stored(part, device) if fits(part, device) else None

    def read(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Read from the CPU's memory what the device needs for some images.

        Args:
            indices: (B,) the images' places in the part.

        Returns:
            images (B, H, W, 3) uint8, or their places (B,) int64 if the device holds the part;
            labels (B,) int64.
        """
        wanted = indices if self.stored is not None else self.part.images[indices]
        return self.sendable(wanted), self.sendable(self.part.labels[indices])

    def place(self, wanted: Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 on the device, from the first result of `read`."""
        there = self.send(wanted)
        return there if self.stored is None else self.stored[there]

    def sendable(self, array: np.ndarray) -> Tensor:
        """A copy that a GPU can fetch while the CPU goes on."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def send(self, tensor: Tensor) -> Tensor:
        """Copy to the device without waiting."""
        return tensor.to(self.device, non_blocking=True)


def fits(part: Part, device: torch.device) -> bool:
    """Whether a device is a GPU that has room for a part beside everything else."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return part.images.nbytes <= SHARE * free


def stored(part: Part, device: torch.device) -> Tensor:
    """A copy of a part's images, (N, H, W, 3) uint8, in a device's memory."""
    images = torch.empty(part.images.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(part), CHUNK):
        chunk = np.array(part.images[first : first + CHUNK])
        images[first : first + CHUNK].copy_(torch.from_numpy(chunk))
    return images


class Prefetcher:
    """Reads batches on threads while the network computes, and measures the time spent waiting."""

    def __init__(self, num_workers: int):
        """Use `num_workers` threads; with 0, read when a batch is asked for."""
        self.num_workers = num_workers
        self.waited = 0.0  # seconds that batches were waited for, since the start

    def __call__(
        self, read: Callable[[Indices], Batch], batches: Iterable[Indices]
    ) -> Iterator[Batch]:
        """Yield `read(batch)` for each batch, in order, at most two batches a thread ahead."""
        if not self.num_workers:
            yield from (self.timed(partial(read, batch)) for batch in batches)
            return
        pending: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.num_workers) as pool:
            for batch in batches:
                pending.append(pool.submit(read, batch))
                if len(pending) > 2 * self.num_workers:
                    yield self.timed(pending.popleft().result)
            while pending:
                yield self.timed(pending.popleft().result)

    def timed(self, wait: Callable[[], Batch]) -> Batch:
        """Call a function, and add the seconds it took."""
        started = time.perf_counter()
        batch = wait()
        self.waited += time.perf_counter() - started
        return batch
