"""Prints what networks weigh and how fast they are, as a table in Markdown.

    uv run benchmarks/networks.py [NAME …] [--seconds S] [--device D]

Weights are those that an embedding needs, without the classifier. Multiply-adds are counted by
torch for one image. Speeds are images a second of whole training steps (forward, loss, backward,
optimizer, in the project's own learner), and crops a second of the Extractor, each the median of
rounds in which all networks take turns. On a CPU the Extractor runs a graph of ONNX Runtime, as it
does where the file of stage export stands beside the checkpoint; `--torch` leaves it to torch.
"""

import argparse
import dataclasses
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from deepsort_reid.core.arch import ARCHS
from deepsort_reid.core.config import TrainConfig, load_params
from deepsort_reid.core.machine import cores, processor
from deepsort_reid.data.loading import augment
from deepsort_reid.data.loading.batches import TrainBatches
from deepsort_reid.data.packed import Part
from deepsort_reid.model.embed import deployed
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.network import Design, build, without_classifier
from deepsort_reid.model.onnx_graph import Normalised, as_onnx
from deepsort_reid.model.runtimes import ONNX, Runtime, of_network, of_onnx, open_stated
from deepsort_reid.model.size import embedding_weights, multiply_adds
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.learner import Learner
from deepsort_reid.training.ranks.distributed import ALONE

ROOT = Path(__file__).resolve().parents[1]
TIMM = ("mobilenetv4_conv_small", "repvit_m0_9", "vit_tiny_patch16_224", "vit_small_patch16_224")
SIZES = ((128, 64), (256, 128))
CLASSES = 192  # identities of the default dataset
TRAINED = (64, 32)  # the default image size
BATCHES = (1, 8, 32)  # crops at a time
ROUNDS = 5


def main() -> None:
    """Measure all networks in turns, and print a row for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks; a choice by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a measurement in a round")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu or cuda")
    parser.add_argument("--torch", action="store_true", help="let torch embed, also on a CPU")
    options = parser.parse_args()
    names = options.names or [*ARCHS, *(f"timm/{name}" for name in TIMM)]
    logging.disable()
    works: dict[str, dict[str, Callable[[], int]]] = {
        name: work_of(name, options.device, by_torch=options.torch) for name in names
    }
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name, kinds in works.items():
            for kind, work in kinds.items():
                rates.setdefault((name, kind), []).append(rate(work, options.seconds))
    kinds = list(next(iter(works.values())))
    head = ["network", "million weights", *(f"GMAC {h}×{w}" for h, w in SIZES), *kinds]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for name in names:
        shown = [f"{statistics.median(rates[name, kind]):,.0f}" for kind in kinds]
        print("| " + " | ".join([f"`{name}`", *size_of(name), *shown]) + " |")
    on = torch.cuda.get_device_name() + ", " if options.device.type == "cuda" else ""
    print(
        f"\n{on}{processor()}, {cores()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, Python {platform.python_version()}; median of {ROUNDS} rounds; "
        f"training with batches of {config().batch_size}"
    )


def config() -> TrainConfig:
    """The default recipe."""
    return load_params(ROOT / "params.yaml").train


def size_of(name: str) -> list[str]:
    """Million weights, and billion multiply-adds for one image of each size."""
    nets = {size: build(Design(name), 1, image_size=size).eval() for size in SIZES}
    adds = [f"{multiply_adds(net, size) / 1e9:.2f}" for size, net in nets.items()]
    return [f"{embedding_weights(nets[SIZES[0]]) / 1e6:.2f}", *adds]


def work_of(name: str, device: torch.device, *, by_torch: bool) -> dict[str, Callable[[], int]]:
    """What is timed of a network: each call does some images, and returns how many."""
    height, width = TRAINED
    found = {f"trained/s {height}×{width}": training(name, device)}
    crops = np.random.default_rng(0).integers(0, 256, (max(BATCHES), 128, 64, 3), dtype=np.uint8)
    extractor = Extractor.from_runtime(runtime_of(name, device, by_torch=by_torch))

    def embedding(batch: int) -> Callable[[], int]:
        return lambda: len(extractor(crops[:batch], order="rgb"))

    return found | {f"crops/s, {batch} at a time": embedding(batch) for batch in BATCHES}


def runtime_of(name: str, device: torch.device, *, by_torch: bool) -> Runtime:
    """A network of random weights, in what runs it."""
    net, size = build(Design(name), 1, image_size=SIZES[0]).eval(), SIZES[0]
    if by_torch or device.type != "cpu":
        return of_network(net, size, augment.MEAN, augment.STD, device)
    graph = as_onnx(Normalised(deployed(without_classifier(net))), size)
    with tempfile.NamedTemporaryFile(suffix=ONNX) as file:
        Path(file.name).write_bytes(graph.SerializeToString())
        return of_onnx(open_stated(Path(file.name), device))


def training(name: str, device: torch.device) -> Callable[[], int]:
    """One step of a training on noise."""
    recipe = config()
    count = 4 * recipe.batch_size
    noise = np.random.default_rng(0).integers(0, 256, (count, *TRAINED, 3), dtype=np.uint8)
    pids = np.arange(count) % CLASSES
    part = Part(noise, pids, pids * 0, [str(n) for n in range(CLASSES)], [f"{n}" for n in pids])
    batches = TrainBatches(part, recipe, device=device, rank=0, world_size=1)
    process = dataclasses.replace(ALONE, device=device)
    net = build(Design(name), CLASSES, image_size=TRAINED)
    learner = Learner(
        net, recipe, process, classes=CLASSES, image_size=TRAINED, steps_per_epoch=batches.steps,
        bfloat16=choose_bfloat16(net, recipe, process, image_size=TRAINED),
    )  # fmt: skip
    ready = [list(taken) for _, taken in batches.of_epoch(1, 0)]

    def step() -> int:
        learner.step(ready[0], 0).tolist()  # waits for the device
        return recipe.batch_size

    return step


def rate(work: Callable[[], int], seconds: float) -> float:
    """Images a second, after a call that counts for nothing."""
    work()
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        done += work()
    return done / spent


if __name__ == "__main__":
    main()
