"""Stage split: data/split, the packed parts train, val, query and gallery."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.files import together
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data import packed, split
from deepsort_reid.data.joint import count_sources, open_sources
from deepsort_reid.data.report import closing_line, warn_of_few, write_report


def main() -> None:
    """Read what the archives hold, assign the images to parts, pack them."""
    params = load_params()
    source, datasets = open_sources(
        Path("data/raw"), params.dataset.sources, params.dataset.mot, "dataset.source"
    )
    with together(Path("data/split")) as folder, together(Path("reports")) as reports:
        parts = split.make_parts(source, list(datasets.values()), folder, params.split)
        summary = packed.write_summary(
            folder,
            " + ".join(dataset.layout for dataset in datasets.values()),
            split.count(parts),
            tuning=params.split.tune_fraction > 0,
            sources=count_sources(parts, datasets),
        )
        write_report(reports, summary, parts, datasets)
    warn_of_few(summary)
    print(closing_line(summary))  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
