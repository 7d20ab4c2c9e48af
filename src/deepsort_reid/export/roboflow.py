"""The folder that Roboflow's reid (PyPI `reid`, which its `trackers` use) takes a network from.

`weights.safetensors` holds the tensors, all of which must have their place in the network that
`reid_config.json` names: OSNet under torchreid's names, or `timm:` and a name of timm's. A ResNet
of torchvision's has timm's names too. reid resizes crops as stage split does, by Pillow.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deepsort_reid.core import files
from deepsort_reid.core.arch import TIMM
from deepsort_reid.export import runtimes
from deepsort_reid.export.runtimes import Runtime
from deepsort_reid.model.backbones import from_timm
from deepsort_reid.model.pretrained.source import IN_FOLDER

CONFIG = "reid_config.json"
OF_TIMM = "timm:"  # before a name of timm's
OSNETS = ("osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25")
NAMES = {  # ours -> reid's, beside `timm/NAME`, which is `timm:NAME` there
    **{arch: arch for arch in OSNETS},
    **{arch: f"{OF_TIMM}{arch}" for arch in ("resnet18", "resnet34", "resnet50", "resnet18d")},
}
RENAMED = ("module.", "model.", "encoder.")  # what reid takes off the start of names
LEFT_OUT = "classifier"  # how the names begin of what it does not load


def name_of(arch: str) -> str:
    """What reid calls a network that it can build."""
    return NAMES.get(arch) or f"{OF_TIMM}{arch.removeprefix(TIMM)}"


def refusal(arch: str, names: Iterable[str], image_size: tuple[int, int]) -> str | None:
    """Why reid could not take a network of timm; None where it can, and of other networks.

    Args:
        arch: its name.
        names: of its tensors, timm's.
        image_size: height and width in pixels that it was built for.
    """
    if not arch.startswith(TIMM):
        return None
    about = from_timm.library().get_pretrained_cfg(arch.removeprefix(TIMM))
    height, width = about.input_size[1:]
    if about.fixed_input_size and image_size != (height, width):
        return (
            f"Roboflow's reid builds {arch} for images of {height}×{width} alone, split.image_size "
            f"is {list(image_size)}"
        )
    if any(name.startswith((*RENAMED, LEFT_OUT)) for name in names):
        return f"Roboflow's reid takes the names of some tensors of {arch} for others"
    return None


def write(path: Path, arch: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a folder that reid loads.

    Args:
        path: of the folder.
        arch: the network's name here.
        weights: under the names of published files, without a classifier.
        facts: what travels with every file; reid ignores it.

    Raises:
        OSError: the disk is full.
    """
    from safetensors.torch import save

    path.mkdir(exist_ok=True)
    (path / IN_FOLDER).write_bytes(save(dict(weights)))
    preprocessing = {
        "input_size": facts["image_size"],
        "mean": facts["mean"],
        "std": facts["std"],
        "interpolation": "bilinear",
        "to_rgb": True,
        "resize_mode": "stretch",
    }
    content = {"architecture": name_of(arch), "preprocessing": preprocessing}
    files.write_json(path / CONFIG, content | {"deepsort_reid": dict(facts)})


def open_folder(path: Path) -> Runtime:
    """The network that a folder names, with its weights: timm's own where it is one of timm's.

    Raises:
        ExportError: a weight is missing, or one is too many.
    """
    from safetensors.torch import load_file

    name = files.read_json(path / CONFIG)["architecture"]
    weights = load_file(path / IN_FOLDER)
    if not name.startswith(OF_TIMM):
        return runtimes.published(name, weights, path / IN_FOLDER)
    net = from_timm.library().create_model(name.removeprefix(OF_TIMM), num_classes=0)
    return runtimes.torch_module(
        runtimes.with_weights(net, weights, path / IN_FOLDER), runtimes.normalised
    )
