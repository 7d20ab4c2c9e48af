"""Images get to the device as they are, from its own memory or from the disk, ahead of time."""

import numpy as np
import pytest
import torch

from deepsort_reid.data.loading import loader
from deepsort_reid.data.loading.loader import Loader, Prefetcher, fits
from tests.support.trainings import part

CPU = torch.device("cpu")
PLACES = np.array([7, 0, 7, 3])


@pytest.mark.parametrize("there", [False, True])
def test_it_gives_the_images_at_the_places(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "fits", lambda *_: there)
    monkeypatch.setattr(loader, "CHUNK", 5)  # of 12 images
    source = part(3, 0)
    on_device = Loader(source, CPU)
    assert (on_device.stored is not None) == there
    wanted, labels = on_device.read(PLACES)
    assert wanted.shape == ((4,) if there else (4, 32, 16, 3))
    assert (on_device.place(wanted).numpy() == source.images[PLACES]).all()
    assert (labels.numpy() == source.labels[PLACES]).all()
    before = source.images[7].copy()
    on_device.place(wanted)[0] = 0  # what is given is a copy
    assert (source.images[7] == before).all()


def test_a_cpu_stores_nothing() -> None:
    assert not fits(part(3, 0), CPU)


@pytest.mark.parametrize(("free", "enough"), [(4 * 12 * 32 * 16 * 3, True), (70_000, False)])
def test_a_gpu_stores_what_takes_a_quarter_of_what_is_free(
    free: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10 * free))
    assert fits(part(3, 0), torch.device("cuda")) == enough


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_reading_ahead_keeps_the_order_and_counts_the_wait(num_workers: int) -> None:
    batches = [np.array([i]) for i in range(20)]
    reader = Prefetcher(num_workers)
    assert list(reader(lambda batch: int(batch[0]) ** 2, batches)) == [i * i for i in range(20)]
    assert reader.waited > 0


def test_a_reading_error_reaches_the_loop() -> None:
    def fail(_: object) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(Prefetcher(1)(fail, [np.array([0])]))
