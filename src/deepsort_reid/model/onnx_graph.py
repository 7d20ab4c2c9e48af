"""The ONNX graph of a network, traced by torch's exporter."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from deepsort_reid.core.errors import first_line
from deepsort_reid.model import network
from deepsort_reid.model.onnx_file import OnnxRun, Taken, session

if TYPE_CHECKING:
    from onnx import ModelProto

logger = logging.getLogger(__name__)

OPSET = 18  # the first that torch's exporter writes without converting; every runtime has it
LARGEST_BATCH = 4096
INPUT = "images"


def traced(
    net: nn.Module, image_size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> OnnxRun | None:
    """A network in ONNX Runtime.

    Args:
        net: of `network.build`, on the CPU, in eval mode.
        image_size: height and width in pixels.
        mean: RGB, of colours in [0, 1].
        std: likewise.

    Returns:
        what embeds, to unit length; None where a package is missing, or a layer has no such form.
    """
    try:
        content = as_onnx(Normalised(net), image_size).SerializeToString()
        opened = session(content)
    except ModuleNotFoundError:
        return None
    except Exception as error:  # of torch's exporter or ONNX Runtime
        logger.info("torch embeds, since the network cannot be traced: %s", first_line(error))
        return None
    return OnnxRun(opened, Taken(INPUT, np.float32, None, image_size, stated=True), mean, std)


class Normalised(nn.Module):
    """A network as boxmot wants it: normalised images in, unit embeddings out."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32, normalised -> (B, D) float32 of unit length."""
        return network.embed(self.net, images)


def as_onnx(module: nn.Module, image_size: tuple[int, int]) -> "ModelProto":
    """The graph that torch's exporter traces from a module, for batches of any size."""
    with without_logs():
        program = torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 3, *image_size),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=["embeddings"],
            dynamic_shapes=(any_batch(),),
            verbose=False,
        )
    assert program is not None  # noqa: S101 (it is None only where dynamo=False)
    return program.model_proto


def without_traces(proto: "ModelProto") -> "ModelProto":
    """Strip what an exporter says of the code that it has followed: paths, classes, versions."""
    graph = proto.graph
    del graph.value_info[:]
    named = (*graph.node, *graph.input, *graph.output, *graph.initializer)
    for part in (proto, graph, *named):
        del part.metadata_props[:]
        part.doc_string = ""
    proto.producer_name, proto.producer_version = "deepsort-reid", ""
    return proto


def any_batch() -> dict[int, Any]:
    """The first dimension may be anything."""
    return {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}


@contextmanager
def without_logs() -> Iterator[None]:
    """Keep what an exporter says of itself, and of other libraries, out of the stage's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
