"""How often `deepsort-reid watch` alarms falsely at the broken tracks of a real tracker.

Run it on a folder where the pipeline has run on the rendered dataset:

    PYTHONPATH=. uv run benchmarks/broken_tracks.py --folder . --place /tmp/street

It renders a crowded street into --place (about ten minutes on two cores), and `deepsort-reid track`
tracks it. The truth says whose each track is. Then half of the people are compared with the other
half, again and again: all from one video, so that every alarm is false. Tracks count as people as
they are, joined as the command joins them, and by the truth. The video is kept for the next run.
"""

import argparse
import os
import platform
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from benchmarks.watch import LEVELS, PERMUTATIONS, p_of, rate, some
from numpy.typing import NDArray

from deepsort_reid.core.config import load_params
from deepsort_reid.core.machine import processor
from deepsort_reid.data.video.mot_table import read_boxes
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring.video import of_video
from deepsort_reid.monitoring.watch import Embedded, embedded, with_pieces_joined
from deepsort_reid.synthetic.sequences import write_sequences
from deepsort_reid.tracking.score import align
from deepsort_reid.tracking.tracks import Tracks

STREET = {"sequences": 1, "frames": 420, "people": 44, "seed": 5, "image_size": (720, 1280)}
OVERLAP = 0.5  # of a track's box and a person's, intersection over union
NOBODY = -1


def main() -> None:
    """Render and track where that was not done before, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(), help="where the pipeline has run")
    parser.add_argument("--place", type=Path, required=True, help="for the video and its tracks")
    parser.add_argument("--looks", type=int, default=200)
    options = parser.parse_args()
    video, place = options.place / "street.mp4", options.place
    if not (place / "street.tracks.txt").exists():
        place.mkdir(parents=True, exist_ok=True)
        render(options.folder, place)
        command = [
            sys.executable,
            "-c",
            "from deepsort_reid.cli.start import main; main()",
            "track",
        ]
        given = ["--detections", place.absolute() / "det.txt", "-o", place.absolute()]
        subprocess.run([*command, video.absolute(), *given], check=True, cwd=options.folder)
    extractor = Extractor(options.folder / "models/model.pth")
    everyone = embedded(
        extractor, of_video(video, place / "street.tracks.txt", extractor.image_size)
    )
    whose = owners(place, len(everyone.footage.people))
    people = np.unique(whose[whose != NOBODY])
    print(
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"{PERMUTATIONS} permutations a look, seeds 0 to {options.looks - 1}\n"
        f"{(whose != NOBODY).sum()} tracks of {len(people)} people\n\n"
        "| tracks count | a side, mean | alarm at 0.01 | at 0.05 |\n|---|---|---|---|"
    )
    for how in ("as people", "joined", "by the truth"):
        looks = [halves(everyone, whose, people, seed, how) for seed in range(options.looks)]
        counts = [one.footage.count for sides in looks for one in with_pieces_joined(*sides)]
        found = [p_of(*sides) for sides in looks]
        rates = " | ".join(rate(found, level) for level in LEVELS)
        print(f"| {how} | {np.mean(counts):.1f} | {rates} |", flush=True)


def render(folder: Path, place: Path) -> None:
    """Write the street as a video, with its detections and its truth."""
    config = load_params(folder / "params.yaml").track.synthetic.model_copy(update=STREET)
    write_sequences(place / "street.zip", config)
    height, width = config.image_size
    with zipfile.ZipFile(place / "street.zip") as archive:
        film = cv2.VideoWriter(
            str(place / "street.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 14, (width, height)
        )
        for name in sorted(name for name in archive.namelist() if name.endswith(".jpg")):
            film.write(cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), 1))
        film.release()
        for name in ("det/det.txt", "gt/gt.txt"):
            (place / Path(name).name).write_bytes(archive.read(f"synthetic-01/{name}"))


def owners(place: Path, count: int) -> NDArray[np.int64]:
    """Whose each track is: the person on whom most of its boxes are."""
    read = (place / "street.tracks.txt").read_bytes(), (place / "gt.txt").read_bytes()
    found = read_boxes(read[0], "tracks", truth=False).boxes
    truth = read_boxes(read[1], "truth", truth=True).boxes
    tracks = Tracks(found.frames, found.ids, found.ltwh)
    aligned = align(truth, tracks, int(tracks.frames.max()))
    votes: dict[int, list[int]] = {}
    for people, ids, overlaps in zip(aligned.truth, aligned.tracks, aligned.overlaps, strict=True):
        for row, column in np.argwhere(overlaps >= OVERLAP).tolist():
            votes.setdefault(int(ids[column]), []).append(int(people[row]))
    names = np.unique(tracks.ids[tracks.ids > 0]).tolist()
    assert len(names) == count
    return np.array([np.bincount(votes[n]).argmax() if n in votes else NOBODY for n in names])


def halves(
    everyone: Embedded, whose: NDArray[np.int64], people: NDArray[np.int64], seed: int, how: str
) -> tuple[Embedded, Embedded]:
    """The tracks of half of the people, drawn by a seed, and those of the other half."""
    order = np.random.default_rng(seed).permutation(people)
    sides = []
    for half in (order[: len(order) // 2], order[len(order) // 2 :]):
        chosen = np.flatnonzero(np.isin(whose, half))
        side = some(everyone, chosen)
        known = whose[chosen] if how == "by the truth" else np.arange(len(chosen))
        footage = replace(side.footage, people=known, is_tracked=how == "joined")
        sides.append(replace(side, footage=footage))
    return sides[0], sides[1]


if __name__ == "__main__":
    main()
