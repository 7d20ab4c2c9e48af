"""Stage download: data/raw, a verified archive of images for each dataset to learn from."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.sources.fetch import fetch
from deepsort_reid.synthetic.dataset import write_synthetic


def main() -> None:
    """Render the synthetic dataset, or fetch the ones that dataset.source names."""
    dataset = load_params().dataset
    for place, source in enumerate(dataset.sources):
        folder = Path("data/raw") / source.name
        if source.source == "synthetic":
            folder.mkdir(parents=True, exist_ok=True)
            write_synthetic(folder / "dataset.zip", dataset.rendering_of(source))
        else:
            section = f"dataset.source[{place}]" if source.name else "dataset"
            fetch(source.source, folder, sha256=source.sha256, root=project_root(), section=section)


if __name__ == "__main__":
    run_stage(main)
