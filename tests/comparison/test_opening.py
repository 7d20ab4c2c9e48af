"""What a file of a network is, told by its content; and embeddings as of what it was made from."""

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import save_file

from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.opening import on_data, open_network
from deepsort_reid.comparison.wanted import Wanted, parse
from deepsort_reid.core.errors import ConfigError, DeepSortReidError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.export import formats
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.extractor import Embeddings, Extractor
from tests.support.comparisons import mean_colours
from tests.support.exports import crops, trained

CPU = torch.device("cpu")
IMAGES = list(crops(5))


@pytest.fixture(scope="module")
def ours(narrow_networks: None) -> Trained:  # noqa: ARG001
    """A network of this project's."""
    return trained("resnet18")


def opened(path: Path, *, name: str = "net", image_size: Any = None, **options: Any) -> Network:
    return open_network(Wanted(name, str(path), options), device=CPU, image_size=image_size)


def expected(of: Trained) -> Embeddings:
    about = of.about
    size = (about.image_size[0], about.image_size[1])
    extractor = Extractor.from_network(
        of.net, image_size=size, mean=about.mean, std=about.std, device=CPU
    )
    return extractor(IMAGES, order="rgb")


def cosine(found: Network, wanted: Embeddings) -> float:
    """The least over the crops."""
    embeddings = found(IMAGES, order="rgb")
    assert embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(IMAGES)), abs=1e-5)
    return float((embeddings * wanted).sum(1).min())


def as_checkpoint(path: Path, of: Trained) -> Path:
    checkpoint.save(path, of.net.state_dict(), of.about)
    return path


# Ours


def test_a_checkpoint_and_the_folder_of_its_run(ours: Trained, tmp_path: Path) -> None:
    models = tmp_path / "run1" / "models"
    models.mkdir(parents=True)
    path = as_checkpoint(models / "model.pth", ours)
    for place in (path, tmp_path / "run1"):
        found = opened(place)
        assert cosine(found, expected(ours)) > 0.99999
        assert (found.kind, found.image_size, found.file_bytes) == (
            "checkpoint of this project, resnet18", (32, 16), path.stat().st_size
        )  # fmt: skip
        assert (found.notes, found.data_digest) == ((), ours.about.data_digest)
    renamed = path.rename(tmp_path / "net.onnx")
    assert opened(renamed).kind.startswith("checkpoint of this project")
    with pytest.raises(ConfigError, match="checkpoint of this project, which states that itself"):
        opened(renamed, arch="resnet18")


