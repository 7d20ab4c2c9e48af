"""How many images each identity has in each part: what the split stage leaves in reports/."""

from collections import Counter
from pathlib import Path

from deepsort_reid import files, plots
from deepsort_reid.split import Split, Summary, images_per_identity


def write_census(folder: Path, summary: Summary, split: Split) -> None:
    """Write the split's counts, what it is for, and how many identities have how many images.

    Args:
        folder: receives split.json, images_per_identity.png and images_per_identity.csv.
        summary: of the parts.
        split: their images.
    """
    files.write_json(folder / "split.json", {**summary.counts, "tuning": summary.tuning})
    counts = {part: images_per_identity(samples) for part, samples in split.items()}
    plots.images_per_identity(folder / "images_per_identity.png", counts)
    identities = {part: Counter(values) for part, values in counts.items()}
    numbers = sorted({number for counter in identities.values() for number in counter})
    files.write_csv(
        folder / "images_per_identity.csv",
        ["images", *identities],
        [[number, *(counter[number] for counter in identities.values())] for number in numbers],
    )
