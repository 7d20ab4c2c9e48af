"""The files that an Extractor loads, and which of them it takes by itself."""

import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepsort_reid.core.errors import ConfigError, MissingPackageError, WeightsError
from deepsort_reid.export import formats
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import checkpoint
from deepsort_reid.model.extractor import Extractor
from tests.support.exports import crops, trained

ONNX = "ONNX Runtime, CPU"
TORCH = "torch, cpu"


@pytest.fixture(scope="module")
def network() -> Trained:
    return trained()


@pytest.fixture
def models(network: Trained, tmp_path: Path) -> Path:
    """A folder as stages train and export leave it."""
    (tmp_path / "export").mkdir()
    save(tmp_path / "model.pth", network)
    formats.write_onnx_normalised(tmp_path / "export" / "boxmot.onnx", network)
    return tmp_path


def save(path: Path, network: Trained) -> None:
    checkpoint.save(path, network.net.state_dict(), network.about)


def other_network() -> Trained:
    found = trained()
    with torch.no_grad():
        found.net.conv1.weight *= -1
    return found


def check_same(one: Extractor, other: Extractor, least: float = 0.99999) -> None:
    """On crops of other sizes too, in both orders of colours."""
    images = [*crops(3), crops(1, (50, 30))[0]]
    for order in ("rgb", "bgr"):
        found, expected = (side(images, order=order) for side in (one, other))
        assert ((found * expected).sum(1) >= least).all()
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert one.image_size == other.image_size
    assert one.embedding_size == other.embedding_size == found.shape[1]


@pytest.mark.parametrize(
    ("file", "write", "runtime"),
    [
        ("a.onnx", formats.write_onnx_normalised, ONNX),
        ("a.onnx", formats.write_onnx_colours, ONNX),
        ("a.pt2", formats.write_exported_program, "torch.export, cpu"),
    ],
)
def test_exported_files_embed_as_the_checkpoint(
    network: Trained,
    tmp_path: Path,
    file: str,
    write: Callable[[Path, Trained], None],
    runtime: str,
) -> None:
    write(tmp_path / file, network)
    save(tmp_path / "model.pth", network)
    extractor = Extractor(tmp_path / file, device="cpu")
    assert extractor.runtime == runtime
    check_same(extractor, Extractor(tmp_path / "model.pth", device="cpu"))
    assert extractor([], order="rgb").shape == (0, extractor.embedding_size)


def test_a_checkpoint_takes_the_onnx_file_beside_it(models: Path) -> None:
    extractor = Extractor(models / "model.pth", device="cpu")
    plain = Extractor(models / "model.pth", device="cpu", runtime="torch")
    assert (extractor.runtime, plain.runtime) == (ONNX, TORCH)
    check_same(extractor, plain)


def test_one_of_its_own_name_too(models: Path) -> None:
    (models / "export" / "boxmot.onnx").replace(models / "model.onnx")
    assert Extractor(models / "model.pth", device="cpu").runtime == ONNX
    assert Extractor(models / "model.pth", device="cpu", batch_size=1).batch_size == 1


