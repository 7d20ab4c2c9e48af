"""Weights and multiply-adds as papers state them."""

import pytest
import torch

from deepsort_reid.model.network import Design, build
from deepsort_reid.model.size import embedding_weights, multiply_adds

# Millions of weights, billions of multiply-adds at a size, as published: OSNet's in its paper,
# those of ImageNet's networks without their classifier, which counts 0.2 to 2 million.
PUBLISHED = [
    ("osnet_x1_0", (256, 128), 2.2, 0.979),
    ("osnet_x0_25", (256, 128), 0.2, 0.082),
    ("resnet18", (224, 224), 11.2, 1.81),
    ("timm/vit_tiny_patch16_224", (224, 224), 5.5, 1.25),
    ("timm/mobilenetv4_conv_small", (224, 224), 2.5, 0.185),
    ("timm/repvit_m0_9", (224, 224), 4.7, 0.82),
]


@pytest.mark.parametrize(("arch", "size", "millions", "billions"), PUBLISHED)
def test_numbers_are_those_of_papers(
    arch: str, size: tuple[int, int], millions: float, billions: float
) -> None:
    net = build(Design(arch), 751, image_size=size).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert embedding_weights(net) / 1e6 == pytest.approx(millions, abs=0.05)
    assert multiply_adds(net, size) / 1e9 == pytest.approx(billions, rel=0.01)
    after = net.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_classifier_counts_for_nothing() -> None:
    few, many = (build(Design("osnet_x0_25"), classes).eval() for classes in (2, 900))
    assert embedding_weights(few) == embedding_weights(many)
    assert multiply_adds(few, (64, 32)) == multiply_adds(many, (64, 32))
