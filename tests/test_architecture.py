"""The rooms: imports run downwards, a stage depends on the rooms it enters, files stay small."""

import ast
from pathlib import Path

import pytest
import yaml

from deepsort_reid.core.config import SECTIONS
from deepsort_reid.training.fingerprint import used_by

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "deepsort_reid"

# A room imports only from itself and from rooms before it.
ROOMS = """
    core synthetic sources runs data model training evaluation export tracking comparison monitoring
    lineage search cli
""".split()
STAGES = [
    "download",
    "also",
    "split",
    "weights",
    "train",
    "evaluate",
    "export",
    "sequences",
    "track",
    "summary",
]
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 450, 50  # lines


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imports(path: Path) -> dict[str, bool]:
    """Every module a file imports, anywhere in it -> whether it is imported at the top level."""
    found: dict[str, bool] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found[name] = found.get(name, False) or node in tree.body
    return found


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_folder_is_a_room_that_says_what_it_is_for() -> None:
    assert sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()) == sorted(
        [*ROOMS, *(["__pycache__"] if (PACKAGE / "__pycache__").exists() else [])]
    )
    for room in ROOMS:
        docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
        assert len((docstring or "").splitlines()) > 2, room


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_run_downwards(path: Path) -> None:
    if path.parent == PACKAGE:
        return  # the public face
    above = ROOMS[ROOMS.index(room_of(path)) + 1 :]
    found = [name for name in imports(path) if name.startswith("deepsort_reid.")]
    assert not [name for name in found if name.split(".")[1] in above]


@pytest.mark.parametrize("path", FILES, ids=named)
def test_mlflow_and_dvc_stay_where_they_belong(path: Path) -> None:
    found = {name.split(".")[0]: top for name, top in imports(path).items()}
    assert "dvc" not in found
    if "mlflow" in found:
        assert room_of(path) == "runs"
        assert not found["mlflow"], "mlflow takes seconds to import: only where a run is opened"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_it_enters(stage: str) -> None:
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    assert declared["cmd"].startswith("PYTHONPATH=src python ")
    script = ROOT / "pipeline" / f"{stage}.py"
    needed = used_by(script)
    if "torchrun" in declared["cmd"]:
        launcher = PACKAGE / "training" / "torchrun.py"
        needed |= {launcher} | used_by(launcher)
    rooms = {f"src/deepsort_reid/{room_of(path)}" for path in needed}
    code = {dep for dep in declared["deps"] if dep.startswith(("src/", "pipeline/"))}
    assert code == rooms | {f"pipeline/{stage}.py"}


def test_the_train_stage_depends_on_every_top_level_parameter() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["params"]
    assert declared == [key for key in params if key not in SECTIONS]
