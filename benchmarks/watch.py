"""How often `deepsort-reid watch` alarms: without a change, and with changed camera, light, crowd.

Run it on a folder where the pipeline has run on the rendered dataset:

    PYTHONPATH=. uv run benchmarks/watch.py --folder . --pool /tmp/pool.npz

It renders new people, four crops of each under one of the training's cameras, as they are and
under each of the changes below, and keeps the crops in --pool. Then it draws people out of these
again and again, and looks at each draw as the command does, with 499 permutations in place of
9,999. The references are drawn from other people than the new ones. A rate stands with Wilson's
95 % interval; the looks of a row share people, so they are not quite independent.

On the split of a real dataset, whose people are not rendered, only the last table is printed: each
camera's people beside other people, under the other cameras and under the same one.
"""

import argparse
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.changed_footage import CHANGED, CHANGES, rendered
from numpy.typing import NDArray

from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import TooLittleError
from deepsort_reid.core.machine import processor
from deepsort_reid.data.packed import Images, open_part
from deepsort_reid.evaluation.distances import Embedded as Embedding
from deepsort_reid.evaluation.ranking import ranking
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.monitoring.appearance import NAMES
from deepsort_reid.monitoring.enough import DRAWS, draws_of
from deepsort_reid.monitoring.footage import CROPS, Footage, chosen_tracks, of_split
from deepsort_reid.monitoring.two_sample import Difference, combined, compare, whitened
from deepsort_reid.monitoring.watch import (
    Embedded,
    between_cameras,
    compare_draw,
    embedded,
    evened,
    with_pieces_joined,
)

LEVEL = 0.01  # of an alarm
LEVELS = (LEVEL, 0.05)
Sides = Callable[[list[Embedded]], tuple[Embedded, Embedded]]  # old and new of drawn groups
PERMUTATIONS = 499  # of a look; p is 0.002 at least
BROKEN = (  # in words, the pieces of a track, the share of the tracks, the people
    ("none", 1, 0.0, 32),
    ("each track, in two pieces", 2, 1.0, 16),
    ("each track, in two pieces", 2, 1.0, 32),
    ("each track, in two pieces", 2, 1.0, 64),
    ("a third of the tracks, in two pieces", 2, 1 / 3, 32),
    ("each track, in four pieces of a crop", 4, 1.0, 32),
)


def main() -> None:
    """Render or read the people, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(), help="where the pipeline has run")
    parser.add_argument("--pool", type=Path, help="the rendered crops; made if it is not there")
    parser.add_argument("--looks", type=int, default=200)
    options = parser.parse_args()
    params = load_params(options.folder / "params.yaml")
    pool = options.pool
    if pool and not pool.exists():
        config, size = params.dataset.synthetic, params.split.image_size
        np.savez(pool, **{name: rendered(config, name, size) for name in CHANGES})
    print(
        f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}; {PERMUTATIONS} permutations a look, seed 0\n"
    )
    began = time.monotonic()
    extractor = Extractor(options.folder / "models/model.pth")
    split = options.folder / "data/split"
    if pool:
        people = {
            name: group_of(
                crops.reshape(-1, *crops.shape[2:]), range(len(crops)), [-1] * len(crops),
                [CROPS] * len(crops), extractor,
            )
            for name, crops in np.load(pool).items()
        }  # fmt: skip
        held_out = embedded(extractor, of_split(split))
        false_alarms(people["none"], held_out, of_trained(extractor, split), options.looks)
        in_pieces(people["none"], options.looks)
        unequal(people["none"], options.looks)
        by_reference(people["none"], options.looks // 5)
        power(people, held_out, options.looks // 5)
        statistics(people, held_out, options.looks // 5)
    by_camera(extractor, split, options.looks // 4)
    print(f"{time.monotonic() - began:.0f} s")


# The looks


def group_of(crops: Images, people: Sequence[int], camids: Sequence[int], each: Sequence[int],
             extractor: Extractor) -> Embedded:  # fmt: skip
    """Tracks with so many crops each, embedded."""
    tracks = np.repeat(np.arange(len(each)), each)
    footage = Footage("", crops, tracks, np.array(people), np.array(camids))
    return embedded(extractor, footage)


def some(group: Embedded, chosen: NDArray[np.int64]) -> Embedded:
    """Some of the tracks."""
    return group.only(np.flatnonzero(np.isin(group.footage.tracks, chosen)))


def shortened(group: Embedded, *counts: int) -> Embedded:
    """The same people with so many crops each, in turn: one and four, say."""
    tracks = group.footage.tracks
    place = np.arange(len(tracks)) - np.searchsorted(tracks, tracks)
    return group.only(np.flatnonzero(place < np.array(counts)[tracks % len(counts)]))


def broken(group: Embedded, pieces: int, share: float = 1.0) -> Embedded:
    """The same crops, a share of the tracks in so many pieces, as a tracker leaves that fails."""
    footage = group.footage
    place = np.arange(len(footage.tracks)) % CROPS * pieces // CROPS
    place[footage.tracks >= share * len(footage.people)] = 0
    kept, tracks = np.unique(footage.tracks * pieces + place, return_inverse=True)
    part = replace(
        footage, tracks=tracks, people=np.arange(len(kept)), camids=footage.camids[kept // pieces]
    )
    return replace(group, footage=part)


def tracked(group: Embedded) -> Embedded:
    """The same as the work of a tracker, whose pieces are to be joined."""
    return replace(group, footage=replace(group.footage, is_tracked=True))


def look(
    old: Embedded, new: Embedded, *, as_they_are: bool = False
) -> tuple[float, list[Difference]]:
    """The command's p-value, and what each draw has found.

    Args:
        old: tracks.
        new: tracks.
        as_they_are: tracks count with all their crops, unlike the command's.
    """
    if not as_they_are:
        old, new = evened(*with_pieces_joined(old, new), LEVEL)
    count = draws_of(old.footage, new.footage)
    found = [compare_draw(old, new, seed, PERMUTATIONS) for seed in range(count)]
    return float(combined(np.array([one.p_value for one in found]))), found


def p_of(old: Embedded, new: Embedded) -> float:
    """The command's p-value; 1 if it finds too little footage to say."""
    try:
        return look(old, new)[0]
    except TooLittleError:
        return 1.0


