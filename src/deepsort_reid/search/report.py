"""What a search shows: a table of its trials, two pictures, and the command of the best one."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.trial import FrozenTrial, TrialState

from deepsort_reid.core import files
from deepsort_reid.core.figure import BLUE, GREY, ORANGE, drawn
from deepsort_reid.core.yaml_file import show
from deepsort_reid.runs.changes import as_options
from deepsort_reid.search.space import Space
from deepsort_reid.search.study import ARITHMETIC, CODE, REASON, SECONDS, VALUES, Study, tags_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5  # trials in the closing table
FEWEST = 3  # scored trials from which importances are told
TABLE, HISTORY, IMPORTANCE = "trials.csv", "history.png", "importance.png"


def command(changes: Mapping[str, Any]) -> str:
    """The line that trains with these parameters."""
    return f"uv run dvc exp run{as_options(changes)}"


def write(folder: Path, study: Study, space: Space) -> list[Path]:
    """Write the table and the pictures; return their paths."""
    trials = study.trials()
    write_table(folder / TABLE, trials, space.keys)
    made = [folder / TABLE]
    if study.best():
        draw_history(folder / HISTORY, trials)
        made.append(folder / HISTORY)
    if found := importances(study):
        draw_importances(folder / IMPORTANCE, found)
        made.append(folder / IMPORTANCE)
    return made


def write_table(path: Path, trials: Sequence[FrozenTrial], keys: Sequence[str]) -> None:
    """Write a line for each trial."""
    rows = [
        [
            trial.number,
            tags_of(trial).get("trial_state", "in flight"),
            "" if trial.value is None else trial.value,
            last_epoch(trial),
            trial.user_attrs.get(SECONDS, ""),
            *(spelled(trial, key) for key in keys),
            trial.user_attrs.get(REASON, ""),
        ]
        for trial in trials
    ]
    files.write_csv(path, ["trial", "state", "mAP", "epochs", "seconds", *keys, "reason"], rows)


def last_epoch(trial: FrozenTrial) -> object:
    """The last epoch whose mAP was noted."""
    return max(trial.intermediate_values, default="")


def spelled(trial: FrozenTrial, key: str) -> str:
    """A trial's value of a parameter, as params.yaml spells it."""
    values = trial.user_attrs.get(VALUES, {})
    return show(values[key]) if key in values else ""


def importances(study: Study) -> dict[str, float]:
    """The share of the scores' variance that each parameter explains, the largest first.

    By fANOVA (Hutter et al., 2014). None where too few trials have a score, or all have the same.
    """
    scores = {trial.value for trial in study.ended() if trial.state == TrialState.COMPLETE}
    if len(scores) < FEWEST:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(optuna.importance.get_param_importances(study.optuna, evaluator=evaluator))


def draw_history(path: Path, trials: Sequence[FrozenTrial]) -> None:
    """Draw the score of each trial, the best so far, and where trials were pruned."""
    scored = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    numbers, values = [t.number for t in scored], [t.value or 0.0 for t in scored]
    best = [max(values[: place + 1]) for place in range(len(values))]
    with drawn(path, 900, 420) as figure:
        axes: Axes = figure.subplots()
        axes.step(numbers, best, where="post", color=ORANGE, label="best so far")
        axes.plot(numbers, values, "o", color=BLUE, markersize=5, label="trial")
        if pruned:
            low = min(values)
            axes.plot(
                [t.number for t in pruned], [low] * len(pruned), "x", color=GREY, markersize=5,
                label="pruned, no score",
            )  # fmt: skip
        axes.set(title="Trials", xlabel="trial", ylabel="mAP")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend()


def draw_importances(path: Path, found: Mapping[str, float]) -> None:
    """Draw a bar for each parameter."""
    names = list(found)[::-1]
    with drawn(path, 900, 140 + 34 * len(names)) as figure:
        axes: Axes = figure.subplots()
        axes.barh(names, [found[name] for name in names], color=BLUE)
        axes.set(title="Importance", xlabel="share of the scores' variance (fANOVA)")
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")


def closing(study: Study, space: Space, code: str) -> str:
    """What is shown in the end: counts, the best trials, importances, the command."""
    trials, best = study.ended(), study.best()
    counts = {state: sum(t.state == state for t in trials)
              for state in (TrialState.COMPLETE, TrialState.PRUNED)}  # fmt: skip
    lines = [
        f"{len(trials)} trials of study {study.name!r}: {counts[TrialState.COMPLETE]} complete, "
        f"{counts[TrialState.PRUNED]} pruned"
    ]
    if others := study.elsewhere():
        places = ", ".join(sorted({str(t.user_attrs.get("place")) for t in others}))
        lines.append(f"in flight elsewhere: {len(others)} ({places})")
    if best is None:
        return "\n".join([*lines, "none has a score: see the reasons in the table"])
    lines += ["", *table(study, space.keys), ""]
    if found := importances(study):
        words = ", ".join(f"{name} {share:.2f}" for name, share in found.items())
        lines.append(f"importance: {words}")
    lines += promise(best, space)
    if best.user_attrs.get(CODE) != code:
        lines.append("the code has changed since that trial: the number may be another now")
    elif {trial.user_attrs.get(CODE) for trial in trials} != {code}:
        lines.append("the code has changed since other trials: their numbers may be others now")
    return "\n".join(lines)


def table(study: Study, keys: Sequence[str]) -> list[str]:
    """The best trials, a line each."""
    scored = [trial for trial in study.ended() if trial.state == TrialState.COMPLETE]
    scored.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
    rows = [["trial", "mAP", *keys]]
    rows += [
        [str(t.number), f"{t.value:.1%}", *(spelled(t, key) for key in keys)]
        for t in scored[:SHOWN]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in rows]  # fmt: skip


def promise(best: FrozenTrial, space: Space) -> list[str]:
    """The command of the best trial, the number that it gives, and the way to the test part."""
    changes, chosen = space.changes(best.user_attrs[VALUES]), best.user_attrs.get(ARITHMETIC)
    if chosen == "float32":
        changes["amp"] = False  # else the CPU would measure again, and might choose otherwise
    tested = {**changes, "split.tune_fraction": 0.0}
    lines = [
        f"best: trial {best.number}. This line trains it again, to a mAP of {best.value!r}:",
        f"  {command(changes)}",
        "and this one, once, on the test part, which no trial has seen:",
        f"  {command(tested)}",
    ]
    if chosen == "bfloat16":
        lines.append(
            "the CPU has chosen bfloat16 for it by a measurement: if the log says float32 the next "
            "time, the number is another"
        )
    return lines
