"""The summary of the parts: it tells data apart, and damage by name."""

from pathlib import Path

import pytest

from deepsort_reid.core.errors import PackedError
from deepsort_reid.data import packed
from deepsort_reid.data.split import count
from tests.support.datasets import contents, folders, pack, picture


def test_the_summary_tells_the_data_apart(tmp_path: Path) -> None:
    digests = set()
    for number, change in enumerate([{}, {"id00/c1_0.png": picture(99)}, {}]):
        dataset, folder = folders(8, 10), tmp_path / str(number)
        parts = pack(folder, dataset, contents(dataset) | change)
        packed.write_summary(folder, "folders", count(parts), tuning=False)
        digests.add(packed.read_summary(folder).digest)
    assert len(digests) == 2
    assert packed.read_summary(folder).flat()["query_images"] == len(parts["query"])


def test_a_split_to_choose_by_is_other_data_and_says_what_it_is(tmp_path: Path) -> None:
    """MLflow's alias goes to the best network on data of the same digest."""
    dataset, found = folders(16, 8), {}
    for fraction in (0.0, 0.25):
        folder = tmp_path / str(fraction)
        parts = pack(folder, dataset, contents(dataset), tune_fraction=fraction)
        packed.write_summary(folder, "folders", count(parts), tuning=fraction > 0)
        found[fraction] = packed.read_summary(folder)
    assert [summary.tuning for summary in found.values()] == [False, True]
    assert [summary.flat()["tuning"] for summary in found.values()] == [False, True]
    assert found[0.0].digest != found[0.25].digest
    # Files alike, the digest still differs by what they are for.
    packed.write_summary(folder, "folders", count(parts), tuning=False)
    assert packed.read_summary(folder).digest != found[0.25].digest


def test_a_missing_summary(tmp_path: Path) -> None:
    with pytest.raises(PackedError, match=r"make the parts again: dvc repro -f split"):
        packed.read_summary(tmp_path)


def small(folder: Path) -> packed.Summary:
    dataset = folders(8, 10)
    parts = pack(folder, dataset, contents(dataset))
    return packed.write_summary(folder, "folders", count(parts), tuning=False)


@pytest.mark.parametrize("name", ["train.npy", "train.csv"])
def test_a_changed_part_is_named(tmp_path: Path, name: str) -> None:
    summary = small(tmp_path)
    packed.verify_parts(tmp_path, summary, packed.PARTS)
    changed = bytearray((tmp_path / name).read_bytes())
    changed[-2] ^= 1
    (tmp_path / name).write_bytes(changed)
    packed.verify_parts(tmp_path, summary, ["val", "query", "gallery"])
    with pytest.raises(PackedError, match=rf"{name}: damaged.*dvc repro -f split"):
        packed.verify_parts(tmp_path, summary, ["train"])
    (tmp_path / name).unlink()
    with pytest.raises(PackedError, match=rf"{name}: cannot be read"):
        packed.verify_parts(tmp_path, summary, ["train"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"images": ', '"images": 1'),
        ('"train.npy": "', '"train.npy": "0'),
        ("folders", "folder"),
        ('"tuning": false', '"tuning": true'),
    ],
)
def test_a_changed_summary_is_refused(tmp_path: Path, old: str, new: str) -> None:
    small(tmp_path)
    path = tmp_path / "summary.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(PackedError, match="does not fit its digest"):
        packed.read_summary(tmp_path)
