"""Stage also: data/also-raw, a verified archive for each dataset that is only tested on."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.files import write_json
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.sources.gather import gather


def main() -> None:
    """Render or fetch the datasets that evaluate.also names."""
    params, folder = load_params(), Path("data/also-raw")
    also = params.evaluate.also
    gather(also, folder, params.dataset, key="evaluate.also", root=project_root())
    write_json(folder / "datasets.json", [source.name for source in also])


if __name__ == "__main__":
    run_stage(main)
