"""Several datasets as one: names, identities and cameras of each are kept apart.

A name begins with its dataset's, as in `market/query/0003_c1s1_000010_00.jpg`, and so does an
identity, `market/0003`. Identities and cameras are numbered on from one dataset to the next; junk
and distractors keep their numbers, which the protocol knows.
"""

from collections import Counter
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.dataset_config import MotConfig, SourceConfig
from deepsort_reid.core.errors import DatasetError
from deepsort_reid.core.secrets import masked
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.samples import NO_CAMERA, Dataset, ImageSource, Sample, Split, source_of
from deepsort_reid.data.split import count, naming
from deepsort_reid.sources.archive import Archive, archive_in


def open_sources(
    folder: Path, sources: Sequence[SourceConfig], boxes: MotConfig, key: str
) -> tuple[ImageSource, dict[str, Dataset]]:
    """Open the archives of one dataset, or of several that are kept apart.

    Args:
        folder: holds the archive, or of several datasets a folder for each, of its name.
        sources: the datasets; a single one without a list has the name ''.
        boxes: which boxes of annotated videos become images.
        key: the parameter that lists the datasets, in messages.

    Returns:
        where the images' bytes are, and name -> dataset.

    Raises:
        DatasetError: see `open_dataset`; or two datasets are the same.
        SourceError: an archive is missing, or cannot be read.
    """
    archives: dict[str, Archive] = {}
    datasets: dict[str, Dataset] = {}
    for place, source in enumerate(sources):
        prefix = f"{key}[{place}]." if source.name else "dataset."
        opened = open_source(folder, source, boxes, prefix)
        archives[source.name], datasets[source.name] = opened
    if list(datasets) == [""]:
        return archives[""], datasets
    refuse_same(archives, datasets, key)
    joined = join(datasets)
    return JointSource(archives), dict(zip(datasets, joined, strict=True))


def open_source(
    folder: Path, source: SourceConfig, boxes: MotConfig, key: str
) -> tuple[Archive, Dataset]:
    """Open the archive of one dataset among several, in a folder of its name.

    Args:
        folder: holds a folder for each dataset.
        source: the dataset.
        boxes: which boxes of annotated videos become images.
        key: what the source's parameters begin with, in messages.

    Raises:
        DatasetError, SourceError: as in `open_sources`.
    """
    label = f"{source.name}: {masked(source.source)}" if source.name else None
    archive = Archive(archive_in(folder / source.name), label)
    with naming(source.name):
        return archive, open_dataset(archive, source, boxes, key)


def refuse_same(archives: Mapping[str, Archive], datasets: Mapping[str, Dataset], key: str) -> None:
    """Refuse two datasets that read the same images of the same archive.

    Raises:
        DatasetError: there are two: each person would be learned as two.
    """
    first: dict[tuple[str, str], str] = {}
    sizes = Counter(archive.size for archive in archives.values())
    for name, archive in archives.items():
        if sizes[archive.size] == 1:
            continue  # no other has its bytes
        members = {sample.member for sample in datasets[name].samples}
        other = first.setdefault((files.sha256(archive.path), min(members)), name)
        if other != name:
            raise DatasetError(
                f"{key}: '{other}' and '{name}' are the same images, and each identity would be "
                "two; take one out (to test on it too, name it in evaluate.also)"
            )


class JointSource:
    """The images of several archives, each under the name of its dataset."""

    def __init__(self, sources: Mapping[str, ImageSource]):
        """Take the archives by the names of their datasets."""
        self.sources = sources

    def read(self, names: Collection[str]) -> Generator[tuple[str, bytes], None, None]:
        """Yield (name, bytes) of the named members, one archive after the other."""
        for dataset, source in self.sources.items():
            begin = f"{dataset}/"
            wanted = [name.removeprefix(begin) for name in names if source_of(name) == dataset]
            for name, data in source.read(wanted):
                yield begin + name, data


def join(datasets: Mapping[str, Dataset]) -> list[Dataset]:
    """The datasets with distinct names, identities and cameras.

    Args:
        datasets: name -> a dataset.
    """
    joined: list[Dataset] = []
    identities = cameras = 0  # so many have numbers
    for name, dataset in datasets.items():
        numbers = renumbered(dataset.samples, identities)
        samples = [moved(s, name, numbers[s.pid], cameras) for s in dataset.samples]
        alone = {s.name: own for s, own in zip(samples, dataset.samples, strict=True)}
        joined.append(replace(dataset, samples=samples, alone=alone))
        identities += sum(pid > 0 for pid in numbers)
        cameras += max((sample.camid for sample in dataset.samples), default=0) + 1
    return joined


def renumbered(samples: Sequence[Sample], after: int) -> dict[int, int]:
    """The pids of a dataset -> pids that follow a number; junk and distractors keep theirs."""
    somebody = sorted({sample.pid for sample in samples if sample.is_somebody})
    numbers = {pid: number for number, pid in enumerate(somebody, start=after + 1)}
    return {sample.pid: numbers.get(sample.pid, sample.pid) for sample in samples}


def moved(sample: Sample, dataset: str, pid: int, cameras: int) -> Sample:
    """A sample under its dataset's name, with a pid that is its own, and cameras after others."""
    crop = sample.crop and replace(sample.crop, member=f"{dataset}/{sample.crop.member}")
    return replace(
        sample,
        name=f"{dataset}/{sample.name}",
        identity=f"{dataset}/{sample.identity}",
        pid=pid,
        camid=sample.camid if sample.camid == NO_CAMERA else sample.camid + cameras,
        crop=crop,
    )


def count_sources(split: Split, sources: Collection[str]) -> dict[str, dict[str, dict[str, int]]]:
    """What each part holds of each of several datasets, as `split.count` says; {} of one."""
    if set(sources) == {""}:
        return {}
    parts = {
        source: {
            part: [s for s in samples if source_of(s.name) == source]
            for part, samples in split.items()
        }
        for source in sources
    }
    return {source: count(of_source) for source, of_source in parts.items()}
