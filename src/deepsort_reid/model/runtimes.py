"""What runs a trained network, and which is the fastest: torch, or ONNX Runtime.

One crop at a time, torch spends most of a CPU's time on bringing weights into the order in which it
multiplies them. ONNX Runtime does that once, when it loads the file.
"""

import importlib.util
import logging
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepsort_reid.core.errors import (
    ConfigError,
    DeepSortReidError,
    EmbeddingError,
    WeightsError,
    first_line,
)
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
TRIED = 4  # crops that a network is tried on
MOVED = 0.1  # of the distance between two crops: how far other crops may move an embedding
ROUNDING = 1e-3  # of an embedding's length, of files in 8 bits too


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
    if path.suffix.lower() == ONNX:
        return of_onnx(open_stated(path, device))
    if path.suffix.lower() == PROGRAM:
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
            why = f"it has another network than {path}"
        except Exception as error:  # whatever it is, the checkpoint itself can be used
            why = first_line(error).removeprefix(f"{file}: ")
        logger.warning("%s is not used, torch computes: %s", file, why)
    return None


def is_same(one: Runtime, other: Runtime) -> bool:
    """Whether two runtimes embed alike, on crops of noise."""
    if one.image_size != other.image_size:
        return False
    crops = different_crops(other.batch or TRIED, one.image_size)
    found, expected = (side.run(crops, False) for side in (other, one))
    return found.shape == expected.shape and bool(((found * expected).sum(1) >= SAME).all())


def embedding_size(runtime: Runtime) -> int:
    """The length of a runtime's embeddings, if it gives each crop one, whatever the others are.

    Files of others may have one batch built in, mix the crops of a batch, or return something else.

    Raises:
        EmbeddingError: it does not, or cannot run.
    """
    crops = different_crops(runtime.batch or TRIED, runtime.image_size)
    others = 255 - crops
    others[0] = crops[0]
    try:
        together, turned = (runtime.run(side, False) for side in (crops, crops[::-1].copy()))
        alone = runtime.run(others if runtime.batch else crops[:1], False)
    except DeepSortReidError:
        raise
    except Exception as error:  # each runtime fails in its own ways
        height, width = runtime.image_size
        raise EmbeddingError(
            f"cannot embed crops of {height}×{width} ({first_line(error)})"
        ) from None
    found = np.stack((together, turned[::-1]))
    if not np.isfinite(found).all():
        raise EmbeddingError("embeds a crop to numbers that are not finite")
    if found.shape[-1] < 2:
        raise EmbeddingError(f"embeds a crop to {found.shape[-1]} number; expected a vector")
    apart = np.linalg.norm(together[:, None] - together, axis=-1).max()
    moved = np.linalg.norm([*(found[1] - found[0]), alone[0] - together[0]], axis=-1).max()
    if moved > max(MOVED * apart, ROUNDING):
        raise EmbeddingError(
            "embeds a crop by the others of its batch; expected a network in eval mode, with one "
            "row for each crop"
        )
    return int(found.shape[-1])


def different_crops(count: int, image_size: tuple[int, int]) -> Images:
    """Crops of noise, each of other brightness and contrast: (count, H, W, 3) uint8."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (count, *image_size, 3), dtype=np.uint8)
    scales = random.uniform(0.1, 1, (count, 1, 1, 3))
    return cast("Images", (noise * scales).astype(np.uint8))


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
        return unit(file.run(images[..., ::-1] if is_bgr else images), len(images))

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
    fault = f"{path}: torch.export cannot load it"
    onnx_file.check_file(path, str(path), "a .pt2 of stage export")
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{fault} (it is cut off, or none of its files)")
    try:
        program = torch.export.load(path)
        (given,) = program.graph_signature.user_inputs
        taken = next(n.meta["val"] for n in program.graph.nodes if n.name == given)
        batch, channels, height, width = taken.shape
        module = program.module().to(device)
        image_size = (int(height), int(width))
    except Exception as error:  # of whatever torch meets in the file
        raise WeightsError(f"{fault} ({first_line(error)})") from None
    if channels != 3 or taken.dtype != torch.float32:
        name = str(taken.dtype).removeprefix("torch.")
        raise WeightsError(
            f"{path}: takes {name} (N, {channels}, {height}, {width}); expected float32 "
            "(N, 3, height, width)"
        )

    def run(images: Images, is_bgr: bool) -> Embeddings:
        with torch.inference_mode():
            colours = onnx_file.colours(images[..., ::-1] if is_bgr else images)
            found = module(torch.from_numpy(colours).to(device))
            if not isinstance(found, Tensor):
                raise EmbeddingError(f"returns a {type(found).__name__}; expected one tensor")
            return unit(found.cpu().numpy(), len(images))

    return Runtime(
        run=run,
        image_size=image_size,
        batch=batch if isinstance(batch, int) else None,
        name=f"torch.export, {device}",
    )


def unit(embeddings: Any, count: int) -> Embeddings:
    """(N, D) or (N, D, 1, …) of any length -> (N, D) float32 of unit length.

    Raises:
        EmbeddingError: it has another shape, or another N than `count`.
    """
    found = np.asarray(embeddings, np.float32)
    if found.ndim < 2 or len(found) != count or found[0].size != found.shape[1]:
        raise EmbeddingError(f"returns {found.shape} for a batch of {count}; expected ({count}, D)")
    found = found.reshape(count, -1)
    lengths = np.sqrt(np.einsum("nd,nd->n", found, found))[:, None]
    return cast("Embeddings", found / np.maximum(lengths, np.finfo(np.float32).tiny))
