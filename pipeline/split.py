"""Stage split: data/split, the packed parts train, val, query and gallery."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.files import together
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data import packed, split
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.report import closing_line, warn_of_few, write_report
from deepsort_reid.sources.archive import Archive, archive_in


def main() -> None:
    """Read what the archive holds, assign the images to parts, pack them."""
    params = load_params()
    archive = Archive(archive_in(Path("data/raw")))
    dataset = open_dataset(archive, params.dataset.layout, params.dataset.mot)
    with together(Path("data/split")) as folder, together(Path("reports")) as reports:
        parts = split.make_parts(archive, dataset, folder, params.split)
        tuning = params.split.tune_fraction > 0
        counts = split.count(parts)
        summary = packed.write_summary(folder, dataset.layout, counts, tuning=tuning)
        write_report(reports, summary, parts)
    warn_of_few(summary)
    print(closing_line(summary))  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
