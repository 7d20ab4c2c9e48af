"""Stage download: data/raw, a verified archive of images for each dataset to learn from."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.sources.gather import gather


def main() -> None:
    """Render the synthetic dataset, or fetch the ones that dataset.source names."""
    dataset = load_params().dataset
    folder = Path("data/raw")
    gather(dataset.sources, folder, dataset, key="dataset.source", root=project_root())


if __name__ == "__main__":
    run_stage(main)
