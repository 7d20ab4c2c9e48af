"""Stage track: what the trained network is worth to Deep SORT, on videos."""

from pathlib import Path

from deepsort_reid import checkpoint, distributed, files, model, tracking, trial
from deepsort_reid.archive import Archive, archive_in
from deepsort_reid.config import load_params
from deepsort_reid.entry import run_stage
from deepsort_reid.extractor import Extractor
from deepsort_reid.mot import read_sequences
from deepsort_reid.threshold import read_threshold
from deepsort_reid.tracker import Settings


def main() -> None:
    """Track in three ways, write the reports, add them to the training's run."""
    everything, folder = load_params(), Path("reports")
    params = everything.track
    net, about = checkpoint.load(Path("models/model.pth"))
    height, width = about.image_size
    blank = model.build(about.arch, len(about.classes), seed=everything.train.seed)
    threshold = params.max_cosine_distance
    if threshold is None:
        threshold = read_threshold(folder / "metrics.json")
    source = Archive(archive_in(Path("data/sequences")))
    sequences = read_sequences(source)
    with distributed.joined() as process:
        trained, untrained = (
            Extractor.from_network(
                network,
                image_size=(height, width),
                mean=about.mean,
                std=about.std,
                device=process.device,
            )
            for network in (net, blank)
        )
        done = trial.run(
            source,
            sequences,
            trained=trained,
            untrained=untrained,
            max_cosine_distance=threshold,
            min_confidence=params.min_confidence,
            settings=Settings(
                max_iou_distance=params.max_iou_distance,
                max_age=params.max_age,
                n_init=params.n_init,
                nn_budget=params.nn_budget,
            ),
        )
    with files.together(folder) as new:
        names = trial.write(new, source, done)
    with tracking.resume_run(*tracking.read_reference(folder / "run.json")) as tracker:
        tracker.log_metrics(done.numbers())
        for name in names:
            tracker.log_artifact(folder / name)
    print(done.table())  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
