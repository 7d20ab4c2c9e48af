"""The files in which a trained network goes to trackers: how each is written and loaded.

The same network gives the same bytes: neither paths nor traces of the code go into a file.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from deepsort_reid.core.arch import ARCHS, TIMM
from deepsort_reid.export import roboflow, runtimes
from deepsort_reid.export.runtimes import Runtime
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.embed import deployed
from deepsort_reid.model.onnx_graph import (
    INPUT,
    Normalised,
    any_batch,
    as_onnx,
    without_logs,
    without_traces,
)

if TYPE_CHECKING:
    from onnx import ModelProto

ORIGIN_SIZE = (128, 64)  # deep_sort_pytorch resizes every crop to it
TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What is exported: a network, and what its users must know."""

    net: nn.Module  # of `network.build`, on the CPU
    about: Description
    max_cosine_distance: float  # the recommended threshold on 1 - cosine
    too_few: Mapping[str, str] = field(default_factory=dict)  # as `threshold.read_too_few` says

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.about.image_size
        return height, width

    @property
    def facts(self) -> dict[str, Any]:
        """What travels with every file, as plain data."""
        about = self.about
        return {
            "arch": about.arch,
            "embedding_size": about.embedding_size,
            "image_size": list(about.image_size),
            "mean": list(about.mean),
            "std": list(about.std),
            "max_cosine_distance": self.max_cosine_distance,
            **({"max_cosine_distance_too_few": why} if (why := self.threshold_too_few) else {}),
            "epoch": about.epoch,
            "data_digest": about.data_digest,
        }

    @property
    def threshold_too_few(self) -> str:
        """What the threshold was found from too little of; empty where from enough."""
        return self.too_few.get("threshold", "")

    @property
    def beyond_plain(self) -> list[str]:
        """In what the embedding is made in another way than by the published architecture."""
        plain = {"last_stride": 2, "pooling": "average", "neck": "none"}
        if cast("network.ReidNet", self.net).keeps_last_map:
            del plain["last_stride"]
        return [name for name, value in plain.items() if getattr(self.about, name) != value]

    @cached_property
    def graph(self) -> "ModelProto":
        """The ONNX graph, normalised images in, unit embeddings out; traced once."""
        return without_traces(as_onnx(Normalised(self.deployed), self.image_size))

    @cached_property
    def deployed(self) -> nn.Module:
        """The network without the classifier, as its authors deploy it."""
        return deployed(network.without_classifier(self.net))

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The state dict without the classifier."""
        return checkpoint.weights(network.without_classifier(self.net))


@dataclass(frozen=True)
class Form:
    """A kind of exported file, or of a folder of files that belong together."""

    file: str  # its name, or the folder's
    reader: str  # who loads it
    runtime: str  # what runs it when it is verified
    write: Callable[[Path, Trained], None]
    open: Callable[[Path], Runtime]
    usage: str  # two lines that load it
    archs: tuple[str, ...] | None = None  # None: any; `timm/` stands for all of timm's
    why_not: str = ""  # said of other archs
    refuses: Callable[[Trained], str | None] = lambda _: None  # why it takes not even such a one
    image_size: tuple[int, int] | None = None  # the only one, if its reader knows but one
    plain: bool = False  # whether its reader builds the network, and knows the plain one alone
    least_cosine: float = 0.99999
    parameter: str = ""  # that asks for it, where it is not always written

    def obstacle(self, trained: Trained) -> str | None:
        """Why a network cannot go into this form; None if it can."""
        arch = trained.about.arch
        family = TIMM if arch.startswith(TIMM) else arch
        if self.archs is not None and family not in self.archs:
            return f"{self.why_not}, arch is {arch}"
        unlike = [f"{name} is {getattr(trained.about, name)}" for name in trained.beyond_plain]
        if self.plain and unlike:
            return f"{self.reader} builds the plain {arch}, {', '.join(unlike)}"
        if self.image_size not in (None, trained.image_size):
            height, width = self.image_size or (0, 0)
            return (
                f"{self.reader} resizes every crop to {height}×{width}, split.image_size is "
                f"{list(trained.image_size)}"
            )
        return self.refuses(trained)


# ONNX


def write_onnx_normalised(path: Path, trained: Trained) -> None:
    """ONNX, normalised images in, unit embeddings out: whoever loads it normalises."""
    write_onnx(path, trained, copy_of(trained.graph), "outside")


def write_onnx_colours(path: Path, trained: Trained) -> None:
    """ONNX, colours in [0, 1] in, unit embeddings out: the normalisation is in the graph."""
    about = trained.about
    write_onnx(path, trained, with_normalisation(trained.graph, about.mean, about.std), "inside")


def write_onnx(path: Path, trained: Trained, proto: "ModelProto", normalisation: str) -> None:
    """Write a graph with the network's facts as metadata."""
    from onnx import helper

    facts = {key: plain_text(value) for key, value in trained.facts.items()}
    helper.set_model_props(proto, facts | {"colours": "rgb", "normalisation": normalisation})
    path.write_bytes(proto.SerializeToString(deterministic=True))


