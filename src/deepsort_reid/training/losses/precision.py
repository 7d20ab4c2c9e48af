"""In which precision losses are computed."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """The dtype to compute a loss in: bfloat16's eight bits are too few for a logarithm."""
    return torch.promote_types(tensor.dtype, torch.float32)
