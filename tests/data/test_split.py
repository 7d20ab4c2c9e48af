"""Which image serves for what: exact counts, one draw a seed, and clear refusals."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data import queries, split
from deepsort_reid.data.samples import Dataset, Sample, Split
from tests.support.datasets import folders, market, read_dataset, split_config, videos_in_time


def assigned(dataset: Dataset, **rules: Any) -> Split:
    return split.assign_all([dataset], split_config(**rules))


def names(samples: Sequence[Sample]) -> set[str]:
    return {sample.name for sample in samples}


def identities(samples: Sequence[Sample]) -> set[str]:
    return {sample.identity for sample in samples}


@pytest.mark.parametrize("dataset", [folders(8, 10), read_dataset(market())], ids=["own", "market"])
def test_every_image_is_in_exactly_one_part(dataset: Dataset) -> None:
    parts = assigned(dataset)
    dealt = Counter(sample.name for samples in parts.values() for sample in samples)
    assert dealt == Counter(sample.name for sample in dataset.samples)
    for samples in parts.values():
        assert [s.name for s in samples] == sorted(s.name for s in samples)


def test_train_and_val_are_a_closed_set_and_the_test_part_an_open_one() -> None:
    parts = assigned(folders(8, 10))
    learned = identities(parts["train"])
    assert identities(parts["val"]) == learned
    assert identities(parts["query"]) == identities(parts["gallery"])
    assert not learned & identities(parts["gallery"])
    assert len(identities(parts["query"])) == 2  # a quarter of eight


@pytest.mark.parametrize(("images", "val"), [(2, 1), (3, 1), (5, 1), (10, 2), (13, 3), (40, 8)])
def test_val_takes_its_share_of_each_identity(images: int, val: int) -> None:
    parts = assigned(folders(8, images))
    assert set(Counter(s.identity for s in parts["val"]).values()) == {val}
    assert set(Counter(s.identity for s in parts["train"]).values()) == {images - val}


def test_market1501_keeps_its_roles() -> None:
    parts = assigned(read_dataset(market()))
    assert {s.pid for s in parts["gallery"]} == {-1, 0, 901, 902}
    assert len(parts["train"]) + len(parts["val"]) == 30
    assert split.count(parts)["gallery"] == {
        "images": 6, "identities": 2, "cameras": 2, "distractors": 1, "junk": 1,
    }  # fmt: skip


def test_one_query_for_each_identity_and_camera() -> None:
    parts = assigned(folders(12, 9, cameras=3))
    asked = Counter((s.identity, s.camid) for s in parts["query"])
    assert set(asked.values()) == {1}
    assert len(asked) == len(identities(parts["query"])) * 3


@pytest.mark.parametrize(
    ("counts", "queried"),
    [
        ({1: 3, 2: 3}, [1, 2]),
        ({1: 1, 2: 1}, [1]),
        ({1: 1, 2: 1, 3: 1}, [1, 2]),
        ({1: 3, 2: 1}, [1]),
        ({1: 3, 2: 2, 3: 1}, [1, 2, 3]),
        ({1: 5}, []),  # no other camera to be found under
        ({1: 1}, []),
        ({-1: 4}, [-1]),
        ({-1: 1}, []),
    ],
)
def test_a_query_always_leaves_something_to_find(
    counts: dict[int, int], queried: list[int]
) -> None:
    assert queries.cameras_to_query(counts) == queried
    left = {c for c, n in counts.items() if n > (c in queried)}
    assert all(left - ({c} if c >= 0 else set()) for c in queried)


def test_without_cameras_one_query_an_identity() -> None:
    dataset = read_dataset(f"id{i}/{k}.png" for i in range(8) for k in range(5))
    parts = assigned(dataset)
    assert set(Counter(s.identity for s in parts["query"]).values()) == {1}


def test_one_camera_asks_as_no_camera_does() -> None:
    dataset = folders(8, 5, cameras=1)
    assert not dataset.crosses_cameras
    parts = assigned(dataset)
    assert set(Counter(s.identity for s in parts["query"]).values()) == {1}
    apart = read_dataset(f"id{i}/c{i}_{k}.png" for i in range(8) for k in range(5))
    assert len(assigned(apart)["query"]) == 2


def test_the_seed_draws_and_nothing_else_does() -> None:
    dataset = folders(8, 10)
    shuffled = Dataset(dataset.layout, dataset.samples)
    assert assigned(dataset) == assigned(shuffled)
    assert assigned(dataset, seed=1) != assigned(dataset)


def test_a_new_image_moves_no_other_into_train() -> None:
    before = assigned(folders(8, 10))
    after = assigned(folders(8, 11))
    assert names(before["val"]) - names(after["val"]) <= names(after["val"]) | names(after["train"])
    moved = names(before["val"]) & names(after["train"])
    assert len(moved) <= len(before["val"]) // 2


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (folders(1, 9), "the dataset has 1 identity (id00); it takes at least 4"),
        (folders(3, 9), "the dataset has 3 identities"),
        (read_dataset(market(train=1)), "the training part has 1 identity"),
        (read_dataset(market(per_identity=1)), "6 identities have one image"),
        (
            read_dataset([n for n in market() if "bounding_box_test/09" not in n]),
            "none of the 2 query images has its identity in the gallery; there is nothing",
        ),
        (folders(4, 1), "2 identities have one image"),
    ],
)
def test_a_dataset_nothing_can_be_learned_from(dataset: Dataset, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        assigned(dataset)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_query_without_gallery() -> None:
    only_query = [s for s in read_dataset(market()).samples if s.role != "gallery"]
    with pytest.raises(DatasetError, match="2 query images but no gallery image"):
        assigned(Dataset("market1501", only_query))


def test_one_image_identities_may_be_left_out() -> None:
    dataset = read_dataset([*market(), "bounding_box_train/0777_c1s1_0_0.jpg"])
    with pytest.raises(DatasetError, match=r"1 identity has one image.*split.skip_single: 1"):
        assigned(dataset)
    parts = assigned(dataset, skip_single=1)
    assert "0777" not in identities(parts["train"]) | identities(parts["val"])


# People held out of the training part, to choose parameters by


LAYOUTS = {
    "folders": folders(16, 8),
    "folders without cameras": read_dataset(f"id{i:02}/{k}.png" for i in range(16) for k in "123"),
    "market1501": read_dataset(market(train=12)),
    "videos": videos_in_time(),
}


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_people_to_choose_by_come_out_of_the_training_part(layout: str, fraction: float) -> None:
    before = assigned(LAYOUTS[layout])
    after = assigned(LAYOUTS[layout], tune_fraction=fraction)
    test_part = names(before["query"]) | names(before["gallery"])
    assert not test_part & set().union(*(names(samples) for samples in after.values()))
    learned, held_out = identities(after["train"]), identities(after["gallery"])
    assert not learned & held_out
    assert learned | held_out == identities(before["train"])
    assert identities(after["val"]) == learned
    assert identities(after["query"]) == held_out
    count = len(learned | held_out)
    assert len(held_out) == min(max(2, round(fraction * count)), count - 2)
    # Whoever is learned still is learned from the same images.
    for part in ("train", "val"):
        assert names(after[part]) == {s.name for s in before[part] if s.identity in learned}


def test_who_is_held_out_to_choose_by_depends_on_seed_and_names_alone() -> None:
    dataset = LAYOUTS["market1501"]

    def drawn(dataset: Dataset, seed: int = 0) -> set[str]:
        return identities(assigned(dataset, tune_fraction=0.25, seed=seed)["query"])

    assert drawn(dataset) == drawn(Dataset(dataset.layout, dataset.samples[::-1]))
    assert len({frozenset(drawn(dataset, seed)) for seed in range(5)}) > 1
    more = read_dataset([*market(train=12), "bounding_box_train/0001_c1s1_7_0.jpg"])
    assert drawn(dataset) == drawn(more)


def test_queries_to_choose_by_are_drawn_as_those_of_a_test_part() -> None:
    after = assigned(LAYOUTS["folders"], tune_fraction=0.5)
    asked = Counter((s.identity, s.camid) for s in after["query"])
    assert set(asked.values()) == {1}
    assert len(asked) == 2 * len(identities(after["query"]))


@pytest.mark.parametrize(
    ("dataset", "fraction", "message"),
    [
        (read_dataset(market(train=3)), 0.5, "split.tune_fraction=0.5 shares out 3 training id"),
        (folders(5, 8), 0.25, "split.tune_fraction=0.25 shares out 3 training identities"),
        (videos_in_time(5), 0.25, "split.tune_fraction=0.25 shares out 3 training identities"),
    ],
)
def test_too_few_people_to_choose_by(dataset: Dataset, fraction: float, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        assigned(dataset, tune_fraction=fraction)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_identity_alone_measures_nothing() -> None:
    with pytest.raises(DatasetError, match="show one identity, 'a', and nobody to mistake"):
        split.assign_to_test(read_dataset(f"a/{k}.png" for k in range(4)), 0)
    tuned = [f"train/{who}/{k}.png" for who in "abcdef" for k in range(4)]
    tuned += [f"{part}/{k}.png" for part in ("val/x", "test/y", "test/z") for k in range(3)]
    with pytest.raises(DatasetError, match="show one identity, 'x'"):
        assigned(read_dataset(tuned), tune_fraction=0.2)
