"""Networks, their embeddings, and frozen layers."""

import copy

import pytest
import torch
from torchvision import models

from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.model.network import (
    Design,
    Embedder,
    build,
    embed,
    freeze,
    set_training,
)


@pytest.mark.parametrize("arch", [*ARCHS, "timm/mobilenetv4_conv_small"])
def test_logits_and_unit_embeddings(arch: str) -> None:
    net = build(Design(arch), 7).eval()
    images = torch.randn(2, 3, 64, 32)
    embeddings = embed(net, images)
    assert net(images).shape == (2, 7)
    assert embeddings.shape == (2, net.feature_size)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_a_resnet_is_torchvisions(arch: str) -> None:
    """Names, initial weights, answers and gradients, to the last bit."""
    net = build(Design(arch), 5, seed=3)
    torch.manual_seed(3)
    reference = models.get_model(arch, num_classes=5)
    state, expected = net.state_dict(), reference.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in state)
    images = torch.randn(2, 3, 64, 32)
    for module in (net, reference):
        module(images).square().sum().backward()
    both = zip(net.parameters(), reference.parameters(), strict=True)
    assert all(torch.equal(one.grad, other.grad) for one, other in both)
    assert torch.equal(net.eval()(images), reference.eval()(images))


def test_the_small_network_has_deep_sort_pytorchs_names() -> None:
    shapes = {
        name: tuple(w.shape) for name, w in build(Design("deepsort"), 751).state_dict().items()
    }
    assert shapes["conv.0.bias"] == (64,)
    assert shapes["layer1.0.conv1.weight"] == (64, 64, 3, 3)
    assert "layer1.0.downsample.0.weight" not in shapes
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer4.1.bn2.running_var"] == (512,)
    assert shapes["classifier.0.weight"] == (256, 512)
    assert shapes["classifier.4.weight"] == (751, 256)


@pytest.mark.parametrize(
    "arch", ["resnet18", "resnet50", "resnet18_ibn_a", "resnet10d", "deepsort"]
)
def test_a_last_stride_of_one_keeps_the_feature_map(arch: str) -> None:
    images = torch.randn(2, 3, 64, 32)
    sizes = {}
    for stride in (1, 2):
        net = build(Design(arch, last_stride=stride), 3).eval()
        net.avgpool.register_forward_hook(
            lambda _, inputs, __, stride=stride: sizes.update({stride: inputs[0].shape[2:]})
        )
        net(images)
    assert sizes[1] == (2 * sizes[2][0], 2 * sizes[2][1])
    # Nothing else differs: weights of one are weights of the other.
    other = build(Design(arch), 3)
    other.load_state_dict(build(Design(arch, last_stride=1), 3).state_dict())


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(Design(), 3, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (
        build(Design(), 3, seed=5),
        build(Design(), 3, seed=6),
    )
    assert torch.equal(first.fc.weight, again.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_the_embedder_normalises_by_itself() -> None:
    net = build(Design(), 3).eval()
    colours = torch.rand(2, 3, 64, 32)
    embedder = Embedder(net, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    by_hand = (colours - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    assert torch.equal(embedder(colours), embed(net, by_hand))


# Frozen layers


def test_frozen_layers_stay_as_they_are() -> None:
    net = build(Design(), 3)
    frozen = ("conv1", "bn1", "layer1")
    freeze(net, frozen)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    set_training(net, frozen)
    net(torch.randn(4, 3, 32, 16)).sum().backward()
    optimizer.step()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith(frozen), name


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layr1"], "freeze_layers: the network has no 'layr1'; did you mean 'layer1'?"),
        ([""], "freeze_layers: the network has no ''"),
        (["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"], "every part is frozen"),
    ],
)
def test_what_cannot_be_frozen(layers: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        freeze(build(Design(), 3), layers)
    assert message in str(caught.value)
