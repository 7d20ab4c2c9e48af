"""Runs a stage's script in this process, in a folder of its own, with parameters of its own."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from deepsort_reid.core.stage import run_stage
from deepsort_reid.core.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]

# A dataset and a network that a test can wait for.
TINY: dict[str, Any] = {
    "dataset.synthetic.train_identities": 4,
    "dataset.synthetic.test_identities": 3,
    "dataset.synthetic.images_per_identity": 6,
    "dataset.synthetic.cameras": 2,
    "dataset.synthetic.distractors": 3,
    "dataset.synthetic.junk": 2,
    "dataset.synthetic.image_size": [32, 16],
    "split.image_size": [32, 16],
    "track.synthetic.sequences": 1,
    "track.synthetic.frames": 12,
    "track.synthetic.people": 3,
    "track.synthetic.image_size": [90, 160],
    "nproc_per_node": 1,
    "epochs": 2,
    "batch_size": 4,
    "accumulate_steps": 1,
    "warmup_epochs": 0.5,
    "lr": 0.01,
}


def write_params(folder: Path, changes: dict[str, Any], *, tiny: bool = True) -> None:
    """Write the project's params.yaml, made tiny unless not wanted, and changed, into a folder."""
    content = read_yaml(ROOT / "params.yaml")
    for key, value in ((TINY if tiny else {}) | changes).items():
        *sections, name = key.split(".")
        target = content
        for section in sections:
            target = target[section]
        target[name] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def load(stage: str) -> ModuleType:
    """A stage's script as a module."""
    path = ROOT / "pipeline" / f"{stage}.py"
    spec = importlib.util.spec_from_file_location(f"stage_{stage}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(stage: str) -> None:
    """Run a stage in the current folder, as its script does."""
    run_stage(load(stage).main, ())


def copy_outputs(source: Path, target: Path) -> None:
    """Bring the outputs of earlier stages."""
    for name in ("data", "models", "reports"):
        if (source / name).exists():
            shutil.copytree(source / name, target / name)
