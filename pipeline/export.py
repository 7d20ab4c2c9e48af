"""Stage export: models/export, the network in every form that trackers take."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.packed import open_part, read_summary, verify_parts
from deepsort_reid.evaluation.threshold import read_threshold, read_too_few
from deepsort_reid.export import export, parity
from deepsort_reid.export.formats import Trained
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.runs import logger

READ = ("train", "query", "gallery")


def main() -> None:
    """Write each form, compare it with the checkpoint, add it to the training's run."""
    params, data = load_params().export, Path("data/split")
    folder, reports = Path("models/export"), Path("reports")
    net, about = checkpoint.load(Path("models/model.pth"))
    threshold = read_threshold(reports / "evaluation.json")
    too_few = read_too_few(reports / "evaluation.json")
    verify_parts(data, read_summary(data), READ)
    train, query, gallery = (open_part(data, name) for name in READ)
    with (
        computing(),
        files.together(folder) as new,
        files.together(reports) as tables,
    ):
        done = export.export(
            new,
            Trained(net=net, about=about, max_cosine_distance=threshold, too_few=too_few),
            train=train,
            query=query,
            gallery=gallery,
            precisions=params.precisions,
        )
        export.write_reports(tables, done, too_few)
    print(parity.summary(done.rows))  # noqa: T201
    with logger.resume_run(*logger.read_reference(reports / "run.json")) as tracker:
        tracker.log_numbers(export.numbers_of_run(done))
        tracker.log_artifact(folder, "export")
        tracker.log_artifact(reports / "parity.csv")


if __name__ == "__main__":
    run_stage(main)
