"""Stage split: data/split, the packed parts train, val, query and gallery."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.files import together
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data import mot_crops, split
from deepsort_reid.data.report import write_census
from deepsort_reid.sources.archive import Archive, archive_in


def main() -> None:
    """Find out what the archive holds, deal the images out, pack them."""
    whole = load_params()
    params, cut = whole.split, whole.dataset.mot
    archive = Archive(archive_in(Path("data/raw")))
    dataset = mot_crops.open_dataset(
        archive,
        whole.dataset.layout,
        every=cut.every,
        classes=cut.classes,
        min_visibility=cut.min_visibility,
        min_height=cut.min_height,
    )
    with together(Path("data/split")) as folder, together(Path("reports")) as tables:
        parts = split.make_parts(
            archive,
            dataset,
            folder,
            image_size=params.image_size,
            val_fraction=params.val_fraction,
            test_fraction=params.test_fraction,
            tune_fraction=params.tune_fraction,
            seed=params.seed,
            skip_unreadable=params.skip_unreadable,
            skip_single=params.skip_single,
        )
        summary = split.summarise(folder, dataset.layout, parts, tuning=params.tune_fraction > 0)
        write_census(tables, summary, parts)


if __name__ == "__main__":
    run_stage(main)