def copy_of(proto: "ModelProto") -> "ModelProto":
    """A copy of a graph."""
    copied = type(proto)()
    copied.CopyFrom(proto)
    return copied


def with_normalisation(
    proto: "ModelProto", mean: Sequence[float], std: Sequence[float]
) -> "ModelProto":
    """A copy of a graph that takes colours in [0, 1] and normalises them first."""
    from onnx import helper, numpy_helper

    copied = copy_of(proto)
    graph = copied.graph
    for node in graph.node:
        node.input[:] = ["colours.normalised" if name == INPUT else name for name in node.input]
    first = [
        helper.make_node("Sub", [INPUT, "colours.mean"], ["colours.centred"], "subtract_mean"),
        helper.make_node(
            "Div", ["colours.centred", "colours.std"], ["colours.normalised"], "divide_by_std"
        ),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*first, *rest])
    for name, values in (("colours.mean", mean), ("colours.std", std)):
        array = np.array(values, np.float32).reshape(3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, name))
    return copied


def embedder(trained: Trained) -> nn.Module:
    """Colours in [0, 1] in, unit embeddings out."""
    about = trained.about
    return network.Embedder(trained.deployed, about.mean, about.std).eval()


def plain_text(value: Any) -> str:
    """Texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


# torch


def write_exported_program(path: Path, trained: Trained) -> None:
    """`torch.export`'s file: colours in [0, 1] in, unit embeddings out, no code needed."""
    example = torch.zeros(2, 3, *trained.image_size)
    with without_logs():
        program = torch.export.export(embedder(trained), (example,), dynamic_shapes=(any_batch(),))
        for node in program.graph.nodes:
            for trace in TRACES:
                node.meta.pop(trace, None)
        content = io.BytesIO()  # given a path, torch would write that into the file
        facts = json.dumps(trained.facts, indent=2)
        torch.export.save(program, content, extra_files={"deepsort_reid.json": facts})
    path.write_bytes(content.getvalue())


def write_boxmot(path: Path, trained: Trained) -> None:
    """The dictionary that boxmot rebuilds a network from."""
    content = {
        "state_dict": trained.weights(),
        "model_name": trained.about.arch,
        "num_classes": 1,  # of a classifier that boxmot makes and never runs
        "preprocess": "resize",
        "model_kwargs_schema_version": 1,
        "model_kwargs": {"img_size": list(trained.image_size)},
    }
    save_weights(path, content | {"deepsort_reid": trained.facts})


def write_torchreid(path: Path, trained: Trained) -> None:
    """Weights for torchreid's extractor, which builds the network from the name it is told."""
    facts = trained.facts
    save_weights(path, {"state_dict": trained.weights(), "model_name": facts["arch"], **facts})


