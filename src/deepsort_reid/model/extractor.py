"""Crops or boxes of a frame in, embeddings out: a trained network as a tracker uses it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional as F

from deepsort_reid.core.errors import (
    ConfigError,
    CropError,
    EmbeddingError,
    WeightsError,
    first_line,
)
from deepsort_reid.data.packed import Images
from deepsort_reid.model.runtimes import (
    Choice,
    Embeddings,
    Runtime,
    embedding_size,
    of_network,
    open_runtime,
)

Order = Literal["rgb", "bgr"]
BoxForm = Literal["ltwh", "ltrb"]


class Extractor:
    """A trained network, ready to embed: `1 - a @ b` is the cosine distance of two embeddings.

        extractor = Extractor("models/model.pth")
        embeddings = extractor.of_boxes(frame, boxes, order="bgr", form="ltrb")

    It holds a copy of the network that has no train mode: its batch normalisation is folded into
    the convolutions, its classifier gone. So an embedding depends on its own crop alone, never on
    the others of the batch, but for rounding. A crop of another size is resized as stage split
    resizes, but for rounding: the network has learned from such crops. Threads may share an
    Extractor; a process that is forked makes its own, since torch's threads do not survive a fork.

    Attributes:
        runtime: what runs the network, and on which device.
        image_size: height and width of what the network takes, pixels.
        embedding_size: D, the length of an embedding.
        batch_size: crops at a time, at most.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 64,
        runtime: Choice = "fastest",
    ):
        """Load a trained network.

        Args:
            path: `models/model.pth`, or a copy of it; or an ONNX file or `model.pt2` of stage
                export, or an ONNX file of others, of images normalised by ImageNet's mean. A
                `.pt2` must be trusted: torch unpickles parts of it.
            device: where to compute, as torch writes it; None: a GPU if there is one.
            batch_size: crops at a time, at most.
            runtime: of a checkpoint on a CPU: `fastest` is ONNX Runtime, if it is installed and
                beside the checkpoint stands `export/boxmot.onnx`, or an ONNX file of the
                checkpoint's own name, that embeds as the checkpoint does, to a cosine of 0.99999;
                else torch. `torch` is always torch.

        Raises:
            WeightsError: the file is missing, damaged, or none of these, or its network does not
                give each crop an embedding of its own, of finite numbers.
            ConfigError: device or runtime cannot be used, the batch size is below 1, or an ONNX
                file does not state the size of its images.
            MissingPackageError: an ONNX file needs ONNX Runtime, which is not installed.
        """
        opened = open_runtime(Path(path), usable(device), runtime)
        try:
            self._set_up(opened, batch_size)
        except EmbeddingError as error:
            raise WeightsError(f"{path}: {error}") from None

    @classmethod
    def from_network(
        cls,
        net: nn.Module,
        *,
        image_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device | None = None,
        batch_size: int = 64,
    ) -> Self:
        """Wrap a network of `network.build`, which stays as it is.

        Args:
            net: trained or not.
            image_size: height and width of what it takes, pixels.
            mean: RGB, of colours in [0, 1].
            std: likewise.
            device: see `__init__`.
            batch_size: likewise.

        Raises:
            ConfigError: see `__init__`.
            EmbeddingError: likewise.
        """
        runtime = of_network(net, image_size, mean, std, usable(device))
        return cls.from_runtime(runtime, batch_size=batch_size)

    @classmethod
    def from_runtime(cls, runtime: Runtime, *, batch_size: int = 64) -> Self:
        """Wrap what runs a network.

        Raises:
            ConfigError: the batch size is below 1.
            EmbeddingError: it does not give each crop an embedding of its own, of finite numbers.
        """
        made = cls.__new__(cls)
        made._set_up(runtime, batch_size)
        return made

    def _set_up(self, runtime: Runtime, batch_size: int) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r}; expected a whole number of at least 1")
        self._runtime, self.runtime = runtime, runtime.name
        self.image_size = runtime.image_size
        self.batch_size = runtime.batch or batch_size
        self.embedding_size = embedding_size(runtime)

    def __call__(self, crops: Iterable[Images] | Images, *, order: Order) -> Embeddings:
        """Embed crops.

        Args:
            crops: arrays (H, W, 3) uint8 of any sizes, or one array (N, H, W, 3).
            order: of their colours: `bgr` as OpenCV reads images, `rgb` as Pillow and others do.
                There is no default, since a network whose colours are swapped still answers.

        Returns:
            (N, D), in the order of the crops; (0, D) of none.

        Raises:
            CropError: an item is no such array or has no pixels; nothing is embedded then.
        """
        crops = crops if isinstance(crops, np.ndarray) else list(crops)
        if order not in ("rgb", "bgr"):
            raise CropError(f"order={order!r} is no order of colours; expected 'rgb' or 'bgr'")
        for number, crop in enumerate(crops):
            check_crop(crop, f"crop {number}")
        if 0 < len(crops) <= self.batch_size:
            return self._embed(crops, order)
        embeddings = np.empty((len(crops), self.embedding_size), np.float32)
        for first in range(0, len(crops), self.batch_size):
            batch = crops[first : first + self.batch_size]
            embeddings[first : first + len(batch)] = self._embed(batch, order)
        return embeddings

    def of_boxes(
        self, frame: Images, boxes: ArrayLike, *, order: Order, form: BoxForm
    ) -> Embeddings:
        """Embed what lies in the boxes of a frame.

        Args:
            frame: (H, W, 3) uint8.
            boxes: (N, 4) pixels from the frame's corner; see `cut_boxes`.
            order: of the frame's colours, as for `__call__`.
            form: `ltwh`: left, top, width, height; `ltrb`: left, top, right, bottom.

        Returns:
            (N, D), in the order of the boxes.

        Raises:
            CropError: see `cut_boxes`.
        """
        return self(cut_boxes(frame, boxes, form=form), order=order)

    def _embed(self, crops: Sequence[Images] | Images, order: Order) -> Embeddings:
        """One batch: (N, D)."""
        shape = (self._runtime.batch or len(crops), *self.image_size, 3)
        if self._runtime.on_gpu:
            # Pinned memory reaches a GPU without another copy; torch keeps it for the next batch.
            images = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
        else:
            images = np.empty(shape, np.uint8)
        images[len(crops) :] = 0
        for number, crop in enumerate(crops):
            images[number] = fitted(crop, self.image_size)  # each channel apart, in any order
        # Colours are turned on the way to float numbers, which costs nothing.
        return self._runtime.run(images, order == "bgr")[: len(crops)]


