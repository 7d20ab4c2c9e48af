# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "boxmot==25.0.0",
#   "onnxruntime==1.24.3",               # the one that boxmot insists on at run time
#   "opencv-python-headless==4.13.0.92", # needs no display's libraries
#   "torch==2.14.1",
#   "torchvision==0.29.2",
#   "onnx==1.23.2",
#   "onnxscript==0.7.2",
#   "numpy==2.4.6",
#   "pillow==12.3.0",
#   "pyyaml==6.0.3",
#   "tqdm==4.70.1",
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# override-dependencies = ["opencv-python; python_version < '3'"]
# ///
"""Crops per second of our Extractor beside the same network in boxmot, by its own entry point.

    PYTHONPATH=src uv run --script benchmarks/extractor.py [--arch A] [--size H W] [--crop H W]
        [--runs N] [--threads N] [--device D] [--checkpoint PATH]

Each side gets a BGR frame and the boxes in it, cuts, resizes, normalises and embeds: ours by
`Extractor.of_boxes`, as it chooses its runtime and in torch; boxmot by calling its `ReID` on the
.pt and on the .onnx of stage export; plain ONNX Runtime on the same .onnx, behind OpenCV's resize
and NumPy. The sides take turns, a round of calls at a time, each round beginning with another: what
else the machine does falls on all of them. Between turns is a pause, since threads of one side that
still spin would slow the next. Printed are the median over the calls, the spread from the 10th to
the 90th percentile, ours over each side (the median over the rounds), and how far the embeddings of
the sides lie apart: the resizing differs, where crops are not of the network's size.
"""

import argparse
import contextlib
import importlib.metadata
import io
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.machine import cores, processor
from deepsort_reid.data.loading import augment
from deepsort_reid.export import formats
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.runtimes import Choice
from speed_items.rows import in_turns

BATCHES = (1, 8, 32, 128)
ROUNDS = 5
PAUSE = 0.2  # seconds; ONNX Runtime's threads spin for some tens of milliseconds
OURS = {"fastest": "Extractor", "torch": "Extractor, torch"}
Side = Callable[[np.ndarray, np.ndarray], np.ndarray]  # BGR frame, boxes ltrb -> (N, D)


