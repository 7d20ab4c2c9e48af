"""Which architecture a state dict is likely to be, by the names and shapes of its tensors."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from deepsort_reid.model.backbones.osnet import CHANNELS
from deepsort_reid.model.backbones.resnet import IBN, WIDTH

# Blocks of the four layers -> the network, with two and with three convolutions in a block.
BASIC: Mapping[tuple[int, ...], str] = {
    (2, 2, 2, 2): "resnet18",
    (3, 4, 6, 3): "resnet34",
    (1, 1, 1, 1): "resnet10",
}
BOTTLENECK: Mapping[tuple[int, ...], str] = {
    (2, 2, 2, 2): "resnet26", (3, 4, 6, 3): "resnet50",
    (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152",
}  # fmt: skip
# What a tensor's name holds that only this family has; the first that is found counts.
FAMILIES: Sequence[tuple[str, str]] = (
    (r"\.relative_position_bias_table$", "a Swin Transformer"),
    (r"(^|\.)(patch_embed|cls_token|class_token|class_embedding|patch_embeddings)",
     "a vision transformer"),
    (r"(^|\.)attnpool\.", "a ResNet of CLIP"),
    (r"(^|\.)(denseblock|features\.dense)", "a DenseNet"),
    (r"(^|\.)(Conv2d_1a_3x3|Mixed_\d)", "an Inception"),
    (r"(^|\.)(_?conv_stem|_blocks\.\d)|\.block\.\d\.fc1\.", "an EfficientNet or MobileNet"),
    (r"(^|\.)features\.\d+\.conv\.\d", "a MobileNet"),
    (r"(^|\.)(downsample_layers|layer_scale$|stages\.\d\.blocks\.\d\.(gamma|conv_dw))",
     "a ConvNeXt"),
    (r"(^|\.)model\.\d+\.(cv1|conv)\.", "a YOLO detector"),
    (r"(^|\.)(backbone\.body|rpn\.head|roi_heads)", "a detector"),
    (r"(^|\.)features\.\d+\.weight", "a VGG or AlexNet"),
)  # fmt: skip
LONG_ENOUGH = 100_000  # tensors; a file has hundreds


def likely_architecture(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the architecture that a state dict without prefix is likely to be of."""
    if len(tensors) > LONG_ENOUGH:
        return None
    found = resnet(tensors) or osnet(tensors)
    if found is None and {"conv.0.weight", "layer1.0.conv1.weight"} <= tensors.keys():
        found = "deepsort"
    if found:
        return found
    names = "\n".join(tensors)
    return next((family for sign, family in FAMILIES if re.search(sign, names, re.M)), None)


def osnet(tensors: Mapping[str, Tensor]) -> str | None:
    """An OSNet's name: by the normalisation of its blocks, and the width of its stem."""
    stem = tensors.get("conv1.conv.weight")
    if stem is None or "conv2.0.gate.fc1.weight" not in tensors or stem.dim() != 4:
        return None
    width = {channels[0]: name for name, channels in CHANNELS.items()}.get(len(stem))
    as_ain = "conv2.0.conv2.0.layers.0.conv1.weight" in tensors
    variant = "ain_" if as_ain else "ibn_" if "conv2.0.IN.weight" in tensors else ""
    return f"osnet_{variant}{width}" if width else f"an OSNet with a stem of {len(stem)} channels"


def resnet(tensors: Mapping[str, Tensor]) -> str | None:
    """A ResNet's name: by its blocks, their convolutions and widths, and what was added to them."""
    first = tensors.get("layer1.0.conv1.weight")
    deep_stem = "conv1.6.weight" in tensors
    if first is None or not (deep_stem or "conv1.weight" in tensors) or first.dim() != 4:
        return None
    blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith(f"layer{n}.")
                        and name.count(".") > 1}) for n in (1, 2, 3, 4))  # fmt: skip
    deep = "layer1.0.conv3.weight" in tensors
    name = (BOTTLENECK if deep else BASIC).get(blocks, f"a ResNet of {sum(blocks)} blocks")
    inner = tensors.get("layer1.0.conv2.weight")
    if deep and inner is not None and inner.dim() == 4 and inner.shape[1] != inner.shape[0]:
        groups = inner.shape[0] // max(1, inner.shape[1])
        name = f"{name.replace('resnet', 'resnext')}_{groups}x{inner.shape[1]}d"
    elif deep and first.shape[0] == 128:
        name = f"wide_{name}_2"
    if deep_stem and "layer2.0.downsample.2.weight" in tensors:
        half = "_x0_5" if first.shape[0] == WIDTH // 2 else ""
        return f"{name}d{half}"
    if "layer1.0.bn1.IN.weight" in tensors:
        name += IBN
    extra = "\n".join(tensors)
    for sign, added in (
        (r"\.se\.|\.se_module\.", "squeeze-and-excitation"),
        (r"(^|\n)NL_|\.nonlocal", "non-local blocks"), (r"\.downsample\.2\.|\.bn1\.0\.", "variant"),
    ):  # fmt: skip
        if re.search(sign, extra):
            return f"a {name} with {added}"
    return name
