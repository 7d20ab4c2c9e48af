# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "boxmot==25.0.0",
#   "ultralytics==8.4.190",
#   "onnxruntime==1.24.3",               # the one that boxmot insists on at run time
#   "onnx==1.23.2",                      # ultralytics asks for it beside
#   "opencv-python-headless==4.13.0.92", # needs no display's libraries
#   "torch==2.14.1",
#   "torchreid==0.2.5",
#   "torchvision==0.29.2",               # torchreid imports this and the rest, and names none
#   "h5py==3.16.0",
#   "matplotlib==3.11.2",
#   "scipy==1.17.1",
#   "tensorboard==2.21.0",
#   "reid==0.1.0rc1",                    # Roboflow's
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# override-dependencies = ["opencv-python; python_version < '3'"]
# ///
"""Embeds crops by boxmot, ultralytics, torchreid and Roboflow's reid, as their users do.

    uv run --script tests/support/real_trackers.py EXPORTED OUT
    uv run --script tests/support/real_trackers.py --torchreids OUT

It has an environment of its own, since boxmot asks for another ONNX Runtime than this project, and
test_trackers.py runs it there. EXPORTED holds crops.npy, (N, H, W, 3) uint8 RGB at the networks'
size, and a folder of exported files for each network; OUT is the .npz that receives an array (B, D)
for each `network/file/batch`.

With --torchreids, OUT is a folder that receives `NAME.pth.tar` for networks of torchreid's with
weights and batch statistics of chance, as torchreid saves them, and `NAME.npz` with images and what
that network embeds of them.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BATCHES = (1, 7, 64)
GAP = 20  # pixels between two crops in a frame; ultralytics enlarges boxes before it cuts
GAIN, PAD = 1.02, 10  # by so much
TORCHREIDS = (
    "osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "osnet_ibn_x1_0",
    "osnet_ain_x1_0", "osnet_ain_x0_75", "osnet_ain_x0_5", "osnet_ain_x0_25", "resnet50_ibn_a",
)  # fmt: skip


def frame_of(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A BGR frame with the crops in a row, and their boxes (N, 4) left, top, right, bottom."""
    count, height, width = crops.shape[:3]
    frame = np.full((height + 2 * GAP, GAP + count * (width + GAP), 3), 90, np.uint8)
    boxes = []
    for number, crop in enumerate(crops):
        left = GAP + number * (width + GAP)
        frame[GAP : GAP + height, left : left + width] = crop[..., ::-1]
        boxes.append((left, GAP, left + width, GAP + height))
    return frame, np.array(boxes, np.float32)


def by_boxmot(path: Path, crops: np.ndarray) -> np.ndarray:
    """The embeddings of boxmot's appearance encoder, of boxes in a frame."""
    import torch
    from boxmot.reid import create_reid_encoder
    from boxmot.reid.config import resolve_reid_spec
    from boxmot.structures import Boxes, Detections, Frame

    encoder = create_reid_encoder(resolve_reid_spec(path)[0])
    frame, boxes = frame_of(crops)
    rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)))
    found = Detections(
        geometry=Boxes(torch.from_numpy(boxes)),
        scores=torch.full((len(boxes),), 0.9),
        class_ids=torch.zeros(len(boxes), dtype=torch.int64),
        sample_id="1",
    )
    (embeddings,) = encoder.encode([Frame(rgb, "1")], [found])
    return embeddings.numpy()


def by_ultralytics(path: Path, crops: np.ndarray) -> np.ndarray:
    """The features of the tracks that ultralytics' BoT-SORT begins."""
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers import BOTSORT
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = YAML.load(check_yaml("botsort.yaml"))
    settings |= {"with_reid": True, "model": str(path), "gmc_method": "none", "device": "cpu"}
    tracker = BOTSORT(IterableSimpleNamespace(**settings))
    frame, boxes = frame_of(crops)
    # Such that what it cuts, after enlarging and rounding down, is the crop.
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2 + 0.25, boxes[:, 2:] - boxes[:, :2]
    sizes = (sizes - PAD) / GAIN
    corners = np.hstack([centres - sizes / 2, centres + sizes / 2])
    rest = np.tile(np.array([0.9, 0]), (len(boxes), 1))
    tracker.update(Boxes(np.hstack([corners, rest]), frame.shape[:2]), frame)
    tracks = sorted(tracker.tracked_stracks, key=lambda track: track.idx)
    return np.array([track.curr_feat for track in tracks])


def by_torchreid(path: Path, crops: np.ndarray) -> np.ndarray:
    """The features of torchreid's extractor."""
    from torchreid.reid.utils import FeatureExtractor

    size = crops.shape[1:3]
    extractor = FeatureExtractor(path.parent.name, str(path), size, device="cpu", verbose=False)
    return extractor(list(crops)).numpy()


def by_roboflow(path: Path, crops: np.ndarray) -> np.ndarray:
    """The embeddings of Roboflow's reid, of boxes in a frame."""
    import supervision
    from reid import ReIDModel

    frame, boxes = frame_of(crops)
    model = ReIDModel.from_pretrained(str(path), device="cpu")
    return model.extract_embeddings(supervision.Detections(xyxy=boxes), frame)


def save_torchreids(folder: Path) -> None:
    """Save networks of torchreid's own, and what they embed of images of two sizes."""
    import torch
    from torchreid.reid import models
    from torchreid.reid.utils import save_checkpoint

    for name in TORCHREIDS:
        torch.manual_seed(0)
        net = models.build_model(name, num_classes=5, pretrained=False)
        for layer in net.modules():
            if isinstance(layer, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                torch.nn.init.normal_(layer.running_mean, 0, 0.1)
                torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
        net.eval()
        found = {}
        for height, width in ((256, 128), (128, 64)):
            images = torch.randn(3, 3, height, width)
            with torch.no_grad():
                found |= {f"images{height}": images.numpy(), f"found{height}": net(images).numpy()}
        state = {"state_dict": net.state_dict(), "epoch": 0, "rank1": 0.5, "optimizer": {}}
        save_checkpoint(state, str(folder))
        (folder / "model.pth.tar-0").replace(folder / f"{name}.pth.tar")
        np.savez(folder / f"{name}.npz", **found)


def embedded(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every file with every batch."""
    crops = np.load(folder / "crops.npy")
    for tracker in (by_boxmot, by_ultralytics, by_torchreid, by_roboflow):
        for path in sorted(folder.glob(f"*/{tracker.__name__.removeprefix('by_')}*")):
            for batch in BATCHES:
                yield f"{path.parent.name}/{path.name}/{batch}", tracker(path, crops[:batch])


if __name__ == "__main__":
    first, out = sys.argv[1], Path(sys.argv[2])
    if first == "--torchreids":
        save_torchreids(out)
        sys.exit()
    folder = Path(first)
    with tempfile.TemporaryDirectory() as settings:
        os.environ |= {"YOLO_CONFIG_DIR": settings, "YOLO_AUTOINSTALL": "false"}
        np.savez(out, **dict(embedded(folder)))
