"""Stage evaluate: how well the trained network finds people it has never seen."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.packed import open_part, read_summary, verify_parts
from deepsort_reid.evaluation import report
from deepsort_reid.evaluation.evaluate import Reader, evaluate
from deepsort_reid.evaluation.reranking import Settings
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.runs import logger, unfinished

EVALUATED = ("query", "gallery", "val")


def main() -> None:
    """Embed query and gallery, rank them, write the reports, add them to the training's run."""
    params, data, folder = load_params().evaluate, Path("data/split"), Path("reports")
    net, description = checkpoint.load(Path("models/model.pth"))
    summary = read_summary(data)
    verify_parts(data, summary, EVALUATED)
    query, gallery, val = (open_part(data, name) for name in EVALUATED)
    rerank = Settings(k1=params.rerank_k1, k2=params.rerank_k2, weight=params.rerank_lambda)
    with computing() as device:
        reader = Reader(
            net,
            mean=description.mean,
            std=description.std,
            batch_size=params.batch_size,
            device=device,
        )
        evaluation = evaluate(
            reader,
            query=query,
            gallery=gallery,
            val=val,
            classes=description.classes,
            false_match_rate=params.false_match_rate,
            short_range=params.short_range,
            tuning=summary.tuning,
            flip=params.flip,
            rerank=rerank if params.rerank else None,
        )
    metrics = evaluation.metrics()
    with files.together(folder) as new:
        names = report.write_evaluation(
            new, evaluation, query=query, gallery=gallery, ranked_queries=params.ranked_queries
        )
    key, run_id = logger.read_reference(folder / "run.json")
    unfinished.forget(key)
    with logger.resume_run(key, run_id) as tracker:
        tracker.log_metrics(metrics)
        for name in [*names, "images_per_identity.png"]:
            tracker.log_artifact(folder / name)
        tracker.promote("mAP")
    threshold = evaluation.calibration.summary()
    print(report.closing_summary(metrics, threshold, tracker.describe()))  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