def main() -> None:
    """Print the conditions, a line for each batch and side, and how far the sides lie apart."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="resnet18", choices=ARCHS)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 32), help="the network's")
    parser.add_argument("--crop", type=int, nargs=2, default=(128, 64), help="of what is cut out")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path, help="a trained network; weights of chance else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    trained = load_or_build(options)
    with tempfile.TemporaryDirectory() as folder:
        sides = make_sides(Path(folder), trained, options.device)
        print(conditions(options, trained))
        print(f"\n{'batch':>5}  {'side':<16} {'crops/s':>8}  {'10th to 90th':<16}  ours over it")
        for batch in BATCHES:
            frame, boxes = street(batch, options.crop)
            rounds = measure(sides, frame, boxes, options.runs)
            ours_by_round = np.median(rounds[OURS["fastest"]], axis=1)
            for name, rates in rounds.items():
                low, middle, high = np.percentile(rates, (10, 50, 90))
                ratio = np.median(ours_by_round / np.median(rates, axis=1))
                spread = f"{low:,.0f} to {high:,.0f}"
                print(f"{batch:>5}  {name:<16} {middle:>8,.0f}  {spread:<16}  {ratio:.2f}")
        print(f"\n{'crops of':<12} {'side':<16} least and mean cosine with ours")
        for size in (options.size, options.crop):
            compare(sides, *street(128, size), size)


def load_or_build(options: argparse.Namespace) -> Trained:
    """The network that both sides run."""
    if options.checkpoint:
        net, about = checkpoint.load(options.checkpoint)
        return Trained(net=net, about=about, max_cosine_distance=1.0)
    net = network.build(network.Design(options.arch), 10, seed=1).eval()
    about = Description(
        epoch=1, acc=0.0, arch=options.arch, embedding_size=net.feature_size,
        image_size=list(options.size), mean=list(augment.MEAN), std=list(augment.STD),
        classes=[str(n) for n in range(10)], data_digest="", identity={},
    )  # fmt: skip
    return Trained(net=net, about=about, max_cosine_distance=1.0)


def make_sides(folder: Path, trained: Trained, device: str) -> dict[str, Side]:
    """Ours, and boxmot with each file that it takes."""
    from boxmot.reid.core.runtime import ReID

    logging.getLogger("boxmot").setLevel(logging.ERROR)
    checkpoint.save(folder / "boxmot.pth", trained.net.state_dict(), trained.about)
    formats.write_onnx_normalised(folder / "boxmot.onnx", trained)
    choices: tuple[Choice, ...] = ("fastest", "torch")
    sides: dict[str, Side] = {OURS[choice]: ours(folder, choice, device) for choice in choices}
    sides["onnxruntime"] = plain_onnxruntime(folder / "boxmot.onnx", trained)
    for form in formats.FORMS:
        if form.reader == "boxmot" and not form.obstacle(trained):
            form.write(folder / form.file, trained)
            with contextlib.redirect_stdout(io.StringIO()):
                sides[form.file] = ReID(folder / form.file, device=device)
    return sides


def ours(folder: Path, choice: Choice, device: str) -> Side:
    """Our Extractor, by a runtime of its choice or ours."""
    extractor = Extractor(
        folder / "boxmot.pth", device=device, batch_size=max(BATCHES), runtime=choice
    )
    print(f"{OURS[choice]}: {extractor.runtime}")
    return lambda frame, boxes: extractor.of_boxes(frame, boxes, order="bgr", form="ltrb")


def plain_onnxruntime(path: Path, trained: Trained) -> Side:
    """ONNX Runtime by hand."""
    import cv2
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    height, width = trained.image_size
    mean, std = (np.array(v, np.float32) for v in (trained.about.mean, trained.about.std))

    def run(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        crops = [frame[top:bottom, left:right] for left, top, right, bottom in boxes.astype(int)]
        images = np.stack([cv2.resize(crop, (width, height)) for crop in crops])[..., ::-1]
        normalised = (images.astype(np.float32) / 255 - mean) / std
        given = np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
        return session.run(None, {"images": given})[0]

    return run


def street(count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A BGR frame of smooth noise, as pictures are, and boxes of a size in it."""
    from PIL import Image

    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (68, 120, 3), dtype=np.uint8))
    frame = np.asarray(coarse.resize((1920, 1080), Image.Resampling.BICUBIC))
    lefts, tops = (
        random.integers(0, 1920 - size[1], count),
        random.integers(0, 1080 - size[0], count),
    )
    boxes = np.stack([lefts, tops, lefts + size[1], tops + size[0]], axis=1)
    return frame, boxes.astype(np.float32)


def measure(
    sides: dict[str, Side], frame: np.ndarray, boxes: np.ndarray, runs: int
) -> dict[str, list[list[float]]]:
    """Crops a second of each call, a list a round; the first two calls of a turn do not count."""

    def turn(side: Side) -> list[float]:
        time.sleep(PAUSE)
        return [rate(side, frame, boxes) for _ in range(2 + runs // ROUNDS)][2:]

    return in_turns({name: partial(turn, side) for name, side in sides.items()}, ROUNDS)


def rate(side: Side, frame: np.ndarray, boxes: np.ndarray) -> float:
    """Crops a second of one call."""
    started = time.perf_counter()
    side(frame, boxes)
    return len(boxes) / (time.perf_counter() - started)


def compare(
    sides: dict[str, Side], frame: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> None:
    """Print how near each side's embeddings are to ours."""
    own = sides[OURS["fastest"]](frame, boxes).astype(np.float64)
    for name, side in sides.items():
        cosines = (own * side(frame, boxes)).sum(1)
        if name != OURS["fastest"]:
            shown = f"{size[0]}×{size[1]}"
            print(f"{shown:<12} {name:<16} {cosines.min():.6f}  {cosines.mean():.6f}")


def conditions(options: argparse.Namespace, trained: Trained) -> str:
    """What it was measured with."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "boxmot", "onnxruntime")
    )
    on_gpu = options.device.startswith("cuda")
    device = torch.cuda.get_device_name() if on_gpu else processor()
    height, width = trained.image_size
    return (
        f"{trained.about.arch} at {height}×{width}, boxes of {options.crop[0]}×{options.crop[1]} "
        f"in a frame of 1080×1920; {device}, {options.threads} threads of {cores()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; {versions}, Python {platform.python_version()}; "
        f"n={options.runs // ROUNDS * ROUNDS} calls of each"
    )


if __name__ == "__main__":
    main()
