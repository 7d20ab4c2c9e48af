"""A network as it takes part: crops of any size in, embeddings of unit length out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.data.packed import Images
from deepsort_reid.model.extractor import Order
from deepsort_reid.model.runtimes import Embeddings
from deepsort_reid.tracking.embed import CropEmbedder

BATCH_SIZE = 64  # crops at a time, at most


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
