"""A batch is taught by the losses that the recipe asks for, with their weights."""

import copy
import math

import numpy as np
import pytest
import torch

from deepsort_reid.data.loading.augment import normalise, uniforms
from deepsort_reid.training.learner import Learner
from tests.support.trainings import part, trainer

TRAIN = part(11, 0)
SIZE = len(TRAIN)
IMAGES, LABELS = torch.from_numpy(TRAIN.images), torch.from_numpy(TRAIN.labels)
DRAWS = torch.from_numpy(uniforms(0, 1, np.arange(SIZE)))


def loss_of(learner: Learner) -> float:
    """The summed loss of the whole part as one batch."""
    loss, _ = learner.backward(IMAGES, LABELS, DRAWS, global_size=SIZE, width=SIZE).tolist()
    return float(loss)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_smoothed_labels_spread_over_all_identities(smoothing: float) -> None:
    learner = trainer(label_smoothing=smoothing, flip=0.0, crop_padding=0, erase=0.0).learner
    with torch.no_grad():  # in train mode, as the step is taken
        logits = copy.deepcopy(learner.net)(normalise(IMAGES))
    logs = logits.log_softmax(1).double()
    right = logs[torch.arange(SIZE), LABELS]
    expected = -((1 - smoothing) * right + smoothing * logs.mean(1)).sum()
    assert loss_of(learner) == pytest.approx(expected.item(), rel=1e-5)


def test_the_triplet_loss_is_added_with_its_weight() -> None:
    without, once, thrice = (
        loss_of(trainer(triplet_weight=weight, num_instances=4, batch_size=16).learner)
        for weight in (0.0, 1.0, 3.0)
    )
    assert once > without
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


def test_the_center_loss_is_added_with_its_weight() -> None:
    without, once, thrice = (
        loss_of(trainer(center_weight=weight).learner) for weight in (0.0, 1.0, 3.0)
    )
    assert once > without
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


def test_a_warm_up_longer_than_half_of_the_epochs_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "deepsort_reid"):
        own = trainer(lr=0.1, warmup_epochs=1, epochs=1, batch_size=2)
    learner, steps = own.learner, own.train_batches.steps
    rates = [learner.lr_at(step) for step in range(steps)]
    assert max(rates) == rates[math.ceil(steps / 2) - 1] == learner.lr
    assert rates[-1] < rates[0]
    assert "warmup_epochs=1 is more than half of epochs=1: the warm-up takes 0.5" in caplog.text


def test_the_learning_rate_of_a_step_is_the_schedules() -> None:
    own = trainer(lr=0.1, warmup_epochs=0.0, epochs=2)
    learner, steps = own.learner, own.train_batches.steps
    (_, batches), *_ = own.train_batches.of_epoch(2)
    learner.step(batches, steps)
    assert [group["lr"] for group in learner.optimizer.param_groups] == [learner.lr_at(steps)]
    assert 0 < learner.lr_at(steps) < learner.lr_at(0) == 0.1
    assert all(weight.grad is None for weight in learner.net.parameters())
