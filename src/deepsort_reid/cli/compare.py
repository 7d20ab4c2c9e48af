"""Networks of any origin beside each other: on a folder's split and sequences, and in a run."""

import contextlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from deepsort_reid.comparison import measuring, report
from deepsort_reid.comparison.measuring import Comparison
from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.opening import on_data, open_network
from deepsort_reid.comparison.verdict import verdict
from deepsort_reid.comparison.wanted import Wanted, parse
from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.errors import ConfigError, ReportError
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.data.packed import Part, Summary, open_part, read_summary, verify_parts
from deepsort_reid.model.device import computing
from deepsort_reid.model.extractor import usable
from deepsort_reid.runs import logger as runs
from deepsort_reid.runs import provenance
from deepsort_reid.sources.archive import Archive, archive_in

logger = logging.getLogger(__name__)

PARAMS, SPLIT, SEQUENCES = Path("params.yaml"), Path("data/split"), Path("data/sequences")
TESTED = ("query", "gallery")
OUTPUT = Path("reports/compare")


@dataclass(frozen=True, eq=False)
class Data:
    """What the networks are compared on."""

    params: Params
    summary: Summary
    query: Part
    gallery: Part


def compare(
    networks: Sequence[str],
    *,
    settings: Sequence[str] = (),
    folder: Path = Path(),
    output: Path | None = None,
    image_size: tuple[int, int] | None = None,
    device: str | None = None,
    with_tracking: bool = True,
) -> str:
    """Compare networks, write the table and the picture, and record a run.

    Args:
        networks: `PATH` or `NAME=PATH`; the first is the user's own.
        settings: `NAME.key=value`; see `wanted.KEYS`.
        folder: of a run, with params.yaml and data.
        output: receives the table and the picture; None: `OUTPUT` in the folder.
        image_size: of networks whose file does not say it.
        device: as torch writes it; None: a GPU if there is one.
        with_tracking: whether to try them in the tracker too.

    Returns:
        what is shown in the end: the table, the answer, the files and the run.

    Raises:
        DeepSortReidError: the data is not there, or a network cannot be read.
    """
    wanted = parse(networks, settings)
    target = output or folder / OUTPUT
    place = target.resolve()
    with at_home(folder), computing() as chosen:
        data, where = open_data(), usable(device or chosen)
        opened = open_all(wanted, data, where, image_size)  # before anything takes time
        config = data.params.evaluate
        measured = [measuring.measure(one, data.query, data.gallery, config) for one in opened]
        found = Comparison(
            measured,
            data.query.pids,
            tracked(measured, data.params) if with_tracking else None,
            measuring.conditions(where),
        )
        made = report.write(place, found)
        run = record(found, data, made)
    shown = [verdict(found)] if len(measured) > 1 else []
    paths = "\n".join(f"  {target / path.name}" for path in made)
    return "\n\n".join([report.screen(found), *shown, f"{paths}\n{run}"])


@contextlib.contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """Work in the folder of a run, as the stages do.

    Raises:
        ConfigError: it is none.
    """
    if not (folder / PARAMS).exists():
        raise ConfigError(
            f"{folder / PARAMS}: no such file; expected a folder of this project (--folder), whose "
            "data the networks are compared on"
        )
    with contextlib.chdir(folder):
        yield


def open_data() -> Data:
    """The parameters, and the split's query and gallery.

    Raises:
        ReportError: there is no split.
        PackedError: it is damaged.
    """
    params = load_params(PARAMS)
    if not SPLIT.exists():
        raise ReportError(f"{SPLIT}: no split to compare on; `dvc repro split` makes it first")
    summary = read_summary(SPLIT)
    verify_parts(SPLIT, summary, TESTED)
    query, gallery = (open_part(SPLIT, name) for name in TESTED)
    return Data(params, summary, query, gallery)


def open_all(
    wanted: Sequence[Wanted], data: Data, device: torch.device, image_size: tuple[int, int] | None
) -> list[Network]:
    """The networks, each introduced in the log."""
    size, digest = data.query.image_size, data.summary.digest
    opened = [open_network(one, device=device, image_size=image_size) for one in wanted]
    opened = [on_data(one, size, digest) for one in opened]
    for one in opened:
        logger.info("%s", introduced(one))
    return opened


def introduced(network: Network) -> str:
    """What a network is and takes, in a line, and a line for each note."""
    height, width = network.image_size
    first = f"{network.name}: {network.kind}; {height}×{width}; {network.runtime}"
    return "\n  ".join([first, *network.notes])


def tracked(
    measured: Sequence[measuring.Measured], params: Params
) -> measuring.Tracking | None:  # fmt: skip
    """The networks in the tracker; None, after a line, where nothing can be tracked or scored."""
    if not SEQUENCES.exists():
        logger.info("no %s, so nothing is tracked; `dvc repro sequences` brings them", SEQUENCES)
        return None
    source = Archive(archive_in(SEQUENCES))
    done = measuring.track(measured, source, read_sequences(source), params.track)
    if done is None:
        logger.info("no sequence has annotated tracks, so nothing is tracked")
    return done


def record(found: Comparison, data: Data, made: Sequence[Path]) -> str:
    """Record the comparison as a run of its own; return what the run says of itself."""
    names = [one.network.name for one in found.networks]
    with runs.open_run(
        key=uuid.uuid4().hex,
        name=f"compare-{'-'.join(names)}",
        tags=provenance.source_tags(
            data.summary.digest, f"```\n{report.screen(found)}\n\n{verdict(found)}\n```"
        ),
    ) as run:
        run.log_params({"networks": {one.network.name: one.network.place
                                     for one in found.networks}})  # fmt: skip
        run.log_dataset(
            name=data.params.dataset.short_name,
            source=data.params.dataset.label,
            digest=data.summary.digest,
            profile=data.summary.flat(),
            context="compare",
        )
        run.log_numbers(report.numbers_of_run(found))
        for path in made:
            run.log_artifact(path)
    return run.describe()
