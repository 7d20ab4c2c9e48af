"""The table, the file and the record of a comparison."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from deepsort_reid.comparison.measuring import BATCHES, NO_APPEARANCE, Comparison, Measured
from deepsort_reid.comparison.network import Network
from deepsort_reid.comparison.picture import draw
from deepsort_reid.comparison.verdict import WIDTH, compared
from deepsort_reid.core import files
from deepsort_reid.data.sample_size import as_tag
from deepsort_reid.runs.names import Numbers
from deepsort_reid.tracking.score import Scores

TABLE, PICTURE = "compare.csv", "compare.png"
LONGEST_NAME = 20  # characters, on the screen
WITHOUT = "no appearance"


def write(folder: Path, found: Comparison) -> list[Path]:
    """Write the table and the picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / TABLE, folder / PICTURE
    rows = list(rows_of(found))
    files.write_csv(table, list(rows[0]), [list(row.values()) for row in rows])
    draw(picture, found)
    return [table, picture]


def rows_of(found: Comparison) -> Iterator[dict[str, object]]:
    """The rows of compare.csv: a network each, and the tracker without any."""
    columns: list[str] = []
    for one in found.networks:
        gain = compared(found, one)
        row = {
            **about(one.network),
            **retrieval(one),
            "mAP_behind_first": gain.value,
            "mAP_behind_first_low": blank(gain.low),
            "mAP_behind_first_high": blank(gain.high),
            **{f"crops_per_second_{batch}": round(v, 1) for batch, v in one.speeds.items()},
            **tracking(found, one.network.name),
        }
        columns = list(row)
        yield row
    if found.tracking:
        row = {"network": WITHOUT, **tracking(found, NO_APPEARANCE)}
        yield {name: row.get(name, "") for name in columns}


def about(network: Network) -> dict[str, object]:
    """What a network is."""
    height, width = network.image_size
    return {
        "network": network.name,
        "place": network.place,
        "kind": network.kind,
        "runtime": network.runtime,
        "image_height": height,
        "image_width": width,
        "file_bytes": network.file_bytes,
        "notes": "; ".join(network.notes),
    }


def retrieval(one: Measured) -> dict[str, object]:
    """What a network finds, with the counts that the numbers rest on."""
    numbers = one.numbers
    return {
        **{name: numbers[name] for name in ("mAP", "mINP", "rank1")},
        "max_cosine_distance": numbers.get("max_cosine_distance", ""),
        **{name: numbers[name] for name in ("queries", "query_identities", "gallery_images")},
        "too_few": as_tag(numbers["too_few"]),
    }


def tracking(found: Comparison, name: str) -> dict[str, object]:
    """How a network does in the tracker; empty texts where nothing was tracked."""
    scores = found.tracked(name)
    names = [field.name for field in fields(Scores)]
    counts = ("sequences", "frames", "people")
    return {
        **(asdict(scores) if scores else dict.fromkeys(names, "")),
        **{key: getattr(found.tracking, key) if found.tracking else "" for key in counts},
    }


def blank(value: float | None) -> object:
    """A number, or an empty text where there is none."""
    return "" if value is None else value


def screen(found: Comparison) -> str:
    """The table as it is shown in a terminal, at most 100 characters wide."""
    with_tracking = found.tracking is not None
    names = [one.network.name for one in found.networks] + [WITHOUT] * with_tracking
    width = min(LONGEST_NAME, max(map(len, names)))
    speeds = "".join(f"{batch:>6}" for batch in BATCHES)
    start = f"{'':{width}}    input     MB    mAP  rank-1  threshold"
    head = start + speeds + ("   HOTA  switches" if with_tracking else "")
    lines = [f"{'':{len(start)}}{'crops a second at':>{len(speeds)}}", head]
    lines += [
        line_of(one, width) + in_tracker(found.tracked(one.network.name)) for one in found.networks
    ]
    if with_tracking:
        empty = " " * (len(start + speeds) - width)
        lines.append(f"{WITHOUT:{width}}{empty}{in_tracker(found.tracked(NO_APPEARANCE))}")
    return "\n".join(f"  {line}".rstrip() for line in [*lines, *rests_on(found)])


def line_of(one: Measured, width: int) -> str:
    """A network's part of the table."""
    height, across = one.network.image_size
    numbers = one.numbers
    threshold = numbers.get("max_cosine_distance")
    told = f"{threshold:.3f}" if threshold is not None else "-"
    speeds = "".join(f"{speed:>6,.0f}" for speed in one.speeds.values())
    return (
        f"{shortened(one.network.name, width):{width}}  {f'{height}×{across}':>7}"
        f"{one.network.file_bytes / 1e6:7.1f} {numbers['mAP']:6.1%}  {numbers['rank1']:6.1%}"
        f"  {told:>9}{speeds}"
    )


def in_tracker(scores: Scores | None) -> str:
    """The same network's scores in the tracker."""
    return f" {scores.hota:6.1%}  {scores.id_switches:8,}" if scores else ""


def rests_on(found: Comparison) -> list[str]:
    """What the numbers rest on, and how the speeds were measured."""
    numbers = found.networks[0].numbers
    seen = (
        f"{numbers['queries']:,} queries of {numbers['query_identities']:,} identities, "
        f"{numbers['gallery_images']:,} gallery images"
    )
    if found.tracking:
        count = found.tracking.sequences
        seen += (
            f"; {count:,} sequence{'s' * (count > 1)}, {found.tracking.frames:,} frames, "
            f"{found.tracking.people:,} people"
        )
    few = {pair for one in found.networks for pair in one.numbers["too_few"].items()}
    lines = [
        seen,
        *(f"{what} not meaningful, too few {text}" for what, text in sorted(few)),
        found.conditions,
    ]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH)]


def shortened(name: str, width: int) -> str:
    """A name whose middle is left out where it is too long."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[: width - 1 - half]}…{name[-half:]}"


def numbers_of_run(found: Comparison) -> Numbers:
    """All numbers as a run records them: a section for each network."""
    measured: dict[str, float] = {}
    told: dict[str, object] = {"compare.conditions": found.conditions}
    for one in found.networks:
        name, numbers = one.network.name, one.numbers
        section: dict[str, Any] = {
            "mAP": numbers["mAP"],
            "mINP": numbers["mINP"],
            "rank-1": numbers["rank1"],
            "max_cosine_distance": numbers.get("max_cosine_distance"),
            "mAP_behind_first": compared(found, one).value,
            "file_bytes": one.network.file_bytes,
            **{f"crops_per_second_{batch}": speed for batch, speed in one.speeds.items()},
        }
        scores = found.tracked(name)
        section |= asdict(scores) if scores else {}
        measured |= {f"{name}/{key}": v for key, v in section.items() if v is not None}
        told[f"{name}.kind"] = one.network.kind
        told[f"{name}.notes"] = "; ".join(one.network.notes) or "none"
        told[f"{name}.too_few"] = as_tag(numbers["too_few"])
    without = found.tracked(NO_APPEARANCE)
    measured |= {f"{WITHOUT}/{key}": v for key, v in (asdict(without) if without else {}).items()}
    return Numbers(measured, {**told, **counts(found)})


def counts(found: Comparison) -> Mapping[str, object]:
    """What the numbers rest on, as tags."""
    numbers = found.networks[0].numbers
    kept = ("queries", "query_identities", "gallery_images")
    return {
        **{f"compare.{name}": numbers[name] for name in kept},
        **(
            {f"compare.{k}": getattr(found.tracking, k) for k in ("sequences", "frames", "people")}
            if found.tracking
            else {}
        ),
    }
