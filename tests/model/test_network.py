"""Networks, their embeddings, frozen layers, and weights from anywhere."""

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from deepsort_reid.core.errors import ConfigError, WeightsError
from deepsort_reid.model import network
from deepsort_reid.training.learner import TrainingForward

ARCHS = ["resnet18", "resnet34", "resnet50", "deepsort"]


@pytest.mark.parametrize("arch", ARCHS)
def test_logits_and_unit_embeddings(arch: str) -> None:
    net = network.build(arch, 7).eval()
    images = torch.randn(2, 3, 64, 32)
    embeddings = network.embed(net, images)
    assert net(images).shape == (2, 7)
    assert embeddings.shape == (2, 2048 if arch == "resnet50" else 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_resnet_has_torchvisions_names_and_answers() -> None:
    reference = models.resnet18(num_classes=5).eval()
    net = network.build("resnet18", 5).eval()
    net.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(net(images), reference(images))


def test_the_small_network_has_deep_sort_pytorchs_names() -> None:
    shapes = {
        name: tuple(w.shape) for name, w in network.build("deepsort", 751).state_dict().items()
    }
    assert shapes["conv.0.bias"] == (64,)
    assert shapes["layer1.0.conv1.weight"] == (64, 64, 3, 3)
    assert "layer1.0.downsample.0.weight" not in shapes
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer4.1.bn2.running_var"] == (512,)
    assert shapes["classifier.0.weight"] == (256, 512)
    assert shapes["classifier.4.weight"] == (751, 256)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_cosine_head_sees_directions_alone(arch: str) -> None:
    net = network.build(arch, 7, head="cosine").eval()
    images = torch.randn(2, 3, 64, 32)
    head = net.classifier if arch == "deepsort" else net.fc
    features = net.features(images)
    assert net(images).shape == (2, 7)
    torch.testing.assert_close(head(features), head(3 * features))
    most = torch.nn.functional.softplus(head.scale)
    torch.testing.assert_close(head(head.weight).diagonal(), most.expand(7))
    # All else is what it would be without.
    plain = network.build(arch, 7).eval()
    assert torch.equal(plain.features(images), features)
    assert network.without_classifier(net).state_dict().keys() == (
        network.without_classifier(plain).state_dict().keys()
    )


@pytest.mark.parametrize("arch", ARCHS)
def test_a_last_stride_of_one_keeps_the_feature_map(arch: str) -> None:
    images = torch.randn(2, 3, 64, 32)
    sizes = {}
    for stride in (1, 2):
        net = network.build(arch, 3, last_stride=stride).eval()
        net.avgpool.register_forward_hook(
            lambda _, inputs, __, stride=stride: sizes.update({stride: inputs[0].shape[2:]})
        )
        net(images)
    assert sizes[1] == (2 * sizes[2][0], 2 * sizes[2][1])
    # Nothing else differs: weights of one are weights of the other.
    other = network.build(arch, 3)
    other.load_state_dict(network.build(arch, 3, last_stride=1).state_dict())


def test_a_generalised_mean() -> None:
    pool, maps = network.GemPool(), torch.rand(2, 5, 4, 3) + 0.1
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


@pytest.mark.parametrize("arch", ARCHS)
def test_the_neck_stands_between_distances_and_classes(arch: str) -> None:
    net = network.build(arch, 7, neck="bnneck").train()
    images = torch.randn(6, 3, 64, 32)
    logits, pooled = TrainingForward(net)(images)
    behind = net.neck(pooled)
    torch.testing.assert_close(behind.mean(0), torch.zeros(net.feature_size), atol=1e-4, rtol=0)
    assert not net.neck.bias.requires_grad
    net.eval()
    logits, pooled = TrainingForward(net)(images)
    assert torch.equal(logits, net(images))
    torch.testing.assert_close(net.neck(pooled), net.features(images))
    assert "neck.running_mean" in network.without_classifier(net).state_dict()


@pytest.mark.parametrize("arch", ARCHS)
def test_without_a_neck_all_is_as_published(arch: str) -> None:
    net, images = network.build(arch, 7).eval(), torch.randn(2, 3, 64, 32)
    logits, pooled = TrainingForward(net)(images)
    assert torch.equal(pooled, net.features(images))
    assert torch.equal(logits, net(images))
    assert not [name for name in net.state_dict() if "neck" in name]


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = network.build("resnet18", 3, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = network.build("resnet18", 3, seed=5), network.build("resnet18", 3, seed=6)
    assert torch.equal(first.fc.weight, again.fc.weight)
    assert not torch.equal(first.fc.weight, other.fc.weight)


def test_the_embedder_normalises_by_itself() -> None:
    net = network.build("resnet18", 3).eval()
    colours = torch.rand(2, 3, 64, 32)
    embedder = network.Embedder(net, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    by_hand = (colours - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    assert torch.equal(embedder(colours), network.embed(net, by_hand))


# Frozen layers


def test_frozen_layers_stay_as_they_are() -> None:
    net = network.build("resnet18", 3)
    frozen = ("conv1", "bn1", "layer1")
    network.freeze(net, frozen)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    network.set_training(net, frozen)
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
        network.freeze(network.build("resnet18", 3), layers)
    assert message in str(caught.value)


# Pretrained weights


def wrapped(state: dict[str, Tensor]) -> dict[str, Any]:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "bare": state,
        "bare, module.": prefixed,
        "net_dict": {"net_dict": state, "acc": 91.5, "epoch": 12},
        "state_dict, module.": {"state_dict": prefixed, "optimizer": {"lr": 0.1}},
        "model": {"model": state},
    }


@pytest.mark.parametrize("form", wrapped({}))
def test_weights_load_however_they_are_wrapped(tmp_path: Path, form: str) -> None:
    source = network.build("resnet18", 9, seed=1)
    torch.save(wrapped(source.state_dict())[form], tmp_path / "w.pth")
    net = network.build("resnet18", 4, seed=2)
    report = network.load_weights(net, tmp_path / "w.pth")
    assert report.skipped == {"fc.weight": "(9, 512) for (4, 512)", "fc.bias": "(9,) for (4,)"}
    assert (report.missing, report.unknown) == ([], [])
    assert torch.equal(net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert "fc.weight (9, 512) for (4, 512)" in str(report)


def test_what_is_missing_and_what_is_unknown_is_reported(tmp_path: Path) -> None:
    state = network.build("resnet18", 4).state_dict()
    del state["conv1.weight"]
    torch.save(state | {"extra.weight": torch.zeros(3)}, tmp_path / "w.pth")
    report = network.load_weights(network.build("resnet18", 4), tmp_path / "w.pth")
    assert (report.missing, report.unknown) == (["conv1.weight"], ["extra.weight"])


class Evil:
    """A pickle that would create a file when loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def bad_files(tmp_path: Path) -> dict[str, bytes]:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    torch.save({"a": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    whole = (tmp_path / "other.pth").read_bytes()
    return {
        "fits nothing": whole,
        "code": (tmp_path / "evil.pth").read_bytes(),
        "old pickle with code": pickle.dumps(Evil(tmp_path / "ran")),
        "no tensors": (tmp_path / "empty.pth").read_bytes(),
        "truncated": whole[: len(whole) // 2],
        "text": b"these are no weights\n",
        "nothing": b"",
    }


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("fits nothing", "none of its 2 tensors fits the network"),
        ("code", "only running its code could load, which is refused"),
        ("old pickle with code", "it is damaged, or no file of torch.save"),
        ("no tensors", "no tensors in it; expected a state dict"),
        ("truncated", "it is damaged, or no file of torch.save"),
        ("text", "it is damaged, or no file of torch.save"),
        ("nothing", "it is damaged, or no file of torch.save"),
        ("missing", "no such file"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, case: str, message: str) -> None:
    path = tmp_path / "w.pth"
    if case != "missing":
        path.write_bytes(bad_files(tmp_path)[case])
    with pytest.raises(WeightsError) as caught:
        network.load_weights(network.build("resnet18", 3), path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
