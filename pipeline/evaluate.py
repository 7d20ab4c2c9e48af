"""Stage evaluate: how well the trained network finds people it has never seen."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import shortened
from deepsort_reid.core.machine import processor
from deepsort_reid.core.secrets import masked
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.packed import Part, open_part, read_summary, verify_parts
from deepsort_reid.data.sample_size import as_tag
from deepsort_reid.evaluation import report
from deepsort_reid.evaluation.embedding import Embedder, EmbeddingCache
from deepsort_reid.evaluation.evaluate import evaluate
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.model.embed import Predictor
from deepsort_reid.runs import logger, provenance, unfinished

CHECKPOINT = Path("models/model.pth")
EVALUATED = ("query", "gallery", "val")
TESTED = ("query", "gallery")


def main() -> None:
    """Embed query and gallery, rank them, write the reports, add them to the training's run."""
    params, data, folder = load_params(), Path("data/split"), Path("reports")
    also = Path("data/also")
    config, source = params.evaluate, params.dataset.label
    net, description = checkpoint.load(CHECKPOINT)
    summary = read_summary(data)
    provenance.check_made_by(
        description.identity,
        params.train.determining,
        data_digest=summary.digest,
        processes=params.train.world_size,
    )
    verify_parts(data, summary, EVALUATED)
    query, gallery, val = (open_part(data, name) for name in EVALUATED)
    with computing() as device:
        predictor = Predictor(net, mean=description.mean, std=description.std, device=device)
        evaluation = evaluate(
            Embedder(predictor, config.batch_size, cache_of(device, also)),
            query,
            gallery,
            val,
            classes=description.classes,
            config=config,
            tuning=summary.tuning,
            sources=list(summary.sources),
            also=also_parts(also),
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
        tracker.set_tags(provenance.measured_tags("evaluate", CHECKPOINT))
        for name in [*names, "images_per_identity.png"]:
            tracker.log_artifact(folder / name)
        tracker.promote(
            "reid/mAP",
            report.describe_version(
                metrics,
                data=f"{masked(source)} ({shortened(summary.digest)})",
                too_few=evaluation.too_few(),
            ),
        )
    numbers, threshold = report.contents(evaluation), evaluation.calibration.summary()
    print(report.closing_summary(numbers, threshold))  # noqa: T201


def cache_of(device: torch.device, also: Path) -> EmbeddingCache:
    """Where an evaluation of this checkpoint on these parts has left its embeddings."""
    folders = [
        Path("data/split"),
        *(also / name for name in files.read_json(also / "datasets.json")),
    ]
    on_gpu = device.type == "cuda"
    computer = torch.cuda.get_device_name(device) if on_gpu else processor()
    digests = [read_summary(folder).digest for folder in folders]
    return EmbeddingCache([files.sha256(CHECKPOINT), *digests, *libraries(), computer])


def libraries() -> list[str]:
    """The versions of what computes embeddings."""
    names = ("torch", "onnxruntime", "numpy")
    return [f"{name} {metadata.version(name)}" for name in names if find_spec(name)]


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
