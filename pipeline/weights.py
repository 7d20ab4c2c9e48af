"""Stage weights: data/weights, by which DVC sees whether the pretrained weights have changed."""

import shutil

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.model.pretrained.source import BROUGHT, WeightsSource
from deepsort_reid.sources.fetch import fetch_file


def main() -> None:
    """Bring the file that `weights` names; of one that is here already, make a link.

    DVC follows the link, so it sees a changed file without a copy of it being made.
    """
    stated = load_params().train.weights
    if not stated:
        files.write_text(BROUGHT, "none\n")
        return
    source = WeightsSource.parse(stated)
    if source.is_remote:
        kept = fetch_file(source.place, project_root() / ".downloads", sha256=source.sha256)
        with files.replacing(BROUGHT) as temporary:
            shutil.copyfile(kept, temporary)
    else:
        path = source.verified().resolve()
        with files.replacing(BROUGHT) as temporary:
            temporary.symlink_to(path)


if __name__ == "__main__":
    run_stage(main)
