"""Networks in ONNX files, whoever exported them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from deepsort_reid.comparison.network import Network, RuntimeEmbedder, check_size
from deepsort_reid.comparison.wanted import NORMALISATIONS, Wanted
from deepsort_reid.core.errors import DeepSortReidError, WeightsError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import Images
from deepsort_reid.export import runtimes
from deepsort_reid.export.runtimes import Floats
from deepsort_reid.model.checkpoint import CHECKS

TYPES: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
KEY = "normalisation"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Taken:
    """What a graph takes.

    Attributes:
        name: of its input.
        dtype: float32 or float16.
        batch: the number of images, if it takes but one number.
        image_size: height and width in pixels.
        stated: whether the graph states them.
    """

    name: str
    dtype: type[np.floating[Any]]
    batch: int | None
    image_size: tuple[int, int]
    stated: bool


class OnnxRun:
    """Runs a graph: (B, H, W, 3) uint8 RGB -> its first output as float32."""

    def __init__(self, session: Any, taken: Taken, mean: Sequence[float], std: Sequence[float]):
        """Wrap a session.

        Args:
            session: of ONNX Runtime.
            taken: what its graph takes.
            mean: RGB, of colours in [0, 1], which is subtracted here.
            std: likewise, by which is divided here.
        """
        self.session, self.taken = session, taken
        self.mean, self.std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (mean, std))

    def __call__(self, images: Images) -> Floats:
        """(B, H, W, 3) uint8 RGB -> (B, …) float32, of any length."""
        prepared = (runtimes.colours(images) - self.mean) / self.std
        given = {self.taken.name: prepared.astype(self.taken.dtype)}
        return cast("Floats", np.asarray(self.session.run(None, given)[0], np.float32))


def open_onnx(
    path: Path, wanted: Wanted, image_size: tuple[int, int], device: torch.device
) -> Network:
    """A graph that takes images (N, 3, H, W), in ONNX Runtime.

    Args:
        path: of the file.
        wanted: what the command line says of it.
        image_size: height and width where the graph takes any.
        device: a GPU is used if this ONNX Runtime can.

    Raises:
        WeightsError: it cannot be loaded, or takes or returns something else.
        ConfigError: an option contradicts the file.
    """
    wanted.refuse_options((KEY, "image_size"), "an ONNX file")
    try:
        session = runtimes.session(path, on_gpu=device.type == "cuda")
        taken, told = what_it_takes(session, wanted, image_size), metadata(session)
    except DeepSortReidError:
        raise
    except Exception as error:  # of ONNX Runtime's own classes, and texts that are none
        raise WeightsError(f"{path}: ONNX Runtime cannot load it ({first_line(error)})") from None
    notes = [] if taken.stated else [f"takes any size, {image_size[0]}×{image_size[1]} assumed"]
    where = told.get(KEY)
    if where in NORMALISATIONS:
        wanted.refuse_options(("image_size",), "an ONNX file of this project")
    else:
        where = wanted.options.get(KEY, "outside")
        notes += [] if KEY in wanted.options else [
            "normalised by ImageNet's mean, as boxmot does (the file does not say; "
            f"--set {wanted.name}.normalisation=inside: its graph does it)"
        ]  # fmt: skip
    inside = where == "inside"
    mean = (0.0, 0.0, 0.0) if inside else told.get("mean", MEAN)
    std = (1.0, 1.0, 1.0) if inside else told.get("std", STD)
    run = OnnxRun(session, taken, mean, std)
    batch = taken.batch or (None if takes_two(run, taken.image_size) else 1)
    provider = "GPU" if CUDA in session.get_providers() else "CPU"
    return Network(
        name=wanted.name,
        place=wanted.place,
        kind="ONNX file" + (f", {arch}" if (arch := told.get("arch")) else ""),
        embedder=RuntimeEmbedder(run, taken.image_size, batch),
        image_size=taken.image_size,
        file_bytes=path.stat().st_size,
        runtime=f"ONNX Runtime, {provider}",
        notes=[*notes, *([f"takes {batch} at a time, no more and no fewer"] if batch else [])],
        data_digest=str(told.get("data_digest", "")),
    )


def what_it_takes(session: Any, wanted: Wanted, image_size: tuple[int, int]) -> Taken:
    """What a session's graph takes.

    Raises:
        WeightsError: not images (N, 3, H, W).
    """
    given = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in given)
    fault = WeightsError(
        f"{wanted.place}: takes {shapes or 'nothing'}; expected one input of images, float32 or "
        "float16, (N, 3, height, width)"
    )
    if len(given) != 1 or given[0].type not in TYPES:
        raise fault
    (one,) = given
    if len(one.shape) != 4 or (one.shape[1] not in (3, None) and is_static(one.shape[1])):
        raise fault
    batch, _, height, width = one.shape
    stated = is_static(height) and is_static(width)
    if stated and wanted.options.get("image_size"):
        wanted.refuse_options((KEY,), f"an ONNX file for images of {height}×{width}")
    size = check_size(wanted.place, (height, width) if stated else image_size)
    return Taken(one.name, TYPES[one.type], batch if is_static(batch) else None, size, stated)


def is_static(dimension: object) -> bool:
    """Whether a dimension of a graph's input is a number."""
    return isinstance(dimension, int) and dimension > 0


def takes_two(run: OnnxRun, image_size: tuple[int, int]) -> bool:
    """Whether a graph that claims to take any number of images takes two.

    Some exporters leave a batch of one inside a graph whose input claims any.
    """
    try:
        return len(run(np.zeros((2, *image_size, 3), np.uint8))) == 2
    except Exception:  # of ONNX Runtime's own classes
        return False


def metadata(session: Any) -> dict[str, Any]:
    """What the exports of this project write into a file, as far as it is there and right."""
    raw: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
    found: dict[str, Any] = {}
    for name in ("arch", "data_digest", KEY):
        if name in raw:
            found[name] = raw[name]
    for name in ("mean", "std"):
        try:
            value = json.loads(raw.get(name, "null"))
        except ValueError:
            continue
        if CHECKS[name](value):
            found[name] = value
    return found


def first_line(error: Exception) -> str:
    """The beginning of an error's text."""
    return str(error).strip().partition("\n")[0][:200]
