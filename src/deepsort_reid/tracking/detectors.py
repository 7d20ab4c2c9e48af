"""Detectors of people that are installed with the tracker: each frame's boxes and confidences.

None of them is good enough to judge a network by. They let a video be tracked at once; a detector
of your own gives better tracks, by way of a file of its detections.
"""

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import ConfigError, SourceError, WeightsError, nearest_hint
from deepsort_reid.data.packed import Images
from deepsort_reid.data.video.annotation import (
    Numbering,
    are_shares,
    first_frame,
    placed,
)
from deepsort_reid.data.video.assembly import SCALED, SURE
from deepsort_reid.data.video.mot_table import is_without_confidence, read_boxes, with_confidence
from deepsort_reid.data.video.tables import MAX_TEXTS
from deepsort_reid.tracking.embed import nothing_left

logger = logging.getLogger(__name__)

Detections = tuple[NDArray[np.float64], NDArray[np.float64]]  # (N, 4) ltwh in pixels; confidences
Detector = Callable[[int, Images], Detections]  # frame from 1, (H, W, 3) uint8 RGB -> its people

HOG = "hog"
PERSON = 1  # COCO's number of the class


def make_detector(name: str, device: str | None) -> Detector:
    """A detector by its name: `hog`, or a detection model of torchvision.

    Args:
        name: of the detector.
        device: where torchvision's compute; None: a GPU if there is one.

    Raises:
        ConfigError: there is no such detector.
        WeightsError: torchvision's weights are not there and cannot be downloaded.
    """
    if name == HOG:
        return hog()
    from torchvision.models import detection
    from torchvision.models._api import list_models

    known = list_models(module=detection)
    if name not in known:
        raise ConfigError(f"no detector {name!r}; {nearest_hint(name, [HOG, *known])}")
    return torchvision_detector(name, device)


def hog() -> Detector:
    """OpenCV's histograms of oriented gradients, with its default people detector.

    Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005. It finds
    upright people of at least 96 pixels' height, misses those who are half hidden, takes some poles
    and doors for people, and needs no file. Its confidences are distances from a support vector
    machine's margin, from 0 up.
    """
    descriptor = cv2.HOGDescriptor()
    least = descriptor.winSize  # width and height
    descriptor.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector()))

    def detect(_: int, frame: Images) -> Detections:
        if frame.shape[1] < least[0] or frame.shape[0] < least[1]:
            return np.empty((0, 4)), np.empty(0)  # OpenCV would write beyond its memory
        found, weights = descriptor.detectMultiScale(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), winStride=(8, 8), padding=(8, 8), scale=1.05
        )
        ltwh = np.array(found, np.float64).reshape(-1, 4)
        # Its windows have a margin around the person; so much of it OpenCV's own sample cuts off.
        left, top, width, height = ltwh.T
        inner = np.stack([left + 0.1 * width, top + 0.07 * height, 0.8 * width, 0.8 * height], 1)
        return inner, np.array(weights, np.float64).reshape(-1)

    return detect


def torchvision_detector(name: str, device: str | None) -> Detector:
    """A detection model of torchvision, with its weights of COCO, downloaded the first time.

    Raises:
        WeightsError: they are not there and cannot be downloaded.
    """
    import torch
    from torchvision.models._api import get_model

    from deepsort_reid.model.extractor import usable

    place = usable(device)
    try:
        net = get_model(name, weights="DEFAULT").to(place).eval()
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"the weights of torchvision's {name} cannot be had ({error}); use --detector {HOG}, "
            "or --detections with a file"
        ) from None

    def detect(_: int, frame: Images) -> Detections:
        image = torch.from_numpy(frame.copy()).to(place).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            (found,) = net([image])
        boxes = found["boxes"][found["labels"] == PERSON].double().cpu().numpy()
        sure = found["scores"][found["labels"] == PERSON].double().cpu().numpy()
        boxes[:, 2:] -= boxes[:, :2]
        return boxes, sure

    return detect


def from_file(path: Path, frames: int | None, min_confidence: float) -> Detector:
    """The detections in a file as MOTChallenge has them: det.txt.

    Args:
        path: a line for each box: frame, -1, left, top, width, height, confidence; pixels counted
            from 1, or shares of the frame; frames from 1, or from 0 where there is a frame 0.
        frames: how many the video has; None where nobody knows.
        min_confidence: what the tracker will ask of a detection.

    Raises:
        SourceError: the file cannot be read, is no such table, or has no detection that is sure
            enough.
    """
    found = read_boxes(read_text(path), str(path), truth=False)
    shares = are_shares(found)
    if shares:
        logger.info("%s: %s", path, SCALED)
        ltwh = found.boxes.ltwh + np.array([found.origin, found.origin, 0, 0])
        found = replace(found, boxes=replace(found.boxes, ltwh=ltwh))
    start = first_frame([found], Numbering(1, frames or sys.maxsize, "the video"))
    boxes, left_out = placed(found, start, None, unique=False)
    for what, number in left_out.items():
        if number:
            logger.info("%s: %d %s left out", path, number, what)
    if is_without_confidence(boxes):
        if boxes.confidences[0] != 1:
            logger.info("%s: %s", path, SURE)
        boxes = with_confidence(boxes)
    if len(boxes) and not (boxes.confidences >= min_confidence).any():
        raise SourceError(f"{path}: {nothing_left([boxes], '--min-confidence', min_confidence)}")

    def detect(number: int, picture: Images) -> Detections:
        here = slice(*np.searchsorted(boxes.frames, (number, number + 1)))
        scale = np.array(picture.shape[1::-1] * 2) if shares else 1.0
        return boxes.ltwh[here] * scale, boxes.confidences[here]

    return detect


def read_text(path: Path) -> bytes:
    """The content of a file of detections.

    Raises:
        SourceError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXTS + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; expected a file of detections") from None
    if len(data) > MAX_TEXTS:
        raise SourceError(f"{path}: more than {MAX_TEXTS} bytes; expected a line for each box")
    return data