@pytest.mark.parametrize("suffix", [".pt", ".pth", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_the_exported_files(suffix: str, ours: Trained, tmp_path: Path) -> None:
    forms = [one for one in formats.FORMS if one.file.endswith(suffix) and not one.obstacle(ours)]
    assert forms
    for form in forms:
        form.write(tmp_path / form.file, ours)
        found = opened(tmp_path / form.file)
        assert found.image_size == (32, 16), form.file
        assert cosine(found, expected(ours)) > 0.99999, form.file
        assert not found.notes, form.file
        with pytest.raises(ConfigError):
            opened(tmp_path / form.file, normalisation="inside", arch="resnet18")


def test_a_registered_model(ours: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "deepsort_reid.comparison.opening.bring_registered",
        lambda name, path: as_checkpoint(path, ours) if name == "models:/a@best" else None,
    )
    found = open_network(Wanted("best", "models:/a@best"), device=CPU)
    assert cosine(found, expected(ours)) > 0.99999
    assert found.file_bytes > 1000


# State dicts of others


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.usefixtures("narrow_networks")
@pytest.mark.parametrize(
    ("arch", "wrap"),
    [
        ("resnet18", lambda state: state),
        ("resnet18", lambda state: {"state_dict": prefixed(state, "module."), "epoch": 3}),
        ("osnet_x0_25", lambda state: {"state_dict": prefixed(state, "module.")}),
        ("osnet_x0_25", lambda state: {"model": prefixed(state, "backbone.")}),
        ("deepsort", lambda state: {"net_dict": state, "acc": 1.0, "epoch": 2}),
    ],
)
def test_a_state_dict_whose_tensors_tell_the_network(
    arch: str, wrap: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    net = network.build(network.Design(arch), 7, image_size=(32, 16), seed=2).eval()
    torch.save(wrap(dict(net.state_dict())), tmp_path / "net.pth.tar")
    found = opened(tmp_path / "net.pth.tar", image_size=(32, 16))
    extractor = Extractor.from_network(net, image_size=(32, 16), mean=MEAN, std=STD, device=CPU)
    assert cosine(found, extractor(IMAGES, order="rgb")) > 0.99999
    assert found.kind == f"weights of torch, {arch}"
    assert found.notes == ["normalised by ImageNet's mean (the file does not say)"]


@pytest.mark.usefixtures("narrow_networks")
@pytest.mark.parametrize(("arch", "size"), [("deepsort", (128, 64)), ("resnet18", (256, 128))])
def test_what_size_a_network_takes_whose_file_does_not_say(
    arch: str, size: tuple[int, int], tmp_path: Path
) -> None:
    torch.save(network.build(network.Design(arch), 7).state_dict(), tmp_path / "net.pth")
    usual = opened(tmp_path / "net.pth")
    assert usual.image_size == size
    assert "input size assumed (the file does not say; --image-size" in usual.notes[0]
    stated = {"image_size": [32, 16]}  # before what is stated for all
    found = open_network(
        Wanted("a", str(tmp_path / "net.pth"), stated), device=CPU, image_size=(64, 32)
    )
    assert found.image_size == (32, 16)


@pytest.mark.usefixtures("narrow_networks")
def test_what_a_file_has_beside_the_network_is_told(tmp_path: Path) -> None:
    """fast-reid's neck changes the embedding, and is not rebuilt."""
    state = dict(network.build(network.Design("resnet18"), 7).state_dict())
    torch.save(state | {"bottleneck.weight": torch.ones(64)}, tmp_path / "net.pth")
    notes = opened(tmp_path / "net.pth", image_size=(32, 16)).notes
    assert "not used of the file, so it may embed otherwise elsewhere: bottleneck.weight" in notes


def test_a_network_of_timm_is_named(tmp_path: Path) -> None:
    net = network.build(network.Design("timm/test_resnet"), 7, image_size=(32, 32), seed=2).eval()
    torch.save(net.published.state_dict(), tmp_path / "net.pth")
    found = opened(tmp_path / "net.pth", image_size=(32, 32), arch="timm/test_resnet")
    extractor = Extractor.from_network(net, image_size=(32, 32), mean=MEAN, std=STD, device=CPU)
    assert cosine(found, extractor(IMAGES, order="rgb")) > 0.99999
    torch.save({"stages.0.blocks.0.gamma": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(DeepSortReidError, match=r"ConvNeXt, which is not known .*--set net\.arch"):
        opened(tmp_path / "net.pth")


# Roboflow's folders


def folder_of(path: Path, arch: str, net: network.ReidNet, **preprocessing: object) -> Path:
    path.mkdir()
    state = {k: v.contiguous() for k, v in net.published.state_dict().items()}
    save_file({k: v for k, v in state.items() if "classifier" not in k},
              path / "weights.safetensors")  # fmt: skip
    content = {"architecture": arch, "preprocessing": {"input_size": [32, 16], **preprocessing}}
    (path / "reid_config.json").write_text(json.dumps(content))
    return path


def test_a_folder_of_roboflow_s_reid(tmp_path: Path) -> None:
    net = network.build(network.Design("osnet_x0_25"), 1, image_size=(32, 16), seed=2).eval()
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.2]
    folder = folder_of(tmp_path / "a", "osnet_x0_25", net, mean=mean, std=std, to_rgb=True)
    found = opened(folder)
    extractor = Extractor.from_network(net, image_size=(32, 16), mean=mean, std=std, device=CPU)
    assert cosine(found, extractor(IMAGES, order="rgb")) > 0.99999
    assert (found.kind, list(found.notes)) == ("folder of Roboflow's reid, osnet_x0_25", [])
    other = network.build(network.Design("timm/test_resnet"), 1, image_size=(32, 16)).eval()
    found = opened(folder_of(tmp_path / "b", "timm:test_resnet", other, interpolation="bicubic"))
    assert found.kind.endswith("timm/test_resnet")
    assert found.notes == ["resizes bicubic elsewhere, bilinearly here"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"reid_config.json: cannot be read"),
        ("[]", "expected architecture and preprocessing"),
        ('{"architecture": "fastreid_sbs_resnest50"}', "'fastreid_sbs_resnest50' is not known"),
        ('{"architecture": "osnet_x0_5"}', "weights of another architecture, it looks like"),
        ('{"architecture": "osnet_x0_25", "preprocessing": 3}', "preprocessing is no mapping"),
        ('{"architecture": "osnet_x0_25", "preprocessing": {"input_size": [0, 1]}}', "input_size"),
        ('{"architecture": "osnet_x0_25", "preprocessing": {"input_size": [9999999, 64]}}',
         "takes images of 9999999×64; expected at most 2048 pixels"),
        ('{"architecture": "osnet_x0_25", "preprocessing": {"resize_mode": "letterbox"}}',
         "resize_mode letterbox keeps the shape of a crop"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used(config: str, message: str, tmp_path: Path) -> None:
    net = network.build(network.Design("osnet_x0_25"), 1)
    folder = folder_of(tmp_path / "a", "", net)
    (folder / "reid_config.json").write_text(config)
    with pytest.raises(DeepSortReidError, match=message):
        opened(folder)


# ONNX files of others


def colours(mean: Any = MEAN, std: Any = STD) -> Embeddings:
    """What `mean_colours` embeds crops to."""
    means = np.array([image.mean((0, 1)) / 255 for image in IMAGES])
    found = (means - np.array(mean)) / np.array(std)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shape", [("n", 3, 32, 16), (1, 3, 32, 16), (4, 3, 32, 16)])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_an_onnx_file_of_any_batch_and_precision(
    shape: tuple[Any, ...], kind: int, tmp_path: Path
) -> None:
    found = opened(mean_colours(tmp_path / "net.bin.onnx", shape, kind))
    assert cosine(found, colours()) > 0.9999
    assert (found.kind, found.image_size) == ("ONNX file", (32, 16))
    assert "normalised by ImageNet's mean, as boxmot does" in found.notes[0]
    assert "--set net.normalisation=inside" in found.notes[0]
    assert (len(found.notes) == 2) == isinstance(shape[0], int)
    assert found([], order="rgb").shape == (0, 3)
    assert np.allclose(found(IMAGES, order="bgr"), found([i[..., ::-1] for i in IMAGES],
                                                         order="rgb"))  # fmt: skip


def test_a_batch_of_one_inside_a_graph_that_claims_any(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = opened(mean_colours(tmp_path / "net.onnx", only_one=True))
    assert capfd.readouterr() == ("", "")
    assert cosine(found, colours()) > 0.9999
    assert "takes 1 at a time, no more and no fewer" in found.notes


def test_where_an_onnx_file_is_normalised(tmp_path: Path) -> None:
    path = mean_colours(tmp_path / "net.onnx")
    inside = opened(path, normalisation="inside")
    assert cosine(inside, colours((0, 0, 0), (1, 1, 1))) > 0.9999
    assert not inside.notes
    ours = mean_colours(tmp_path / "o.onnx", normalisation="outside", mean="[0.1, 0.2, 0.3]")
    assert cosine(opened(ours), colours((0.1, 0.2, 0.3))) > 0.9999
    with pytest.raises(ConfigError, match="ONNX file of this project, which states that itself"):
        opened(ours, normalisation="inside")


def test_an_onnx_file_for_any_size(tmp_path: Path) -> None:
    path = mean_colours(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    assert opened(path).image_size == (256, 128)
    found = opened(path, image_size=(64, 32))
    assert found.image_size == (64, 32)
    assert "takes any size, 64×32 assumed" in found.notes
    with pytest.raises(ConfigError, match="for images of 32×16, which states that itself"):
        open_network(
            Wanted("a", str(mean_colours(tmp_path / "a.onnx")), {"image_size": [64, 32]}),
            device=CPU,
        )


@pytest.mark.parametrize(
    ("shape", "kind"),
    [(("n", 32, 16, 3), TensorProto.FLOAT), (("n", 3, 32, 16), TensorProto.DOUBLE),
     (("n", 1, 32, 16), TensorProto.FLOAT)],
)  # fmt: skip
def test_an_onnx_file_that_takes_something_else(
    shape: tuple[Any, ...], kind: int, tmp_path: Path
) -> None:
    with pytest.raises(DeepSortReidError, match=r"takes images tensor.*; expected one input of"):
        opened(mean_colours(tmp_path / "net.onnx", shape, kind))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_onnx_file_is_one_line(
    seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The format has no checksums, so a damaged file may also be another whole one."""
    random = np.random.default_rng(seed)
    whole = mean_colours(tmp_path / "net.onnx").read_bytes()
    for _ in range(20):
        damaged = bytearray(whole)
        at = int(random.integers(len(whole)))
        damaged[at : at + 8] = random.bytes(int(random.integers(9)))
        (tmp_path / "net.onnx").write_bytes(damaged)
        with contextlib.suppress(DeepSortReidError):
            opened(tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


# What is no network


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "net.onnx: ONNX Runtime cannot load it"),
        (b"\x08\x07garbage", "net.onnx: ONNX Runtime cannot load it"),
        (b"\x89HDF\r\n\x1a\n", "net.onnx: an HDF5 file"),
        (b"PK\x03\x04 no zip", "net.onnx: it is damaged, or no file of torch.save"),
    ],
)
def test_what_is_no_network_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(DeepSortReidError, match=message):
        opened(tmp_path / "net.onnx")


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeepSortReidError, match=r"no such file .*`deepsort-reid metrics`"):
        opened(tmp_path / "HEAD~1")
    with pytest.raises(DeepSortReidError, match=r"a folder without models/model\.pth or reid_con"):
        opened(tmp_path)
    with pytest.raises(DeepSortReidError, match="download it first"):
        open_network(Wanted("a", "https://example.org/a.onnx"), device=CPU)


def test_a_program_is_not_run(tmp_path: Path) -> None:
    """torch loads a program of torch.export with pickle, and compiles text in it."""
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as program:
        program.writestr("net/archive_format", "pt2")
    with pytest.raises(DeepSortReidError, match=r"a program of torch.export .* is not read, since"):
        opened(tmp_path / "net.pt2")


def test_what_is_unfair_is_told(tmp_path: Path) -> None:
    net = opened(mean_colours(tmp_path / "net.onnx", data_digest="ab"))
    said = [on_data(net, size, digest).notes[1:] for size, digest in (
        ((32, 16), "cd"), ((64, 32), "cd"), ((16, 8), "cd"), ((32, 16), "ab"))]  # fmt: skip
    assert said[0] == []
    assert said[1] == ["the packed crops of 64×32 are resized"]
    assert said[2][1].endswith("largest size that takes part, split.image_size=[32, 16]")
    assert said[3] == ["trained on the other part of this split, an advantage"]


# The command line


def test_names_and_options() -> None:
    wanted = parse(
        ["run1/models/model.pth", "zoo/osnet.onnx", "b=x=y.pth", "models:/deepsort-reid@best"],
        ["osnet.normalisation=inside", "b.image_size=[128, 64]", "b.arch=timm/test_resnet"],
    )
    assert [one.name for one in wanted] == ["run1", "osnet", "b", "deepsort-reid@best"]
    assert wanted[2].place == "x=y.pth"
    assert wanted[1].options == {"normalisation": "inside"}
    assert wanted[2].options == {"image_size": [128, 64], "arch": "timm/test_resnet"}
    same = parse(["a/net.onnx", "b/net.onnx"])
    assert [one.name for one in same] == ["a/net.onnx", "b/net.onnx"]


@pytest.mark.parametrize(
    ("networks", "setting", "message"),
    [
        (["a=x", "a=y"], [], "a: two networks of this name"),
        (["a=x"], ["a=1"], "expected NAME.key=value"),
        (["a=x"], ["b.arch=resnet18"], "no network 'b'"),
        (["a=x"], ["a.size=1"], "no key 'size'"),
        (["a=x"], ["a.arch=osnet"], "a network's name.*did you mean 'osnet_x"),
        (["a=x"], ["a.image_size=[1]"], "height and width in pixels"),
        (["a=x"], ["a.normalisation=here"], "inside .* or outside"),
    ],
)
def test_what_is_no_argument(networks: list[str], setting: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(networks, setting)