def fitted(crop: Images, image_size: tuple[int, int]) -> Images:
    """Resize a crop as stage split does by Pillow, but for rounding, in a third of the time.

    torch resizes a copy of the crop by the calling thread alone. To copy a large part of a frame
    itself, it would ask its other threads, and wait for them: see `OnnxRun`.

    Args:
        crop: (H, W, 3) uint8; returned as it is if it has the right size.
        image_size: height and width in pixels.
    """
    if crop.shape[:2] == image_size:
        return crop
    maps = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
    resized = F.interpolate(maps, image_size, mode="bilinear", antialias=True)
    return cast("Images", resized[0].permute(1, 2, 0).numpy())


def usable(device: str | torch.device | None) -> torch.device:
    """The device, tried.

    Raises:
        ConfigError: it is unknown, or this machine has none.
    """
    default = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = default if device is None else device
    try:
        found = torch.device(chosen)
        torch.zeros(1, device=found).cpu()
    except Exception as error:  # each kind of device is missing in its own way
        raise ConfigError(
            f"device={str(chosen)!r} cannot be used ({first_line(error)}); expected cpu, cuda or "
            "cuda:N"
        ) from None
    return found


def check_crop(crop: object, name: str) -> None:
    """Refuse what is no (H, W, 3) uint8 array with pixels in it.

    Raises:
        CropError: it is none.
    """
    if not isinstance(crop, np.ndarray):
        found = type(crop).__name__
    elif crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
        found = f"{crop.dtype} {crop.shape}"
    else:
        return
    raise CropError(
        f"{name} is {found}; expected a uint8 array (height, width, 3) with pixels in it"
    )


def cut_boxes(frame: Images, boxes: ArrayLike, *, form: BoxForm) -> list[Images]:
    """Cut boxes out of a frame, without copying.

    Edges are rounded to the nearest pixel and clipped to the frame; a box that has a part of the
    frame in it gives at least one pixel.

    Args:
        frame: (H, W, 3) uint8.
        boxes: (N, 4), pixels from the frame's corner, or of no length at all.
        form: `ltwh`: left, top, width, height; `ltrb`: left, top, right, bottom.

    Raises:
        CropError: the frame or a box is none, or a box has no part of the frame in it.
    """
    check_crop(frame, "the frame")
    if form not in ("ltwh", "ltrb"):
        raise CropError(f"form={form!r} is no form of boxes; expected 'ltwh' or 'ltrb'")
    try:
        values = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CropError(f"boxes are no numbers ({first_line(error)}); expected (N, 4)") from None
    if values.size and (values.ndim != 2 or values.shape[1] != 4):
        raise CropError(f"boxes have the shape {values.shape}; expected (N, 4)")
    edges = values.reshape(-1, 4).copy()
    if form == "ltwh":
        edges[:, 2:] += edges[:, :2]
    size = np.array([frame.shape[1], frame.shape[0]], np.float64)
    first, last = np.maximum(edges[:, :2], 0), np.minimum(edges[:, 2:], size)
    seen = (first < last) & np.isfinite(edges[:, :2]) & np.isfinite(edges[:, 2:])
    if not seen.all():
        number = int(np.argmin(seen.all(1)))
        shown = ", ".join(f"{value:g}" for value in values[number])
        finite = np.isfinite(edges[number]).all()
        what = "has no part of the frame in it" if finite else "is not finite"
        raise CropError(
            f"box {number} ({form} {shown}) {what}; leave such boxes out (the frame is "
            f"{frame.shape[1]}×{frame.shape[0]} pixels)"
        )
    begin = np.minimum(np.rint(first), size - 1)
    end = np.maximum(np.rint(last), begin + 1)
    corners = np.concatenate((begin, end), axis=1).astype(int).tolist()
    return [frame[top:bottom, left:right] for left, top, right, bottom in corners]
