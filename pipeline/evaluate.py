"""Stage evaluate: how well the trained network finds people it has never seen."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.packed import Part, open_part, read_summary, verify_parts
from deepsort_reid.data.sample_size import as_tag
from deepsort_reid.evaluation import report
from deepsort_reid.evaluation.evaluate import evaluate
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.model.embed import Predictor
from deepsort_reid.runs import logger, unfinished

EVALUATED = ("query", "gallery", "val")
TESTED = ("query", "gallery")


def main() -> None:
    """Embed query and gallery, rank them, write the reports, add them to the training's run."""
    params, data, folder = load_params(), Path("data/split"), Path("reports")
    config, source = params.evaluate, params.dataset.label
    net, description = checkpoint.load(Path("models/model.pth"))
    summary = read_summary(data)
    verify_parts(data, summary, EVALUATED)
    query, gallery, val = (open_part(data, name) for name in EVALUATED)
    with computing() as device:
        evaluation = evaluate(
            Predictor(net, mean=description.mean, std=description.std, device=device),
            query,
            gallery,
            val,
            classes=description.classes,
            config=config,
            tuning=summary.tuning,
            sources=list(summary.sources),
            also=also_parts(Path("data/also")),
        )
    with files.together(folder) as new:
        names = report.write_evaluation(
            new, evaluation, query=query, gallery=gallery, ranked_queries=config.ranked_queries
        )
    metrics = evaluation.metrics()
    key, run_id = logger.read_reference(folder / "run.json")
    unfinished.forget(key)
    with logger.resume_run(key, run_id) as tracker:
        tracker.log_numbers(report.numbers_of_run(metrics))
        tracker.log_numbers(report.numbers_elsewhere(report.contents(evaluation)))
        tracker.set_tags({"too_few": as_tag(evaluation.too_few())})
        for name in [*names, "images_per_identity.png"]:
            tracker.log_artifact(folder / name)
        tracker.promote(
            "reid/mAP",
            report.describe_version(
                metrics,
                data=f"{source} ({summary.digest[:12]})",
                too_few=evaluation.too_few(),
            ),
        )
    numbers, threshold = report.contents(evaluation), evaluation.calibration.summary()
    print(report.closing_summary(numbers, threshold))  # noqa: T201


def also_parts(also: Path) -> dict[str, tuple[Part, Part]]:
    """Query and gallery of each dataset that is only tested on, as stage split has packed them."""
    folders = {name: also / name for name in files.read_json(also / "datasets.json")}
    for folder in folders.values():
        verify_parts(folder, read_summary(folder), TESTED)
    return {
        name: (open_part(folder, "query"), open_part(folder, "gallery"))
        for name, folder in folders.items()
    }


if __name__ == "__main__":
    run_stage(main)
