"""Stage split: data/split, the packed parts train, val, query and gallery."""

from contextlib import ExitStack
from pathlib import Path

from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.files import together, write_json
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
    with ExitStack() as stack:  # all outputs are moved to their places once all are whole
        folder, reports = (
            stack.enter_context(together(Path(p))) for p in ("data/split", "reports")
        )
        parts = pack.make_parts(source, list(datasets.values()), folder, params.split)
        summary = packed.write_summary(
            folder,
            " + ".join(dataset.layout for dataset in datasets.values()),
            split.count(parts),
            tuning=params.split.tune_fraction > 0,
            sources=count_sources(parts, datasets),
        )
        write_report(reports, summary, parts, datasets)
        pack_also(params, stack)
    warn_of_few(summary)
    print(closing_line(summary))  # noqa: T201


def pack_also(params: Params, stack: ExitStack) -> None:
    """Pack query and gallery of each dataset that is only tested on, moved with the stack's end."""
    also = stack.enter_context(together(Path("data/also")))
    write_json(also / "datasets.json", [source.name for source in params.evaluate.also])
    for place, source in enumerate(params.evaluate.also):
        key = f"evaluate.also[{place}]."
        opened = open_source(Path("data/also-raw"), source, params.dataset.mot, key)
        new = stack.enter_context(together(Path("data/also") / source.name))
        with split.naming(source.name):
            pack.make_test_parts(*opened, new, params.split)


if __name__ == "__main__":
    run_stage(main)
