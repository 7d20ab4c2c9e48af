"""A network's ONNX file in half precision and in 8 bits, by ONNX Runtime's own tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsort_reid.data.packed import Images, Part
from deepsort_reid.evaluation.evaluate import embedded_sides, sides_to_rank
from deepsort_reid.evaluation.ranking import ranking
from deepsort_reid.export.runtimes import Runtime
from deepsort_reid.model.embed import over_part
from deepsort_reid.model.onnx_file import Floats
from deepsort_reid.model.onnx_graph import without_logs

CALIBRATION = 256  # crops of the train part, whose activations set the ranges of 8 bits
BATCH_SIZE = 64


def write_fp16(path: Path, full: Path) -> None:
    """Weights and arithmetic in half precision; images and embeddings stay float32.

    Args:
        path: the new file.
        full: the ONNX file in float32.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with without_logs():
        half = convert_float_to_float16(onnx.load(full), keep_io_types=True)
        OnnxModel(half).topological_sort(is_deterministic=True)  # its casts stand at the end
    path.write_bytes(half.SerializeToString(deterministic=True))


def write_int8(
    path: Path, full: Path, *, crops: Images, prepare: Callable[[Images], Floats]
) -> None:
    """Weights and activations in 8 bits, their ranges found on crops: static, channel by channel.

    Args:
        path: the new file.
        full: the ONNX file in float32.
        crops: (N, H, W, 3) uint8 RGB, of the train part: what is measured must stay unseen.
        prepare: what makes the file's input of them.
    """
    import onnx
    from onnxruntime import quantization

    class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Batches of crops, one by one."""

        def __init__(self) -> None:
            self.firsts = iter(range(0, len(crops), BATCH_SIZE))

        def get_next(self) -> Any:
            """The next batch, None after the last."""
            first = next(self.firsts, None)
            return None if first is None else {"images": prepare(crops[first : first + BATCH_SIZE])}

    with without_logs():
        quantization.quantize_static(
            str(full),
            str(path),
            Calibration(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    proto, origin = onnx.load(path), onnx.load(full)
    proto.producer_name = origin.producer_name
    del proto.metadata_props[:]
    proto.metadata_props.extend(origin.metadata_props)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def mean_average_precision(run: Runtime, query: Part, gallery: Part) -> float:
    """The mAP of an exported file's embeddings, as stage evaluate measures it."""

    def embed(part: Part, name: str) -> Tensor:
        return over_part(
            lambda images: torch.from_numpy(run(images.numpy())),
            part,
            f"embed {name}",
            batch_size=BATCH_SIZE,
            device=torch.device("cpu"),
        )

    first, second = embedded_sides(embed, query, gallery)
    return ranking(*sides_to_rank(first.images, second.images)).mAP
