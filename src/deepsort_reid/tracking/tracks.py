"""The result of a tracker: boxes with identities, frame by frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Tracks:
    """A tracker's boxes, in the order of frames, and of identities within a frame."""

    frames: NDArray[np.int64]  # (N,) from 1
    ids: NDArray[np.int64]  # (N,) from 1
    ltwh: NDArray[np.float64]  # (N, 4) left, top, width, height; pixels from the frame's corner

    def __len__(self) -> int:
        return len(self.frames)

    def as_table(self) -> str:
        """The lines of a results file as MOTChallenge takes it, which counts pixels from 1."""
        return "".join(
            f"{frame},{identity},{left + 1:.2f},{top + 1:.2f},{width:.2f},{height:.2f},1,-1,-1,-1\n"
            for frame, identity, (left, top, width, height) in zip(
                self.frames.tolist(), self.ids.tolist(), self.ltwh.tolist(), strict=True
            )
        )
