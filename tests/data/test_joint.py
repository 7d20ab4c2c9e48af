"""Several datasets as one: nobody of one is taken for somebody of another."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import joint, split
from deepsort_reid.data.loading.sampler import balanced
from deepsort_reid.data.pack import make_parts, make_test_parts
from deepsort_reid.data.packed import open_part, read_summary, write_summary
from tests.support.datasets import (
    InMemory,
    contents,
    folders,
    market,
    mot_config,
    picture,
    read_dataset,
    source_config,
    split_config,
    videos_in_time,
    written,
)

PEOPLE = {"shop": folders(8, 6), "street": read_dataset(market())}


def test_identities_and_cameras_are_kept_apart() -> None:
    joined = joint.join(PEOPLE)
    samples = [sample for dataset in joined for sample in dataset.samples]
    of_pid = {
        pid: {s.identity for s in samples if s.pid == pid} for pid in {s.pid for s in samples}
    }
    assert all(len(names) == 1 for pid, names in of_pid.items() if pid > 0)
    assert {s.identity for s in samples if s.pid <= 0} == {"street/0000", "street/-1"}
    cameras = Counter((s.camid, s.name.partition("/")[0]) for s in samples)
    assert len({camid for camid, _ in cameras}) == len(cameras)
    assert {s.identity.partition("/")[0] for s in samples} == {"shop", "street"}


def test_each_dataset_is_split_as_if_it_were_alone() -> None:
    config = split_config()
    together = split.assign_all(joint.join(PEOPLE), config)
    for name, dataset in PEOPLE.items():
        alone = split.assign_all([dataset], config)
        for part, samples in alone.items():
            found = [s.name for s in together[part] if s.name.startswith(f"{name}/")]
            assert [f"{name}/{s.name}" for s in samples] == found


def test_a_dataset_without_cameras_goes_on_asking_for_any_image() -> None:
    alone = read_dataset(f"id{i}/{k}.png" for i in range(8) for k in range(5))
    joined = joint.join({"a": folders(8, 6), "b": alone, "c": folders(8, 6, cameras=1)})
    parts = split.assign_all(joined, split_config())
    for name in ("b", "c"):
        queried = {s.camid for s in parts["query"] if s.name.startswith(name)}
        sought = {s.camid for s in parts["gallery"] if s.name.startswith(name)}
        assert len(queried) == len(sought) == 1
        assert queried != sought
    assert len({s.camid for part in parts.values() for s in part} - {-1}) == 2 + 2 + 2 + 1


def test_parts_hold_the_images_of_all(tmp_path: Path) -> None:
    datasets = joint.join(PEOPLE)
    source = joint.JointSource({n: InMemory(contents(d)) for n, d in PEOPLE.items()})
    parts = make_parts(source, datasets, tmp_path, split_config())
    counts = joint.count_sources(parts, PEOPLE)
    assert {name: found["train"]["identities"] for name, found in counts.items()} == {
        "shop": 6, "street": 6
    }  # fmt: skip
    assert sum(found["gallery"]["junk"] for found in counts.values()) == 1
    query = open_part(tmp_path, "query")
    assert {name.partition("/")[0] for name in query.names} == {"shop", "street"}
    written_summary = write_summary(
        tmp_path, "folders + market1501", split.count(parts), tuning=False, sources=counts
    )
    assert read_summary(tmp_path) == written_summary
    assert written_summary.flat()["shop_train_identities"] == 6


def test_one_dataset_leaves_no_trace_of_several(tmp_path: Path) -> None:
    assert joint.count_sources({"train": []}, [""]) == {}
    dataset = folders(8, 6)
    parts = make_parts(InMemory(contents(dataset)), [dataset], tmp_path, split_config())
    write_summary(tmp_path, "folders", split.count(parts), tuning=False)
    assert b"sources" not in written(tmp_path)["summary.json"]


@pytest.mark.parametrize("name", ["market", "folders", "tracks"])
def test_a_dataset_that_is_only_tested_on(tmp_path: Path, name: str) -> None:
    dataset = {
        "market": read_dataset(market()),
        "folders": folders(8, 6),
        "tracks": videos_in_time(6),
    }[name]
    make_test_parts(InMemory(contents(dataset)), dataset, tmp_path, split_config())
    counts = read_summary(tmp_path).counts
    assert counts["train"]["images"] == counts["val"]["images"] == 0
    identities = {"market": 2, "folders": 8, "tracks": 6}[name]
    assert counts["query"]["identities"] == identities
    gallery, query = open_part(tmp_path, "gallery"), open_part(tmp_path, "query")
    assert set(query.pids.tolist()) <= set(gallery.pids.tolist())
    assert not set(query.names) & set(gallery.names)


def test_an_epoch_takes_as_many_images_of_each_dataset() -> None:
    sources = ["a"] * 90 + ["b"] * 10 + ["c"] * 20
    first, again, second = (balanced(sources, seed=3, epoch=e) for e in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert Counter(sources[i] for i in first) == {"a": 40, "b": 40, "c": 40}
    taken = Counter(first.tolist())
    assert {taken[i] for i in range(90, 100)} == {4}
    assert {taken[i] for i in range(100, 120)} == {2}
    assert max(taken[i] for i in range(90)) == 1
    seen = set().union(*(balanced(sources, seed=3, epoch=e).tolist() for e in range(1, 12)))
    assert len(seen) == 120


def archive(folder: Path, name: str, images: dict[str, bytes]) -> None:
    """The archive of a dataset, where the download stage leaves it."""
    (folder / name).mkdir(parents=True)
    with zipfile.ZipFile(folder / name / "dataset.zip", "w") as target:
        for member, data in images.items():
            target.writestr(zipfile.ZipInfo(member), data)


def test_the_same_images_twice_are_refused(tmp_path: Path) -> None:
    images = {f"{who}/{k}.png": picture(k) for who in "abcd" for k in range(2)}
    others = {f"{who}/{k}.png": picture(k + 9) for who in "abcd" for k in range(2)}
    for name, content in (("one", images), ("two", images), ("three", others)):
        archive(tmp_path, name, content)
    sources = [source_config(name=name) for name in ("one", "two", "three")]
    with pytest.raises(DatasetError, match="'one' and 'two' are the same images"):
        joint.open_sources(tmp_path, sources, mot_config(), "dataset.source")
    _, datasets = joint.open_sources(tmp_path, sources[1:], mot_config(), "dataset.source")
    assert list(datasets) == ["two", "three"]


def test_what_is_wrong_with_one_of_several_begins_with_its_name(tmp_path: Path) -> None:
    few = joint.join({"shop": folders(8, 6), "yard": folders(1, 6)})
    with pytest.raises(DatasetError, match=r"^yard: the dataset has 1 identity"):
        split.assign_all(few, split_config())
    archive(tmp_path, "flat", {"1.png": b""})
    with pytest.raises(DatasetError, match=r"^flat: '1.png' lies in no identity's folder.*\[1\]"):
        joint.open_source(tmp_path, source_config(name="flat"), mot_config(), "evaluate.also[1].")
