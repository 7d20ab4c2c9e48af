"""Stage weights: data/weights and data/teacher, by which DVC sees that such files have changed."""

import shutil
from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.model.pretrained.source import (
    BROUGHT,
    NOTHING,
    TEACHER,
    WeightsSource,
    sources,
)


def main() -> None:
    """Bring the files that `weights` and `teacher` name; of one that is here already, make a link.

    DVC follows the link, so it sees a changed file without a copy of it being made.
    """
    config = load_params().train
    named = sources(config)
    for path in (BROUGHT, TEACHER):
        if path.name in named:
            with files.replacing(path) as temporary:
                bring(named[path.name], config.arch, temporary)
        else:
            files.write_text(path, NOTHING)


def bring(source: WeightsSource, arch: str, path: Path) -> None:
    """Put what a source names at a path.

    Nothing heavy is imported unless it is needed: this stage runs whenever DVC looks for changes.
    """
    if source.is_imagenet:
        import torch

        from deepsort_reid.model.pretrained.imagenet import imagenet_state

        with path.open("wb") as file:  # given a path, torch would write that into the file
            torch.save(imagenet_state(arch), file)
    elif source.is_registered:
        from deepsort_reid.runs.mlflow.registry import bring_registered

        bring_registered(source.place, path)
    elif source.is_url:
        from deepsort_reid.sources.fetch import fetch_file

        kept = fetch_file(source.place, project_root() / ".downloads", sha256=source.sha256)
        shutil.copyfile(kept, path)
    else:
        path.symlink_to(source.verified().resolve())


if __name__ == "__main__":
    run_stage(main)
