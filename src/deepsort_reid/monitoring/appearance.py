"""What a person would see change in crops: a few numbers of each, which no network has made."""

import numpy as np
from numpy.typing import NDArray

from deepsort_reid.data.packed import Images

NAMES = ("brightness", "contrast", "warmth", "colour", "sharpness")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
LEAST_CONTRAST = 1e-3  # of a crop of a single colour, whose sharpness means nothing


def appearance(crops: Images) -> NDArray[np.float64]:
    """Numbers of crops: (N, 5), in the order of `NAMES`.

    Brightness is the mean of luma, and contrast its standard deviation, both in 0..1. Warmth is the
    mean of red minus blue, and colour that of the largest minus the least of red, green and blue.
    Sharpness is how much neighbouring pixels differ in luma, as a share of the contrast.

    Args:
        crops: (N, H, W, 3) uint8 RGB, of one size.
    """
    return np.array([numbers_of(crop) for crop in crops]).reshape(-1, len(NAMES))


def numbers_of(crop: Images) -> list[float]:
    """The numbers of a crop, (H, W, 3), in the order of `NAMES`."""
    picture = crop.astype(np.float32) / 255
    luma = picture @ LUMA
    contrast = float(luma.std())
    steps = [float(np.abs(np.diff(luma, axis=axis)).mean()) for axis in (0, 1)]
    return [
        float(luma.mean()),
        contrast,
        float((picture[..., 0] - picture[..., 2]).mean()),
        float((picture.max(axis=2) - picture.min(axis=2)).mean()),
        sum(steps) / 2 / max(contrast, LEAST_CONTRAST),
    ]
