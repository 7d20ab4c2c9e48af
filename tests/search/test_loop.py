"""Trials that take no time: which are drawn, pruned, counted, gone on with, and on which GPU."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from deepsort_reid.cli.search import named, opening
from deepsort_reid.core.errors import SearchError
from deepsort_reid.search import devices, loop, report
from deepsort_reid.search.loop import Search
from deepsort_reid.search.space import Space
from deepsort_reid.search.study import (
    ARITHMETIC,
    CODE,
    REASON,
    SEVERAL,
    VALUES,
    Study,
    alone,
    tags_of,
)
from deepsort_reid.search.trial import Failure, Points
from tests.search.test_space import space_of

EPOCHS = 6
NO_DISK = Failure("no disk", is_result=False)
NO_MEMORY = Failure("CUDA out of memory", is_result=True, is_memory=True)
CPU: list[devices.Slot] = [()]


def score_of(values: Mapping[str, Any]) -> float:
    """A made-up mAP, highest at lr 0.03."""
    return 0.9 - abs(values["lr"] - 0.03) - values["label_smoothing"] / 10


@dataclass
class FakeJob:
    """A trial of a few epochs, one for each look."""

    params: Mapping[str, Any]
    slot: devices.Slot
    failure: Failure | None = None
    seconds: float = 1.0
    epoch: int = 0
    is_stopped: bool = False
    tags: dict[str, object] = field(default_factory=dict)

    def advance(self) -> bool:
        self.epoch += 1
        return self.is_stopped or self.epoch > EPOCHS or self.failure is not None

    def curve(self) -> Points:
        score = score_of(self.params)
        return [(epoch, score * epoch / EPOCHS) for epoch in range(min(self.epoch, EPOCHS) + 1)]

    def score(self) -> float | None:
        return score_of(self.params)

    def chosen(self) -> str | None:
        return "float32"

    def stop(self) -> None:
        self.is_stopped = True

    def wait(self, seconds: float) -> None:
        pass

    def conclude(self, tags: Mapping[str, object]) -> None:
        self.tags.update(tags)


class Killed(BaseException):
    """What stands for SIGKILL."""


@dataclass
class World:
    """A folder of a search, and the trials that were begun in it."""

    folder: Path
    space: Space
    begun: list[tuple[int, FakeJob]] = field(default_factory=list)
    failing: Mapping[int, Failure] = field(default_factory=dict)  # by the trial's number
    killed_at: int | None = None  # the trial in whose midst the search is killed

    def begin(self, number: int, params: Mapping[str, Any], slot: devices.Slot) -> FakeJob:
        job = FakeJob(params, slot, failure=self.failing.get(number))
        self.begun.append((number, job))
        if number == self.killed_at:
            self.killed_at = None
            raise Killed
        return job

    def study(self, *, url: str | None = None, pruning: bool = True) -> Study:
        epochs = EPOCHS if pruning else None
        return Study(self.folder, "search", url, seed=0, epochs=epochs)

    def search(
        self,
        total: int,
        slots: list[devices.Slot] = CPU,
        study: Study | None = None,
        code: str = "",
    ) -> Study:
        study = study or self.study()
        Search(
            study, self.space, slots=slots, begin=self.begin, total=total, code=lambda: code
        ).run()
        return study


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A space, and studies in memory, which outlive a search as those on a disk do."""
    stores: dict[str, Any] = defaultdict(optuna.storages.InMemoryStorage)
    create = optuna.create_study

    def in_memory(*, storage: str | None = None, **options: Any) -> optuna.Study:
        return create(storage=stores[storage] if storage else None, **options)

    monkeypatch.setattr(optuna, "create_study", in_memory)
    monkeypatch.setattr(loop, "POLL", 0.0)
    space = space_of(tmp_path, {
        "lr": {"low": 0.001, "high": 0.1, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "num_instances": [0, 2],
        "triplet_weight": [0.0, 1.0],  # which needs num_instances
    })  # fmt: skip
    return World(tmp_path, space)


def told(study: Study) -> list[tuple[Any, ...]]:
    """What a study knows of each trial."""
    return [(t.number, t.state, t.value, t.user_attrs.get(VALUES), t.user_attrs.get(REASON))
            for t in study.trials()]  # fmt: skip


def test_a_search_has_as_many_trials_as_wanted_and_no_more(world: World) -> None:
    study = world.search(20)
    states = [trial.state for trial in study.trials()]
    assert len(states) == 20
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    best = study.best()
    assert best is not None
    assert best.value == max(t.value for t in study.trials() if t.value is not None)
    begun = len(world.begun)
    world.search(20)
    assert len(world.begun) == begun  # none is left to do
    assert len(world.search(22).trials()) == 22


def test_values_that_do_not_go_together_are_pruned_with_their_reason(world: World) -> None:
    study = world.search(20)
    refused = [t for t in study.trials() if "does not go together" in t.user_attrs.get(REASON, "")]
    assert refused
    assert len(refused) < 20
    for trial in refused:
        assert trial.state == TrialState.PRUNED
        assert "triplet_weight=1.0 needs num_instances" in trial.user_attrs[REASON]
        assert trial.number not in [number for number, _ in world.begun]


def test_a_bad_curve_ends_its_trial_and_its_run_is_told(world: World) -> None:
    world.search(30)
    ended_early = [job for _, job in world.begun if job.is_stopped]
    assert ended_early
    assert all(job.epoch < EPOCHS for job in ended_early)
    assert all(job.tags["trial_state"] == "pruned" for job in ended_early)
    assert "in the lowest quarter" in str(ended_early[0].tags["trial_reason"])
    world.begun.clear()
    other = world.folder / "other"
    other.mkdir()
    World.search(world, 30, study=Study(other, "other", None, seed=0, epochs=None))
    assert not any(job.is_stopped for _, job in world.begun)


@pytest.mark.parametrize("number", [0, 3, 9])
def test_killed_and_begun_again_it_ends_as_if_nothing_had_happened(
    world: World, number: int, tmp_path: Path
) -> None:
    undisturbed = told(world.search(12))
    folder = tmp_path / "killed"
    folder.mkdir()
    twice = World(folder, world.space, killed_at=next(n for n, _ in world.begun if n >= number))
    with pytest.raises(Killed):
        twice.search(12)
    assert len(twice.study().left()) == 1
    assert told(twice.search(12)) == undisturbed


@pytest.mark.parametrize("drawn", [0, 1, 3])
def test_killed_while_it_draws_it_draws_the_same(
    world: World, drawn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = told(world.search(14))
    folder = tmp_path / "killed"
    folder.mkdir()
    twice, draw = World(folder, world.space), Space.draw

    def killed(space: Space, trial: optuna.Trial) -> dict[str, Any]:
        if trial.number < 12:
            return draw(space, trial)
        for dimension in space.dimensions[:drawn]:
            dimension.draw(trial)
        raise Killed

    monkeypatch.setattr(Space, "draw", killed)
    with pytest.raises(Killed):
        twice.search(14)
    monkeypatch.setattr(Space, "draw", draw)
    assert told(twice.search(14)) == undisturbed


def test_code_that_changes_meanwhile_is_told(world: World) -> None:
    """By the trials that it has made; one that began before has no code of its own."""
    world.killed_at = 2
    with pytest.raises(Killed):
        world.search(3, code="old")
    study = world.search(4, code="new")
    codes = [trial.user_attrs[CODE] for trial in study.trials()]
    assert codes == ["old", "old", SEVERAL, "new"]
    for trial in study.trials():
        trial.user_attrs[CODE] = "new" if trial == study.best() else "old"
    assert "the code has changed since other trials" in report.closing(study, world.space, "new")


def test_code_that_changes_while_a_trial_runs_is_told(world: World) -> None:
    world.space = space_of(world.folder, {"lr": [0.01, 0.1], "label_smoothing": [0.0, 0.1]})
    study = world.study()
    codes = iter(["old", "new"])  # when it begins, and when it has a score
    search = Search(study, world.space, slots=CPU, begin=world.begin, total=1,
                    code=lambda: next(codes))  # fmt: skip
    search.run()
    assert study.trials()[0].user_attrs[CODE] == SEVERAL


def test_a_failure_does_not_count_and_three_in_a_row_end_the_search(world: World) -> None:
    world.failing = {2: NO_DISK}
    study = world.search(8)
    assert study.trials()[2].state == TrialState.FAIL
    assert len(study.ended()) == 8
    world.failing = dict.fromkeys(range(9, 40), NO_DISK)
    with pytest.raises(SearchError, match="failed or ran out of memory; the last one: no disk"):
        world.search(40)
    assert len(study.ended()) < 40


def test_three_in_a_row_without_memory_end_the_search(world: World) -> None:
    """Another program may have taken it: the study must not be used up."""
    ranges = {"lr": {"low": 0.001, "high": 0.1}, "label_smoothing": {"low": 0.0, "high": 0.2}}
    world.space = space_of(world.folder, ranges)
    world.failing = {1: NO_MEMORY, 2: NO_MEMORY, **dict.fromkeys(range(4, 40), NO_MEMORY)}
    with pytest.raises(SearchError, match=r"3 trials in a row .* the last one: CUDA out of memory"):
        world.search(40)
    states = [trial.state for trial in world.study().trials()]
    scored, pruned = TrialState.COMPLETE, TrialState.PRUNED
    assert states == [scored, pruned, pruned, scored, pruned, pruned, pruned]


def test_a_training_that_diverges_is_a_result(world: World) -> None:
    world.failing = dict.fromkeys(range(6), Failure("the loss is not finite", is_result=True))
    study = world.search(6)
    assert len(study.ended()) == 6
    assert {trial.state for trial in study.trials()} == {TrialState.PRUNED}
    assert study.best() is None
    assert "none has a score" in report.closing(study, world.space, "")


def test_the_same_values_are_not_tried_twice(world: World) -> None:
    few = {"lr": [0.01, 0.1], "label_smoothing": [0.0, 0.1]}
    world.space = space_of(world.folder, few)
    study = world.search(12)
    assert len(study.ended()) == 12
    assert len(world.begun) <= 4
    assert any("same values as trial" in t.user_attrs.get(REASON, "") for t in study.trials())


FOUR: list[devices.Slot] = [("0",), ("1",), ("2",), ("3",)]


def test_the_same_values_are_not_tried_at_the_same_time(world: World) -> None:
    world.space = space_of(world.folder, {"lr": [0.01, 0.1], "label_smoothing": [0.0, 0.1]})
    world.failing = {0: NO_DISK}
    study = world.search(12, FOUR)
    assert len(study.ended()) == 12
    tried = [(job.params["lr"], job.params["label_smoothing"]) for _, job in world.begun]
    assert len(set(tried)) == 4
    assert len(tried) == 5  # the one that has failed was tried again


def test_each_trial_has_a_gpu_of_its_own(world: World) -> None:
    running: list[FakeJob] = []

    def begin(_: int, params: Mapping[str, Any], slot: devices.Slot) -> FakeJob:
        running[:] = [job for job in running if not job.tags]
        job = FakeJob(params, slot)
        running.append(job)
        slots = [one.slot for one in running]
        assert len(set(slots)) == len(slots)
        most.append(len(slots))
        return job

    most: list[int] = []
    study = world.study()
    Search(study, world.space, slots=[("0",), ("1",), ("2",)], begin=begin, total=20).run()
    assert max(most) == 3
    assert len(study.ended()) == 20


@pytest.mark.parametrize(
    ("count", "processes", "visible", "expected"),
    [
        (0, 1, None, [()]),
        (0, 4, None, [()]),
        (3, 1, None, [("0",), ("1",), ("2",)]),
        (4, 2, None, [("0", "1"), ("2", "3")]),
        (5, 2, None, [("0", "1"), ("2", "3")]),  # one is too few
        (2, 8, None, [("0", "1")]),
        (2, 1, "3,GPU-5a", [("3",), ("GPU-5a",)]),
    ],
)
def test_gpus_are_divided(
    monkeypatch: pytest.MonkeyPatch, count: int, processes: int, visible: str | None, expected: Any
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    environ = {} if visible is None else {devices.VISIBLE: visible}
    assert devices.slots(processes, environ) == expected


def test_one_search_at_a_time(tmp_path: Path) -> None:
    message = "searched by another process"
    with (
        alone(tmp_path, "search"),
        pytest.raises(SearchError, match=message),
        alone(tmp_path, "search"),
    ):
        pass


def test_another_search_yaml_needs_another_study(world: World) -> None:
    study = world.study()
    study.bind({"search.yaml": {"parameters": {"lr": [0.1, 0.2]}}, "params.yaml": {"epochs": 3}})
    study.bind({"search.yaml": {"parameters": {"lr": [0.1, 0.2]}}})
    with pytest.raises(
        SearchError, match=r"begun with params\.yaml epochs=3, and here is epochs=4"
    ):
        study.bind({"params.yaml": {"epochs": 4}})


def test_two_places_share_a_study(world: World, tmp_path: Path) -> None:
    """What another machine has in flight is left to it, and counts."""
    url = f"sqlite:///{world.folder}/shared.db"
    world.killed_at = 2
    with pytest.raises(Killed):
        world.search(6, study=world.study(url=url))
    other = World(tmp_path / "other", world.space)
    other.folder.mkdir()
    study = other.study(url=url)
    assert not study.left()
    other.search(6, study=study)
    assert len(study.ended()) == 5
    assert len(study.elsewhere()) == 1
    assert "in flight elsewhere: 1" in report.closing(study, world.space, "")


def test_a_place_stays_the_same_on_another_host(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job has that queues again, or a container."""
    url = f"sqlite:///{world.folder}/shared.db"
    world.killed_at = 2
    with pytest.raises(Killed):
        world.search(3, study=world.study(url=url))
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert [trial.number for trial in world.study(url=url).left()] == [2]


def test_a_trial_belongs_to_its_search_from_the_first_moment_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    url = f"sqlite:///{world.folder}/shared.db"
    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(optuna.Trial, "set_user_attr", killed)
        world.study(url=url).ask()
    assert len(world.study(url=url).left()) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
        ("postgres", "Could not parse"),
        ("postgresql://me:secret@127.0.0.1:1/none", ""),
    ],
)
def test_a_database_that_is_not_there_is_one_line(tmp_path: Path, url: str, why: str) -> None:
    with pytest.raises(SearchError) as caught:
        Study(tmp_path, "search", url, seed=0, epochs=None)
    line = str(caught.value)
    assert why in line
    assert "secret" not in line


def test_the_report_names_the_best_and_its_command(world: World, tmp_path: Path) -> None:
    study = world.search(14)
    best = study.best()
    assert best is not None
    text = report.closing(study, world.space, "")
    values = best.user_attrs[VALUES]
    assert f"to a mAP of {best.value!r}:" in text
    assert best.user_attrs[ARITHMETIC] == "float32"
    options = " ".join(f"-S {name}={value}" for name, value in values.items())
    assert f"uv run dvc exp run -S split.tune_fraction=0.25 {options} -S amp=false" in text
    assert f"uv run dvc exp run -S split.tune_fraction=0.0 {options} -S amp=false" in text
    assert "the code has changed" not in text
    assert "the code has changed" in report.closing(study, world.space, "other code")
    made = report.write(tmp_path, study, world.space)
    assert {path.name for path in made} == {"trials.csv", "history.png", "importance.png"}
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0].startswith("trial,state,mAP,epochs,seconds,lr,")
    assert len(lines) == 15
    assert sum(report.importances(study).values()) == pytest.approx(1)


def test_a_line_that_needs_quotes() -> None:
    changes = {"freeze_layers": ["conv1", "bn1"], "weights": "my weights.pth", "neck": "none"}
    line = report.command(changes)
    assert line == (
        "uv run dvc exp run -S 'freeze_layers=[conv1, bn1]' -S 'weights=my weights.pth' "
        "-S neck=none"
    )


def test_what_a_run_is_told(world: World) -> None:
    study = world.search(10)
    for trial in study.trials():
        tags = tags_of(trial)
        assert tags["trial_state"] in ("complete", "pruned")
        assert ("trial_reason" in tags) == (REASON in trial.user_attrs)


def test_a_name_that_cannot_be_a_folder_s_is_one_line() -> None:
    with pytest.raises(SearchError, match="study 'my search': expected at most 100 letters"):
        named(Path("my search.yaml"), None)
    assert named(Path("losses.yaml"), None) == "losses"
    assert named(Path("losses.yaml"), "v1.2+b") == "v1.2+b"


def test_the_opening_line_says_that_nothing_is_pruned(world: World) -> None:
    assert "none is pruned" not in opening(world.study(), world.space, 3, CPU)
    world.space = space_of(world.folder, {"epochs": [5, 50]})
    line = opening(world.study(), world.space, 3, CPU)
    assert (
        line == "study 'search', 3 trials: 1 at a time (CPU); none is pruned, since epochs varies"
    )
