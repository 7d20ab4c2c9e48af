"""`weights: imagenet`: brought by those who publish it, or refused in one line."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from timm import create_model
from torchvision.models import ResNet18_Weights

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.network import Design, build
from deepsort_reid.model.pretrained import imagenet
from deepsort_reid.model.pretrained.loading import load_weights
from deepsort_reid.model.pretrained.source import BROUGHT, WeightsSource
from tests.support import stages
from tests.support.web_server import WebServer, web_server

TIMM = "timm/test_resnet"  # of half a million weights, made for tests


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server() as served:
        yield served


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's own cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


def file_of(arch: str, seed: int) -> tuple[bytes, dict[str, torch.Tensor]]:
    """Weights as torch.save writes them."""
    state = dict(build(Design(arch), 1000, seed=seed).state_dict())
    path = Path("published.pth")
    torch.save(state, path)
    return path.read_bytes(), state


def publish(
    server: WebServer, arch: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """Serve a network's weights where torchvision, or IBN-Net's authors, have them."""
    server.content, state = file_of(arch, seed=7)
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    url = server.url.replace("dataset.zip", f"{arch}-{digest}.pth")
    if arch in imagenet.IBN_FILES:
        monkeypatch.setitem(imagenet.IBN_FILES, arch, url)
    else:
        monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", url)
    return state


@pytest.mark.parametrize("arch", ["resnet18", "resnet18_ibn_a"])
def test_the_library_s_own_file_is_brought_once(
    workspace: Path,
    torch_home: Path,
    server: WebServer,
    arch: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = publish(server, arch, monkeypatch)
    stages.write_params(workspace, {"weights": "imagenet", "arch": arch})
    for _ in range(2):
        stages.run("weights")
        digest = WeightsSource.parse("imagenet").digest()
    assert len(server.requests) == 1
    assert list(torch_home.rglob("*.pth"))
    net = build(Design(arch), 3)
    load_weights(net, WeightsSource.parse("imagenet").verified())
    assert torch.equal(net.layer3[1].conv2.weight, state["layer3.1.conv2.weight"])
    stages.run("weights")
    assert WeightsSource.parse("imagenet").digest() == digest  # the same bytes


@pytest.mark.usefixtures("torch_home")
def test_a_damaged_file_is_refused(
    workspace: Path,
    server: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(server, "resnet18", monkeypatch)
    server.content = server.content[:-5] + b"wrong"
    stages.write_params(workspace, {"weights": "imagenet", "arch": "resnet18"})
    with pytest.raises(SystemExit):
        stages.run("weights")
    said = capsys.readouterr().err.splitlines()[-1]
    assert "the file of resnet18 cannot be brought (invalid hash value" in said


@pytest.mark.parametrize("arch", ["resnet18", "resnet18_ibn_a"])
def test_without_a_network_the_way_out_is_named(
    workspace: Path,
    torch_home: Path,
    server: WebServer,
    arch: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(server, arch, monkeypatch)
    server.statuses = [503] * 9
    stages.write_params(workspace, {"weights": "imagenet", "arch": arch})
    with pytest.raises(SystemExit):
        stages.run("weights")
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"weights: imagenet: the file of {arch} cannot be brought" in said
    assert f"copy it into {torch_home}/hub/checkpoints, or name a file" in said
    assert not BROUGHT.exists()


@pytest.mark.parametrize("arch", ["resnet10d", "osnet_x1_0", "osnet_ain_x0_25", "deepsort"])
def test_what_nobody_publishes_is_said(arch: str) -> None:
    with pytest.raises(WeightsError, match=f"no such file of {arch} at an address that stays"):
        imagenet.imagenet_state(arch)


BRING = f"""
import torch
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.pretrained.imagenet import imagenet_state
try:
    torch.save(dict(imagenet_state({TIMM!r})), "brought.pth")
except WeightsError as error:
    print(error)
"""


@pytest.mark.slow
def test_timm_brings_its_own_and_keeps_them(tmp_path: Path, server: WebServer) -> None:
    """In a process of its own: where huggingface_hub looks is settled when it is imported."""
    net = create_model("test_resnet")
    server.content = save(dict(net.state_dict()))
    server.headers = {"ETag": '"1234"', "X-Repo-Commit": "1" * 40}
    host = server.url.rpartition("/")[0]

    def bring(**variables: str) -> str:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": host}
        done = subprocess.run(
            [sys.executable, "-c", BRING], cwd=tmp_path, env=environment | variables, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    said = bring(HF_HUB_OFFLINE="1")
    assert said.startswith("weights: imagenet: the file of timm/test_resnet cannot be brought")
    assert "copy it into timm's cache, $HF_HOME" in said
    assert said.count("\n") == 1
    assert bring() == ""
    assert server.requests
    again = build(Design(TIMM), 3, seed=6)
    load_weights(again, tmp_path / "brought.pth")
    assert torch.equal(again.backbone.conv1[0].weight, net.conv1[0].weight)
    server.statuses = [500] * 99
    assert bring(HF_HUB_OFFLINE="1") == ""  # from its cache


def test_a_vision_transformers_places_are_resampled(tmp_path: Path) -> None:
    """Its file was made for images of another size."""
    published = build(Design("timm/test_vit"), 3, image_size=(160, 160), seed=5)
    torch.save(published.backbone.state_dict(), tmp_path / "w.pth")
    net = build(Design("timm/test_vit"), 3, image_size=(64, 32))
    load_weights(net, tmp_path / "w.pth")
    places, own = (one.backbone.pos_embed for one in (published, net))
    assert places.shape != own.shape
    first, other = (one.backbone.blocks[0].attn.qkv.weight for one in (published, net))
    assert torch.equal(first, other)
    torch.testing.assert_close(own[:, 1:].mean(1), places[:, 1:].mean(1), atol=0.01, rtol=0)
