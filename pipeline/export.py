"""Stage export: models/export, the network in every form that trackers take."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import Params, load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.packed import open_part, read_summary, verify_parts
from deepsort_reid.evaluation.threshold import read_report, read_threshold, read_too_few
from deepsort_reid.export import export, parity
from deepsort_reid.export.formats import Trained
from deepsort_reid.export.model_card import Record, Source, model_card
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.runs import logger, provenance

CHECKPOINT = Path("models/model.pth")
READ = ("train", "query", "gallery")


def main() -> None:
    """Write each form, verified, and the card; add all to the training's run."""
    params, data = load_params(), Path("data/split")
    folder, reports = Path("models/export"), Path("reports")
    net, about = checkpoint.load(CHECKPOINT)
    threshold = read_threshold(reports / "evaluation.json")
    too_few = read_too_few(reports / "evaluation.json")
    summary = read_summary(data)
    verify_parts(data, summary, READ)
    train, query, gallery = (open_part(data, name) for name in READ)
    trained = Trained(net=net, about=about, max_cosine_distance=threshold, too_few=too_few)
    with (
        computing(),
        files.together(folder) as new,
        files.together(reports) as tables,
    ):
        done = export.export(
            new,
            trained,
            train=train,
            query=query,
            gallery=gallery,
            precisions=params.export.precisions,
        )
        record = Record(
            trained=trained,
            done=done,
            **datasets(params),
            data=summary,
            evaluation=read_report(reports / "evaluation.json"),
            calibration=read_report(reports / "calibration.json"),
        )
        files.write_text(new / "MODEL_CARD.md", model_card(record, new))
        export.write_reports(tables, done, too_few)
    print(parity.summary(done.rows))  # noqa: T201
    with logger.resume_run(*logger.read_reference(reports / "run.json")) as tracker:
        tracker.log_numbers(export.numbers_of_run(done))
        tracker.set_tags(provenance.measured_tags("export", CHECKPOINT))
        tracker.log_artifact(folder, "export")
        tracker.log_artifact(reports / "parity.csv")


def datasets(params: Params) -> dict[str, list[Source]]:
    """What was learned from, and what was only tested on, as params.yaml names it."""
    dataset = params.dataset
    return {
        "sources": [Source(s.name, s.source, dataset.license_of(s)) for s in dataset.sources],
        "also": [Source(s.name, s.source, s.license) for s in params.evaluate.also],
    }


if __name__ == "__main__":
    run_stage(main)
