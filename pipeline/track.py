"""Stage track: what the trained network gains in a tracker, on videos."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.layouts.videos import read_sequences
from deepsort_reid.data.packed import open_part, read_summary, verify_parts
from deepsort_reid.evaluation.threshold import read_threshold
from deepsort_reid.model import checkpoint
from deepsort_reid.model.device import computing
from deepsort_reid.runs import logger, provenance
from deepsort_reid.sources.archive import Archive, archive_in
from deepsort_reid.tracking import compare, report

CHECKPOINT = Path("models/model.pth")
COMPARED = ("query", "gallery")  # to find a threshold for the untrained network


def main() -> None:
    """Track in three ways, write the reports, add them to the training's run."""
    params, data, folder = load_params(), Path("data/split"), Path("reports")
    net, about = checkpoint.load(CHECKPOINT)
    threshold = params.track.max_cosine_distance
    if threshold is None:
        threshold = read_threshold(folder / "evaluation.json")
    archive = archive_in(Path("data/sequences"))
    source = Archive(archive)
    sequences = read_sequences(source)
    verify_parts(data, read_summary(data), COMPARED)
    query, gallery = (open_part(data, name) for name in COMPARED)
    with computing() as device:
        trial = compare.compare_variants(
            source,
            sequences,
            trained=compare.trained(net, about, threshold, device=device),
            untrained=compare.untrained(
                about,
                query,
                gallery,
                seed=params.train.seed,
                config=params.evaluate,
                device=device,
            ),
            config=params.track,
        )
    with files.together(folder) as new:
        names = report.write_trial(new, source, trial)
    with logger.resume_run(*logger.read_reference(folder / "run.json")) as tracker:
        tracker.log_dataset(
            name=f"{Path(params.track.source).name.partition('.')[0]}-sequences",
            source=params.track.source,
            digest=files.md5(archive),
            profile={"sequences": len(sequences), "frames": trial.frames},
            context="track",
        )
        tracker.log_numbers(report.numbers_of_run(trial))
        tracker.set_tags(report.tags(trial))
        tracker.set_tags(provenance.measured_tags("track", CHECKPOINT))
        for name in names:
            tracker.log_artifact(folder / name)
    print(report.closing_table(trial))  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
