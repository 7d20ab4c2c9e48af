"""Networks in ONNX files, whoever exported them, in ONNX Runtime."""

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from deepsort_reid.core.errors import (
    DeepSortReidError,
    MissingPackageError,
    WeightsError,
    first_line,
)
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import Images
from deepsort_reid.model.checkpoint import CHECKS

Floats = NDArray[np.float32]

TYPES: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
NORMALISATIONS = ("inside", "outside")  # of the graph
KEY = "normalisation"  # in the metadata of this project's files
CUDA = "CUDAExecutionProvider"
LARGEST = 2048  # pixels of a side
SPIN = {"session.intra_op.spin_duration_us": "1000"}  # older releases pass over it


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
    """Runs a graph: (B, H, W, 3) uint8 RGB -> its first output as float32.

    Its threads spin for a millisecond after a call, in wait for the next. What asks for torch's
    threads then waits for a core. So NumPy, which has none, prepares what goes in and takes what
    comes out, here and in those who call.
    """

    def __init__(self, session: Any, taken: Taken, mean: Sequence[float], std: Sequence[float]):
        """Wrap a session.

        Args:
            session: of ONNX Runtime.
            taken: what its graph takes.
            mean: RGB, of colours in [0, 1], which is subtracted here.
            std: likewise, by which is divided here.
        """
        self.session, self.taken = session, taken
        means, stds = (np.array(v, np.float64).reshape(3, 1, 1) for v in (mean, std))
        self.scale = (1 / (255 * stds)).astype(np.float32)
        self.offset = (-means / stds).astype(np.float32)

    def __call__(self, images: Images) -> Floats:
        """(B, H, W, 3) uint8 RGB -> (B, …) float32, of any length."""
        maps = images.transpose(0, 3, 1, 2)
        prepared = np.empty(maps.shape, np.float32)
        np.multiply(maps, self.scale, out=prepared)
        prepared += self.offset
        given = {self.taken.name: prepared.astype(self.taken.dtype, copy=False)}
        return cast("Floats", np.asarray(self.session.run(None, given)[0], np.float32))


@dataclass(frozen=True)
class OnnxFile:
    """An opened file.

    Attributes:
        run: runs its graph, once normalised as `normalisation` says.
        taken: what the graph takes.
        batch: how many images it takes, no more and no fewer; None: any number.
        normalisation: `inside` the graph, or `outside` of it.
        told: what the file says of itself, if one of this project's exports has written it.
        on_gpu: whether a GPU runs it.
    """

    run: OnnxRun
    taken: Taken
    batch: int | None
    normalisation: str
    told: Mapping[str, Any]
    on_gpu: bool

    @property
    def is_ours(self) -> bool:
        """Whether one of this project's exports has written it."""
        return KEY in self.told

    @property
    def runtime(self) -> str:
        """What runs it, in a few words."""
        return f"ONNX Runtime, {'GPU' if self.on_gpu else 'CPU'}"


def open_onnx(
    path: Path,
    *,
    image_size: tuple[int, int],
    on_gpu: bool = False,
    normalisation: str | None = None,
    label: str = "",
) -> OnnxFile:
    """A graph that takes images (N, 3, H, W), in ONNX Runtime.

    Args:
        path: of the file.
        image_size: height and width where the graph takes any.
        on_gpu: use a GPU if this ONNX Runtime can.
        normalisation: where the file does not say it; None: outside, by ImageNet's mean.
        label: what errors call the file; empty: its path.

    Raises:
        WeightsError: it cannot be loaded, or takes or returns something else.
        MissingPackageError: ONNX Runtime is not installed.
    """
    label = label or str(path)
    check_file(path, label, "an ONNX file")
    try:
        opened = session(path, on_gpu=on_gpu)
        taken, told = what_it_takes(opened, label, image_size), metadata(opened)
    except DeepSortReidError:
        raise
    except ModuleNotFoundError:
        raise MissingPackageError(
            f"{label}: an ONNX file, which needs ONNX Runtime: pip install 'deepsort-reid[export]'"
        ) from None
    except Exception as error:  # of ONNX Runtime's own classes, and texts that are none
        raise WeightsError(f"{label}: ONNX Runtime cannot load it ({first_line(error)})") from None
    where = told.get(KEY) or normalisation or "outside"
    inside = where == "inside"
    mean = (0.0, 0.0, 0.0) if inside else told.get("mean", MEAN)
    std = (1.0, 1.0, 1.0) if inside else told.get("std", STD)
    run = OnnxRun(opened, taken, mean, std)
    batch = taken.batch or (None if takes_two(run, taken.image_size) else 1)
    return OnnxFile(run, taken, batch, where, told, CUDA in opened.get_providers())


def check_file(path: Path, label: str, expected: str) -> None:
    """Refuse what is no file.

    Raises:
        WeightsError: it is none.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{label}: {what}; expected {expected}")


def session(file: Path | bytes, *, on_gpu: bool = False) -> Any:
    """An ONNX file or its content in ONNX Runtime: for the CPU, or for a GPU if it can use one.

    On a CPU it has as many threads as torch. They wait for their next work awake for a millisecond,
    which is longer than they are without any within a call. By themselves they would for tens of
    milliseconds, on cores that decoders, detectors and trackers need between two frames.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised as well
    options.intra_op_num_threads = torch.get_num_threads()
    for name, value in SPIN.items():
        options.add_session_config_entry(name, value)
    wanted = [*([CUDA] if on_gpu else []), "CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    with contextlib.redirect_stdout(io.StringIO()):  # where it announces a second attempt
        content = file if isinstance(file, bytes) else str(file)
        return onnxruntime.InferenceSession(content, options, providers=providers)


def colours(images: Images) -> Floats:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1]: what a graph takes that normalises itself."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def what_it_takes(session: Any, label: str, image_size: tuple[int, int]) -> Taken:
    """What a session's graph takes.

    Raises:
        WeightsError: not images (N, 3, H, W).
    """
    given = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in given)
    fault = WeightsError(
        f"{label}: takes {shapes or 'nothing'}; expected one input of images, float32 or "
        "float16, (N, 3, height, width)"
    )
    if len(given) != 1 or given[0].type not in TYPES:
        raise fault
    (one,) = given
    if len(one.shape) != 4 or (one.shape[1] not in (3, None) and is_static(one.shape[1])):
        raise fault
    if one.shape[1] != 3 and one.shape[3] == 3:  # colours innermost
        raise fault
    if len(names := [output.name for output in session.get_outputs()]) != 1:
        raise WeightsError(
            f"{label}: returns {len(names)} outputs ({', '.join(names)}); expected one, the "
            "embeddings"
        )
    batch, _, height, width = one.shape
    stated = is_static(height) and is_static(width)
    size = check_size(label, (height, width) if stated else image_size)
    return Taken(one.name, TYPES[one.type], batch if is_static(batch) else None, size, stated)


def check_size(label: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """The height and width of what a network takes, if they can be.

    Raises:
        WeightsError: they are too large for a network that looks at crops.
    """
    if max(image_size) > LARGEST:
        height, width = image_size
        raise WeightsError(
            f"{label}: takes images of {height}×{width}; expected at most {LARGEST} pixels"
        )
    return image_size


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
    for name in ("arch", "data_digest"):
        if name in raw:
            found[name] = raw[name]
    if raw.get(KEY) in NORMALISATIONS:
        found[KEY] = raw[KEY]
    for name in ("mean", "std"):
        try:
            value = json.loads(raw.get(name, "null"))
        except (ValueError, RecursionError):
            continue
        if CHECKS[name](value):
            found[name] = value
    return found
