"""Small datasets in memory: their names, their images, and how they are read and split."""

import io
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from deepsort_reid.core.config import SplitConfig
from deepsort_reid.core.dataset_config import MotConfig, SourceConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.pack import make_parts
from deepsort_reid.data.samples import Crop, Dataset, ImageSource, Sample, Split

Content = bytes | str


def split_config(**changes: Any) -> SplitConfig:
    """The split's parameters, smaller than a user may choose."""
    usual: dict[str, Any] = {
        "image_size": (32, 16),
        "val_fraction": 0.2,
        "test_fraction": 0.25,
        "tune_fraction": 0.0,
        "seed": 0,
        "skip_unreadable": 0,
        "skip_single": 0,
    }
    return SplitConfig.model_construct(**(usual | changes))


def mot_config(**changes: Any) -> MotConfig:
    """Which boxes of videos are cut: nearly all."""
    usual: dict[str, Any] = {
        "every": 1, "classes": (1,), "min_visibility": 0.5, "min_height": 10,
    }  # fmt: skip
    return MotConfig(**(usual | changes))


class InMemory:
    """Files as an archive would give them, in an order of its own."""

    label = "a.zip"

    def __init__(self, contents: dict[str, bytes], *, backwards: bool = False):
        self.contents, self.backwards, self.litter = contents, backwards, 0

    def names(self) -> list[str]:
        return sorted(self.contents)

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        for name in sorted(names, reverse=self.backwards):
            yield name, self.contents[name]


def source_config(layout: str = "auto", **changes: Any) -> SourceConfig:
    """What params.yaml says of a dataset."""
    return SourceConfig.model_construct(
        **({"name": "", "source": "a.zip", "layout": layout, "table": None, "identity_level": None,
            "subset": None} | changes)
    )  # fmt: skip


def read_dataset(names: Iterable[str], layout: str = "auto", **source: Any) -> Dataset:
    """A dataset of images with these names, in a layout that names alone tell."""
    return read_files(dict.fromkeys(names, b""), layout, **source)


def read_files(files: Mapping[str, bytes | str], layout: str = "auto", **source: Any) -> Dataset:
    """A dataset of these files: name -> content."""
    content = {n: c.encode() if isinstance(c, str) else c for n, c in files.items()}
    archive: Any = InMemory(content)
    return open_dataset(archive, source_config(layout, **source), mot_config())


def images(*names: str) -> dict[str, Content]:
    """Files of these names, of which nobody reads the content."""
    return dict.fromkeys(names, b"")


def roles(dataset: Dataset) -> Counter[str]:
    """How many images there are of each role."""
    return Counter(sample.role for sample in dataset.samples)


def refused(files: Mapping[str, Content], layout: str = "auto", **source: Any) -> str:
    """The one line that refuses a dataset."""
    try:
        read_files(files, layout, **source)
    except DatasetError as error:
        line = str(error)
        assert "\n" not in line
        return line
    raise AssertionError("the dataset was read")


def folders(identities: int, images: int, cameras: int = 2) -> Dataset:
    """A folder for each identity; the cameras take turns."""
    return read_dataset(
        f"id{i:02}/c{k % cameras + 1}_{k}.png" for i in range(identities) for k in range(images)
    )


def market(train: int = 6, per_identity: int = 5) -> list[str]:
    """Names as Market-1501 has them."""
    return [
        *(f"bounding_box_train/{i:04}_c{k}s1_0_0.jpg" for i in range(1, train + 1)
          for k in range(1, per_identity + 1)),
        *(f"bounding_box_test/{i:04}_c{k}s1_0_0.jpg" for i in (901, 902) for k in (1, 2)),
        "bounding_box_test/0000_c1s1_0_0.jpg",
        "bounding_box_test/-1_c1s1_0_0.jpg",
        *(f"query/{i:04}_c1s1_9_0.jpg" for i in (901, 902)),
    ]  # fmt: skip


def videos_in_time(tracks: int = 12, images: int = 6) -> Dataset:
    """Crops of two videos, by frame and track."""
    samples = [
        Sample(f"s{t % 2}/img1/{k:06}.png#{t:02}", f"s{t % 2}/{t:02}", t + 1, t % 2, "any",
               Crop(f"s{t % 2}/img1/{k:06}.png", k, (0.0, 0.0, 8.0, 16.0)))
        for t in range(tracks) for k in range(1, images + 1)
    ]  # fmt: skip
    return Dataset("mot", sorted(samples, key=lambda sample: sample.name), in_time=True)


def picture(shade: Any, size: tuple[int, int] = (8, 16), kind: str = "png", **how: Any) -> bytes:
    """An image of one colour."""
    file = io.BytesIO()
    Image.new(how.pop("mode", "RGB"), size, shade).save(file, kind, **how)
    return file.getvalue()


def contents(dataset: Dataset) -> dict[str, bytes]:
    """An image for each sample, of another shade."""
    return {sample.member: picture(i % 251) for i, sample in enumerate(dataset.samples)}


def pack(
    folder: Path,
    dataset: Dataset,
    images: dict[str, bytes],
    *,
    backwards: bool = False,
    **rules: Any,
) -> Split:
    """Make a dataset's parts in a folder."""
    source: ImageSource = InMemory(images, backwards=backwards)
    return make_parts(source, [dataset], folder, split_config(**rules))


def written(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
