"""Images get to the device as they are, out of its own memory or from the disk."""

import numpy as np
import pytest
import torch

from deepsort_reid.data import loader
from deepsort_reid.data.loader import Feed, fits
from tests.training.test_trainer import part

CPU = torch.device("cpu")
PLACES = np.array([7, 0, 7, 3])


@pytest.mark.parametrize("there", [False, True])
def test_it_gives_the_images_at_the_places(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "fits", lambda *_: there)
    monkeypatch.setattr(loader, "CHUNK", 5)  # of 12 images
    source = part(3, 0)
    feed = Feed(source, CPU)
    assert (feed.stored is not None) == there
    wanted, labels = feed.read(PLACES)
    assert wanted.shape == ((4,) if there else (4, 32, 16, 3))
    assert (feed.place(wanted).numpy() == source.images[PLACES]).all()
    assert (labels.numpy() == source.labels[PLACES]).all()
    before = source.images[7].copy()
    feed.place(wanted)[0] = 0  # what is given is a copy
    assert (source.images[7] == before).all()


def test_a_cpu_stores_nothing() -> None:
    assert not fits(part(3, 0), CPU)


@pytest.mark.parametrize(("free", "enough"), [(4 * 12 * 32 * 16 * 3, True), (70_000, False)])
def test_a_gpu_stores_what_takes_a_quarter_of_what_is_free(
    free: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10 * free))
    assert fits(part(3, 0), torch.device("cuda")) == enough
