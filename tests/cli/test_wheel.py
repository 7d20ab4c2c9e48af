"""The wheel in an empty environment: the base embeds a crop, and says what more a command needs."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from deepsort_reid.model import checkpoint
from tests.support.exports import trained

pytestmark = pytest.mark.slow  # installs torch

ROOT = Path(__file__).parents[2]
# What torch asks for itself is not counted.
OWN = {"deepsort-reid", "torch", "numpy", "pillow"}
SCRIPT = """
import numpy as np
from deepsort_reid import Extractor, read_threshold
crops = np.zeros((2, 40, 20, 3), np.uint8)
print(Extractor("model.pth", device="cpu")(crops, order="bgr").shape, read_threshold("m.json"))
"""


def test_the_wheel_alone_embeds_a_crop(tmp_path: Path) -> None:
    def run(*command: str, status: int = 0) -> str:
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, text=True, timeout=280, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (tmp_path / "pins.txt").write_text("\n".join(settings["tool"]["uv"]["constraint-dependencies"]))
    made = trained("deepsort")
    checkpoint.save(tmp_path / "model.pth", made.net.state_dict(), made.about)
    (tmp_path / "m.json").write_text('{"max_cosine_distance": 0.25}')

    run("uv", "build", "--wheel", "--out-dir", "dist", str(ROOT))
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    run("uv", "venv", "--python", "3.11", "env")
    install = ("uv", "pip", "install", "--python", "env/bin/python", "--constraints", "pins.txt",
               "--exclude-newer", settings["tool"]["uv"]["exclude-newer"])  # fmt: skip
    run(*install, str(wheel))
    assert run("env/bin/python", "-c", SCRIPT) == "(2, 512) 0.25\n"
    listed = run("uv", "pip", "freeze", "--python", "env/bin/python")
    there = {line.split("==")[0].split(" @")[0].lower() for line in listed.splitlines()}
    assert there >= OWN
    assert not there & {"pydantic", "ruamel-yaml", "typer", "mlflow", "dvc", "tqdm", "simplejpeg"}
    assert run("env/bin/deepsort-reid", "--help", status=1) == (
        "error: this needs typer, which is not installed: pip install 'deepsort-reid[command]'\n"
    )
    run(*install, f"{wheel}[command]")
    assert "Usage: deepsort-reid" in run("env/bin/deepsort-reid", "--help")
    for command, extra in (("train", "train"), ("export", "export"), ("recipe", "pipeline")):
        out = run("env/bin/deepsort-reid", command, status=1)
        assert out.endswith(f"pip install 'deepsort-reid[{extra}]'\n")
        assert out.count("\n") == 1
