"""A comparison as if networks had been measured, and small ONNX files of nobody's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deepsort_reid.comparison.measuring import (
    BATCHES,
    NO_APPEARANCE,
    Comparison,
    Measured,
    Tracking,
)
from deepsort_reid.comparison.network import Network
from deepsort_reid.evaluation import elsewhere
from deepsort_reid.evaluation.calibration import Calibration
from deepsort_reid.evaluation.ranking import Ranking
from deepsort_reid.tracking.score import Scores
from tests.support.tracks import Colours

PIDS = np.arange(120) // 4  # 30 identities of four queries each


def precisions(mean: float, seed: int = 0) -> np.ndarray:
    """Average precisions of 120 queries about a mean, the first without a match."""
    found = np.clip(np.random.default_rng(seed).normal(mean, 0.1, len(PIDS)), 0, 1)
    found[0] = np.nan
    return found


def measured(name: str, mean: float, *, size: int = 1_000_000, speed: float = 100.0) -> Measured:
    """A network with average precisions about a mean."""
    found = precisions(mean)
    ranking = Ranking(float(np.nanmean(found)), mean / 2, np.full(50, mean), found, len(found), 1,
                      500, True, 30)  # fmt: skip
    network = Network(
        name=name, place=f"{name}.onnx", kind="ONNX file", embedder=Colours(),
        image_size=(128, 64), file_bytes=size, runtime="ONNX Runtime, CPU", notes=["a note"],
    )  # fmt: skip
    speeds = {batch: speed * batch**0.5 for batch in BATCHES}
    return Measured(network, elsewhere.Scores(ranking, Calibration(0.01, {}, [], [])), 0.2, speeds)


def comparison(means: dict[str, float], hota: Sequence[float] = (), people: int = 12) -> Comparison:
    """Networks by name and mAP; with HOTA of each and of no appearance, also tracked."""
    networks = [
        measured(name, mean, size=10 ** (5 + k % 4), speed=50 * 1.7**k)
        for k, (name, mean) in enumerate(means.items())
    ]
    tracking = None
    if hota:
        scores = {
            name: Scores(value, value + 0.1, 0.7, 10 + k, 20)
            for k, (name, value) in enumerate(zip([*means, NO_APPEARANCE], hota, strict=True))
        }
        tracking = Tracking(scores, 2, 600, people)
    return Comparison(networks, PIDS, tracking, "a CPU, 2 threads; torch 2")


def mean_colours(
    path: Path,
    shape: Sequence[int | str] = ("batch", 3, 32, 16),
    kind: int = TensorProto.FLOAT,
    *,
    only_one: bool = False,
    **metadata: str,
) -> Path:
    """Write a graph whose embedding is the mean of each channel.

    Args:
        path: of the file.
        shape: of its input.
        kind: the input's type.
        only_one: whether a batch of one is left inside, whatever the input claims.
        metadata: what is written beside the graph.
    """
    nodes = [
        helper.make_node("Cast", ["images"], ["colours"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["colours"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["embeddings"]),
    ]
    rows = np.array([1 if only_one else -1, 3], np.int64)
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(rows, "shape")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path
