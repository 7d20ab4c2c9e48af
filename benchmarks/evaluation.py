# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "torchreid==0.2.5",
#   "torch==2.14.1",
#   "torchvision==0.29.2",    # torchreid imports this and the rest, and names none
#   "h5py==3.16.0",
#   "matplotlib==3.11.2",
#   "scipy==1.17.1",
#   "tensorboard==2.21.0",
#   "cython==3.1.4",          # compiles torchreid's ranking
#   "setuptools==80.9.0",
#   "numpy==2.4.6",
#   "opencv-python-headless==4.13.0.92", # needs no display's libraries
# ]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# override-dependencies = ["opencv-python; python_version < '3'"]
# ///
"""torchreid's own evaluation of Market-1501, timed whole: the other side of item `evaluation`.

    uv run --script benchmarks/evaluation.py ROOT ARCH WEIGHTS OUT [--rank-cy RANK_CY]
"""
