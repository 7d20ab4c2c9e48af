"""Stage sequences: data/sequences, one verified archive of videos to track people in."""

from pathlib import Path

from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.sources.fetch import fetch
from deepsort_reid.synthetic.sequences import write_sequences


def main() -> None:
    """Render the synthetic sequences, or fetch those that track.source names."""
    params = load_params().track
    folder = Path("data/sequences")
    if params.source == "synthetic":
        write_sequences(folder / "dataset.zip", params.synthetic)
    else:
        fetch(params.source, folder, sha256=params.sha256, root=project_root(), section="track")


if __name__ == "__main__":
    run_stage(main)
