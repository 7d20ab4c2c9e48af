"""Stage summary: the headline of the result, its record for git, and the next command."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.stage import run_stage
from deepsort_reid.lineage import headline
from deepsort_reid.runs.logger import store_address
from deepsort_reid.runs.provenance import check_made_by

PARTS = {"run": "run", "training": "train", "identity": "identity", "split": "split"}


def main() -> None:
    """Collect what the stages have reported, and print it."""
    params, folder = load_params(), Path("reports")
    parts = {name: files.read_json(folder / f"{file}.json") for name, file in PARTS.items()}
    train = params.train
    check_made_by(parts["identity"], train.determining, processes=train.world_size)
    evaluation, track = (
        files.read_json(folder / f"{name}.json") for name in ("evaluation", "track")
    )
    numbers = headline.headline(evaluation, track)
    doubts = headline.too_few(evaluation, track)
    elsewhere = headline.headline_elsewhere(evaluation)
    files.write_json(folder / "metrics.json", {**numbers, "meaningful": not doubts, **elsewhere})
    record = folder / "record.json"
    files.write_json(record, headline.record(parts, Path("models/model.pth")))
    commands = headline.next_commands(headline.standing(params.raw, record))
    width = max(len(purpose) for purpose, _ in commands) + 2
    lines = [
        *headline.table(numbers),
        *doubts,
        "",
        *headline.run_in_words(parts["run"], store_address()),
        *(f"{purpose + ':':{width}}{command}" for purpose, command in commands),
    ]
    print("\n".join(["", *(f"  {line}".rstrip() for line in lines), ""]))  # noqa: T201


if __name__ == "__main__":
    run_stage(main)
