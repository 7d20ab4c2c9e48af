"""A pass over a part: how far it has come, and what each of its steps came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass
class Pass:
    """One going over a part's images, in steps that all ranks take together.

    Each step has a row of its own, so that a pass comes to the same numbers, to the last bit,
    however often it was looked at or interrupted: rows are added up at the end, in order.
    """

    sums: Tensor  # (steps, 2) float64: loss and errors, summed over images
    step: int = 0  # steps done; their rows are sums over all ranks, later ones this rank's own
    seconds: float = 0.0  # that they took
    waited: float = 0.0  # seconds of these spent waiting for images

    @classmethod
    def of(cls, steps: int, device: torch.device) -> Self:
        """A pass that has not begun."""
        return cls(torch.zeros(steps, 2, dtype=torch.float64, device=device))

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self.sums)

    def mean(self, images: int) -> tuple[float, float]:
        """Loss and error for each of so many images."""
        loss, error = (self.sums.sum(0) / images).tolist()
        return loss, error

    def as_plain(self) -> dict[str, Any]:
        """Numbers and a tensor on the CPU."""
        return {**vars(self), "sums": self.sums.to("cpu", copy=True)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], device: torch.device) -> Self:
        """The inverse of `as_plain`."""
        return cls(**{**plain, "sums": plain["sums"].to(device)})
