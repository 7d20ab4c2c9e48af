"""Classifiers, poolings and necks do what their papers say, and change nothing else."""

import pytest
import torch

from deepsort_reid.model.heads import GemPool
from deepsort_reid.model.network import Design, build, without_classifier
from deepsort_reid.training.learner import TrainingForward
from tests.support.networks import EXAMPLES


@pytest.mark.parametrize("arch", EXAMPLES)
def test_a_cosine_head_sees_directions_alone(arch: str) -> None:
    net = build(Design(arch, head="cosine"), 7).eval()
    images = torch.randn(2, 3, 64, 32)
    head = net.classifier_module
    features = net.features(images)
    assert net(images).shape == (2, 7)
    torch.testing.assert_close(head(features), head(3 * features))
    most = torch.nn.functional.softplus(head.scale)
    torch.testing.assert_close(head(head.weight).diagonal(), most.expand(7))
    # All else is what it would be without.
    plain = build(Design(arch), 7).eval()
    assert torch.equal(plain.features(images), features)
    assert without_classifier(net).state_dict().keys() == (
        without_classifier(plain).state_dict().keys()
    )


def test_a_generalised_mean() -> None:
    pool, maps = GemPool(), torch.rand(2, 5, 4, 3) + 0.1
    expected = (maps**3).mean((2, 3), keepdim=True) ** (1 / 3)
    torch.testing.assert_close(pool(maps), expected)
    with torch.no_grad():
        pool.p.fill_(1.0)
    torch.testing.assert_close(pool(maps), maps.mean((2, 3), keepdim=True))
    with torch.no_grad():
        pool.p.fill_(60.0)
    torch.testing.assert_close(pool(maps), maps.amax((2, 3), keepdim=True), rtol=0.05, atol=0)
    pool(torch.zeros(1, 5, 4, 3)).sum().backward()
    assert pool.p.grad is not None
    assert pool.p.grad.isfinite()


@pytest.mark.parametrize("arch", EXAMPLES)
def test_the_neck_stands_between_distances_and_classes(arch: str) -> None:
    net = build(Design(arch, neck="bnneck"), 7).train()
    images = torch.randn(6, 3, 64, 32)
    logits, pooled, _ = TrainingForward(net)(images)
    behind = net.neck(pooled)
    torch.testing.assert_close(behind.mean(0), torch.zeros(net.feature_size), atol=1e-4, rtol=0)
    assert not net.neck.bias.requires_grad
    net.eval()
    logits, pooled, _ = TrainingForward(net)(images)
    assert torch.equal(logits, net(images))
    torch.testing.assert_close(net.neck(pooled), net.features(images))
    assert "neck.running_mean" in without_classifier(net).state_dict()


@pytest.mark.parametrize("arch", EXAMPLES)
def test_without_a_neck_all_is_as_published(arch: str) -> None:
    net, images = build(Design(arch), 7).eval(), torch.randn(2, 3, 64, 32)
    logits, pooled, _ = TrainingForward(net)(images)
    assert torch.equal(pooled, net.features(images))
    assert torch.equal(logits, net(images))
    assert not [name for name in net.state_dict() if "neck" in name]
