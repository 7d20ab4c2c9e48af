"""What a look at new footage has found: lines for a person, numbers for MLflow."""

from collections.abc import Iterator

from deepsort_reid.data.sample_size import LEAST
from deepsort_reid.monitoring.footage import TRAINING
from deepsort_reid.monitoring.watch import Change, Outcome
from deepsort_reid.runs.names import Numbers

SECTION = "watch"  # of the metrics
SHOWN = 3  # changes


def lines(outcome: Outcome) -> list[str]:
    """The answer in the first line, and what stands behind it in the others."""
    return [headline(outcome), *(f"  {line}" for line in details(outcome))]


def headline(outcome: Outcome) -> str:
    """The answer in a line."""
    p_value, level = f"p = {outcome.p_value:.4f}", f"{outcome.level:g}"
    if not outcome.alarm:
        return f"no alarm: new footage looks like {named(outcome)}: {p_value} (alarm at {level})"
    return (
        f"new footage differs from {named(outcome)}: {p_value} (alarm at {level}); "
        f"largest change: {largest(outcome)}"
    )


def named(outcome: Outcome) -> str:
    """The old footage, in words."""
    return "training's" if outcome.old == TRAINING else f"that of {outcome.old}"


def largest(outcome: Outcome) -> str:
    """The largest change that chance does not explain, or that there is none."""
    if outcome.moved:
        return told(outcome.moved[0])
    return "none in brightness, contrast, warmth, colour or sharpness, so look at view and people"


def told(change: Change) -> str:
    """A change in a few words: `brightness 0.44 -> 0.28 (-1.9 sd)`."""
    return f"{change.name} {change.old:.3g} -> {change.new:.3g} ({change.shift:+.1f} sd)"


def details(outcome: Outcome) -> Iterator[str]:
    """The lines below the answer."""
    (old, new), cameras = outcome.tracks, outcome.cameras
    if cameras:
        times = outcome.effect / cameras
        whose = "training's own" if outcome.old == TRAINING else "the old footage's"
        yield f"they differ {times:.1f} times as much as two of {whose} cameras"
    else:
        yield f"energy distance {outcome.distance:.3f}; 0 where nothing differs"
    others = outcome.moved[1 if outcome.alarm else 0 :][:SHOWN]
    if others:
        yield f"{'also' if outcome.alarm else 'but'} changed: {', '.join(map(told, others))}"
    yield f"{new:,} new tracks beside {old:,}; a track counts once, with {crops(outcome.each)}"
    if any(outcome.joined):
        gone, away = outcome.joined
        yield f"joined to tracks that they look like pieces of: {away:,} new, {gone:,} old"
    if any(outcome.left_out):
        gone, away = outcome.left_out
        yield f"left out: {away:,} new people and {gone:,} old ones, whose tracks have fewer crops"
    if min(old, new) < LEAST:
        yield f"fewer than {LEAST} tracks on a side: only large changes are seen"
    if outcome.height is not None and outcome.height < outcome.image_height:
        yield (
            f"half of the new crops are {outcome.height:.0f} pixels high or less; the network "
            f"takes {outcome.image_height}"
        )


def crops(count: int) -> str:
    """So many crops, in words."""
    return f"{count} crop{'' if count == 1 else 's'}"


def numbers_of_run(outcome: Outcome) -> Numbers:
    """The numbers of a look as its run records them, one point a look."""
    measured = {
        "p_value": outcome.p_value,
        "alarm": float(outcome.alarm),
        "effect": outcome.effect,
        "energy_distance": outcome.distance,
        "new_tracks": float(outcome.tracks[1]),
        **{f"shift/{change.name}": change.shift for change in outcome.changes},
        **{change.name: change.new for change in outcome.changes},
    }
    if outcome.height is not None:
        measured["height"] = outcome.height
    told_of = {
        "watch.alarm": outcome.alarm,
        "watch.level": outcome.level,
        "watch.old": outcome.old,
        "watch.new": outcome.new,
        "watch.old_tracks": outcome.tracks[0],
        "watch.new_tracks": outcome.tracks[1],
        "watch.crops_of_a_track": outcome.each,
    }
    return Numbers({f"{SECTION}/{name}": value for name, value in measured.items()}, told_of)
