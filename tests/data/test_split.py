"""Which image serves for what: exact counts, the same bytes every time, and clear refusals."""

import io
import logging
import random
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepsort_reid.core.errors import DatasetError, PackedError
from deepsort_reid.data import split
from deepsort_reid.data.layouts import Crop, Dataset, Sample, read_dataset
from deepsort_reid.data.packed import open_part

RULES: dict[str, Any] = {
    "val_fraction": 0.2,
    "test_fraction": 0.25,
    "tune_fraction": 0.0,
    "seed": 0,
    "skip_single": 0,
}


class InMemory:
    """Files as an archive would give them, in an order of its own."""

    def __init__(self, contents: dict[str, bytes], *, backwards: bool = False):
        self.contents, self.backwards = contents, backwards

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        for name in sorted(names, reverse=self.backwards):
            yield name, self.contents[name]


def picture(shade: int, size: tuple[int, int] = (8, 16), kind: str = "png", **how: Any) -> bytes:
    file = io.BytesIO()
    Image.new(how.pop("mode", "RGB"), size, shade).save(file, kind, **how)
    return file.getvalue()


def folders(identities: int, images: int, cameras: int = 2) -> Dataset:
    return read_dataset(
        f"id{i:02}/c{k % cameras + 1}_{k}.png" for i in range(identities) for k in range(images)
    )


def market(train: int = 6, per_identity: int = 5) -> list[str]:
    return [
        *(f"bounding_box_train/{i:04}_c{k}s1_0_0.jpg" for i in range(1, train + 1)
          for k in range(1, per_identity + 1)),
        *(f"bounding_box_test/{i:04}_c{k}s1_0_0.jpg" for i in (901, 902) for k in (1, 2)),
        "bounding_box_test/0000_c1s1_0_0.jpg",
        "bounding_box_test/-1_c1s1_0_0.jpg",
        *(f"query/{i:04}_c1s1_9_0.jpg" for i in (901, 902)),
    ]  # fmt: skip


def assigned(dataset: Dataset, **rules: Any) -> split.Split:
    return split.assign(dataset, **(RULES | rules))


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
    assert split.cameras_to_query(counts) == queried
    left = {c for c, n in counts.items() if n > (c in queried)}
    assert all(left - ({c} if c >= 0 else set()) for c in queried)


def test_without_cameras_one_query_an_identity() -> None:
    dataset = read_dataset(f"id{i}/{k}.png" for i in range(8) for k in range(5))
    parts = assigned(dataset)
    assert set(Counter(s.identity for s in parts["query"]).values()) == {1}


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
            "none of the 2 query images has its identity in the gallery under another camera",
        ),
        (folders(4, 1), "2 identities have one image"),
        (folders(8, 5, cameras=1), "gallery images but no query image"),
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


def videos(tracks: int = 12, images: int = 6) -> Dataset:
    samples = [
        Sample(f"s{t % 2}/img1/{k:06}.png#{t:02}", f"s{t % 2}/{t:02}", t + 1, t % 2, "any",
               Crop(f"s{t % 2}/img1/{k:06}.png", k, (0.0, 0.0, 8.0, 16.0)))
        for t in range(tracks) for k in range(1, images + 1)
    ]  # fmt: skip
    return Dataset("mot", sorted(samples, key=lambda sample: sample.name))


