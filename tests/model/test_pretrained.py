"""Pretrained weights load however they are wrapped, run nothing, and fit or are refused."""

import argparse
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet101, wide_resnet50_2

from deepsort_reid.core import files
from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.network import Design, build
from deepsort_reid.model.pretrained.loading import LoadReport, load_weights
from deepsort_reid.model.pretrained.source import BROUGHT, WeightsSource, sources
from tests.support.trainings import config

pytestmark = pytest.mark.usefixtures("narrow_networks")
State = dict[str, Tensor]


def state(arch: Any = "resnet18", seed: int = 1, **design: Any) -> State:
    """A network's with nine identities."""
    return dict(build(Design(arch, **design), 9, seed=seed).state_dict())


def prefixed(prefix: str, content: State) -> State:
    return {prefix + name: tensor for name, tensor in content.items()}


def headless(content: State) -> State:
    return {name: tensor for name, tensor in content.items() if not name.startswith("fc.")}


def scaled(content: State, factor: float) -> State:
    """Other weights, which fit as well."""
    return {name: t * factor if t.is_floating_point() else t for name, t in content.items()}


class Settings(dict[str, Any]):
    """A configuration of a class that no reader knows."""


class Point:
    """An object with slots, whose state is no dictionary."""

    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


NUMBERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered(content: State) -> State:
    """As nn.Sequential names the children of a ResNet."""
    parts = ((name.split(".", 1), tensor) for name, tensor in content.items())
    return {f"{NUMBERS[first]}.{rest}": tensor for (first, rest), tensor in parts}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "bare, module.": lambda s: prefixed("module.", s),
    "net_dict": lambda s: {"net_dict": s, "acc": 91.5, "epoch": 12},
    "state_dict, module.": lambda s: {"state_dict": prefixed("module.", s), "optimizer": {"lr": 1}},
    "model": lambda s: {"model": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.5)},
    "a dictionary in a dictionary": lambda s: {"model": {"state_dict": s}},
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "hyper_parameters": {"lr": 0.1}},
    "two prefixes": lambda s: {"state_dict": prefixed("module.model.", s)},
    "compiled": lambda s: {"state_dict": prefixed("_orig_mod.", s)},
    "any prefix": lambda s: prefixed("student_of_mine.net0.", s),
    "behind a sequence": lambda s: prefixed("0.", headless(s)) | {"1.weight": torch.zeros(4, 8)},
    "numbers for names": lambda s: prefixed("base.", numbered(headless(s))),
    "heads beside": lambda s: {"model": prefixed("backbone.", headless(s))
                               | {"heads.weight": torch.zeros(9, 8), "pixel_mean": torch.ones(3)}},
    "momentum contrast": lambda s: prefixed("module.encoder_k.", scaled(headless(s), 0.5))
    | prefixed("module.encoder_q.", headless(s)) | {"queue": torch.zeros(3)},
    "teacher and student": lambda s: {"student": scaled(s, 0.5), "teacher": s},
    "moving average": lambda s: {"state_dict": scaled(s, 0.5), "state_dict_ema": s},
    "half precision": lambda s: {name: t.half() if t.is_floating_point() else t
                                 for name, t in s.items()},
    "another class of dictionary": lambda s: {"state_dict": Settings(s)},
    "no counters": lambda s: {name: t for name, t in s.items() if "num_batches" not in name},
}  # fmt: skip
BESIDE: dict[str, Any] = {
    "a numpy scalar": np.float64(0.94),
    "a numpy array": np.arange(3),
    "arguments": argparse.Namespace(lr=0.1),
    "a path": Path("runs/1"),
    "a time": datetime(2020, 1, 1, tzinfo=UTC),
    "settings": Settings(lr=Settings(first=0.1)),
}


def loaded(content: Any, tmp_path: Path, **design: Any) -> tuple[LoadReport, nn.Module]:
    """What becomes of a content that torch.save has written."""
    torch.save(content, tmp_path / "w.pth")
    net = build(Design(**design), 4, seed=2)
    return load_weights(net, tmp_path / "w.pth"), net


@pytest.mark.parametrize("form", WRAPPED)
def test_weights_load_however_they_are_wrapped(tmp_path: Path, form: str) -> None:
    source = state()
    report, net = loaded(WRAPPED[form](source), tmp_path)
    own = net.state_dict()
    assert {name.partition(".")[0] for name in report.skipped} <= {"fc"}
    assert not [name for name in report.missing if "fc." not in name and "num_ba" not in name]
    for name in (name for name in source if "fc." not in name and "num_batches" not in name):
        close = 1e-3 if form == "half precision" else 0
        assert torch.allclose(own[name], source[name], rtol=close, atol=close), name


