"""Augmentation of whole batches, each image with its own randomness.

What happens to an image is a function of (seed, epoch, index) alone, whatever its rank and its
batch. So two ranks augment each image as one rank would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # ImageNet's, RGB in [0, 1]: what pretrained weights expect
STD = (0.229, 0.224, 0.225)

DRAWS = 11  # random numbers for an image in an epoch
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601's share of each colour in what looks equally bright


@dataclass(frozen=True)
class Augmentation:
    """Flip, padded random crop, colour jitter and random erasing.

    Jitter multiplies brightness, contrast and saturation, in this order, each by a factor of its
    own, at most `color_jitter` away from 1 (Howard, "Some Improvements on Deep Convolutional Neural
    Network Based Image Classification", ICLR 2014). Erasing follows Zhong et al., "Random Erasing
    Data Augmentation", AAAI 2020: a rectangle of 2 to 40 % of the image, 0.3 to 3.33 times as high
    as wide, filled with the mean colour.
    """

    flip: float  # probability
    crop_padding: int  # pixels the image is padded with on each side before it is cut to size
    erase: float  # probability
    color_jitter: float = 0.0  # how far a factor may be from 1

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment and normalise a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB on any device.
            draws: (B, DRAWS) float64 on the same device, their `uniforms`.

        Returns:
            (B, 3, H, W) float32, normalised; what lies outside the image or was erased is 0.
        """
        height, width = images.shape[1:3]
        rows, columns, inside = self.crop_and_flip(draws, height, width)
        batch = torch.arange(len(images), device=images.device)[:, None, None]
        moved = images[batch, rows[:, :, None], columns[:, None, :]]
        kept = inside & ~self.erased(draws, height, width)
        if self.color_jitter:
            moved = self.jittered(moved, draws)
        return normalise(moved) * kept[:, None]

    def jittered(self, images: Tensor, draws: Tensor) -> Tensor:
        """(B, H, W, 3) colours from 0 to 255, changed in brightness, contrast and saturation."""
        factors = 1 + self.color_jitter * (2 * draws[:, 8:11].float() - 1)
        brightness, contrast, saturation = factors[:, :, None, None, None].unbind(1)
        colours = (images.float() * brightness).clamp(0, 255)
        middle = greys(colours).mean((1, 2, 3), keepdim=True)
        colours = torch.lerp(middle, colours, contrast).clamp(0, 255)
        return torch.lerp(greys(colours), colours, saturation).clamp(0, 255)

    def crop_and_flip(
        self, draws: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Source rows (B, H) and columns (B, W) of each pixel, and which lie inside (B, H, W)."""
        shift = (draws[:, 0:2] * (2 * self.crop_padding + 1)).long() - self.crop_padding
        rows = torch.arange(height, device=draws.device) + shift[:, 0:1]
        columns = torch.arange(width, device=draws.device) + shift[:, 1:2]
        columns = torch.where(draws[:, 2:3] < self.flip, columns.flip(1), columns)
        rows_inside = (rows >= 0) & (rows < height)
        columns_inside = (columns >= 0) & (columns < width)
        inside = rows_inside[:, :, None] & columns_inside[:, None, :]
        return rows.clamp(0, height - 1), columns.clamp(0, width - 1), inside

    def erased(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Which pixels (B, H, W) fall into the erased rectangle of their image."""
        happens = draws[:, 3] < self.erase
        area = (0.02 + draws[:, 4] * (0.4 - 0.02)) * height * width
        ratio = torch.exp(np.log(0.3) + draws[:, 5] * (np.log(1 / 0.3) - np.log(0.3)))
        high = (area * ratio).sqrt().round().clamp(1, height)
        wide = (area / ratio).sqrt().round().clamp(1, width)
        top = (draws[:, 6] * (height - high + 1)).floor()
        left = (draws[:, 7] * (width - wide + 1)).floor()
        row = torch.arange(height, device=draws.device)
        column = torch.arange(width, device=draws.device)
        in_rows = (row >= top[:, None]) & (row < (top + high)[:, None])
        in_columns = (column >= left[:, None]) & (column < (left + wide)[:, None])
        return in_rows[:, :, None] & in_columns[:, None, :] & happens[:, None, None]


def greys(colours: Tensor) -> Tensor:
    """(B, H, W, 3) float RGB -> (B, H, W, 1), as bright as each pixel looks."""
    red, green, blue = (colours[..., n : n + 1] for n in range(3))
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def normalise(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Turn (B, H, W, 3) RGB from 0 to 255 into (B, 3, H, W) float32: (x / 255 - mean) / std.

    The memory stays as it was, colours innermost.
    """
    scale, offset = scale_and_offset(tuple(mean), tuple(std), images.device)
    return torch.addcmul(offset, images.float(), scale).permute(0, 3, 1, 2)


@cache
def scale_and_offset(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The factor and the summand that normalise colours from 0 to 255: (3,) each.

    Sent to a device once: a GPU's queue would be drained by every copy from the CPU.
    """
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * s) for s in std], device=device)
        offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale, offset


def uniforms(seed: int, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Random numbers (B, DRAWS) in [0, 1), each a function of (seed, epoch, index, column) alone.

    A counter goes through the mixing function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        key = mix(mix(np.uint64(seed)) + np.uint64(epoch))
        counter = indices[:, None] * DRAWS + np.arange(DRAWS)
        bits = mix(key ^ mix(counter.astype(np.uint64)))
    return np.ldexp((bits >> np.uint64(11)).astype(np.float64), -53)


def mix(value: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every bit of the result depends on every bit of the value."""
    z = np.asarray(value, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
