"""The table of dataset layouts, and opening an archive by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deepsort_reid.core.config import MotConfig
from deepsort_reid.data.layouts import folders, market1501, mot
from deepsort_reid.data.samples import Dataset, Sample
from deepsort_reid.sources.archive import Archive


@dataclass(frozen=True)
class Layout:
    """One way in which datasets are laid out.

    A layout must refuse what it does not understand, with a `DatasetError` that names the file:
    whoever trains on a dataset that was misread without a word trusts every number after it.
    """

    name: str  # the choice of dataset.layout
    recognises: Callable[[Sequence[str]], bool]  # from the names of an archive's members
    read: Callable[[Archive, Sequence[str], MotConfig], Sequence[Sample]]  # archive, its names


# `auto` takes the first layout that recognises the archive.
LAYOUTS = (
    Layout("mot", mot.recognises, mot.read),
    Layout("market1501", market1501.recognises, lambda _, names, __: market1501.read(names)),
    Layout("folders", folders.recognises, lambda _, names, __: folders.read(names)),
)


def open_dataset(archive: Archive, layout: str, config: MotConfig) -> Dataset:
    """Recognise a dataset, and read what its files are.

    Args:
        archive: the dataset.
        layout: the name of a layout, or "auto" for the first that recognises the archive.
        config: which boxes of annotated videos become images; other layouts have none.

    Raises:
        DatasetError: there are no images, or not in this layout, or no box to cut.
        SourceError: the archive or an annotation cannot be read.
    """
    names = archive.names()
    chosen = next(
        known
        for known in LAYOUTS
        if known.name == layout or (layout == "auto" and known.recognises(names))
    )
    samples = chosen.read(archive, names, config)
    return Dataset(chosen.name, sorted(samples, key=lambda sample: sample.name))
