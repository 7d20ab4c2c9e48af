"""Networks in files of torch: our checkpoints, and state dicts of whoever wrote them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.wanted import Wanted
from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.errors import ConfigError, WeightsError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.network import Design
from deepsort_reid.model.onnx_file import check_size
from deepsort_reid.model.pretrained.architectures import likely_architecture
from deepsort_reid.model.pretrained.kinds import is_safetensors
from deepsort_reid.model.pretrained.loading import COUNTER, LoadReport, load_weights
from deepsort_reid.model.pretrained.reading import read_state_dicts, read_torch

CHECKPOINT_KEYS = {"net_dict", "classes", "image_size"}  # which only our checkpoints have
SIZES = {"deepsort": (128, 64)}  # what an architecture takes, where its file does not say it
USUAL_SIZE = (256, 128)  # height and width that most re-identification networks take
# A tensor that only this network has, by the end of its name: what stands before is a prefix.
SIGNS = ("layer1.0.conv1.weight", "conv1.conv.weight")
CLASSIFIER = re.compile(r"(fc|head|heads)\.(weight|bias)|(classifier|last_linear)\..*")


def open_checkpoint(path: Path, wanted: Wanted, device: torch.device) -> Network:
    """A checkpoint of this project, which says everything of itself.

    Raises:
        WeightsError: it is none.
    """
    net, about = checkpoint.load(path)
    wanted.refuse_options((), "a checkpoint of this project")
    height, width = about.image_size
    extractor = Extractor.from_network(
        net, image_size=(height, width), mean=about.mean, std=about.std, device=device
    )
    return Network(
        name=wanted.name,
        place=wanted.place,
        kind=f"checkpoint of this project, {about.arch}",
        embedder=extractor,
        image_size=extractor.image_size,
        file_bytes=path.stat().st_size,
        runtime=f"torch, {device}",
        data_digest=about.data_digest,
    )


def open_torch(
    path: Path, wanted: Wanted, image_size: tuple[int, int] | None, device: torch.device
) -> Network:
    """A checkpoint of this project, or a state dict whose architecture its tensors tell.

    Args:
        path: of torch.save, or .safetensors.
        wanted: what the command line says of it.
        image_size: what it takes, where the file does not say it.
        device: where to compute.

    Raises:
        WeightsError: it cannot be read, or its architecture is not known here.
        ConfigError: the network cannot be built.
    """
    states = read_state_dicts(path)
    content = {} if is_safetensors(path) else read_torch(path)
    if isinstance(content, Mapping) and content.keys() >= CHECKPOINT_KEYS:
        return open_checkpoint(path, wanted, device)
    wanted.refuse_options(("arch", "image_size"), "a state dict of torch")
    arch = wanted.options.get("arch") or architecture_of(states, wanted)
    facts = facts_of(content)
    notes, size = [], facts.get("image_size") or image_size
    if size is None:
        size = SIZES.get(arch, USUAL_SIZE)
        notes.append("input size assumed (the file does not say; --image-size changes it)")
    if "mean" not in facts:
        notes.append("normalised by ImageNet's mean (the file does not say)")
    return from_weights(
        path, wanted, arch, (size[0], size[1]), device,
        mean=facts.get("mean", MEAN), std=facts.get("std", STD), notes=notes,
        data_digest=facts.get("data_digest", ""),
    )  # fmt: skip


def from_weights(
    path: Path,
    wanted: Wanted,
    arch: str,
    image_size: tuple[int, int],
    device: torch.device,
    *,
    mean: Any,
    std: Any,
    notes: list[str],
    kind: str = "weights of torch",
    data_digest: str = "",
) -> Network:
    """A network of this project's with a file's weights, all of them.

    Raises:
        WeightsError: they do not fit.
        ConfigError: the network cannot be built.
    """
    try:
        size = check_size(wanted.place, image_size)
        net = network.build(Design(arch), 1, image_size=size)
    except ConfigError as error:
        raise ConfigError(f"{wanted.place}: {error}") from None
    left = unused(load_weights(net, path, label=wanted.place))
    if left:
        notes = [*notes, f"not used of the file, so it may embed otherwise elsewhere: {left}"]
    return Network(
        name=wanted.name,
        place=wanted.place,
        kind=f"{kind}, {arch}",
        embedder=Extractor.from_network(
            net, image_size=image_size, mean=mean, std=std, device=device
        ),
        image_size=image_size,
        file_bytes=path.stat().st_size,
        runtime=f"torch, {device}",
        notes=notes,
        data_digest=data_digest,
    )


def architecture_of(states: Mapping[str, Mapping[str, Tensor]], wanted: Wanted) -> str:
    """The name of the network that a file holds, by the names and shapes of its tensors.

    Raises:
        WeightsError: none of this project's.
    """
    likely = [
        likely_architecture(
            {n.removeprefix(prefix): w for n, w in state.items() if n.startswith(prefix)}
        )
        for state in states.values()
        for prefix in prefixes(state)
    ]
    found = [arch for arch in likely if arch]
    known = next((arch for arch in found if arch in ARCHS), None)
    if known:
        return known
    what = f"it looks like {found[0]}, which" if found else "its architecture"
    raise WeightsError(
        f"{wanted.place}: {what} is not known here by its tensors; if timm has the network, name "
        f"it: --set {wanted.name}.arch=timm/NAME; or compare an ONNX file of it"
    )


def prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """What may stand before a network's own names in a state dict."""
    found = [name.removesuffix(sign) for name in state for sign in SIGNS if name.endswith(sign)]
    return list(dict.fromkeys(["", *found]))


def facts_of(content: Any) -> dict[str, Any]:
    """What a file says: `image_size`, `mean`, `std` and `data_digest`, as far as it does.

    Exported files of this project say all of it, and boxmot's the size.
    """
    content = content if isinstance(content, Mapping) else {}
    inner = content.get("deepsort_reid")
    options = content.get("model_kwargs")
    found: dict[str, Any] = dict(content) | (dict(inner) if isinstance(inner, Mapping) else {})
    if isinstance(options, Mapping):
        found.setdefault("image_size", options.get("img_size"))
    names = ("image_size", "mean", "std", "data_digest")
    return {
        name: found[name]
        for name in names
        if name in found and checkpoint.CHECKS[name](found[name])
    }


def unused(report: LoadReport) -> str:
    """Tensors of a file that belong to no classifier and that the network did not take."""
    names = [
        name
        for name in [*report.unknown, *report.skipped]
        if not name.endswith(COUNTER) and not CLASSIFIER.fullmatch(name)
    ]
    return ", ".join(names[:3]) + (f", … ({len(names)})" if len(names) > 3 else "")
