"""The table of dataset layouts, and opening an archive by it."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from deepsort_reid.core.dataset_config import MotConfig, SourceConfig
from deepsort_reid.core.errors import DatasetError, DeepSortReidError
from deepsort_reid.data.layouts.files import Files, images_among, shown
from deepsort_reid.data.layouts.general import camera_folders, folders, split_folders, table
from deepsort_reid.data.layouts.published import (
    atrw,
    cityflow,
    market1501,
    mars,
    msmt17,
    randperson,
    unrealperson,
    vehicleid,
    veri776,
    veriwild,
    vric,
)
from deepsort_reid.data.layouts.reading import Reading, account, describe, differences, in_one_line
from deepsort_reid.data.layouts.videos import FORMATS
from deepsort_reid.data.samples import Dataset
from deepsort_reid.sources.archive import Archive

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """One way in which datasets are laid out.

    A layout must refuse what it does not understand, with a `DatasetError` that names the file:
    whoever trains on a dataset that was misread without a word trusts every number after it.
    """

    name: str  # the choice of dataset.layout
    recognises: Callable[[Files], bool]  # from the names alone, so that it takes no time
    read: Callable[[Files], Reading]
    states: Collection[str] = ()  # what the user can state: table, identity_level, subset


def layout(module: ModuleType) -> Layout:
    """The layout that a file of the folders below defines, under the file's name."""
    name = module.__name__.rpartition(".")[2]
    return Layout(name, module.recognises, module.read, getattr(module, "STATES", ()))


# `auto` takes the first layout that recognises the archive: the most particular ones come first,
# and folders, which may bear any names, last.
LAYOUTS = tuple(
    layout(module)
    for module in (
        table,
        *FORMATS,
        msmt17,
        mars,
        vehicleid,
        veriwild,
        vric,
        cityflow,
        veri776,
        atrw,
        unrealperson,
        randperson,
        market1501,
        camera_folders,
        split_folders,
        folders,
    )
)


def open_dataset(
    archive: Archive, source: SourceConfig, boxes: MotConfig, key: str = "dataset."
) -> Dataset:
    """Recognise a dataset, read what its files are, and say in one line what was understood.

    Args:
        archive: the dataset.
        source: its layout, or "auto" for the first that recognises the archive, and what else the
            user states about it.
        boxes: which boxes of annotated videos become images; other layouts have none.
        key: what the source's parameters begin with, in messages.

    Raises:
        DatasetError: there are no images, or not in this layout, or no box to cut, or a file that
            the layout does not explain.
        SourceError: the archive or an annotation cannot be read.
    """
    names = archive.names()
    files = Files(archive, names, images_among(archive, names), source, boxes, key)
    recognised = [known for known in LAYOUTS if known.recognises(files)]
    chosen = next(
        known
        for known in (recognised if source.layout == "auto" else LAYOUTS)
        if source.layout in ("auto", known.name)
    )
    refuse_unused(chosen, source, key)
    reading = read(chosen, files)
    others = partial(readers, recognised, chosen, files)
    left_out = account(files, chosen.name, reading, others)
    if archive.litter:
        left_out["hidden and system files"] = archive.litter
    understood = describe(chosen.name, reading, left_out)
    name = f"{source.name}: " if source.name else ""
    logger.info("%s%s", name, in_one_line(understood))
    if different := differences(understood):
        logger.info("%sas published it has other numbers of images: %s", name, different)
    samples = sorted(reading.samples, key=lambda sample: sample.name)
    return Dataset(chosen.name, samples, reading.in_time, reading.columns, understood)


def read(chosen: Layout, files: Files) -> Reading:
    """What a layout makes of an archive; where it fails, a table that lies there is named.

    Raises:
        DatasetError, SourceError: as in `open_dataset`.
    """
    try:
        return chosen.read(files)
    except DatasetError as error:
        tables = [name for name in files.names if name.lower().endswith((".csv", ".tsv"))]
        if files.source.table is not None or not tables:
            raise
        raise DatasetError(
            f"{error}; the source holds {shown(tables)}: if it says who is on which image, name it "
            f"in {files.key}table"
        ) from None


def refuse_unused(chosen: Layout, source: SourceConfig, key: str) -> None:
    """Refuse what the user states and the layout does not use: it was meant to have an effect.

    Raises:
        DatasetError: there is such a parameter.
    """
    for name in ("table", "identity_level", "subset"):
        value = getattr(source, name)
        if value is not None and name not in chosen.states:
            users = [known.name for known in LAYOUTS if name in known.states]
            raise DatasetError(
                f"{key}{name}: {value}: the layout {chosen.name} does not use it, as "
                f"{users[-1]} does; set it to null, or {key}layout to what is meant"
            )


def readers(recognised: Sequence[Layout], chosen: Layout, files: Files) -> list[str]:
    """The layouts beside the chosen one that read all of the archive."""
    found = []
    for known in recognised:
        try:
            if known.name != chosen.name:
                account(files, known.name, known.read(files), list)
                found.append(known.name)
        except DeepSortReidError:
            continue
    return found
