"""Images of an archive become parts: the right ones, the same bytes every time, none unseen."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import decode
from deepsort_reid.data.packed import open_part
from deepsort_reid.data.samples import Dataset
from tests.support.datasets import contents, folders, pack, picture, written


def test_parts_hold_the_right_images(tmp_path: Path) -> None:
    dataset = folders(8, 10)
    images = contents(dataset)
    parts = pack(tmp_path, dataset, images)
    for name, samples in parts.items():
        part = open_part(tmp_path, name)
        assert part.image_size == (32, 16)
        assert list(part.names) == [sample.name for sample in samples]
        assert part.pids.tolist() == [sample.pid for sample in samples]
        for image, member in zip(part.images, part.names, strict=True):
            shade = np.asarray(Image.open(io.BytesIO(images[member])))[0, 0]
            assert (image == shade).all()
    assert not list(tmp_path.glob(".*"))


def test_the_same_bytes_in_any_order_and_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = folders(8, 10)
    pack(tmp_path / "a", dataset, contents(dataset))
    monkeypatch.setattr(decode, "cores", lambda: 5)
    monkeypatch.setattr(decode, "BUNCH", 3)
    pack(tmp_path / "b", dataset, contents(dataset), backwards=True)
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.parametrize(
    "gone", [["id03/c1_4.png"], [f"id05/c{k % 2 + 1}_{k}.png" for k in range(10)]]
)
def test_unreadable_images_leave_the_parts_of_a_dataset_without_them(
    tmp_path: Path, gone: list[str]
) -> None:
    whole = folders(8, 10)
    without = Dataset(whole.layout, [s for s in whole.samples if s.name not in gone])
    pack(tmp_path / "a", whole, contents(whole) | dict.fromkeys(gone, b""), skip_unreadable=10)
    pack(tmp_path / "b", without, contents(whole))
    assert written(tmp_path / "a") == written(tmp_path / "b")


BROKEN = {
    "empty": b"",
    "text": b"no image at all",
    "truncated": picture(5, (64, 64), "jpeg")[:300],
    "cut header": picture(5)[:20],
    "bomb": picture(0, (20_000, 20_000), mode="1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_unreadable_images_are_named_counted_and_refused(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = folders(8, 10)
    images = contents(dataset) | {"id03/c1_4.png": BROKEN[case]}
    with (
        caplog.at_level(logging.WARNING, "deepsort_reid"),
        pytest.raises(DatasetError) as caught,
    ):
        pack(tmp_path, dataset, images)
    assert "1 unreadable image(s), 'id03/c1_4.png' first" in str(caught.value)
    assert "split.skip_unreadable: 1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    parts = pack(tmp_path, dataset, images, skip_unreadable=1)
    assert sum(len(samples) for samples in parts.values()) == 79
