"""The detectors that need nothing: no frame is too small, and no wrong name passes."""

import numpy as np
import pytest

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.tracking.detectors import make_detector


@pytest.mark.parametrize("size", [(16, 16), (60, 100), (127, 64), (128, 63), (128, 64), (90, 400)])
def test_a_frame_of_any_size_is_searched(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    ltwh, confidences = make_detector("hog", None)(1, frame)
    assert ltwh.shape == (len(confidences), 4)


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no detector 'fasterrcnn_resnet50'; did you mean"):
        make_detector("fasterrcnn_resnet50", "cpu")
