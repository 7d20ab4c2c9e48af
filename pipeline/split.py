"""Stage split: data/split, the packed parts train, val, query and gallery."""

from pathlib import Path

from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.files import together
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data import pack, packed, split
from deepsort_reid.data.joint import count_sources, open_source, open_sources
from deepsort_reid.data.report import closing_line, warn_of_few, write_report


def main() -> None:
    """Read what the archives hold, assign the images to parts, pack them."""
    params = load_params()
    source, datasets = open_sources(
        Path("data/raw"), params.dataset.sources, params.dataset.mot, "dataset.source"
    )
    with together(Path("data/split")) as folder, together(Path("reports")) as reports:
        parts = pack.make_parts(source, list(datasets.values()), folder, params.split)
        summary = packed.write_summary(
            folder,
            " + ".join(dataset.layout for dataset in datasets.values()),
            split.count(parts),
            tuning=params.split.tune_fraction > 0,
            sources=count_sources(parts, datasets),
        )
        write_report(reports, summary, parts, datasets)
    pack_also(params)
    warn_of_few(summary)
    print(closing_line(summary))  # noqa: T201


def pack_also(params: Params) -> None:
    """Pack query and gallery of each dataset that is only tested on."""
    folder, raw = Path("data/also"), Path("data/also-raw")
    folder.mkdir(parents=True, exist_ok=True)
    for place, source in enumerate(params.evaluate.also):
        opened = open_source(raw, source, params.dataset.mot, f"evaluate.also[{place}].")
        with together(folder / source.name) as new, split.naming(source.name):
            pack.make_test_parts(*opened, new, params.split)


if __name__ == "__main__":
    run_stage(main)
