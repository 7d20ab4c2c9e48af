"""Networks in ONNX files that take part in a comparison."""

from pathlib import Path

import torch

from deepsort_reid.comparison.network import BATCH_SIZE, Network
from deepsort_reid.comparison.wanted import Wanted
from deepsort_reid.model import onnx_file
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.onnx_file import KEY
from deepsort_reid.model.runtimes import of_onnx


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
    file = onnx_file.open_onnx(
        path, image_size=image_size, on_gpu=device.type == "cuda",
        normalisation=wanted.options.get(KEY), label=wanted.place,
    )  # fmt: skip
    taken, told = file.taken, file.told
    height, width = taken.image_size
    if taken.stated and wanted.options.get("image_size"):
        wanted.refuse_options((KEY,), f"an ONNX file for images of {height}×{width}")
    notes = [] if taken.stated else [f"takes any size, {height}×{width} assumed"]
    if file.is_ours:
        wanted.refuse_options(("image_size",), "an ONNX file of this project")
    elif KEY not in wanted.options:
        notes.append(
            "normalised by ImageNet's mean, as boxmot does (the file does not say; "
            f"--set {wanted.name}.normalisation=inside: its graph does it)"
        )
    if file.batch:
        notes.append(f"takes {file.batch} at a time, no more and no fewer")
    return Network(
        name=wanted.name,
        place=wanted.place,
        kind="ONNX file" + (f", {arch}" if (arch := told.get("arch")) else ""),
        embedder=Extractor.from_runtime(of_onnx(file), batch_size=BATCH_SIZE),
        image_size=taken.image_size,
        file_bytes=path.stat().st_size,
        runtime=file.runtime,
        notes=notes,
        data_digest=str(told.get("data_digest", "")),
    )
