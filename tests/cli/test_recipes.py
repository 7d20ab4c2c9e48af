"""Recipes: each one parses, and is written into params.yaml with its comments kept."""

import json
import shutil
from pathlib import Path

import pytest

from deepsort_reid.cli import recipes
from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.yaml_file import read_yaml
from tests.support import projects

ROOT = Path(__file__).parents[2]
NAMES = recipes.names(ROOT)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """The project's params.yaml, to be changed."""
    return shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")


def flat(content: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in content.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found


def test_there_are_recipes() -> None:
    assert {"quick", "market1501", "market1501-cpu", "two-ranks"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_is_written_with_comments_kept(
    name: str, params: Path
) -> None:
    recipe = ROOT / "recipes" / f"{name}.yaml"
    about = recipes.describe(recipe)
    assert len(about) >= 2
    assert any(line.startswith("Data: ") for line in about)
    before, text = flat(read_yaml(params)), params.read_text()
    changes = recipes.apply(recipe, params)
    load_params(params)
    after = flat(read_yaml(params))
    assert after == before | flat(read_yaml(recipe))
    assert {change.key: change.after for change in changes} == {
        key: value for key, value in after.items() if value != before[key]
    }
    changed = params.read_text()
    assert [line for line in changed.splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]
    differing = [
        pair for pair in zip(text.splitlines(), changed.splitlines(), strict=True)
        if pair[0] != pair[1]
    ]  # fmt: skip
    assert len(differing) == len(changes)
    assert recipes.apply(recipe, params) == []
    assert params.read_text() == changed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 1\n", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("evaluate:\n  flipp: true\n", "unknown key 'evaluate.flipp'; did you mean"),
        ("lr: fast\n", "lr=fast must be a finite number"),
        ("angular_margin: 0.2\n", "angular_margin=0.2 needs head=cosine"),
        ("split: 3\n", "split=3 must be a section"),
    ],
)
def test_a_wrong_recipe_changes_nothing(
    content: str, message: str, params: Path, tmp_path: Path
) -> None:
    recipe, text = tmp_path / "mine.yaml", params.read_text()
    recipe.write_text(content)
    with pytest.raises(ConfigError) as caught:
        recipes.apply(recipe, params)
    assert str(caught.value).startswith(f"{recipe}: {message}")
    assert params.read_text() == text


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no recipe 'markt1501'; did you mean 'market1501'"):
        recipes.find(ROOT, "markt1501")
    with pytest.raises(ConfigError, match=r"no recipe '\.\./params'"):
        recipes.find(ROOT, "../params")


@pytest.mark.slow
def test_the_quick_recipe_runs_the_whole_pipeline(tmp_path: Path) -> None:
    wanted = flat(read_yaml(ROOT / "recipes" / "quick.yaml"))
    out = projects.make(tmp_path, wanted, tiny=False)
    assert set(projects.ran(out)) >= {"download", "split", "train", "evaluate", "export", "track"}
    assert json.loads((tmp_path / "reports/track.json").read_text())["frames"] == 20
