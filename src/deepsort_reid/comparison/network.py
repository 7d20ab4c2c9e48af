"""A network as it takes part: crops of any size in, embeddings of unit length out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.data.images import resized
from deepsort_reid.data.packed import Images
from deepsort_reid.export.runtimes import Runtime
from deepsort_reid.model.extractor import Embeddings, Order
from deepsort_reid.tracking.embed import CropEmbedder

BATCH_SIZE = 64  # crops at a time, at most
LARGEST = 2048  # pixels of a side


def check_size(place: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of what a network takes, if they can be.

    Raises:
        WeightsError: they are too large for a network that looks at crops.
    """
    if max(image_size) > LARGEST:
        height, width = image_size
        raise WeightsError(
            f"{place}: takes images of {height}×{width}; expected at most {LARGEST} pixels"
        )
    return image_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network of any origin, ready to embed. It is a `tracking.embed.CropEmbedder` itself.

    Attributes:
        name: in the table.
        place: where it came from, as the user wrote it.
        kind: what it is, in a few words.
        embedder: what embeds.
        image_size: height and width of what it takes, pixels.
        file_bytes: of its file.
        runtime: what runs it, and on which device.
        notes: what was assumed, and what makes the comparison unfair; a few words each.
        data_digest: of the split that it was trained on; empty where nobody knows.
    """

    name: str
    place: str
    kind: str
    embedder: CropEmbedder
    image_size: tuple[int, int]
    file_bytes: int
    runtime: str
    notes: Sequence[str] = ()
    data_digest: str = ""

    def __call__(self, crops: Sequence[Images], *, order: Order) -> Embeddings:
        """Embed crops (H, W, 3) uint8 of any sizes: (N, D) of unit length.

        Raises:
            WeightsError: an embedding is not finite.
        """
        found = self.embedder(crops, order=order)
        if not np.isfinite(found).all():
            raise WeightsError(
                f"{self.place}: embeds an image to numbers that are not finite; leave it out, or "
                "use a copy in float32"
            )
        return found


class RuntimeEmbedder:
    """Crops of any sizes through a runtime that takes images of one size, and so many at a time."""

    def __init__(self, run: Runtime, image_size: tuple[int, int], fixed_batch: int | None = None):
        """Wrap a runtime.

        Args:
            run: takes images of one size, and returns embeddings of any length.
            image_size: height and width in pixels.
            fixed_batch: how many images it takes, no more and no fewer; None: any number.
        """
        self.run, self.image_size, self.fixed_batch = run, image_size, fixed_batch

    def __call__(self, crops: Sequence[Images], *, order: Order) -> Embeddings:
        """Embed crops (H, W, 3) uint8 of any sizes: (N, D) of unit length."""
        size = self.fixed_batch or BATCH_SIZE
        batches = [crops[first : first + size] for first in range(0, len(crops), size)]
        # A frame may have no crops: a black one tells how long an embedding is.
        black = [np.zeros((*self.image_size, 3), np.uint8)]
        found = [self.embed_batch(batch, order) for batch in batches]
        return np.concatenate(found) if found else self.embed_batch(black, order)[:0]

    def embed_batch(self, crops: Sequence[Images], order: Order) -> Embeddings:
        """(N, D) of unit length, of no more crops than the runtime takes."""
        images = np.zeros((self.fixed_batch or len(crops), *self.image_size, 3), np.uint8)
        for number, crop in enumerate(crops):
            images[number] = resized(crop, self.image_size)
        found = self.run(images[..., ::-1] if order == "bgr" else images)[: len(crops)]
        found = found.reshape(len(crops), -1).astype(np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        lengths = np.maximum(lengths, np.finfo(np.float32).tiny)
        return np.asarray(found / lengths, np.float32)