def draws(group: Embedded, looks: int, *sizes: int) -> Iterable[list[Embedded]]:
    """Yield groups of those sizes, without a person in two of them, for each look."""
    for seed in range(looks):
        order = np.random.default_rng([seed, 1]).permutation(len(group.footage.people))
        ends = np.cumsum(sizes)
        yield [some(group, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def rate(p_values: Sequence[float], level: float) -> str:
    """The share of alarms with Wilson's 95 % interval, in per cent."""
    n, z = len(p_values), 1.96
    share = sum(p <= level for p in p_values) / n
    middle = (share + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / 4 / n / n) ** 0.5
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def of_trained(extractor: Extractor, split: Path) -> Embedded:
    """The people that the network was trained on."""
    part = open_part(split, "train")
    tracks = chosen_tracks(part.pids.tolist(), part.camids.tolist())
    crops = np.stack([part.images[index] for track in tracks.values() for index in track])
    people, camids = zip(*tracks, strict=True)
    return group_of(crops, people, camids, [len(track) for track in tracks.values()], extractor)


def false_alarms(new: Embedded, held_out: Embedded, trained: Embedded, looks: int) -> None:
    """New people of the same world beside each reference."""
    print("False alarms, per cent of the looks\n")
    print("| reference | new tracks | looks | alarm at 0.01 | alarm at 0.05 |")
    print("|---|---|---|---|---|")
    kinds: list[tuple[str, Sides, int, int]] = [
        (f"the {held_out.footage.count} held-out people", lambda g: (held_out, g[0]), 32, looks),
        ("32 others for each look", lambda g: (g[1], g[0]), 16, looks),
        ("32 others for each look", lambda g: (g[1], g[0]), 32, looks),
        ("32 others for each look", lambda g: (g[1], g[0]), 64, looks),
        (f"{trained.footage.count} people of training", lambda g: (trained, g[0]), 32, looks // 4),
        ("32 others, each crop a track", lambda g: (broken(g[1], 4), broken(g[0], 4)), 32, looks),
    ]
    for name, sides, size, count in kinds:
        found = [look(*sides(groups))[0] for groups in draws(new, count, size, 32)]
        rates = " | ".join(rate(found, level) for level in LEVELS)
        print(f"| {name} | {size} | {count} | {rates} |", flush=True)
    print()


def in_pieces(new: Embedded, looks: int) -> None:
    """New people beside others, where a tracker has broken the new tracks."""
    print(f"False alarms at {LEVEL} where a tracker breaks tracks, per cent of {looks} looks: new")
    print("people beside 32 others\n")
    print("| broken | new people | as people | joined |\n|---|---|---|---|")
    for told, pieces, share, size in BROKEN:
        found: tuple[list[float], list[float]] = ([], [])
        for group, others in draws(new, looks, size, 32):
            track = broken(group, pieces, share)
            found[0].append(look(others, track)[0])
            found[1].append(p_of(others, tracked(track)))
        print(f"| {told} | {size} | {' | '.join(rate(p, LEVEL) for p in found)} |", flush=True)
    print()


def unequal(new: Embedded, looks: int) -> None:
    """New people beside others whose tracks have more crops, or fewer."""
    print(f"False alarms where tracks have unequally many crops, per cent of {looks} looks: 16 new")
    print(
        "people beside 100 others; by the command, and were each track to count with all it has\n"
    )
    print("| crops of old | of new | alarm at 0.01 | at 0.05 | all crops: at 0.01 | at 0.05 |")
    print("|---|---|---|---|---|---|")
    kinds: list[tuple[str, str, Sides]] = [
        ("4", "1", lambda g: (g[1], shortened(g[0], 1))),
        ("4", "2", lambda g: (g[1], shortened(g[0], 2))),
        ("1", "4", lambda g: (shortened(g[1], 1), g[0])),
        ("4", "1 and 4 in turn", lambda g: (g[1], shortened(g[0], 1, 4))),
        ("4", "1, 4, 4, 4, 4 in turn", lambda g: (g[1], shortened(g[0], 1, 4, 4, 4, 4))),
    ]
    for of_old, of_new, sides in kinds:
        cells = []
        for as_they_are in (False, True):
            found = [look(*sides(groups), as_they_are=as_they_are)[0]
                     for groups in draws(new, looks, 16, 100)]  # fmt: skip
            cells += [rate(found, level) for level in LEVELS]
        print(f"| {of_old} | {of_new} | {' | '.join(cells)} |", flush=True)
    print()


def by_reference(new: Embedded, looks: int) -> None:
    """False alarms beside one and the same reference, for several."""
    print(f"False alarms by reference: 12 of 32 people, 32 new tracks a look, {looks} looks each\n")
    order = np.random.default_rng(2).permutation(len(new.footage.people))
    shares = []
    for number in range(12):
        old, others = some(new, order[32 * number : 32 * number + 32]), some(new, order[384:])
        found = [look(old, groups[0])[0] for groups in draws(others, looks, 32)]
        shares.append([np.mean([p <= level for p in found]) for level in LEVELS])
    for level, column in zip(LEVELS, np.sort(np.array(shares), axis=0).T, strict=True):
        listed = ", ".join(f"{100 * share:.1f}" for share in column)
        print(f"alarm at {level}: {listed} per cent, mean {100 * column.mean():.1f}", flush=True)
    print()


def power(people: dict[str, Embedded], held_out: Embedded, looks: int) -> None:
    """Changed people beside the held-out ones."""
    known, _ = evened(held_out, people["none"], LEVEL)
    cameras = np.mean([between_cameras(known, seed) or np.nan for seed in range(DRAWS)])
    print(f"Alarms at {LEVEL} beside the held-out people, per cent of {looks} looks; two of the")
    print(f"training's cameras differ by an effect of {cameras:.4f}\n")
    print("| change | 16 new tracks | 32 | 64 | 32, pieces joined | 64, pieces joined ", end="")
    print("| effect | times cameras | named | mAP |\n|---|---|---|---|---|---|---|---|---|---|")
    for name, (told, _) in CHANGES.items():
        cells, found = [], []
        for size in (16, 32, 64):
            seen = [look(held_out, groups[0]) for groups in draws(people[name], looks, size)]
            cells.append(f"{100 * np.mean([p <= LEVEL for p, _ in seen]):.0f}")
            found = [one for _, each in seen for one in each]
        for size in (32, 64):
            found_p = [p_of(held_out, tracked(new)) for (new,) in draws(people[name], looks, size)]
            cells.append(f"{100 * np.mean([p <= LEVEL for p in found_p]):.0f}")
        effect = float(np.mean([one.effect for one in found]))
        named, times = Counter(largest(one) for one in found).most_common(1)[0]
        cells += [f"{effect:.3f}", f"{effect / cameras:.1f}",
                  f"{named} in {100 * times / len(found):.0f} %",
                  f"{100 * within(people[name]):.1f}"]  # fmt: skip
        print(f"| {told} | {' | '.join(cells)} |", flush=True)
    print()


def largest(found: Difference) -> str:
    """The number of the crops that the command names first."""
    moved = found.moved
    sure = np.where(moved.p_values <= LEVEL, np.abs(moved.shifts), 0)
    if not sure.any():
        return "nothing"
    place = int(sure.argmax())
    return f"{NAMES[place]} {'up' if moved.shifts[place] > 0 else 'down'}"


def within(group: Embedded) -> float:
    """The mAP of finding a person's other crops among those of the first 160 people."""
    chosen = some(group, np.arange(CHANGED))
    tracks = chosen.footage.tracks
    is_query = np.arange(len(tracks)) % CROPS == 0
    sides = [
        Embedding(torch.from_numpy(chosen.embeddings[side]).float(), 1 + tracks[side], None)
        for side in (is_query, ~is_query)
    ]
    return ranking(*sides).mAP


def statistics(people: dict[str, Embedded], held_out: Embedded, looks: int) -> None:
    """Other statistics than the energy distance of whitened embeddings, by the same permutations.

    All of them on one and the same draw of the held-out people.
    """
    print(f"Alarms at {LEVEL} with other statistics, 32 new tracks, per cent of {looks} looks\n")
    others: dict[str, Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]] = {
        "energy distance, whitened": lambda e, t: averaged(whitened(e), t, lambda d: d),
        "energy distance, as they are": lambda e, t: averaged(e, t, lambda d: d),
        "distance of means, whitened": lambda e, t: averaged(whitened(e), t, lambda d: d**2),
        "Gaussian MMD, whitened": lambda e, t: averaged(whitened(e), t, gaussian),
    }
    print(f"| statistic | {' | '.join(CHANGES)} |\n|---|{'---|' * len(CHANGES)}")
    first, of_first, chosen = evened(held_out, people["none"], LEVEL)[0].draw(0)
    for name, of in others.items():
        cells = []
        for group in people.values():
            alarms = 0
            for (new,) in draws(group, looks, 32):
                second, of_second, more = evened(held_out, new, LEVEL)[1].draw(0)
                tracks = np.concatenate([of_first, len(chosen) + of_second])
                is_new = np.arange(len(chosen) + len(more)) >= len(chosen)
                distances = of(np.concatenate([first, second]), tracks)
                found = compare(distances, is_new, np.zeros((len(is_new), 1)), draws=PERMUTATIONS)
                alarms += found.p_value <= LEVEL
            cells.append(f"{100 * alarms / looks:.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()


def gaussian(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus a Gaussian kernel, with the median distance as its bandwidth."""
    found: NDArray[np.float64] = -np.exp(-(distances**2) / 2 / np.median(distances) ** 2)
    return found


def averaged(
    vectors: NDArray[np.float64],
    tracks: NDArray[np.int64],
    of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """As `track_distances`, of a function of the distances between crops."""
    squares = (vectors**2).sum(axis=1)
    values = of(np.sqrt((squares[:, None] + squares - 2 * vectors @ vectors.T).clip(0)))
    starts, counts = np.flatnonzero(np.r_[True, np.diff(tracks) > 0]), np.bincount(tracks)
    sums = np.add.reduceat(np.add.reduceat(values, starts, axis=1), starts, axis=0)
    means: NDArray[np.float64] = sums / counts / counts[:, None]
    np.fill_diagonal(means, 0)
    return means


def by_camera(extractor: Extractor, split: Path, looks: int) -> None:
    """Each camera's people beside others: under the other cameras, and under the same one."""
    everyone = embedded(extractor, of_split(split))
    pids, camids = everyone.footage.people, everyone.footage.camids
    known, counts = np.unique(camids, return_counts=True)
    print(f"Alarms at {LEVEL} on the split's own cameras, per cent of {looks} looks\n")
    print("| camera | new tracks | beside others, other cameras | beside others, same camera |")
    print("|---|---|---|---|")
    for number, count in zip(known.tolist(), counts.tolist(), strict=True):
        size = min(32, count // 2)
        cells: list[list[float]] = [[], []]
        for seed in range(looks):
            order = np.random.default_rng([seed, number]).permutation(len(pids))
            here = order[camids[order] == number]
            new, rest = some(everyone, here[:size]), here[size : size + 100]
            away = order[(camids[order] != number) & ~np.isin(pids[order], pids[here[:size]])]
            away = away[np.unique(pids[away], return_index=True)[1]][:100]
            cells[0].append(look(some(everyone, away), new)[0])
            cells[1].append(look(some(everyone, rest), new)[0])
        shown = " | ".join(rate(found, LEVEL) for found in cells)
        print(f"| {number} | {size} of {count} people | {shown} |", flush=True)
    print()


if __name__ == "__main__":
    main()
