"""Stages split, train and evaluate of many tiny images: is their time linear, their memory bounded?

A dataset of noise in Market-1501's layout, half of it for training, 16 images of each identity. A
thousand of the test images are queries, however many there are, so that pairs grow with the
gallery. One epoch of a small network. The stages run as DVC runs them, in a project of their own.
Rows: the images a second of each stage beside those of the same stage with a quarter of the images,
and what each further image adds to the memory of the process's own. Pages of mapped files are not
counted: the system takes them back when it needs them.
"""

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import numpy as np
import simplejpeg

from deepsort_reid.core.yaml_file import parse_yaml
from speed_items import noise
from speed_items.rows import Row, shown

COUNTS, QUICK = (50_000, 200_000, 800_000), (320, 1_280)
SIZE = (32, 16)  # height and width in pixels
PER_IDENTITY, QUERIES, CAMERAS = 16, 1_000, 6
STAGES = ("download", "also", "split", "weights", "train", "evaluate")
COUNTED = ("split", "train", "evaluate")
LEAST = 0.8  # of the speed with fewer images
POLL_SECONDS = 0.02
CHANGES = {
    "arch": "resnet10d_x0_5",
    "epochs": 1,
    "batch_size": 256,
    "split": {"image_size": list(SIZE), "val_fraction": 0.05},
}


@dataclass(frozen=True)
class Stage:
    """What a stage took."""

    seconds: float
    peak: float  # MB of the process's own, at most


def measure(quick: bool) -> Iterator[Row]:
    """Go from few images to many."""
    before: tuple[int, dict[str, Stage]] | None = None
    for count in QUICK if quick else COUNTS:
        with tempfile.TemporaryDirectory(prefix="speed-") as folder:
            found = run_stages(Path(folder), count)
        for name in COUNTED:
            yield row(name, count, found, before)
        before = count, found


def row(
    name: str, count: int, found: dict[str, Stage], before: tuple[int, dict[str, Stage]] | None
) -> Row:
    """One stage's images a second and memory, beside those with fewer images."""
    own = found[name]
    ours = f"{shown(count / own.seconds)} images/s, {shown(own.seconds)} s, {own.peak:,.0f} MB"
    ratio, other, added = None, "", ""
    if before:
        fewer, earlier = before[0], before[1][name]
        ratio = (count / own.seconds) / (fewer / earlier.seconds)
        other = f"{shown(fewer / earlier.seconds)} images/s of {fewer:,}"
        each = (own.peak - earlier.peak) * 1e6 / (count - fewer)
        added = f"; each further image adds {shown(max(each, 0))} bytes"
    return Row(
        what=f"stage {name}, {count:,} images",
        ours=ours,
        other=other,
        ratio=ratio,
        target=f"at least {LEAST}" if before else "",
        met=ratio >= LEAST if ratio is not None else None,
        n=1,
        conditions=f"{SIZE[0]}×{SIZE[1]}, {CHANGES['arch']}, one epoch, {QUERIES:,} queries{added}",
    )


def run_stages(folder: Path, count: int) -> dict[str, Stage]:
    """Make the images and run the stages on them."""
    archive = write_archive(folder / "market.zip", count)
    project = folder / "project"
    project.mkdir()
    copytree(noise.ROOT / "pipeline", project / "pipeline")
    (project / "params.yaml").write_text(params(archive))
    return {stage: run(stage, project) for stage in STAGES}


def params(archive: Path) -> str:
    """The default parameters, with those of this measurement, as YAML."""
    import yaml

    raw = parse_yaml((noise.ROOT / "params.yaml").read_text())
    raw["dataset"]["source"] = str(archive)
    for key, value in CHANGES.items():
        raw[key] = raw[key] | value if isinstance(value, dict) else value
    return yaml.safe_dump(raw)


def write_archive(path: Path, count: int) -> Path:
    """Zip images of noise under Market-1501's names."""
    rng = np.random.default_rng(0)
    identities = count // PER_IDENTITY
    every = max(1, identities // 2 // QUERIES)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            identity, place = divmod(number, PER_IDENTITY)
            role = "bounding_box_train"
            if identity >= identities // 2:
                role = "query" if place == 0 and identity % every == 0 else "bounding_box_test"
            coarse = rng.integers(0, 256, (4, 2, 3), dtype=np.uint8)
            pixels = np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1))
            name = f"{role}/{identity + 1:04}_c{place % CAMERAS + 1}s1_{number:06}_00.jpg"
            archive.writestr(name, simplejpeg.encode_jpeg(pixels))
    return path


def run(stage: str, project: Path) -> Stage:
    """Run a stage to its end.

    Raises:
        RuntimeError: it failed.
    """
    store = f"sqlite:///{project / 'mlflow.db'}"
    environ = {**os.environ, "MLFLOW_TRACKING_URI": store, "DVC_ROOT": str(project)}
    started, peak = time.perf_counter(), 0.0
    with (project / f"{stage}.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, f"pipeline/{stage}.py"],
            cwd=project, env=environ, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, own_memory(process.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"stage {stage} failed:\n{log.read()[-2000:]}")
    return Stage(seconds, peak)


def own_memory(pid: int) -> float:
    """MB that a process holds itself, without the pages of files; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields.get("RssAnon", "0 kB").split()[0]) / 1000
