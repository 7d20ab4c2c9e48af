"""Exported files in the trackers they are for: the real packages, by what they offer their users.

boxmot, ultralytics, torchreid and Roboflow's reid run in an environment of their own, which uv
makes from what tests/support/real_trackers.py says at its top; uv keeps it, so only the first time
takes a minute. The other way round, networks that torchreid has saved embed here as they do there.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from deep_sort_realtime.deepsort_tracker import DeepSort

from deepsort_reid.core import arch as core
from deepsort_reid.data.packed import Images
from deepsort_reid.export import export, parity
from deepsort_reid.export.formats import Trained
from deepsort_reid.export.runtimes import Floats
from deepsort_reid.model import network
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.pretrained.loading import load_weights
from tests.support import stages
from tests.support.exports import THRESHOLD, crops, part, trained

pytestmark = pytest.mark.slow  # exports some networks, and runs other trackers' packages

SIZE = (64, 32)
BATCHES = (1, 7, 64)
FULL, HALF, EIGHT = 0.99999, 0.999, 0.9
GRAPHS, BY_NAME = ("boxmot.onnx", "ultralytics.onnx"), ("boxmot.pt", "torchreid.pth")
EXPECTED = {
    "resnet18/boxmot.onnx": FULL,
    "resnet18/boxmot.pt": FULL,
    "resnet18/boxmot.fp16.onnx": HALF,
    "resnet18/boxmot.int8.onnx": EIGHT,
    "resnet18/torchreid.pth": FULL,
    "resnet18/ultralytics.onnx": FULL,
    "resnet18/ultralytics.fp16.onnx": HALF,
    "resnet18/ultralytics.int8.onnx": EIGHT,
    **{f"resnet10d/{file}": FULL for file in GRAPHS},
    "resnet50/boxmot.onnx": FULL,
    "resnet50/boxmot.pt": FULL,
    "resnet50/torchreid.pth": FULL,
    "resnet50/ultralytics.onnx": FULL,
    "deepsort/boxmot.onnx": FULL,
    "deepsort/ultralytics.onnx": FULL,
    "resnet18/roboflow": FULL,
    "resnet50/roboflow": FULL,
    **{f"osnet_x0_25/{file}": FULL for file in (*GRAPHS, *BY_NAME, "roboflow")},
    **{f"osnet_x0_25/{name}.fp16.onnx": HALF for name in ("boxmot", "ultralytics")},
    **{f"osnet_x0_25/{name}.int8.onnx": EIGHT for name in ("boxmot", "ultralytics")},
    **{f"osnet_ibn_x1_0/{file}": FULL for file in (*GRAPHS, *BY_NAME)},
    **{f"osnet_ain_x0_25/{file}": FULL for file in (*GRAPHS, *BY_NAME)},
    **{f"resnet50_ibn_a/{file}": FULL for file in (*GRAPHS, "torchreid.pth")},
    **{f"mobilenetv4_conv_small/{file}": FULL for file in (*GRAPHS, "roboflow")},
}
LOWERED = ("resnet18", "osnet_x0_25")
ARCHS = {name.partition("/")[0]: name.partition("/")[0] for name in EXPECTED} | {
    "mobilenetv4_conv_small": "timm/mobilenetv4_conv_small"
}
TORCHREIDS = [arch for arch in core.ARCHS if arch.startswith("osnet")] + ["resnet50_ibn_a"]


@pytest.fixture(scope="module")
def networks() -> Mapping[str, Trained]:
    return {name: trained(arch, SIZE) for name, arch in ARCHS.items()}


@pytest.fixture(scope="module")
def found(
    networks: Mapping[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Floats]:
    """`arch/file/batch` -> (B, D), as the real packages embed `crops(64)`."""
    folder = tmp_path_factory.mktemp("trackers")
    for arch, made in networks.items():
        (folder / arch).mkdir()
        export.export(
            folder / arch, made, train=part(64, SIZE, seed=3), query=part(64, SIZE),
            gallery=part(16, SIZE, seed=5), precisions=("fp16", "int8") if arch in LOWERED else (),
        )  # fmt: skip
    np.save(folder / "crops.npy", crops(64, SIZE))
    in_real_trackers(str(folder), str(folder / "found.npz"))
    with np.load(folder / "found.npz") as content:
        return dict(content)


def in_real_trackers(*arguments: str) -> None:
    """Run tests/support/real_trackers.py in its own environment."""
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "the trackers get an environment of their own from uv, which is not on PATH"
    apart = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONWARNINGS")
    done = subprocess.run(
        [uv, "run", "--quiet", "--script", "tests/support/real_trackers.py", *arguments],
        cwd=stages.ROOT,
        env={name: value for name, value in os.environ.items() if name not in apart},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def of(made: Trained) -> Extractor:
    about = made.about
    return Extractor.from_network(
        made.net, image_size=made.image_size, mean=about.mean, std=about.std, device="cpu"
    )


@pytest.mark.timeout(1500)  # the first time, an environment is made
@pytest.mark.parametrize("file", EXPECTED)
def test_a_tracker_embeds_as_the_extractor_does(
    file: str, networks: Mapping[str, Trained], found: Mapping[str, Floats]
) -> None:
    images = crops(64, SIZE)
    expected = of(networks[file.partition("/")[0]])(images, order="rgb")
    for batch in BATCHES:
        embeddings = found[f"{file}/{batch}"]
        assert embeddings.shape == (batch, expected.shape[1])
        assert parity.cosines(embeddings, expected[:batch]).min() >= EXPECTED[file]


@pytest.mark.timeout(1500)
def test_no_file_is_left_out(found: Mapping[str, Floats]) -> None:
    assert set(found) == {f"{file}/{batch}" for file in EXPECTED for batch in BATCHES}


@pytest.mark.parametrize("arch", ARCHS)
def test_swapped_colours_and_crops_would_be_noticed(
    arch: str, networks: Mapping[str, Trained]
) -> None:
    extractor, images = of(networks[arch]), crops(64, SIZE)
    expected = extractor(images, order="rgb")
    swapped = extractor(images, order="bgr")
    assert parity.cosines(swapped, expected).min() < HALF
    assert parity.cosines(np.roll(expected, 1, axis=0), expected).min() < HALF


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks that torchreid has saved, and what they embed there."""
    folder = tmp_path_factory.mktemp("torchreids")
    in_real_trackers("--torchreids", str(folder))
    return folder


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("arch", TORCHREIDS)
def test_a_network_of_torchreid_embeds_here_as_there(arch: str, saved: Path) -> None:
    net = network.build(network.Design(arch), 9)  # of another number of identities
    report = load_weights(net, saved / f"{arch}.pth.tar")
    assert set(report.skipped) <= {"classifier.bias", "classifier.weight"}
    with np.load(saved / f"{arch}.npz") as content:
        for height in (256, 128):
            images = torch.from_numpy(content[f"images{height}"])
            with torch.inference_mode():
                found = net.eval().features(images).numpy()
            assert parity.cosines(found, content[f"found{height}"]).min() >= FULL


@pytest.mark.parametrize("count", BATCHES)
def test_deep_sort_realtime_tracks_with_the_extractor_s_embeddings(
    count: int, networks: Mapping[str, Trained]
) -> None:
    extractor = of(networks["resnet18"])
    frame, boxes = frame_of(crops(count, SIZE))
    embeds = extractor.of_boxes(frame, boxes, order="bgr", form="ltwh")
    tracker = DeepSort(embedder=None, max_cosine_distance=THRESHOLD, n_init=1)
    detections = [(box, 0.9, "person") for box in boxes.tolist()]
    tracks = tracker.update_tracks(detections, embeds=embeds)
    features = [track.get_feature() for track in tracks]
    expected = extractor(crops(count, SIZE), order="rgb")
    assert len(features) == count
    assert parity.cosines(np.array(features), expected).min() >= FULL


def frame_of(images: Images) -> tuple[Images, np.ndarray]:
    """A BGR frame with the crops side by side, and their boxes (N, 4) left, top, width, height."""
    height, width = images.shape[1:3]
    frame = np.ascontiguousarray(np.hstack(list(images))[..., ::-1])
    lefts = np.arange(len(images)) * width
    return frame, np.array([(left, 0, width, height) for left in lefts], np.float64)
