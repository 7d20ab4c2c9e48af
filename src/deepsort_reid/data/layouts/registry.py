"""The table of dataset layouts, and opening an archive by it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from deepsort_reid.core.dataset_config import MotConfig, SourceConfig
from deepsort_reid.data.layouts.files import Files, images_among
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


def layout(module: ModuleType) -> Layout:
    """The layout that a file of the folders below defines, under the file's name."""
    return Layout(module.__name__.rpartition(".")[2], module.recognises, module.read)


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
    reading = chosen.read(files)
    others = [known.name for known in recognised if known.name not in (chosen.name, "folders")]
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
