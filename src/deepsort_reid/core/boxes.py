"""How much boxes overlap: their intersection over their union."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def intersections_over_unions(first: Floats, second: Floats) -> Floats:
    """(G, 4) and (T, 4) boxes as left, top, width, height -> (G, T) in [0, 1]."""
    corners = np.maximum(first[:, None, :2], second[None, :, :2])
    ends = np.minimum((first[:, :2] + first[:, 2:])[:, None], second[:, :2] + second[:, 2:])
    shared = np.maximum(ends - corners, 0.0).prod(2)
    union = first[:, 2:].prod(1)[:, None] + second[:, 2:].prod(1)[None] - shared
    shares: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return shares
