"""The datasets that params.yaml names, each brought home as one verified archive."""

from collections.abc import Sequence
from pathlib import Path

from deepsort_reid.core.dataset_config import DatasetConfig, SourceConfig
from deepsort_reid.sources.fetch import fetch
from deepsort_reid.synthetic.dataset import write_synthetic


def gather(
    sources: Sequence[SourceConfig], folder: Path, dataset: DatasetConfig, *, key: str, root: Path
) -> None:
    """Render or fetch datasets.

    Args:
        sources: the datasets; a single one without a list has the name ''.
        folder: receives the archive, or of several datasets a folder for each, of its name.
        dataset: says what a source named `synthetic` is rendered from.
        key: the parameter that lists the datasets, in messages.
        root: where relative paths begin.

    Raises:
        SourceError: a source cannot be reached, or is no safe and whole archive.
        OSError: the disk is full.
    """
    for place, source in enumerate(sources):
        own = folder / source.name
        own.mkdir(parents=True, exist_ok=True)
        if source.source == "synthetic":
            write_synthetic(own / "dataset.zip", dataset.rendering_of(source))
        else:
            section = f"{key}[{place}]" if source.name else "dataset"
            fetch(source.source, own, sha256=source.sha256, root=root, section=section)