@pytest.mark.parametrize("old", [False, True], ids=["zip", "older format"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_stands_beside_the_tensors_does_not_matter(
    tmp_path: Path, beside: str, old: bool
) -> None:
    content = {"state_dict": state(), "more": BESIDE[beside]}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    assert len(load_weights(build(Design(), 4), tmp_path / "w.pth").loaded) == len(state()) - 2


def test_safetensors_load(tmp_path: Path) -> None:
    source = state()
    save_file(prefixed("model.", source), tmp_path / "w.safetensors")
    net = build(Design(), 4)
    load_weights(net, tmp_path / "w.safetensors")
    assert torch.equal(net.state_dict()["conv1.weight"], source["conv1.weight"])


def test_the_log_says_what_was_taken_and_from_where(tmp_path: Path) -> None:
    report, _ = loaded({"ema": prefixed("module.", state()), "x": torch.zeros(1)}, tmp_path)
    assert str(report) == (
        f"{len(state()) - 2} tensors loaded from 'ema', prefix 'module.'; skipped by shape: "
        "fc.bias (9,) for (4,), fc.weight (9, 64) for (4, 64)"
    )


@pytest.mark.parametrize("design", [{"pooling": "gem"}, {"neck": "bnneck"}, {"head": "cosine"}])
def test_what_a_recipe_adds_need_not_be_in_the_file(tmp_path: Path, design: Any) -> None:
    report, _ = loaded(state(), tmp_path, **design)
    parts = {name.partition(".")[0] for name in report.missing}
    assert parts <= {"avgpool", "neck", "fc"}


def other(maker: Callable[[], nn.Module]) -> State:
    """The names and shapes of another network; each tensor is one number, not to wait."""
    with torch.device("meta"):
        net = maker()
    return {n: torch.zeros(()).expand(t.shape) for n, t in net.state_dict().items()}


FOREIGN: dict[str, tuple[Callable[[], State], str, str]] = {
    "deeper": (lambda: state("resnet34"), "resnet18", "resnet34; 80 tensors differ"),
    "shallower": (lambda: state("resnet18"), "resnet34", "set arch: resnet18, or choose"),
    "bottlenecks": (lambda: prefixed("module.", state("resnet50")), "resnet18",
                    "it looks like resnet50"),
    "no bottlenecks": (lambda: state("resnet34"), "resnet50", "it looks like resnet34"),
    "of Deep SORT": (lambda: state("deepsort"), "resnet18", "it looks like deepsort"),
    "for Deep SORT": (lambda: state("resnet18"), "deepsort", "it looks like resnet18"),
    "none of ours": (lambda: other(resnet101), "resnet50", "it looks like resnet101"),
    "wide": (lambda: other(wide_resnet50_2), "resnet50", "it looks like wide_resnet50_2"),
    "no ResNet": (lambda: other(mobilenet_v2), "resnet18", "it looks like a MobileNet"),
    "incomplete": (lambda: {n: t for n, t in state().items() if n != "layer3.0.bn1.bias"},
                   "resnet18", "layer3.0.bn1.bias is missing"),
    "more in a block": (lambda: state() | {"layer2.0.se.fc.weight": torch.zeros(2, 2)},
                        "resnet18", "a resnet18 with squeeze-and-excitation"),
    "one colour": (lambda: state() | {"conv1.weight": torch.zeros(8, 1, 7, 7)}, "resnet18",
                   "conv1.weight is (8, 1, 7, 7) for ("),
    "whole numbers": (lambda: state() | {"bn1.weight": state()["bn1.weight"].char()}, "resnet18",
                      "bn1.weight is int8 for float32"),
    "not finite": (lambda: state() | {"bn1.weight": state()["bn1.weight"] * torch.nan},
                   "resnet18", "bn1.weight holds numbers that are not finite"),
    "nothing alike": (lambda: dict(nn.Linear(2, 2).state_dict()), "resnet18",
                      "none of its 2 tensors fits the network"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_another_architecture_is_named_and_changes_nothing(tmp_path: Path, case: str) -> None:
    make, arch, message = FOREIGN[case]
    torch.save(make(), tmp_path / "w.pth")
    net = build(Design(arch), 4)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(net, tmp_path / "w.pth")
    assert message in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Evil:
    """A pickle that would create a file when loaded."""

    def __init__(self, path: Path, call: Any = os.mkdir):
        self.path, self.call = path, call

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.call, (str(self.path),))


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


def scripted() -> bytes:
    """A zip with TorchScript's members."""
    return zipped({"net/data.pkl": b"", "net/code/__torch__/a.py": b"", "net/constants.pkl": b""})


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


class Network(nn.Module):
    """Saved as an object."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


TABLE_END = bytes.fromhex("57fb808b247547db")
NO_WEIGHTS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "code": (lambda p: saved({"a": Evil(p / "ran")}), "only running its code could load"),
    "code of a library": (lambda p: saved({"a": Evil(p / "ran", Path.mkdir)}), "is refused"),
    "a program": (lambda p: saved({"a": Evil(p / "ran", eval)}), "no tensors in it"),
    "pickle with code": (lambda p: pickle.dumps(Evil(p / "ran")), "no file of torch.save"),
    "object": (lambda _: saved({"a": Point()}), "(tests.model.test_pretrained.Point) that only"),
    "network": (lambda _: saved({"model": Network()}), "a whole network, tests.model.test_pretr"),
    "network, older": (lambda _: saved(Network(), _use_new_zipfile_serialization=False),
                       "test_pretrained.Network) that only running its code could load"),
    "no tensors": (lambda _: saved({"epoch": 3}), "no tensors in it; expected a state dict"),
    "cut short": (lambda _: saved(nn.Linear(9, 9).state_dict())[:900], "it is damaged, or no"),
    "text": (lambda _: b"these are no weights\n", "it is damaged, or no file of torch.save"),
    "nothing": (lambda _: b"", "it is damaged, or no file of torch.save"),
    "TorchScript": (lambda _: scripted(), "a TorchScript file; save its tensors"),
    "pt2": (lambda _: zipped({"a/archive_format": b"pt2", "a/models/model.json": b"{}"}),
            "a program of torch.export (.pt2); save its tensors"),
    "ONNX": (lambda _: b"\x08\x0a\x12\x07pytorch\x1a\x0c2.14.1+cu130:", "an ONNX model"),
    "TensorFlow's index": (lambda _: b"\0" * 60 + TABLE_END, "a part of a TensorFlow checkpoint"),
    "TensorFlow's list": (lambda _: b'model_checkpoint_path: "a"', "list of a TensorFlow check"),
    "Keras": (lambda _: zipped({"config.json": b"", "model.weights.h5": b""}), "a model of Keras"),
    "HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "NumPy": (lambda _: arrays(), "an archive of NumPy arrays"),
    "a zipped folder": (lambda _: zipped({"best.pth": b"", "readme": b""}), "holds best.pth"),
    "a web page": (lambda _: b"\n<!DOCTYPE html><html>", "a web page, not the file"),
    "a pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"),
    "an index": (lambda _: b'{"metadata": {}, "weight_map": {}}', "weights in several files"),
    "damaged safetensors": (lambda _: b"\x09" + bytes(7) + b'{"a": 12}', "it is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_named_in_one_line(tmp_path: Path, case: str) -> None:
    make, message = NO_WEIGHTS[case]
    path = tmp_path / "w.pth"
    path.write_bytes(make(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_weights(build(Design(), 3), path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(build(Design(), 3), tmp_path / "w.pth")


DIGEST = "ab" * 32


def test_weights_are_named_by_path_or_url(workspace: Path) -> None:
    path = workspace / "w.pth"
    path.write_bytes(b"abc")
    right = files.sha256(path)
    for text in ("w.pth", str(path), path.as_uri(), f"w.pth#sha256={right.upper()}"):
        source = WeightsSource.parse(text)
        assert (source.verified(), source.digest()) == (path, right), text
    source = WeightsSource.parse(f"https://example.org/a.pth?x=1#sha256={DIGEST}")
    assert (source.place, source.path) == ("https://example.org/a.pth?x=1", BROUGHT)
    assert source.digest() == DIGEST  # known without asking anybody


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w.pth#sha256=12", "'12' is no SHA-256; expected 64 hexadecimal digits"),
        (f"w.pth#sha256={DIGEST}", f"weights expects {DIGEST}; check which of them is right"),
        ("gone.pth", "gone.pth: no such file; expected a file of weights"),
        (".", "a folder (it holds w.pth); name the file of weights in it"),
        ("https://me:a/b@example.org/a.pth?key=c", "https://***@example.org/a.pth?***: no "
         "checksum, so nobody would notice another file there"),
        (f"s3://a/b.pth#sha256={DIGEST}", "data/weights: no such file; expected a file of "
         "weights; `dvc repro weights` brings it"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_meant(workspace: Path, text: str, message: str) -> None:
    (workspace / "w.pth").write_bytes(b"abc")
    with pytest.raises(WeightsError) as caught:
        WeightsSource.parse(text).verified()
    assert message in str(caught.value)


def test_an_empty_ordered_dictionary_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no tensors in it"):
        loaded({"state_dict": OrderedDict()}, tmp_path)


def test_a_teacher_is_a_checkpoint() -> None:
    with pytest.raises(WeightsError, match="teacher: imagenet knows nobody of the dataset"):
        sources(config(teacher="imagenet"))


def test_a_folder_of_roboflows_reid_is_read(workspace: Path) -> None:
    folder = workspace / "exported"
    folder.mkdir()
    content = state("osnet_x0_25")
    save_file(content, folder / "weights.safetensors")
    (folder / "reid_config.json").write_text("{}")
    for text in ("exported", str(folder), "exported/weights.safetensors"):
        net = build(Design("osnet_x0_25"), 3)
        load_weights(net, WeightsSource.parse(text).verified())
        assert torch.equal(net.conv5.conv.weight, content["conv5.conv.weight"])


def fast_reid(content: State) -> Any:
    """As fast-reid writes a training: a backbone, and heads of its own."""
    heads = {"heads.bottleneck.0.bias": torch.zeros(2048), "heads.weight": torch.zeros(9, 2048)}
    return {"model": prefixed("backbone.", headless(content)) | heads, "optimizer": {}}


def torchreid(content: State) -> Any:
    """As torchreid writes a training of several processes, whose classifier is `classifier`."""
    named = {name.replace("fc.", "classifier."): tensor for name, tensor in content.items()}
    return {"state_dict": prefixed("module.", named), "epoch": 3, "rank1": 0.9, "scheduler": None}


@pytest.mark.parametrize(
    ("arch", "wrap"),
    [
        ("resnet18_ibn_a", fast_reid),
        ("resnet18_ibn_a", torchreid),
        ("osnet_ain_x0_25", lambda s: {"state_dict": prefixed("module.", s)}),
        ("osnet_ibn_x1_0", lambda s: s),
        ("timm/mobilenetv4_conv_small", lambda s: {"model": prefixed("module.", s)}),
    ],
)
def test_every_family_loads_the_files_of_those_who_publish_it(
    arch: str, wrap: Callable[[State], Any], tmp_path: Path
) -> None:
    net, other = (build(Design(arch), 3, seed=seed) for seed in (1, 2))
    torch.save(wrap(dict(net.published.state_dict())), tmp_path / "w.pth")
    report = load_weights(other, tmp_path / "w.pth")
    own = other.published.state_dict()
    for name, tensor in net.published.state_dict().items():
        if not name.startswith(("fc.", "classifier.")):
            assert torch.equal(own[name], tensor), name
    assert not [name for name in report.missing if not name.startswith(("fc.", "classifier."))]


@pytest.mark.parametrize(
    ("arch", "other", "said"),
    [
        ("osnet_x1_0", "osnet_x0_25", "it looks like osnet_x0_25; "),
        ("osnet_x0_25", "osnet_ain_x0_25", "it looks like osnet_ain_x0_25; "),
        ("osnet_ain_x1_0", "osnet_ibn_x1_0", "it looks like osnet_ibn_x1_0; "),
        ("resnet18", "resnet18_ibn_a", "it looks like resnet18_ibn_a"),
        ("resnet18", "resnet18d", "it looks like resnet18d"),
        ("resnet18d", "resnet10d", "it looks like resnet10d"),
        ("resnet18", "timm/mobilenetv4_conv_small", "it looks like an EfficientNet or MobileNet"),
        ("timm/mobilenetv4_conv_small", "osnet_x0_5", "it looks like osnet_x0_5"),
    ],
)
def test_the_network_whose_weights_they_are_is_named(
    arch: str, other: str, said: str, tmp_path: Path
) -> None:
    torch.save(build(Design(other), 3).published.state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(build(Design(arch), 3), tmp_path / "w.pth")
    assert said in str(caught.value)
    if not other.startswith("timm/"):
        assert f"set arch: {other}" in str(caught.value)