def write_deep_sort_pytorch(path: Path, trained: Trained) -> None:
    """Weights for deep_sort_pytorch's extractor."""
    save_weights(path, {"net_dict": trained.weights(), **trained.facts})


def write_roboflow(path: Path, trained: Trained) -> None:
    """A folder for Roboflow's reid: weights, and what it builds the network and its input from."""
    weights = checkpoint.weights(published(trained))
    roboflow.write(path, trained.about.arch, weights, trained.facts)


def refused_by_roboflow(trained: Trained) -> str | None:
    """Why Roboflow's reid would not build this network of timm, or not load its weights."""
    names = published(trained).state_dict()
    return roboflow.refusal(trained.about.arch, names, trained.image_size)


def published(trained: Trained) -> nn.Module:
    """What makes embeddings, its tensors under the names of published files."""
    return cast("network.ReidNet", network.without_classifier(trained.net)).published


def save_weights(path: Path, content: Mapping[str, Any]) -> None:
    """Write with `torch.save` what `weights_only=True` reads, without the path in it."""
    with path.open("wb") as file:
        torch.save(dict(content), file)


RESNETS = ("resnet18", "resnet34", "resnet50")
OSNETS = tuple(arch for arch in ARCHS if arch.startswith("osnet"))

FORMS = (
    Form(
        "boxmot.onnx", "boxmot", "onnxruntime", write_onnx_normalised, runtimes.onnx_normalised,
        """from boxmot.reid.core.runtime import ReID
embeddings = ReID("models/export/boxmot.onnx")(frame_bgr, boxes_ltrb)""",
    ),
    Form(
        "boxmot.pt", "boxmot", "torch", write_boxmot, runtimes.by_name,
        """from boxmot.reid.core.runtime import ReID
embeddings = ReID("models/export/boxmot.pt")(frame_bgr, boxes_ltrb)""",
        archs=(*RESNETS, *OSNETS), plain=True,
        why_not="boxmot has no such network (boxmot.onnx does the same)",
    ),
    Form(
        "ultralytics.onnx", "ultralytics", "onnxruntime", write_onnx_colours, runtimes.onnx_colours,
        """from ultralytics.trackers.utils.reid import ReID
embeddings = ReID("models/export/ultralytics.onnx")(frame_bgr, boxes_xywh)""",
    ),
    Form(
        "model.pt2", "torch", "torch.export", write_exported_program, runtimes.exported_program,
        """embed = torch.export.load("models/export/model.pt2").module()
embeddings = embed(colours)  # (N, 3, {height}, {width}) float32 RGB in [0, 1]""",
    ),
    Form(
        "torchreid.pth", "torchreid", "torch", write_torchreid, runtimes.by_name,
        "from torchreid.reid.utils import FeatureExtractor  # in a checkout: torchreid.utils\n"
        'embed = FeatureExtractor("{arch}", "models/export/torchreid.pth", ({height}, {width}), '
        'device="cpu")',
        archs=(*RESNETS, "resnet50_ibn_a", *OSNETS), plain=True,
        why_not="torchreid has no such network",
    ),
    Form(
        "roboflow", "Roboflow's reid", "torch", write_roboflow, roboflow.open_folder,
        """embedder = reid.ReIDModel.from_pretrained("models/export/roboflow")
embeddings = embedder.extract_embeddings(detections, frame_bgr)  # of supervision""",
        archs=(*roboflow.NAMES, TIMM), plain=True, refuses=refused_by_roboflow,
        why_not="Roboflow's reid has no such network",
    ),
    Form(
        "deep_sort_pytorch.pth", "deep_sort_pytorch", "torch", write_deep_sort_pytorch,
        runtimes.deep_sort_pytorch,
        """from deep_sort.deep.feature_extractor import Extractor
extractor = Extractor("models/export/deep_sort_pytorch.pth"); extractor.net.eval()""",
        archs=("deepsort",), why_not="deep_sort_pytorch's own network is arch: deepsort",
        image_size=ORIGIN_SIZE, plain=True,
    ),
)  # fmt: skip
