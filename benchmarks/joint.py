"""Measures what learning two datasets jointly brings on a third one, seed by seed.

    uv run benchmarks/joint.py [--seeds N …] [--variants NAME …] [--identities N] [--epochs N]
        [--out FILE]

Three datasets are rendered with other people, cameras and light: `north` and `south` to learn from,
`west` only to test on. A network is trained on `north`, on `south`, on both, and on both with
`balance_sources`, by the pipeline's own stages. `south` has half the people of `north`. Each
training takes the same number of epochs, and the last variant half of them, so that it takes about
as many steps as a single dataset does.

The table has mAP and rank-1 on `west`, and the mean over the seeds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from deepsort_reid.core.files import write_json
from deepsort_reid.core.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("download", "also", "split", "train", "evaluate")
VARIANTS: Mapping[str, tuple[tuple[str, ...], bool, float]] = {  # datasets, balanced, epochs
    "north": (("north",), False, 1),
    "south": (("south",), False, 1),
    "both": (("north", "south"), False, 1),
    "both, balanced": (("north", "south"), True, 1),
    "both, half the epochs": (("north", "south"), False, 0.5),
}


def main() -> None:
    """Train every variant with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--identities", type=int, default=96, help="of north; south has half")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, help="receives all numbers as JSON")
    asked = parser.parse_args()
    threads = torch.get_num_threads()
    print(
        f"{asked.identities} and {asked.identities // 2} identities, {asked.epochs} epochs, seeds "
        f"{asked.seeds}; torch {torch.__version__}, Python {platform.python_version()}, "
        f"{threads} threads"
    )
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked.variants}
    for seed in asked.seeds:
        for name in asked.variants:
            numbers = run(name, seed, asked.identities, asked.epochs)
            found[name].append(numbers)
            print(f"  seed {seed}  {name:22} {line([numbers])}", flush=True)
            if asked.out:
                write_json(asked.out, found)
    print("mean")
    for name, runs in found.items():
        print(f"  {name:30} {line(runs)}")


def line(runs: Sequence[Mapping[str, Any]]) -> str:
    """The mean numbers on the third dataset."""
    means = {key: statistics.mean(run[key] for run in runs) for key in ("mAP", "rank1", "seconds")}
    return f"west mAP {means['mAP']:.1%}  rank-1 {means['rank1']:.1%}  {means['seconds']:.0f} s"


def run(variant: str, seed: int, identities: int, epochs: int) -> dict[str, Any]:
    """Run the stages in a folder of their own; the numbers on `west`, and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "params.yaml", params(variant, seed, identities, epochs))
        began = time.monotonic()
        for stage in STAGES:
            done = subprocess.run(
                [sys.executable, str(ROOT / "pipeline" / f"{stage}.py")],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"{stage} failed:\n{done.stdout}{done.stderr}")
        seconds = time.monotonic() - began
        evaluation = json.loads((Path(folder) / "reports/evaluation.json").read_text())
        return {**evaluation["also"]["west"], "seconds": seconds, "seed": seed}


def params(variant: str, seed: int, identities: int, epochs: int) -> dict[str, Any]:
    """The parameters of a variant; JSON is YAML."""
    datasets, is_balanced, share = VARIANTS[variant]
    train = {"north": identities, "south": identities // 2}
    content = read_yaml(ROOT / "params.yaml")
    content["dataset"]["source"] = [
        {
            "name": name,
            "source": "synthetic",
            "synthetic": {"seed": 10 * seed + place, "train_identities": train[name]},
        }
        for place, name in enumerate(train, start=1)
        if name in datasets
    ]
    also = {"seed": 10 * seed + 3, "train_identities": 2}
    content["evaluate"]["also"] = [{"name": "west", "source": "synthetic", "synthetic": also}]
    return content | {
        "seed": seed,
        "epochs": max(1, round(share * epochs)),
        "balance_sources": is_balanced,
    }


if __name__ == "__main__":
    main()
