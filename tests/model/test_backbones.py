"""Networks by name: under the names of those who publish weights, and as their papers say."""

import pytest
import torch
from timm import create_model
from torch import nn

from deepsort_reid.core.arch import ARCHS, is_arch, unknown
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.model.backbones import osnet, registry, resnet
from deepsort_reid.model.embed import folded
from deepsort_reid.model.network import Design, build, check_image_size, without_classifier

# Weights without the classifier, as torchreid counts them with none.
MILLIONS = {
    "osnet_x1_0": 2_169_508,
    "osnet_x0_75": 1_285_754,
    "osnet_x0_5": 630_034,
    "osnet_x0_25": 201_864,
    "osnet_ibn_x1_0": 2_170_532,
    "osnet_ain_x1_0": 2_169_508,
    "osnet_ain_x0_25": 201_864,
}


def count(net: nn.Module) -> int:
    return sum(weight.numel() for weight in without_classifier(net).parameters())


def test_every_name_has_a_family_and_every_family_a_name() -> None:
    for family in registry.FAMILIES:
        assert [name for name in ARCHS if name.startswith(family)]
    for name in ARCHS:
        assert count(registry.backbone(name, 3, (64, 32))) > 0


@pytest.mark.parametrize("name", MILLIONS)
def test_an_osnet_is_as_large_as_published(name: str) -> None:
    assert count(build(Design(name), 3)) == MILLIONS[name]


def test_an_osnet_has_torchreids_names() -> None:
    shapes = {
        name: tuple(w.shape) for name, w in build(Design("osnet_x0_25"), 751).state_dict().items()
    }
    assert shapes["conv1.conv.weight"] == (16, 3, 7, 7)
    assert shapes["conv2.0.conv2d.3.conv2.weight"] == (16, 1, 3, 3)
    assert shapes["conv2.0.gate.fc2.bias"] == (16,)
    assert shapes["conv2.2.0.bn.running_var"] == (64,)
    assert shapes["conv4.1.conv3.conv.weight"] == (128, 32, 1, 1)
    assert shapes["fc.0.weight"] == (512, 128)
    assert shapes["classifier.weight"] == (751, 512)
    names = build(Design("osnet_ain_x0_25"), 3).state_dict()
    own = "conv1.bn.weight", "conv2.0.IN.bias", "conv2.0.conv2.3.layers.3.bn.weight"
    assert {*own, "pool3.0.conv.weight", "conv3.1.IN.weight", "conv4.0.IN.weight"} <= names.keys()
    assert (
        not {"conv1.bn.running_mean", "conv3.0.IN.weight", "conv2.0.conv3.bn.weight"} & names.keys()
    )
    names = build(Design("osnet_ibn_x1_0"), 3).state_dict()
    assert {"conv2.1.IN.weight", "conv2.0.conv3.bn.weight"} <= names.keys()
    assert "conv3.0.IN.weight" not in names


def test_the_streams_of_an_osnet_see_ever_more_pixels() -> None:
    block = osnet.Block(8, 64, as_ain=False, norm_inside=False, norm=False).eval()
    for width, stream in enumerate(block.streams, start=1):
        spot = torch.zeros(1, 16, 15, 15)
        for layer in stream.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.ones_(layer.weight)
        spot[..., 7, 7] = 1
        seen = stream(spot)[0, 0] > 0
        assert int(seen.sum()) == (2 * width + 1) ** 2


def test_a_resnet_d_is_timms() -> None:
    """Names and answers, on maps of odd sizes too."""
    reference = create_model("resnet18d", num_classes=3).eval()
    net = build(Design("resnet18d"), 3).eval()
    net.load_state_dict(reference.state_dict())
    for size in ((64, 32), (70, 37)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(net(images), reference(images), atol=1e-5, rtol=1e-5)
    small = build(Design("resnet10d_x0_5"), 3)
    assert small.feature_size == 256
    assert count(small) < count(build(Design("resnet10d"), 3)) / 3


def test_ibn_a_normalises_half_of_the_channels_image_by_image() -> None:
    norm = resnet.InstanceBatchNorm(6).train()
    maps = torch.randn(4, 6, 5, 5) * 3 + 2
    found = norm(maps)
    torch.testing.assert_close(found[:, :3].mean((2, 3)), torch.zeros(4, 3), atol=1e-5, rtol=0)
    assert found[:, 3:].mean((2, 3)).abs().max() > 0.05
    torch.testing.assert_close(found[:, 3:].mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    names = build(Design("resnet50_ibn_a"), 3).state_dict()
    assert {"layer1.0.bn1.IN.weight", "layer3.5.bn1.BN.running_mean", "layer4.0.bn1.weight"} <= (
        names.keys()
    )


@pytest.mark.parametrize(
    "name",
    ["osnet_x0_25", "osnet_ain_x0_25", "osnet_ibn_x1_0", "resnet18_ibn_a", "timm/repvit_m0_9"],
)
def test_folding_changes_nothing_but_rounding(name: str) -> None:
    net = build(Design(name), 3, seed=1)
    images = torch.randn(8, 3, 64, 32)
    with torch.no_grad():
        for _ in range(3):
            net(images)
        net.eval()
        few = folded(net)
        torch.testing.assert_close(few.features(images), net.features(images), atol=1e-4, rtol=1e-4)
    assert len(list(few.modules())) <= len(list(net.modules()))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet19", "did you mean 'resnet18"),
        ("osnet_x1", "'osnet_x1_0'"),
        ("mobilenetv4", "; networks of timm are timm/NAME"),
        ("timm/", "timm/NAME"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, hint: str) -> None:
    assert not is_arch(name)
    assert hint in unknown(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilenetv4_conv_smal", "did you mean 'mobilenetv4_conv_small'"),
        ("resnet18.nobody", "'resnet18."),
        ("hf_hub:somebody/something", "timm knows no network"),
        ("zzzz", "known: "),
    ],
)
def test_timm_is_asked_what_it_knows(name: str, hint: str) -> None:
    assert is_arch(f"timm/{name}")
    with pytest.raises(ConfigError) as caught:
        build(Design(f"timm/{name}"), 3)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("name", "design", "said"),
    [
        ("timm/vit_tiny_patch16_224", {"last_stride": 1}, "set last_stride: 2"),
        ("timm/vit_tiny_patch16_224", {"pooling": "gem"}, "set pooling: average"),
        ("timm/mobilenetv4_conv_small", {"last_stride": 1}, "set last_stride: 2"),
    ],
)
def test_what_a_network_of_timm_has_no_option_for(
    name: str, design: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build(Design(name, **design), 3)  # type: ignore[arg-type]


def test_what_timm_can_do_is_done() -> None:
    images = torch.randn(2, 3, 64, 32)
    gem = build(Design("timm/mobilenetv4_conv_small", pooling="gem"), 3).eval()
    plain = build(Design("timm/mobilenetv4_conv_small"), 3).eval()
    assert not torch.equal(gem.features(images), plain.features(images))
    large = build(Design("timm/resnet18", last_stride=1), 3).eval()
    assert large.backbone.forward_features(images).shape[2:] == (4, 2)


def test_images_that_a_network_cannot_take_are_refused_in_one_line() -> None:
    net = build(Design("osnet_ibn_x1_0"), 3).train()
    check_image_size(net, "osnet_ibn_x1_0", (64, 32))
    assert net.training
    net = build(Design("timm/swin_tiny_patch4_window7_224"), 3, image_size=(128, 64))
    with pytest.raises(ConfigError, match="cannot take images of 130×64 pixels") as caught:
        check_image_size(net, "timm/swin", (130, 64))
    assert "\n" not in str(caught.value)
