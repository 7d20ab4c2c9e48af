"""ResNets of an eighth of the channels, for tests of what is done with a network."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deepsort_reid.model.backbones import resnet

SHARE = 8
EXAMPLES = (  # one network of each kind that is built in its own way
    "resnet18", "resnet10d_x0_5", "resnet18_ibn_a", "osnet_x0_25", "osnet_ibn_x1_0",
    "osnet_ain_x0_25", "deepsort", "timm/mobilenetv4_conv_small",
)  # fmt: skip
# Learned absolute positions; rotary ones, of DINOv3.
TRANSFORMERS = ("timm/vit_tiny_patch16_224", "timm/vit_small_patch16_dinov3")


class NarrowResNet(resnet.ReidResNet):
    """A ResNet of a sixtieth of the weights: a training or a checkpoint takes milliseconds."""

    def __init__(self, layout: resnet.Layout, classes: int):
        super().__init__(dataclasses.replace(layout, width=layout.width // SHARE), classes)


@contextmanager
def narrow() -> Iterator[None]:
    """Let `network.build` make narrow networks of every ResNet in a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "ReidResNet", NarrowResNet)
        yield
