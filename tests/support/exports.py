"""A network and a dataset to export, as if they had been trained and split."""

from collections.abc import Sequence

import numpy as np
import torch

from deepsort_reid.data.loading import augment
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import network
from deepsort_reid.model.checkpoint import Description

THRESHOLD = 0.137
EVALUATION = {  # what a model card needs of reports/evaluation.json
    "mAP": 0.6218, "mINP": 0.5, "rank1": 0.8125, "queries": 64, "query_identities": 32,
    "gallery_images": 400, "same_camera_removed": True, "cameras_known": True, "tuning": False,
    "max_cosine_distance": THRESHOLD, "meaningful": True, "too_few": {},
}  # fmt: skip
CALIBRATION = {  # and of reports/calibration.json
    "max_cosine_distance": THRESHOLD,
    "false_match_rate": 0.01,
    "kinds": {
        "within": {
            "pairs_of_two_people": 9000, "pairs_of_one_person": 300, "resampled_groups": 32,
            "threshold": {"value": THRESHOLD, "low": 0.12, "high": 0.151},
            "at_max_cosine_distance": {"false_match_rate": 0.0099, "true_match_rate": 0.91},
        },
    },
}  # fmt: skip


def trained(arch: str = "resnet18", size: Sequence[int] = (32, 16), **design: object) -> Trained:
    """A network with weights of chance, and batch statistics of crops."""
    wanted = network.Design(arch, **design)  # type: ignore[arg-type]
    net = network.build(wanted, 4, image_size=tuple(size), seed=1)
    net.train()
    with torch.no_grad():
        for seed in range(4):
            net(augment.normalise(torch.from_numpy(crops(16, size, seed=seed))))
    about = Description(
        epoch=3, acc=50.0, arch=arch, embedding_size=net.feature_size, image_size=list(size),
        mean=list(augment.MEAN), std=list(augment.STD), classes=list("abcd"),
        data_digest="ab" * 32, identity={"data": {}, "params": {}, "code": {}, "environment": {}},
        **design,
    )  # fmt: skip
    return Trained(net=net.eval(), about=about, max_cosine_distance=THRESHOLD)


def crops(count: int, size: Sequence[int] = (32, 16), seed: int = 0) -> Images:
    """(count, H, W, 3): patches of colours, all of them different."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 2, 3), dtype=np.uint8)
    return coarse.repeat(size[0] // 4, axis=1).repeat(size[1] // 2, axis=2)


def part(count: int, size: Sequence[int] = (32, 16), seed: int = 0) -> Part:
    """A packed part of four identities under two cameras."""
    pids = np.arange(count) % 4 + 1
    names = [f"{number}.png" for number in range(count)]
    images = crops(count, size, seed)
    return Part(images, pids, np.arange(count) // 4 % 2, [f"id{pid}" for pid in pids], names)