def test_the_file_of_another_network_is_not_taken(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(models / "model.pth", other_network())
    extractor = Extractor(models / "model.pth", device="cpu")
    assert extractor.runtime == TORCH
    expected = r"boxmot.onnx is not used, torch computes: it has another network than .*model.pth"
    assert re.search(expected, caplog.text)
    check_same(extractor, Extractor(models / "model.pth", device="cpu", runtime="torch"))


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_damaged_file_is_not_taken(models: Path, content: bytes) -> None:
    (models / "export" / "boxmot.onnx").write_bytes(content)
    assert Extractor(models / "model.pth", device="cpu").runtime == TORCH
    with pytest.raises(WeightsError, match=r"boxmot.onnx: ONNX Runtime cannot load it"):
        Extractor(models / "export" / "boxmot.onnx", device="cpu")


def test_onnx_runtime_need_not_be_there(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert Extractor(models / "model.pth", device="cpu").runtime == TORCH
    with pytest.raises(MissingPackageError, match="needs ONNX Runtime: pip install"):
        Extractor(models / "export" / "boxmot.onnx", device="cpu")


def with_batch(path: Path, batch: int | str, size: tuple[int | str, int | str]) -> None:
    """Change what a file says of its input."""
    import onnx

    model = onnx.load(path)
    for place, value in zip((0, 2, 3), (batch, *size), strict=True):
        dimension = model.graph.input[0].type.tensor_type.shape.dim[place]
        if isinstance(value, int):
            dimension.dim_value = value
        else:
            dimension.dim_param = value
    onnx.save(model, path)


def test_a_file_for_batches_of_one_size(models: Path) -> None:
    path = models / "export" / "boxmot.onnx"
    with_batch(path, 4, (32, 16))
    extractor = Extractor(path, device="cpu")
    assert extractor.batch_size == 4
    check_same(extractor, Extractor(models / "model.pth", device="cpu", runtime="torch"))
    check_same(extractor, Extractor(models / "model.pth", device="cpu"))
    assert len(extractor(crops(9), order="rgb")) == 9


def test_a_file_that_states_no_size(models: Path) -> None:
    path = models / "export" / "boxmot.onnx"
    with_batch(path, "n", ("h", "w"))
    with pytest.raises(ConfigError, match=r"takes images of any size; expected one that states"):
        Extractor(path, device="cpu")
    assert Extractor(models / "model.pth", device="cpu").runtime == TORCH


@pytest.mark.parametrize("file", ["a.pt2", "a.onnx"])
def test_what_is_no_such_file(tmp_path: Path, file: str) -> None:
    with pytest.raises(WeightsError, match=f"{file}: no such file; expected a"):
        Extractor(tmp_path / file, device="cpu")
    folder = tmp_path / f"folder{Path(file).suffix}"
    folder.mkdir()
    with pytest.raises(WeightsError, match=f"{folder.name}: a folder; expected a"):
        Extractor(folder, device="cpu")
    (tmp_path / file).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(WeightsError, match=f"{file}: .* cannot load it"):
        Extractor(tmp_path / file, device="cpu")


# Files of others


class Colours(nn.Module):
    """Embeds a crop by the mean colours of its quarters."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) + 3


class Returns(Colours):
    """What a network returns, changed by a function."""

    def __init__(self, change: Callable[[Tensor], Any]):
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(super().forward(images))


class InTrainMode(Colours):
    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found - found.mean(0)


def write_onnx(path: Path, net: nn.Module, batch: int = 1, *, is_fixed: bool = False) -> None:
    images = torch.zeros(batch, 3, 32, 16)
    axes = None if is_fixed else {"images": {0: "n"}}
    torch.onnx.export(net, (images,), path, dynamo=False, input_names=["images"], dynamic_axes=axes)


ONE_ROW = r"returns \(.*\) for a batch of [14]; expected \([14], D\)"


@pytest.mark.filterwarnings("ignore")  # torch's old exporter is deprecated, and warns
@pytest.mark.parametrize("is_fixed", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.squeeze(0).squeeze(), ONE_ROW),
        (lambda found: found.t(), ONE_ROW),
        (lambda found: found.sum(), ONE_ROW),
        (lambda found: found.argmax(1), ONE_ROW),
        (lambda found: found.argmax(1, keepdim=True), "embeds a crop to 1 number; expected a"),
        (lambda found: found.view(-1, 3, 2, 2), ONE_ROW),
        (lambda found: found / 0 * 0, "embeds a crop to numbers that are not finite"),
        (lambda found: (found, found * 2), r"returns 2 outputs \(.*\); expected one"),
    ],
)
def test_a_file_that_gives_no_crop_its_own_vector(
    models: Path,
    change: Callable[[Tensor], Any],
    message: str,
    is_fixed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = models / "model.onnx"
    write_onnx(path, Returns(change), is_fixed=is_fixed)
    with pytest.raises(WeightsError, match=rf"model.onnx: {message}"):
        Extractor(path, device="cpu")
    (models / "export" / "boxmot.onnx").unlink()
    assert Extractor(models / "model.pth", device="cpu").runtime == TORCH
    assert "model.onnx is not used, torch computes: " in caplog.text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", [2, 4])
def test_a_file_with_another_batch_inside_than_it_says(tmp_path: Path, batch: int) -> None:
    write_onnx(tmp_path / "a.onnx", Returns(lambda found: found.view(batch, -1)), batch)
    with pytest.raises(WeightsError, match=f"a.onnx: {ONE_ROW}"):
        Extractor(tmp_path / "a.onnx", device="cpu")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_fixed", [True, False])
@pytest.mark.parametrize(
    "net", [InTrainMode(), Returns(lambda found: found.flip(0)), Returns(lambda f: f.roll(1, 0))]
)
def test_a_file_that_mixes_crops(tmp_path: Path, net: nn.Module, is_fixed: bool) -> None:
    write_onnx(tmp_path / "a.onnx", net, 4, is_fixed=is_fixed)
    with pytest.raises(WeightsError, match=r"a.onnx: embeds a crop by the others of its batch"):
        Extractor(tmp_path / "a.onnx", device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_a_plain_file_of_others(tmp_path: Path) -> None:
    write_onnx(tmp_path / "a.ONNX", Returns(lambda found: found[..., None, None]))
    extractor = Extractor(tmp_path / "a.ONNX", device="cpu")
    assert (extractor.embedding_size, extractor.batch_size) == (12, 64)
    found = extractor(iter(crops(5)), order="rgb")
    np.testing.assert_allclose(extractor(crops(5)[2:3], order="rgb")[0], found[2], atol=1e-6)


def test_a_program_for_batches_of_one_size(tmp_path: Path) -> None:
    program = torch.export.export(Colours(), (torch.zeros(2, 3, 32, 16),))
    torch.export.save(program, tmp_path / "a.pt2")
    extractor = Extractor(tmp_path / "a.pt2", device="cpu")
    assert extractor.batch_size == 2
    assert extractor(crops(5), order="rgb").shape == (5, 12)


@pytest.mark.parametrize(
    ("net", "images", "message"),
    [
        (Returns(lambda found: (found, found)), torch.zeros(2, 3, 32, 16), "returns a tuple"),
        (Colours(), torch.zeros(2, 3, 32, 16).half(), "takes float16 .*; expected float32"),
        (Colours(), torch.zeros(2, 4, 32, 16), r"takes float32 \(N, 4, 32, 16\); expected"),
    ],
)
def test_a_program_that_is_none_for_crops(
    tmp_path: Path, net: nn.Module, images: Tensor, message: str
) -> None:
    torch.export.save(torch.export.export(net, (images,)), tmp_path / "a.pt2")
    with pytest.raises(WeightsError, match=f"a.pt2: {message}"):
        Extractor(tmp_path / "a.pt2", device="cpu")


def test_a_checkpoint_whose_weights_are_no_numbers(models: Path) -> None:
    broken = trained()
    with torch.no_grad():
        broken.net.conv1.weight[0, 0] = torch.nan
    save(models / "model.pth", broken)
    with pytest.raises(WeightsError, match=r"model.pth: .* not finite"):
        Extractor(models / "model.pth", device="cpu")


def test_an_unknown_runtime(models: Path) -> None:
    choice: Any = "tensorrt"
    with pytest.raises(ConfigError, match="runtime='tensorrt' is not known; expected 'fastest'"):
        Extractor(models / "model.pth", device="cpu", runtime=choice)


def test_threads_sleep_between_two_frames(models: Path) -> None:
    """ONNX Runtime's would spin for 40 ms, where a decoder or a detector has work to do."""
    torch.set_num_threads(2)
    extractor, images = Extractor(models / "model.pth", device="cpu"), crops(1)
    assert extractor.runtime == ONNX
    spent = []
    for _ in range(5):
        extractor(images, order="rgb")
        began = time.process_time()
        time.sleep(0.1)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.015
