"""What runs a trained network, and which is the fastest: torch, or ONNX Runtime.

One crop at a time, torch spends most of a CPU's time on bringing weights into the order in which it
multiplies them. ONNX Runtime does that once, when it loads the file.
"""

import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepsort_reid.core.errors import ConfigError, WeightsError, first_line
from deepsort_reid.data.packed import Images
from deepsort_reid.model import checkpoint, cuda_graph, network, onnx_file
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.onnx_file import OnnxFile, open_onnx

logger = logging.getLogger(__name__)

Embeddings = NDArray[np.float32]  # (N, D), each row of unit length
Choice = Literal["fastest", "torch"]

ONNX, PROGRAM = ".onnx", ".pt2"
EXPORTED = Path("export") / "boxmot.onnx"  # beside a checkpoint, as stage export writes it
SAME = 0.99999  # cosine of two runtimes' embeddings of one crop
TRIED = 3  # crops on which two are compared


@dataclass(frozen=True, kw_only=True, eq=False)
class Runtime:
    """A network, ready to embed crops of its size.

    Attributes:
        run: (B, H, W, 3) uint8, and whether its colours are BGR -> (B, D) of unit length.
        image_size: height and width of what it takes, pixels.
        batch: how many it takes at a time, no more and no fewer; None: any number.
        name: what runs it, and on which device.
        on_gpu: whether the images are copied to a GPU.
    """

    run: Callable[[Images, bool], Embeddings]
    image_size: tuple[int, int]
    batch: int | None = None
    name: str
    on_gpu: bool = False


def open_runtime(path: Path, device: torch.device, choice: Choice) -> Runtime:
    """Load a network from a file.

    Args:
        path: a checkpoint of this project, an ONNX file, or a `.pt2` of stage export, by its name.
        device: where to compute.
        choice: of a checkpoint, `fastest` takes the ONNX file that stands beside it if that has
            the same network and the device is a CPU; `torch` takes the checkpoint itself.

    Raises:
        WeightsError: the file cannot be read, or is of no such kind.
        ConfigError: there is no such choice, or an ONNX file does not state the size of its images.
        MissingPackageError: ONNX Runtime is needed and not installed.
    """
    if choice not in ("fastest", "torch"):
        raise ConfigError(f"runtime={choice!r} is not known; expected 'fastest' or 'torch'")
    if path.suffix == ONNX:
        return of_onnx(open_stated(path, device))
    if path.suffix == PROGRAM:
        return of_program(path, device)
    net, about = checkpoint.load(path)
    height, width = about.image_size
    found = of_network(net, (height, width), about.mean, about.std, device)
    if choice == "torch" or device.type != "cpu":
        return found
    return faster_one(path, found) or found


def faster_one(path: Path, own: Runtime) -> Runtime | None:
    """The ONNX file beside a checkpoint, if ONNX Runtime is there and embeds with it as torch does.

    Args:
        path: of the checkpoint.
        own: the checkpoint in torch.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    for file in (path.parent / EXPORTED, path.with_suffix(ONNX)):
        if not file.is_file():
            continue
        try:
            other = of_onnx(open_stated(file, torch.device("cpu")))
            if is_same(own, other):
                return other
        except (WeightsError, ConfigError) as error:
            logger.debug("%s", error)
        logger.info("%s has another network than %s: torch computes", file, path)
    return None


def is_same(one: Runtime, other: Runtime) -> bool:
    """Whether two runtimes embed alike, on crops of noise."""
    if one.image_size != other.image_size:
        return False
    random = np.random.default_rng(0)
    count = other.batch or TRIED
    crops = random.integers(0, 256, (count, *one.image_size, 3), dtype=np.uint8)
    found, expected = (side.run(crops, False) for side in (other, one))
    return found.shape == expected.shape and bool(((found * expected).sum(1) >= SAME).all())


def of_network(
    net: nn.Module,
    image_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> Runtime:
    """A copy of a network of `network.build` in torch, without its classifier and train mode.

    A GPU replays it from a CUDA graph, one for each power of two. To compute for the crops that a
    batch lacks takes less time than to wait for Python.

    Args:
        net: trained or not.
        image_size: height and width in pixels.
        mean: RGB, of colours in [0, 1].
        std: likewise.
        device: where to compute.
    """
    bare = network.without_classifier(net)
    predictor = Predictor(bare, mean=mean, std=std, device=device, fold=True)
    on_gpu = device.type == "cuda"
    embed = replayed(predictor.embed) if on_gpu else predictor.embed

    def run(images: Images, is_bgr: bool) -> Embeddings:
        given = torch.from_numpy(images).to(device, non_blocking=True)
        given = given.flip(-1) if is_bgr else given
        return cast("Embeddings", embed(given).cpu().numpy())

    return Runtime(run=run, image_size=image_size, name=f"torch, {device}", on_gpu=on_gpu)


def replayed(embed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What embeds batches of any size on a GPU, from a few recordings; threads may share it.

    Args:
        embed: (B, H, W, 3) uint8 on the GPU -> (B, D).
    """
    recorded, lock = cuda_graph.Replayed(embed, ()), threading.Lock()

    def padded(images: Tensor) -> Tensor:
        batch = images.new_zeros(1 << (len(images) - 1).bit_length(), *images.shape[1:])
        batch[: len(images)] = images
        with lock:
            return recorded(batch)[: len(images)]

    return padded


def open_stated(path: Path, device: torch.device) -> OnnxFile:
    """An ONNX file that states the size of its images.

    Raises:
        ConfigError: it does not.
    """
    file = open_onnx(path, image_size=(1, 1), on_gpu=device.type == "cuda")
    if not file.taken.stated:
        raise ConfigError(
            f"{path}: takes images of any size; expected one that states height and width, as "
            "stage export writes it"
        )
    return file


def of_onnx(file: OnnxFile) -> Runtime:
    """An opened ONNX file."""

    def run(images: Images, is_bgr: bool) -> Embeddings:
        return unit(file.run(images[..., ::-1] if is_bgr else images))

    return Runtime(
        run=run,
        image_size=file.taken.image_size,
        batch=file.batch,
        name=file.runtime,
    )


def of_program(path: Path, device: torch.device) -> Runtime:
    """A `.pt2` of stage export, which must be trusted: torch unpickles parts of it.

    Raises:
        WeightsError: it cannot be loaded, or takes something else.
    """
    try:
        program = torch.export.load(path)
        (given,) = program.graph_signature.user_inputs
        shape = next(n.meta["val"].shape for n in program.graph.nodes if n.name == given)
        _, channels, height, width = shape
        module = program.module().to(device)
        image_size = (int(height), int(width))
    except Exception as error:  # of whatever torch meets in the file
        raise WeightsError(f"{path}: torch.export cannot load it ({first_line(error)})") from None
    if channels != 3:
        raise WeightsError(f"{path}: takes {channels} channels; expected 3")

    def run(images: Images, is_bgr: bool) -> Embeddings:
        with torch.inference_mode():
            colours = onnx_file.colours(images[..., ::-1] if is_bgr else images)
            prepared = torch.from_numpy(colours).to(device)
            return unit(module(prepared).cpu().numpy())

    return Runtime(run=run, image_size=image_size, name=f"torch.export, {device}")


def unit(embeddings: Any) -> Embeddings:
    """(N, …) of any length -> (N, D) float32 of unit length."""
    found = np.asarray(embeddings, np.float32).reshape(len(embeddings), -1)
    lengths = np.sqrt(np.einsum("nd,nd->n", found, found))[:, None]
    return cast("Embeddings", found / np.maximum(lengths, np.finfo(np.float32).tiny))
