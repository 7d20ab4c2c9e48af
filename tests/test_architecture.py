"""Imports go one way, a stage depends on what it imports, and the README shows the real tree."""

import ast
from pathlib import Path

import pytest
import yaml

from deepsort_reid.config import SECTIONS
from deepsort_reid.identity import used_by

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deepsort_reid"

# A module imports only from modules before it.
LAYERS = """
    errors overlaps progress machine files stopping entry config distributed torchrun identity
    people solids cloth skeletons luggage heads figures shadows furniture scenes crops synthetic
    walks panning street frames detector sequences
    members archive remotes downloads fetching
    datasets mot footage packed split
    augment syncbn parallel model averaging centers losses optimization sampling graphs feeding
    checkpoint snapshot resume
    metrics reranking calibration plots census
    store provenance spool journal run_writer outbox leftovers deliver system_metrics tracking
    passes training evaluation recorder reports
    extractor threshold runtimes forms parity quantisation export
    film appearance tracker scoring replay trial
    history workspace origins lineage
""".split()

STAGES = {
    "download": "download.py",
    "split": "split.py",
    "train": "train.py",
    "evaluate": "evaluate.py",
    "export": "export.py",
    "sequences": "sequences.py",
    "track": "track.py",
}


def imports(path: Path) -> dict[str, bool]:
    """Every module a file imports, anywhere in it -> whether it is imported at the top level."""
    found: dict[str, bool] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            own = module == "deepsort_reid"
            names = [f"{module}.{alias.name}" for alias in node.names] if own else [module]
        else:
            continue
        for name in names:
            found[name] = found.get(name, False) or node in tree.body
    return found


def own_imports(path: Path) -> set[str]:
    """The package's modules that a file imports."""
    prefix = "deepsort_reid."
    return {name.removeprefix(prefix) for name in imports(path) if name.startswith(prefix)}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_the_layers_name_every_module() -> None:
    assert sorted(LAYERS) == modules()


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module: str) -> None:
    later = set(LAYERS[LAYERS.index(module) :])
    assert not own_imports(PACKAGE / f"{module}.py") & later


@pytest.mark.parametrize("module", modules())
def test_mlflow_and_dvc_stay_where_they_belong(module: str) -> None:
    found = {name.split(".")[0]: top for name, top in imports(PACKAGE / f"{module}.py").items()}
    assert "dvc" not in found
    if "mlflow" in found:
        assert module in {"store", "run_writer", "system_metrics", "tracking"}
        assert not found["mlflow"], "mlflow takes seconds to import: only where a run is opened"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_imports(stage: str) -> None:
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    assert declared["cmd"].startswith("PYTHONPATH=src python ")
    script = ROOT / "pipeline" / STAGES[stage]
    needed = used_by(script) | ({"torchrun"} if "torchrun" in declared["cmd"] else set())
    code = {f"src/deepsort_reid/{module}.py" for module in needed}
    code.add(f"pipeline/{STAGES[stage]}")
    assert {dep for dep in declared["deps"] if dep.endswith(".py")} == code


def test_the_train_stage_depends_on_every_top_level_parameter() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["params"]
    assert declared == [key for key in params if key not in SECTIONS]
