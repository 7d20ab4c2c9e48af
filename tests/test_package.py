"""The public face of the package."""

import subprocess
import sys

import pytest

import deepsort_reid

# What stages need, and embedding does not.
UNWANTED = "cv2 deep_sort_realtime dvc matplotlib mlflow onnx onnxruntime scipy trackeval".split()


def test_importing_it_imports_what_embedding_needs_and_no_more() -> None:
    script = "\n".join(
        [
            "import sys, deepsort_reid",
            "assert 'torch' not in sys.modules",
            "from deepsort_reid import Extractor, read_threshold",
            f"found = set(sys.modules) & set({UNWANTED})",
            "assert not found, found",
        ]
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_it_has_no_other_names() -> None:
    assert deepsort_reid.__all__ == ["Extractor", "read_threshold"]
    with pytest.raises(AttributeError, match="has no attribute 'Extractors'"):
        _ = deepsort_reid.Extractors
