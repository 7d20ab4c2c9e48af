# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "torchreid==0.2.5",
#   "torch==2.14.1",
#   "torchvision==0.29.2",    # torchreid imports this and the rest, and names none
#   "gdown==5.2.0",
#   "h5py==3.16.0",
#   "matplotlib==3.11.2",
#   "numpy==2.4.6",
#   "scipy==1.17.1",
#   "tensorboard==2.21.0",
#   "yacs==0.1.8",
#   "cython==3.1.4",          # compiles its ranking
#   "opencv-python-headless==4.13.0.92", # needs no display's libraries
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# override-dependencies = ["opencv-python; python_version < '3'"]
# ///
"""torchreid's own evaluation of Market-1501: the other side of item `evaluation`.

    uv run --script benchmarks/speed_items/torchreid_evaluation.py ROOT ARCH WEIGHTS THREADS

ROOT holds `market1501/Market-1501-v15.09.15`, WEIGHTS is the `torchreid.pth` of stage export, for
images of 128×64. Its ranking is compiled where TORCHREID_RANK_CY names the file for that, which its
package lacks. Prints a line of JSON: mAP, rank-1, the seconds of its engine's test, MB that the
process held at most, and whether the ranking was compiled.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

SIZE = (128, 64)  # height and width in pixels
BATCH, WORKERS = 100, 4  # its own defaults


def main() -> None:
    """Evaluate, and print what it came to."""
    root, arch, weights, threads = sys.argv[1:]
    compile_ranking()
    from torchreid.reid import data, engine, models
    from torchreid.reid.metrics import rank
    from torchreid.reid.utils import load_pretrained_weights

    torch.set_num_threads(int(threads))
    words = io.StringIO()
    with contextlib.redirect_stdout(words):
        manager = data.ImageDataManager(
            root=root, sources="market1501", height=SIZE[0], width=SIZE[1], batch_size_train=32,
            batch_size_test=BATCH, workers=WORKERS, use_gpu=False,
        )  # fmt: skip
        net = models.build_model(arch, num_classes=manager.num_train_pids, pretrained=False)
        load_pretrained_weights(net, weights)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        judge = engine.ImageSoftmaxEngine(manager, net, optimizer, use_gpu=False)
        began = time.perf_counter()
        judge.run(test_only=True, dist_metric="cosine")
        seconds = time.perf_counter() - began
    found = dict(re.findall(r"(mAP|Rank-1) *: ([\d.]+)%", words.getvalue()))
    status = Path("/proc/self/status").read_text()
    print(
        json.dumps(
            {
                "mAP": float(found["mAP"]) / 100,
                "rank1": float(found["Rank-1"]) / 100,
                "seconds": seconds,
                "peak": int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000,
                "compiled": bool(rank.IS_CYTHON_AVAI),
            }
        )
    )


def compile_ranking() -> None:
    """Compile torchreid's ranking into its own folder, in this script's environment."""
    source = os.environ.get("TORCHREID_RANK_CY")
    folder = Path(find_spec("torchreid").origin).parent / "reid" / "metrics" / "rank_cylib"
    name = f"rank_cy{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not source or (folder / name).exists():
        return
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    (folder / "rank_cy.pyx").write_bytes(Path(source).expanduser().read_bytes())
    subprocess.run([sys.executable, "-m", "cython", "-3", "rank_cy.pyx"], cwd=folder, check=True)
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{np.get_include()}"]
    subprocess.run(
        ["cc", "-O3", "-shared", "-fPIC", "-w", *includes, "rank_cy.c", "-o", name],
        cwd=folder, check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
