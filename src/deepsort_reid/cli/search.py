"""A search from beginning to end: its checks, its run, its trials, and what it shows."""

import logging
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from deepsort_reid.core import config
from deepsort_reid.core.errors import SearchError
from deepsort_reid.core.project import project_root
from deepsort_reid.data.packed import Summary
from deepsort_reid.runs import logger as runs
from deepsort_reid.runs import provenance
from deepsort_reid.runs.folder import is_key
from deepsort_reid.search import devices, held_out, report, trial
from deepsort_reid.search.loop import Search
from deepsort_reid.search.space import Space, read_space
from deepsort_reid.search.study import Study, alone, tags_of

logger = logging.getLogger(__name__)

PARAMS, FOLDER = Path("params.yaml"), ".search"
NO_PART = ("run", "export", "track", "num_workers")  # on which no score depends
SHOWN_ONLY = ("ranked_queries", "false_match_rate")  # likewise, of section evaluate
STAGES = ("split", "weights", "train", "evaluate")  # whose code makes a score


def search(path: Path, *, trials: int, name: str | None, url: str | None) -> str:
    """Search until the study has so many trials, and record a run with the trials' below it.

    Args:
        path: of search.yaml.
        trials: how many the study shall have, earlier ones included.
        name: of the study; None: as the file is called.
        url: of the study's database; None: a SQLite file in the search's folder.

    Returns:
        what is shown in the end: the best trials, and the command of the best one.

    Raises:
        DeepSortReidError: search.yaml or the data cannot be used, another process searches, or
            trials fail.
    """
    space = read_space(path, PARAMS)
    name = named(path, name)
    root = project_root()
    held_out.check_project(root)
    folder = root / FOLDER / name
    with alone(folder, name):
        study = open_study(folder, name, url, space)
        with study.answering():
            study.bind({"search.yaml": described(space), "params.yaml": fixed(space)})
        summary = held_out.prepare(folder / "base", space.params, root)
        with study.answering():
            study.bind({"data": summary.digest, **held_out.weights(folder / "base", space)})
            key = study.run_key(uuid.uuid4().hex)
        place = trial.Place(folder, folder / "base", root, key, space.keys)
        tidy(study, place)
        return recorded(study, space, place, summary, trials, path)


def named(path: Path, name: str | None) -> str:
    """The study's name, which is that of a folder: the one that is stated, or the file's.

    Raises:
        SearchError: it cannot be one.
    """
    name = name or path.stem
    if not is_key(name):
        raise SearchError(
            f"study {name!r}: expected at most 100 letters, digits, '_', '-', '.' and '+', none of "
            "the last three in front; name it: --study NAME"
        )
    return name


def open_study(folder: Path, name: str, url: str | None, space: Space) -> Study:
    """Open the study, or begin it."""
    return Study(folder, name, url, seed=space.config.seed, epochs=space.epochs)


def described(space: Space) -> dict[str, Any]:
    """What search.yaml states."""
    return space.config.model_dump(mode="json")


def fixed(space: Space) -> dict[str, Any]:
    """The parameters that all trials share, and on which their results depend.

    But for `amp`: the command of the best trial may have changed it in params.yaml, to what the
    trials have chosen by themselves.
    """
    unwanted = {*NO_PART, *space.keys, "amp"}
    kept = {name: value for name, value in space.params.items() if name not in unwanted}
    evaluate = {key: value for key, value in kept["evaluate"].items() if key not in SHOWN_ONLY}
    return {**kept, "evaluate": evaluate}


def tidy(study: Study, place: trial.Place) -> None:
    """Do what a killed search has left undone for trials that have ended."""
    for ended in study.trials():
        if (tags := tags_of(ended)) and (place.of(ended.number) / "data").exists():
            trial.Running(ended.number, (), place).conclude(tags)


def recorded(
    study: Study, space: Space, place: trial.Place, summary: Summary, trials: int, path: Path
) -> str:
    """Run the trials, and record them in the search's run."""
    dataset = config.parse(space.params).dataset
    code = partial(held_out.code, *STAGES)  # which may change while trials run
    slots = devices.slots(space.params["nproc_per_node"])
    with runs.open_run(
        key=place.run_key,
        name=study.name if study.name.startswith("search") else f"search-{study.name}",
        tags=provenance.source_tags(summary.digest, f"A search: study `{study.name}`"),
    ) as run:
        run.log_params({"search": described(space)})
        run.log_dataset(
            name=dataset.short_name, source=dataset.label, digest=summary.digest,
            profile=summary.flat(), context="search",
        )  # fmt: skip
        run.log_artifact(path)
        logger.info("%s", opening(study, space, trials, slots))
        running = Search(
            study,
            space,
            slots=slots,
            begin=partial(trial.begin, place=place),
            total=trials,
            code=code,
            on_end=partial(record_scores, study, run),
        )
        running.run()
        record_scores(study, run)
        made = report.write(place.folder, study, space)
        for one in made:
            run.log_artifact(one)
        text = report.closing(study, space, code())
        run.set_tags({"mlflow.note.content": f"```\n{text}\n```"})
    paths = "\n".join(f"  {one.relative_to(place.root)}" for one in made)
    return f"{text}\n\n{paths}\n{run.describe()}"


def opening(study: Study, space: Space, trials: int, slots: list[devices.Slot]) -> str:
    """What begins, or goes on."""
    known, left = len(study.ended()), len(study.left())
    went = f"{known} are there, {left} to go on with; " if known or left else ""
    is_pruned = space.epochs is not None or not space.config.pruning
    note = "" if is_pruned else "; none is pruned, since epochs varies"
    return (
        f"study {study.name!r}, {trials} trials: {went}{len(slots)} at a time "
        f"({'; '.join(map(devices.named, slots))}){note}"
    )


def record_scores(study: Study, run: runs.RunLogger) -> None:
    """Record the scores by trial, and the best so far by number of scores."""
    best = 0.0
    for ended in study.ended():
        if ended.value is not None and ended.value == ended.value:
            best = max(best, ended.value)
            run.log_metrics({"search/mAP": ended.value}, step=ended.number)
    run.log_metrics({"search/best_mAP": best} if best else {})
