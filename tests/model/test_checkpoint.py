"""A checkpoint rebuilds its network exactly, executes nothing, and is the same bytes each time."""

import dataclasses
from pathlib import Path

import pytest
import torch

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model import checkpoint
from deepsort_reid.model.network import Design, build, embed


def description(classes: int = 3) -> checkpoint.Description:
    return checkpoint.Description(
        epoch=2,
        acc=87.5,
        arch="resnet18",
        embedding_size=512,
        image_size=(64, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        classes=tuple(f"p{i}" for i in range(classes)),
        data_digest="ab" * 32,
        identity={"data": {"split": "ab" * 32}},
    )


def test_the_network_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "models" / "model.pth"
    net = build(Design(), 3, seed=4).eval().to(memory_format=torch.channels_last)
    checkpoint.save(path, net.state_dict(), description())
    loaded, described = checkpoint.load(path)
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(loaded(images), net(images))
    assert not loaded.training
    assert described.classes == ["p0", "p1", "p2"]
    assert described.acc == 87.5


def test_it_reads_as_deep_sort_pytorchs_do(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m.pth", build(Design(), 3).state_dict(), description())
    content = torch.load(tmp_path / "m.pth", weights_only=True)
    assert set(content) >= {"net_dict", "epoch", "acc"}
    assert content["net_dict"]["conv1.weight"].is_contiguous()


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        checkpoint.save(tmp_path / name, build(Design(), 3, seed=1).state_dict(), description())
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_subnormal_weights_are_zero(tmp_path: Path) -> None:
    net = build(Design(), 3)
    with torch.no_grad():
        net.layer4[0].conv1.weight[7] *= 1e-38  # type: ignore[union-attr]
    checkpoint.save(tmp_path / "m.pth", net.state_dict(), description())
    kept = checkpoint.load(tmp_path / "m.pth")[0].state_dict()
    for name, weight in net.state_dict().items():
        expected = weight.clone()
        if name == "layer4.0.conv1.weight":
            assert (expected[7] != 0).any()
            expected[7] = 0
        assert torch.equal(kept[name], expected), name


def test_a_failed_save_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pth"
    checkpoint.save(path, build(Design(), 3).state_dict(), description())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, build(Design(), 3, seed=9).state_dict(), description())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.pth"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net_dict": {}, "epoch": 1}, "no checkpoint of this project, 'acc' is missing"),
        ([1, 2], "no checkpoint of this project, 'net_dict' is missing"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match=message):
        checkpoint.load(tmp_path / "m.pth")


def test_the_head_is_rebuilt_and_linear_where_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    net = build(Design(head="cosine"), 3, seed=3).eval()
    checkpoint.save(path, net.state_dict(), dataclasses.replace(description(), head="cosine"))
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(checkpoint.load(path)[0](images), net(images))
    checkpoint.save(path, build(Design(), 3).state_dict(), description())
    content = torch.load(path, weights_only=True)
    del content["head"]
    torch.save(content, path)
    assert checkpoint.load(path)[1].head == "linear"


def test_the_design_is_rebuilt_and_plain_where_none_is_told(tmp_path: Path) -> None:
    path, images = tmp_path / "m.pth", torch.randn(2, 3, 64, 32)
    design = {"last_stride": 1, "pooling": "gem", "neck": "bnneck"}
    net = build(Design(**design), 3, seed=3).eval()
    checkpoint.save(path, net.state_dict(), dataclasses.replace(description(), **design))
    loaded, about = checkpoint.load(path)
    assert torch.equal(embed(loaded, images), embed(net, images))
    assert about.design == Design(**design)
    checkpoint.save(path, build(Design(), 3).state_dict(), description())
    content = torch.load(path, weights_only=True)
    for name in design:
        del content[name]
    torch.save(content, path)
    assert checkpoint.load(path)[1].design == Design()


def test_a_checkpoint_of_an_earlier_version_loads(tmp_path: Path) -> None:
    """Key by key what the flat package wrote, so that a change of `Description` is noticed."""
    net = build(Design("deepsort"), 2, seed=5).eval()
    content = {
        "net_dict": net.state_dict(),
        "epoch": 12,
        "acc": 93.75,
        "arch": "deepsort",
        "embedding_size": 512,
        "image_size": [64, 32],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "classes": ["0001", "0002"],
        "data_digest": "0b" * 32,
        "identity": {
            "data": {"split": "0b" * 32},
            "params": {"lr": 0.1, "freeze_layers": []},
            "code": {"pipeline/train.py": "1c" * 32, "src/deepsort_reid/training.py": "2d" * 32},
            "environment": {"python": "3.11.7", "processes": 1},
        },
        "head": "linear",
        "last_stride": 2,
        "pooling": "average",
        "neck": "none",
    }
    torch.save(content, tmp_path / "m.pth")
    loaded, about = checkpoint.load(tmp_path / "m.pth")
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(embed(loaded, images), embed(net, images))
    assert {"net_dict": net.state_dict(), **dataclasses.asdict(about)}.keys() == content.keys()
    assert all(getattr(about, key) == content[key] for key in content if key != "net_dict")
    checkpoint.save(tmp_path / "again.pth", loaded.state_dict(), about)
    assert list(torch.load(tmp_path / "again.pth", weights_only=True)) == list(content)


def test_weights_of_another_network(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m.pth", build(Design(), 3).state_dict(), description(classes=4))
    with pytest.raises(WeightsError, match="do not fit its own arch"):
        checkpoint.load(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", 0), ("acc", float("nan")), ("arch", "vgg"),
        ("last_stride", 3), ("pooling", "max"), ("neck", 1), ("embedding_size", "512"),
        ("image_size", [64]), ("image_size", [0, 32]), ("mean", [0.5, 0.5]), ("mean", 7),
        ("std", [0.2, 0.0, 0.2]), ("classes", [1, 2, 3]), ("classes", "abc"), ("data_digest", None),
        ("head", "mlp"), ("epoch", True), ("epoch", 1.0), ("epoch", 2**63), ("acc", "50"),
        ("acc", True), ("mean", [0.5, 0.5, float("inf")]), ("identity", []),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "m.pth"
    checkpoint.save(path, build(Design(), 3).state_dict(), description())
    torch.save(torch.load(path, weights_only=True) | {field: value}, path)
    with pytest.raises(WeightsError, match=f"its '{field}' is not what it should be"):
        checkpoint.load(path)
