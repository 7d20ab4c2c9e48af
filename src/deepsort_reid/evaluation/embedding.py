"""Whole parts through a network, and what came out kept for the next evaluation.

Embedding takes nearly all the time of an evaluation, and depends on the checkpoint and the images
alone. So a second evaluation, with another `false_match_rate` say, reads the embeddings of the
first one from `.embeddings/<key>` at the repository's root. The key is made of all that they
depend on. The folder is nobody's output: it may be deleted at any time.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepsort_reid.core import files
from deepsort_reid.core.project import PACKAGE, project_root
from deepsort_reid.data.loading.sampler import Indices
from deepsort_reid.data.packed import Part
from deepsort_reid.data.samples import JUNK
from deepsort_reid.model.embed import Predictor, over_part

logger = logging.getLogger(__name__)

FOLDER = ".embeddings"
NEWEST = 3  # folders that stay
ROOMS = ("core", "data", "model")  # whose code makes an embedding
DIGITS = 16  # of a key, in a folder's name


class EmbeddingCache:
    """What a network made of parts, by name, in a folder of its own."""

    def __init__(self, made_of: Sequence[str], root: Path | None = None):
        """Look for what an evaluation of the same network and images has left.

        Args:
            made_of: digests of checkpoint and images, versions of libraries, the device.
            root: holds the folders of all networks; None: `FOLDER` at the repository's root.
        """
        code = (path for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py")))
        parts = [*made_of, *map(files.sha256, code)]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self.root = project_root() / FOLDER if root is None else root
        self.folder = self.root / key[:DIGITS]

    def get(self, name: str) -> Tensor | None:
        """What stands under a name; None if nothing does, or its checksum does not fit."""
        try:
            path = self.folder / f"{name}.npz"
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return torch.from_numpy(content["values"])
        except Exception:  # numpy and zipfile fail in a dozen ways on damaged files
            return None

    def put(self, name: str, values: Tensor) -> None:
        """Keep something under a name; where that cannot be, the next evaluation computes it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with files.replacing(self.folder / f"{name}.npz") as new, new.open("wb") as file:
                np.savez(file, values=values.cpu().numpy())
            kept = [path for path in self.root.iterdir() if path.is_dir()]
            for old in sorted(kept, key=lambda path: path.stat().st_mtime)[:-NEWEST]:
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            logger.info("embeddings are not kept for the next evaluation: %s", error)


class Embedder:
    """Embeds whole parts with a network, so many images at a time.

    Attributes:
        predictor: the network.
    """

    def __init__(self, predictor: Predictor, batch_size: int, cache: EmbeddingCache | None = None):
        """Embed nothing yet.

        Args:
            predictor: the network.
            batch_size: images at a time.
            cache: where to look before anything is computed; None computes everything.
        """
        self.predictor, self.batch_size, self.cache = predictor, batch_size, cache
        self.expected: tuple[int, tuple[int, int]] | None = None

    def expect(self, images: int, image_size: tuple[int, int]) -> None:
        """Say how many images will be embedded; see `Predictor.prepare_for`."""
        self.expected = images, image_size

    def __call__(self, part: Part, name: str, *, mirrored: bool = False) -> Tensor:
        """Embed a part, (N, D) on the network's device, where pairs are compared.

        Nobody asks for the embeddings of junk, which are zero.

        Args:
            part: the images.
            name: what to call it on the screen.
            mirrored: whether to embed the mirror images.
        """
        known = np.flatnonzero(part.pids != JUNK)
        wanted = known if len(known) else np.arange(len(part))

        def embed(images: Tensor) -> Tensor:
            return self.predictor.embed(images, mirrored=mirrored)

        title = f"embed {name}" + (", mirrored" if mirrored else "")
        found = self.of_part(embed, part, title, wanted)
        if len(found) == len(part):
            return found.to(self.predictor.device)
        embeddings = found.new_zeros(len(part), found.shape[1])
        embeddings[torch.from_numpy(wanted)] = found
        return embeddings.to(self.predictor.device)

    def accuracy(self, val: Part) -> float:
        """The share of a validation part's images that are classified rightly."""
        every = np.arange(len(val))
        predicted = self.of_part(self.predictor.classify, val, "classify val", every)
        return float((predicted.numpy() == val.labels).mean())

    def of_part(
        self, compute: Callable[[Tensor], Tensor], part: Part, what: str, which: Indices
    ) -> Tensor:
        """Compute something of some images of a part, unless it is kept: (N, …) on the CPU."""
        if self.cache and (found := self.cache.get(what)) is not None and len(found) == len(which):
            return found
        if self.expected:
            self.predictor.prepare_for(*self.expected)
            self.expected = None
        computed = over_part(
            compute, part, what, batch_size=self.batch_size,
            device=self.predictor.device, which=which,
        )  # fmt: skip
        if self.cache:
            self.cache.put(what, computed)
        return computed
