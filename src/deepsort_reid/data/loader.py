"""How a part's images get to a device: out of its own memory where they fit, else from the disk."""

import numpy as np
import torch
from torch import Tensor

from deepsort_reid.data.packed import Part
from deepsort_reid.data.sampler import Indices

SHARE = 0.25  # of a GPU's free memory that a part may take
CHUNK = 1024  # images copied at a time


class Feed:
    """A part's images and labels, batch by batch, in two halves.

    `read` may run ahead on threads; `place`, which the device's queue of work needs in order, is
    for the thread that computes.
    """

    def __init__(self, part: Part, device: torch.device):
        """Copy the images to the device's memory, if that is a GPU's and has room.

        Args:
            part: on the disk.
            device: that computes.
        """
        self.part, self.device = part, device
        self.stored = stored(part, device) if fits(part, device) else None

    def read(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """What has to come from the CPU's memory for the images at these places of the part.

        Returns:
            images (B, H, W, 3) uint8, or their places (B,) int64 if the device holds them; labels
            (B,) int64.
        """
        wanted = indices if self.stored is not None else self.part.images[indices]
        return self.sendable(wanted), self.sendable(self.part.labels[indices])

    def place(self, wanted: Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 on the device, from what `read` returned first."""
        there = self.send(wanted)
        return there if self.stored is None else self.stored[there]

    def sendable(self, array: np.ndarray) -> Tensor:
        """A copy from which a GPU can fetch while the CPU goes on."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def send(self, tensor: Tensor) -> Tensor:
        """Copy to the device without waiting."""
        return tensor.to(self.device, non_blocking=True)


def fits(part: Part, device: torch.device) -> bool:
    """Whether a GPU has room for a part and for everything else."""
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
