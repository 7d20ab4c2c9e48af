"""Crops and boxes in, embeddings out."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepsort_reid.core.errors import ConfigError, CropError, WeightsError
from deepsort_reid.data.images import resized
from deepsort_reid.export import parity
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import checkpoint
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.extractor import BoxForm, Extractor, cut_boxes, fitted
from tests.support.exports import crops, trained
from tests.support.networks import EXAMPLES

CLOSE = 1e-5


@pytest.fixture(scope="module")
def network() -> Trained:
    return trained()


def of(network: Trained, batch_size: int = 64) -> Extractor:
    about = network.about
    return Extractor.from_network(
        network.net, image_size=network.image_size, mean=about.mean, std=about.std,
        device="cpu", batch_size=batch_size,
    )  # fmt: skip


@pytest.mark.parametrize("arch", EXAMPLES)
def test_it_gives_the_checkpoint_s_embeddings(arch: str, tmp_path: Path) -> None:
    size = (64, 32)  # on smaller maps, normalising each image by itself magnifies rounding
    network = trained(arch, size)
    path = tmp_path / "model.pth"
    checkpoint.save(path, network.net.state_dict(), network.about)
    extractor = Extractor(path, device="cpu")
    images = crops(9, size)
    found, expected = extractor(images, order="rgb"), parity.reference(network, images)
    np.testing.assert_allclose(found, expected, atol=CLOSE)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=CLOSE)
    assert found.dtype == np.float32
    assert found.shape == (9, extractor.embedding_size)
    # Were the crops mixed up, the comparison would notice.
    assert np.abs(np.roll(expected, 1, axis=0) - expected).max() > 100 * CLOSE


def test_colours_are_in_the_order_that_is_said(network: Trained) -> None:
    extractor, images = of(network), crops(5)
    expected = extractor(images, order="rgb")
    np.testing.assert_allclose(extractor(images[..., ::-1], order="bgr"), expected, atol=CLOSE)
    assert np.abs(extractor(images, order="bgr") - expected).max() > 100 * CLOSE


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_an_embedding_depends_on_its_own_crop_alone(network: Trained, batch_size: int) -> None:
    extractor, images = of(network, batch_size), crops(9)
    together = extractor(images, order="rgb")
    apart = np.concatenate([extractor(images[i : i + 1], order="rgb") for i in range(9)])
    np.testing.assert_allclose(together, apart, atol=CLOSE)


def test_it_has_no_train_mode(network: Trained) -> None:
    about, images = network.about, torch.from_numpy(crops(4))
    predictor = Predictor(
        network.net, mean=about.mean, std=about.std, device=torch.device("cpu"), fold=True
    )
    before = predictor.embed(images)
    predictor.net.train()
    assert torch.equal(predictor.embed(images), before)
    assert torch.equal(predictor.embed(images), before)


def test_the_network_stays_as_it_is(network: Trained) -> None:
    before = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    network.net.train()
    of(network)(crops(3), order="rgb")
    assert network.net.training
    network.net.eval()
    after = network.net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_crops_of_other_sizes_are_resized_as_stage_split_does(network: Trained) -> None:
    extractor = of(network)
    images = [crops(1, size, seed=2)[0] for size in ((64, 32), (40, 60), (8, 4), (32, 16))]
    fitting = np.array([resized(image, network.image_size) for image in images])
    found, expected = (extractor(given, order="rgb") for given in (images, fitting))
    assert ((found * expected).sum(1) >= 0.99999).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 4), (64, 33), (33, 16), (32, 16)])
def test_a_crop_is_resized_as_pillow_does_it(size: tuple[int, int]) -> None:
    frame = crops(1, (310, 320), seed=3)[0]
    crop = frame[3 : 3 + size[0], 7 : 7 + size[1]]
    frozen = crop.copy()
    frozen.setflags(write=False)
    expected = resized(np.ascontiguousarray(crop), (32, 16)).astype(int)
    for given in (crop, frozen, np.ascontiguousarray(crop[:, :, ::-1])[:, :, ::-1]):
        assert np.abs(fitted(given, (32, 16)) - expected).max() <= 2


def threads_made() -> int:
    """How many threads this process gets from resizing a crop for the first time."""
    torch.set_num_threads(2)
    frame = crops(1, (1080, 1920), seed=3)[0]
    before = len(list(Path("/proc/self/task").iterdir()))
    fitted(frame[:1000, :500], (128, 64))
    return len(list(Path("/proc/self/task").iterdir())) - before


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_large_crop_is_resized_by_one_thread() -> None:
    # Beside ONNX Runtime's threads, which spin, two threads took 6 ms where one takes 0.1.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert pool.submit(threads_made).result() == 0


def test_none_gives_none(network: Trained) -> None:
    extractor = of(network)
    frame = crops(1)[0]
    assert extractor([], order="rgb").shape == (0, 512)
    assert extractor.of_boxes(frame, [], order="rgb", form="ltwh").shape == (0, 512)
    assert extractor.of_boxes(frame, np.zeros((0, 4)), order="rgb", form="ltrb").shape == (0, 512)


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "crop 1 is float32 (4, 4, 3); expected a uint8 array"),
        (np.zeros((4, 4), np.uint8), "crop 1 is uint8 (4, 4); expected"),
        (np.zeros((4, 4, 4), np.uint8), "crop 1 is uint8 (4, 4, 4); expected"),
        (np.zeros((0, 4, 3), np.uint8), "crop 1 is uint8 (0, 4, 3); expected"),
        (None, "crop 1 is NoneType; expected"),
        (Image.new("RGB", (4, 4)), "crop 1 is Image; expected"),
    ],
)
def test_what_is_no_crop(network: Trained, crop: Any, message: str) -> None:
    with pytest.raises(CropError) as error:
        of(network)([crops(1)[0], crop], order="rgb")
    assert str(error.value).startswith(message)


def test_what_is_no_order_device_or_checkpoint(network: Trained, tmp_path: Path) -> None:
    with pytest.raises(CropError, match="order='RGB' is no order of colours"):
        of(network)(crops(1), order="RGB")  # type: ignore[arg-type]
    for device in ("gpu", "", "meta", "hpu"):
        expected = rf"device='{device}' cannot be used .* expected cpu, cuda"
        with pytest.raises(ConfigError, match=expected):
            Extractor.from_network(
                network.net, image_size=(32, 16), mean=(0, 0, 0), std=(1, 1, 1), device=device
            )
    for size in (0, -1, 2.5, True, "64", None):
        with pytest.raises(ConfigError, match=f"batch_size={size!r}; expected a whole number"):
            of(network, batch_size=size)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="no such file"):
        Extractor(tmp_path / "model.pth")


# Boxes


def test_boxes_are_cut_rounded_and_clipped() -> None:
    frame = np.arange(20 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3)
    boxes = [(2, 3, 4, 5), (2.4, 3.6, 4, 5), (-5, -5, 10, 10), (25, 15, 100, 100)]
    expected = [frame[3:8, 2:6], frame[4:9, 2:6], frame[:5, :5], frame[15:, 25:]]
    for found, right in zip(cut_boxes(frame, boxes, form="ltwh"), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    for found, right in zip(cut_boxes(frame, corners, form="ltrb"), expected, strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("box", [(29.8, 19.8, 0.1, 0.1), (-0.9, 5, 1, 1), (3.1, 3.1, 0.2, 0.2)])
def test_a_box_with_a_part_of_the_frame_has_a_pixel(box: tuple[float, ...]) -> None:
    (crop,) = cut_boxes(np.zeros((20, 30, 3), np.uint8), [box], form="ltwh")
    assert crop.shape == (1, 1, 3)


@pytest.mark.parametrize(
    "box",
    [(30, 5, 4, 4), (5, 20, 4, 4), (-4, 5, 4, 4), (5, -9, 4, 4), (5, 5, 0, 4), (5, 5, 4, -1)],
)
def test_a_box_without_a_part_of_the_frame(box: tuple[float, ...]) -> None:
    with pytest.raises(CropError, match=r"box 1 \(ltwh .*no part of the frame in it.*30×20"):
        cut_boxes(np.zeros((20, 30, 3), np.uint8), [(1, 1, 2, 2), box], form="ltwh")


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("form", ["ltwh", "ltrb"])
def test_a_box_that_is_not_finite(form: BoxForm, value: str, place: int) -> None:
    box = [5.0, 5.0, 9.0, 9.0]
    box[place] = float(value)
    with pytest.raises(CropError, match=rf"box 1 \({form} .*\) is not finite; leave such"):
        cut_boxes(np.zeros((20, 30, 3), np.uint8), [(1, 1, 2, 2), box], form=form)


def test_what_are_no_boxes_and_no_frame() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(CropError, match=r"boxes have the shape \(2, 5\); expected \(N, 4\)"):
        cut_boxes(frame, np.ones((2, 5)), form="ltwh")
    with pytest.raises(CropError, match="form='xyxy' is no form of boxes"):
        cut_boxes(frame, [(1, 1, 2, 2)], form="xyxy")  # type: ignore[arg-type]
    wrong: list[Any] = [[(1, 1, 2, 2), (1, 1)], "boxes", torch.ones(1, 4, requires_grad=True)]
    for boxes in wrong:
        with pytest.raises(CropError, match=r"boxes are no numbers .*; expected \(N, 4\)"):
            cut_boxes(frame, boxes, form="ltwh")
    with pytest.raises(CropError, match="frame is float64"):
        cut_boxes(frame.astype(float), [(1, 1, 2, 2)], form="ltwh")


def test_boxes_of_a_frame_are_embedded_as_their_crops_are(network: Trained) -> None:
    extractor = of(network)
    images = crops(3)
    frame = np.hstack(list(images))[..., ::-1]
    boxes = [(16 * number, 0, 16, 32) for number in range(3)]
    found = extractor.of_boxes(np.ascontiguousarray(frame), boxes, order="bgr", form="ltwh")
    np.testing.assert_allclose(found, extractor(images, order="rgb"), atol=CLOSE)