LAYOUTS = {
    "folders": folders(16, 8),
    "folders without cameras": read_dataset(f"id{i:02}/{k}.png" for i in range(16) for k in "123"),
    "market1501": read_dataset(market(train=12)),
    "videos": videos(),
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
        (videos(5), 0.25, "split.tune_fraction=0.25 shares out 3 training identities"),
        (
            folders(16, 8, cameras=1),
            0.25,
            "gallery images but no query image with split.tune_fraction=0.25",
        ),
    ],
)
def test_too_few_people_to_choose_by(dataset: Dataset, fraction: float, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        assigned(dataset, tune_fraction=fraction)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Packing


def contents(dataset: Dataset) -> dict[str, bytes]:
    return {sample.name: picture(i % 251) for i, sample in enumerate(dataset.samples)}


def pack(
    folder: Path,
    dataset: Dataset,
    images: dict[str, bytes],
    *,
    backwards: bool = False,
    **rules: Any,
) -> split.Split:
    return split.make_parts(
        InMemory(images, backwards=backwards), dataset, folder,
        image_size=(32, 16), **({"skip_unreadable": 0} | RULES | rules),
    )  # fmt: skip


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
    monkeypatch.setattr(split, "cores", lambda: 5)
    monkeypatch.setattr(split, "BUNCH", 3)
    pack(tmp_path / "b", dataset, contents(dataset), backwards=True)
    written = [sorted(p.name for p in (tmp_path / side).iterdir()) for side in "ab"]
    assert written[0] == written[1]
    for name in written[0]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


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
    written = [sorted(p.name for p in (tmp_path / side).iterdir()) for side in "ab"]
    assert written[0] == written[1]
    for name in written[0]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_images_of_every_kind_become_rgb_of_one_size() -> None:
    for mode, shade in [("L", 77), ("RGBA", (1, 2, 3, 128)), ("P", 3), ("CMYK", (0, 0, 0, 0))]:
        kind = "tiff" if mode == "CMYK" else "png"
        image = split.decode_image(picture(shade, (50, 20), kind, mode=mode), (32, 16))  # type: ignore[arg-type]
        assert not isinstance(image, str)
        assert (image.shape, image.dtype) == ((32, 16, 3), np.uint8)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    sideways = Image.new("RGB", (32, 16), "red")
    sideways.paste("blue", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: top is right
    file = io.BytesIO()
    sideways.save(file, "png", exif=exif)
    image = split.decode_image(file.getvalue(), (32, 16))
    assert not isinstance(image, str)
    assert image[0, 0].tolist() == [0, 0, 255]
    assert image[-1, 0].tolist() == [255, 0, 0]


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


def test_the_summary_tells_the_data_apart(tmp_path: Path) -> None:
    digests = set()
    for number, change in enumerate([{}, {"id00/c1_0.png": picture(99)}, {}]):
        dataset, folder = folders(8, 10), tmp_path / str(number)
        parts = pack(folder, dataset, contents(dataset) | change)
        split.summarise(folder, "folders", parts, tuning=False)
        digests.add(split.read_summary(folder).digest)
    assert len(digests) == 2
    assert split.read_summary(folder).flat()["query_images"] == len(parts["query"])


def test_a_split_to_choose_by_is_other_data_and_says_what_it_is(tmp_path: Path) -> None:
    """MLflow's alias goes to the best network on data of the same digest."""
    dataset, found = folders(16, 8), {}
    for fraction in (0.0, 0.25):
        folder = tmp_path / str(fraction)
        parts = pack(folder, dataset, contents(dataset), tune_fraction=fraction)
        split.summarise(folder, "folders", parts, tuning=fraction > 0)
        found[fraction] = split.read_summary(folder)
    assert [summary.tuning for summary in found.values()] == [False, True]
    assert [summary.flat()["tuning"] for summary in found.values()] == [False, True]
    assert found[0.0].digest != found[0.25].digest
    # Files alike, the digest still differs by what they are for.
    split.summarise(folder, "folders", parts, tuning=False)
    assert split.read_summary(folder).digest != found[0.25].digest


def test_a_missing_summary(tmp_path: Path) -> None:
    with pytest.raises(PackedError, match=r"make the parts again: dvc repro -f split"):
        split.read_summary(tmp_path)


def packed(folder: Path) -> split.Summary:
    dataset = folders(8, 10)
    parts = pack(folder, dataset, contents(dataset))
    return split.summarise(folder, "folders", parts, tuning=False)


@pytest.mark.parametrize("name", ["train.npy", "train.csv"])
def test_a_changed_part_is_named(tmp_path: Path, name: str) -> None:
    summary = packed(tmp_path)
    split.verify_parts(tmp_path, summary, split.PARTS)
    changed = bytearray((tmp_path / name).read_bytes())
    changed[-2] ^= 1
    (tmp_path / name).write_bytes(changed)
    split.verify_parts(tmp_path, summary, ["val", "query", "gallery"])
    with pytest.raises(PackedError, match=rf"{name}: damaged.*dvc repro -f split"):
        split.verify_parts(tmp_path, summary, ["train"])
    (tmp_path / name).unlink()
    with pytest.raises(PackedError, match=rf"{name}: cannot be read"):
        split.verify_parts(tmp_path, summary, ["train"])


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
    packed(tmp_path)
    path = tmp_path / "summary.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(PackedError, match="does not fit its digest"):
        split.read_summary(tmp_path)


def test_greys_of_16_bits_keep_their_shades() -> None:
    greys = np.linspace(0, 65535, 32 * 16).astype(np.uint16).reshape(32, 16)
    file = io.BytesIO()
    Image.fromarray(greys).save(file, "png")
    image = split.decode_image(file.getvalue(), (32, 16))
    assert not isinstance(image, str)
    assert (image == (greys >> 8)[..., None]).all()


def test_a_png_is_read_against_its_checksums() -> None:
    data = bytearray(picture(100))
    data[data.index(b"IDAT") + 12] ^= 1
    assert isinstance(split.decode_image(bytes(data), (32, 16)), str)


def photograph(width: int, height: int, mode: str = "RGB", **how: Any) -> bytes:
    """A JPEG of smooth noise."""
    draw = np.random.default_rng(width * height)
    coarse = draw.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert(mode).save(file, "jpeg", **how)
    return file.getvalue()


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PLAIN = {
    "crop": photograph(64, 128),
    "one pixel": photograph(1, 1),
    "odd size": photograph(37, 83, quality=95),
    "grey": photograph(64, 128, "L"),
    "progressive": photograph(40, 90, progressive=True),
    "full colour": photograph(33, 65, subsampling=0, optimize=True),
    "half colour": photograph(47, 70, subsampling=1, comment=b"of noise"),
    "restarts": photograph(64, 64, restart_marker_rows=1),
    "bad quality": photograph(64, 128, quality=3),
}
FOR_PILLOW = {
    "four colours": photograph(64, 128, "CMYK"),
    "not YCbCr": photograph(64, 128, keep_rgb=True, subsampling=0),
    "turned by EXIF": photograph(64, 128, exif=sideways()),
    "turned by XMP": photograph(64, 128, xmp=b'<x tiff:Orientation="6"/>'),
    "profile": photograph(64, 128, icc_profile=b"of colours"),
    "cut short": PLAIN["crop"][:-40],
    "PNG": picture(5),
}


def same(one: Any, other: Any) -> bool:
    """Whether two images, or what is said of them, are alike."""
    return type(one) is type(other) and np.array_equal(one, other)


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_jpeg_has_the_pixels_that_pillow_gives(case: str) -> None:
    image = split.decode_plain_jpeg(PLAIN[case])
    assert image is not None
    assert same(image, split.open_by_pillow(PLAIN[case]))


@pytest.mark.parametrize("case", FOR_PILLOW)
def test_what_is_no_plain_jpeg_is_left_to_pillow(case: str) -> None:
    assert split.decode_plain_jpeg(FOR_PILLOW[case]) is None
    assert same(split.open_image(FOR_PILLOW[case]), split.open_by_pillow(FOR_PILLOW[case]))


def test_a_plain_jpeg_of_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "MAX_PIXELS", 100)
    assert split.open_image(PLAIN["crop"]) == "64×128 pixels are too many; 100 at most"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
def test_a_damaged_jpeg_is_what_pillow_makes_of_it() -> None:
    chance, seen = random.Random(0), Counter[bool]()
    images = [*PLAIN.values(), *(data for case, data in FOR_PILLOW.items() if case != "PNG")]
    for number in range(1500):
        data = bytearray(images[number % len(images)])
        if number % 4 == 0:
            del data[chance.randrange(2, len(data)) :]
        else:
            reach = len(data) if number % 4 == 1 else min(len(data), 640)  # the header, mostly
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(reach)] = chance.randrange(256)
        image = split.decode_plain_jpeg(bytes(data))
        seen[image is not None] += 1
        assert image is None or same(image, split.open_by_pillow(bytes(data))), number
    assert min(seen.values()) > 200
