"""Stage download: data/raw, one verified archive of images."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.sources.fetch import fetch
from deepsort_reid.synthetic.dataset import write_synthetic


def main() -> None:
    """Render the synthetic dataset, or fetch the one that dataset.source names."""
    dataset = load_params().dataset
    folder = Path("data/raw")
    if dataset.source == "synthetic":
        write_synthetic(folder / "dataset.zip", dataset.synthetic)
    else:
        fetch(dataset.source, folder, sha256=dataset.sha256, root=project_root())


if __name__ == "__main__":
    run_stage(main)
