"""Detectors of people that are installed with the tracker: each frame's boxes and confidences.

None of them is good enough to judge a network by. They let a video be tracked at once; a detector
of your own gives better tracks, by way of a file of its detections.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deepsort_reid.core.errors import ConfigError, SourceError, WeightsError, nearest_hint
from deepsort_reid.data import mot
from deepsort_reid.data.packed import Images

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


def from_file(path: Path, frames: int | None) -> Detector:
    """The detections in a file as MOTChallenge has them: det.txt.

    Args:
        path: a line for each box: frame, -1, left, top, width, height, confidence; frames and
            pixels counted from 1.
        frames: how many the video has; None where nobody knows.

    Raises:
        SourceError: the file cannot be read, or is no such table.
    """
    try:
        with path.open("rb") as file:
            data = file.read(mot.MAX_TEXTS + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; expected a file of detections") from None
    if len(data) > mot.MAX_TEXTS:
        raise SourceError(f"{path}: more than {mot.MAX_TEXTS} bytes; expected a line for each box")
    boxes = mot.read_boxes(data, str(path), frames or sys.maxsize, truth=False)

    def detect(number: int, _: Images) -> Detections:
        here = slice(*np.searchsorted(boxes.frames, (number, number + 1)))
        return boxes.ltwh[here], boxes.confidences[here]

    return detect
