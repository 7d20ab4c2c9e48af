"""One network of each family is trained with all that a recipe can ask for, and used afterwards."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepsort_reid.core.config import TrainConfig
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.backbones.base import ReidNet
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.training.ranks.distributed import ALONE, Process
from deepsort_reid.training.trainer import Trainer
from tests.support.equal_trainings import largest_difference, same, train, train_in_float64
from tests.support.networks import EXAMPLES, TRANSFORMERS
from tests.support.ranks import on_ranks
from tests.support.trainings import EVERYTHING, config, part

pytestmark = pytest.mark.slow  # real networks, twenty trainings of seconds

SIZE = (64, 32)  # instance normalisation needs more than one number in a feature map
BRANCHED = "timm/repvit_m0_9"
FIRST = {"osnet": "conv1", "resnet": "conv1", "deepsort": "conv"}  # by how a name begins
FIRST_OF_TIMM = {
    "timm/mobilenetv4_conv_small": "backbone.conv_stem",
    BRANCHED: "backbone.stem",
    **dict.fromkeys(TRANSFORMERS, "backbone.patch_embed"),
}
LACKING = {  # of a recipe, by the networks of timm that refuse it in a line
    **{arch: {"last_stride", "pooling"} for arch in TRANSFORMERS},
    BRANCHED: {"last_stride", "pooling"},
    "timm/mobilenetv4_conv_small": {"last_stride"},
}
PARTS = part(11, 0, size=SIZE), part(3, 1, size=SIZE)


def first_part(arch: str) -> str:
    if arch in FIRST_OF_TIMM:
        return FIRST_OF_TIMM[arch]
    return next(name for family, name in FIRST.items() if arch.startswith(family))


def recipe_of(arch: str, **changes: Any) -> TrainConfig:
    """Everything at once, as far as the network has it."""
    lacking = LACKING.get(arch, set())
    asked = {name: value for name, value in EVERYTHING.items() if name not in lacking}
    frozen = {"freeze_layers": (first_part(arch),), "epochs": 1, "batch_size": 16, "lr": 0.001}
    return config(arch=arch, **(asked | frozen | changes))


def made(recipe: TrainConfig, classes: int = 4, seed: int = 0) -> ReidNet:
    design = network.Design(**recipe.design)
    return network.build(design, classes, image_size=SIZE, seed=seed)


def two_ways(process: Process, recipe: TrainConfig) -> tuple[Any, Any]:
    """A training in float64, and whether one in float32 is the same when it is interrupted."""
    whole, stopped = (train(process, recipe, stops, made, size=SIZE) for stops in ([], [2]))
    return train_in_float64(process, recipe, made, SIZE), same(whole, stopped)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("arch", [*EXAMPLES, *TRANSFORMERS, BRANCHED])
def test_a_training_with_everything(arch: str) -> None:
    """On two ranks as on one, and to the byte after an interruption, frozen parts left alone."""
    alone, resumed = two_ways(ALONE, recipe_of(arch))
    assert resumed
    (first, and_resumed), (second, likewise) = on_ranks(2, two_ways, recipe_of(arch, batch_size=8))
    assert and_resumed
    assert likewise
    assert largest_difference(first, second) == 0
    assert largest_difference(alone, first) < 1e-9
    before, after = made(recipe_of(arch)).double().state_dict(), alone[1]
    start = f"{first_part(arch)}."
    changed = {name for name, w in before.items() if np.abs(after[name] - w.numpy()).max() > 0}
    assert not [name for name in changed if name.startswith(start)]
    others = [n for n, _ in made(recipe_of(arch)).named_parameters() if not n.startswith(start)]
    assert len(changed.intersection(others)) > 0.95 * len(others)  # some gates are shut


@pytest.mark.timeout(900)
@pytest.mark.parametrize("arch", [*EXAMPLES, *TRANSFORMERS, BRANCHED])
def test_what_was_trained_is_saved_and_used(arch: str, tmp_path: Path) -> None:
    recipe = recipe_of(arch, freeze_layers=())
    own = Trainer(made(recipe), *PARTS, recipe, ALONE)
    own.fit()
    net = own.learner.net_to_keep
    about = Description(
        epoch=1, acc=50.0, embedding_size=net.feature_size, image_size=SIZE, mean=MEAN, std=STD,
        classes=PARTS[0].classes, data_digest="ab" * 32, identity={}, **recipe.design,
    )  # fmt: skip
    path = tmp_path / "model.pth"
    checkpoint.save(path, net.state_dict(), about)
    again, read = checkpoint.load(path)
    assert (asdict(read.design), read.image_size) == (recipe.design, list(SIZE))
    images = PARTS[1].images
    found = []
    for one in (net, again):
        predictor = Predictor(one, mean=MEAN, std=STD, device=torch.device("cpu"))
        found.append(predictor.embed(torch.from_numpy(images)).numpy())
    extracted = Extractor(path, device="cpu")(images, order="rgb")
    assert found[0].shape == (len(images), net.feature_size)
    assert np.isfinite(found[0]).all()
    for other in (found[1], extracted):
        assert (found[0] * other).sum(1).min() >= 0.99999
