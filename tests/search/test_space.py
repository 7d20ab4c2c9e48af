"""search.yaml: what is read from it, and how it is refused."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.search.space import Choice, Range, Space, read_space

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"


def space_of(folder: Path, parameters: Any, **others: Any) -> Space:
    """The space of a search.yaml with these parameters."""
    content = {
        "tune_fraction": 0.25,
        "pruning": True,
        "seed": 0,
        "parameters": parameters,
        **others,
    }
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_space(path, PARAMS)


def refused(folder: Path, parameters: Any, **others: Any) -> str:
    """The line that refuses it, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        space_of(folder, parameters, **others)
    line = str(caught.value)
    assert line.startswith(f"{folder / 'search.yaml'}: ")
    assert "\n" not in line
    return line.removeprefix(f"{folder / 'search.yaml'}: ")


def draws(space: Space, count: int = 60) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [space.draw(study.ask()) for _ in range(count)]


def test_the_project_s_own_file_is_right() -> None:
    assert "lr" in read_space(ROOT / "search.yaml", PARAMS).keys


def test_ranges_and_choices(tmp_path: Path) -> None:
    space = space_of(tmp_path, {
        "lr": {"low": 0.001, "high": 0.1, "log": True},
        "erase": {"low": 0, "high": 0.6, "step": 0.1},
        "batch_size": {"low": 16, "high": 64, "step": 16},
        "triplet_margin": {"low": 0.1, "high": 0.5},
        "freeze_layers": [[], ["conv1", "bn1"]],
        "optimizer": ["adam", "sgd"],
    })  # fmt: skip
    kinds = [type(dimension) for dimension in space.dimensions]
    assert kinds == [Range, Range, Range, Range, Choice, Choice]
    drawn = draws(space)
    assert all(
        0.001 <= one["lr"] <= 0.1 and one["lr"] == float(f"{one['lr']:.3g}") for one in drawn
    )
    assert {one["erase"] for one in drawn} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}
    assert {repr(one["batch_size"]) for one in drawn} == {"16", "32", "48", "64"}
    assert {str(one["freeze_layers"]) for one in drawn} == {"[]", "['conv1', 'bn1']"}


def test_a_trial_has_its_values_and_the_search_s_split(tmp_path: Path) -> None:
    space = space_of(tmp_path, {"lr": [0.1, 0.2]})
    params = space.params_of({"lr": 0.2})
    assert (params["lr"], params["split"]["tune_fraction"]) == (0.2, 0.25)
    assert space.changes({"lr": 0.2}) == {"split.tune_fraction": 0.25, "lr": 0.2}


def test_trials_of_different_lengths_are_not_pruned(tmp_path: Path) -> None:
    assert space_of(tmp_path, {"lr": [0.1, 0.2]}).epochs == 10
    assert space_of(tmp_path, {"lr": [0.1, 0.2]}, pruning=False).epochs is None
    assert space_of(tmp_path, {"epochs": [5, 50]}).epochs is None


def test_values_that_do_not_go_together_are_an_error_of_the_trial(tmp_path: Path) -> None:
    space = space_of(tmp_path, {"head": ["linear", "cosine"], "angular_margin": [0.0, 0.2]})
    space.params_of({"head": "cosine", "angular_margin": 0.2})
    with pytest.raises(ConfigError, match="needs head=cosine"):
        space.params_of({"head": "linear", "angular_margin": 0.2})


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"learning_rate": [1, 2]}, "unknown key 'learning_rate'; known: arch, head"),
        ({"label_smothing": [0, 0.1]}, "did you mean 'label_smoothing'?"),
        ({"split.image_size": [[64, 32], [128, 64]]}, "'split.image_size' is not searched: all"),
        ({"seed": [0, 1]}, "'seed' is not searched: the best of several seeds is luck"),
        ({"lr": [0.1]}, "parameters.lr: [0.1] leaves nothing to choose; expected at least two"),
        ({"lr": []}, "parameters.lr: [] leaves nothing to choose"),
        ({"lr": [0.1, 0.1]}, "parameters.lr: 0.1 stands twice"),
        ({"lr": 0.1}, "parameters.lr=0.1 must be a range such as {low: 0.001, high: 0.1}, or a"),
        ({"lr": [0.1, "fast"]}, "parameters.lr: lr=fast must be a finite number"),
        ({"lr": {"low": -1, "high": 1}}, "parameters.lr: lr=-1 must be above 0"),
        ({"erase": {"low": 0, "high": 2}}, "erase=2 must be at least 0 and at most 1"),
        ({"lr": {"low": 0.1}}, "parameters.lr: key 'high' is missing"),
        ({"lr": {"low": 0.1, "hgih": 1}}, "unknown key 'hgih'; did you mean 'high'?"),
        ({"lr": {"low": 1, "high": 0.1}}, "parameters.lr: low=1 must be below high=0.1"),
        (
            {"erase": {"low": 0, "high": 1, "log": True}},
            "log=true needs a low above 0, and no step",
        ),
        ({"erase": {"low": 0, "high": 1, "step": 0.3}}, "step=0.3 does not lead from 0 to 1"),
        ({"epochs": {"low": 2, "high": 8, "step": 0.5}}, "step=0.5 must be a whole number"),
        ({"epochs": {"low": 2.5, "high": 8}}, "epochs=2.5 must be a whole number"),
        ({"optimizer": ["adam", "sdg"]}, "unknown optimizer=sdg; did you mean 'sgd'?"),
        ({"optimizer": {"low": 0, "high": 1}}, "but optimizer is no number; expected a list"),
        ({"arch": ["resnet10d", "resnet81"]}, "unknown arch=resnet81"),
        ({"angular_margin": {"low": 0.1, "high": 0.5}}, "of 200 combinations none can work: ang"),
        ({}, "parameters: names none"),
        ([], "parameters=[] must be a section of parameters"),
    ],
)
def test_a_bad_parameter_is_one_line(tmp_path: Path, parameters: Any, line: str) -> None:
    assert line in refused(tmp_path, parameters)


def test_a_bad_file_is_one_line(tmp_path: Path) -> None:
    fine = {"lr": [0.1, 0.2]}
    assert "did you mean 'pruning'?" in refused(tmp_path, fine, prunning=True)
    assert "tune_fraction=0 must be above 0 and below 1" in refused(tmp_path, fine, tune_fraction=0)
    with pytest.raises(ConfigError, match=r"no\.yaml: No such file"):
        read_space(tmp_path / "no.yaml", PARAMS)


def test_a_bad_params_yaml_is_named(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS.read_text().replace("epochs: ", "epoch: "))
    path = shutil.copy(ROOT / "search.yaml", tmp_path)
    with pytest.raises(ConfigError, match=r"params\.yaml: unknown key 'epoch'"):
        read_space(path, params)
    params.write_text(PARAMS.read_text().replace("nnodes: 1", "nnodes: 2"))
    with pytest.raises(ConfigError, match="nnodes=2, but a search's trial runs on one machine"):
        read_space(path, params)
