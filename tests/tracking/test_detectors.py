"""The detectors that need nothing, and detections of a file, whoever wrote it."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from deepsort_reid.core.errors import ConfigError, SourceError
from deepsort_reid.tracking.detectors import from_file, make_detector


@pytest.mark.parametrize("size", [(16, 16), (60, 100), (127, 64), (128, 63), (128, 64), (90, 400)])
def test_a_frame_of_any_size_is_searched(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    ltwh, confidences = make_detector("hog", None)(1, frame)
    assert ltwh.shape == (len(confidences), 4)


def test_an_unknown_detector_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no detector 'fasterrcnn_resnet50'; did you mean"):
        make_detector("fasterrcnn_resnet50", "cpu")


# Detections of a file

PICTURE = np.zeros((60, 100, 3), np.uint8)


def written(path: Path, rows: Iterable[str]) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def rows_of(end: str, first: int = 1, count: int = 5) -> list[str]:
    return [f"{first + n},-1,11,6,{8 + n},40,{end}" for n in range(count)]


@pytest.mark.parametrize(("first", "count"), [(1, 5), (0, 5), (1, None)])
def test_detections_of_a_file_come_by_frame(tmp_path: Path, first: int, count: int | None) -> None:
    rows = rows_of("0.9", first, 4) + rows_of("0.1", first, 1)
    detect = from_file(written(tmp_path / "det.txt", rows), count, 0.3)
    ltwh, confidences = detect(1, PICTURE)
    assert ltwh.tolist() == [[10, 5, 8, 40], [10, 5, 8, 40]]
    assert confidences.tolist() == [0.9, 0.1]
    assert len(detect(5, PICTURE)[0]) == 0


@pytest.mark.parametrize("confidence", ["-1,-1,-1,-1", "-1", "0.05"])
def test_detections_of_one_confidence_are_sure(
    confidence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        detect = from_file(written(tmp_path / "det.txt", rows_of(confidence)), 5, 0.3)
    assert detect(2, PICTURE)[1].tolist() == [1]
    assert caplog.text.count("det.txt: all detections have one and the same confidence") == 1


def test_detections_that_are_shares_are_scaled_to_the_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{n},-1,0.1,0.25,0.2,0.5,0.{n}" for n in range(4, 7)]
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        detect = from_file(written(tmp_path / "det.txt", rows), 9, 0.3)
    assert detect(4, PICTURE)[0] == pytest.approx(np.array([[10, 15, 20, 30]]))
    assert detect(4, PICTURE[:30, :50])[0] == pytest.approx(np.array([[5, 7.5, 10, 15]]))
    assert "shares of the frame" in caplog.text


def test_a_flat_detection_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*rows_of("0.9", count=4), "5,-1,9,9,0,40,0.8"]
    with caplog.at_level(logging.INFO, "deepsort_reid"):
        detect = from_file(written(tmp_path / "det.txt", rows), 5, 0.3)
    assert len(detect(5, PICTURE)[0]) == 0
    assert "det.txt: 1 boxes without area left out" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            rows_of("0.2") + rows_of("0.1", 2, 1),
            "--min-confidence=0.3 removes all 6 detections, who",
        ),
        (rows_of("0.9", 2), "line 5: no such frame; the video has 1 to 5"),
        (["1,-1,0.9,0.9,0.3,0.3,1"] * 3, "reach beyond it; expected left, top, width and height"),
    ],
)
def test_detections_that_cannot_be_used(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"det\.txt") as caught:
        from_file(written(tmp_path / "det.txt", rows), 5, 0.3)
    assert message in str(caught.value)
