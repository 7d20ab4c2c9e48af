"""A detector misses as many as asked for, mostly the hidden, in runs, and errs in its boxes."""

from itertools import combinations

import numpy as np
import pytest

from deepsort_reid.core.boxes import intersections_over_unions
from deepsort_reid.synthetic.detector import Detection, detect, miss_chances
from deepsort_reid.synthetic.frame import Sight

SIZE = (360, 640)
FRAMES = 2000


def seen(visible: float, people: int = 5) -> list[list[Sight]]:
    """People who stand side by side, as visible as that."""
    return [
        [Sight(identity, 300.0, 100.0 * identity, 150.0, visible) for identity in range(1, people)]
        for _ in range(FRAMES)
    ]


def found(sights: list[list[Sight]], missed: float, seed: int = 0) -> list[list[Detection]]:
    """The detections about somebody, by person: people stand 100 pixels apart."""
    detections = detect(np.random.default_rng(seed), sights, SIZE, missed)
    people: list[list[Detection]] = [[] for _ in range(4)]
    for detection in detections:
        box = detection.box
        person = round((box.left + box.width / 2) / 100)
        if 1 <= person <= 4 and abs(box.top + box.height - 300) < 60 and detection.confidence > 0.6:
            people[person - 1].append(detection)
    return people


@pytest.mark.parametrize("missed", [0.0, 0.15, 0.4])
def test_as_many_are_missed_as_asked_for(missed: float):
    share = 1 - sum(map(len, found(seen(1.0), missed))) / (4 * FRAMES)
    assert share == pytest.approx(missed, abs=0.04)


def test_chances_average_what_was_asked_for():
    visible = np.random.default_rng(0).uniform(0.05, 1.0, 500)
    for missed in (0.05, 0.15, 0.5, 0.9):
        assert miss_chances(visible, missed).mean() == pytest.approx(missed, abs=1e-3)


def test_the_hidden_are_missed_first():
    visible = np.array([0.0, 0.1, 0.25, 0.5, 0.9] + [1.0] * 15)
    chances = miss_chances(visible, 0.2)
    assert chances[0] == 1.0
    assert (np.diff(chances[:6]) < 0).all()
    assert chances[2] > 0.7
    assert chances[-1] < 0.1


def test_nobody_is_found_of_whom_nothing_is_seen():
    assert miss_chances(np.array([0.0, 1.0]), 0.0).tolist() == [1.0, 0.0]


def test_misses_come_in_runs():
    for detections in found(seen(1.0), 0.15):
        present = np.zeros(FRAMES, bool)
        present[[detection.frame for detection in detections]] = True
        begun = np.sum(np.diff((~present).astype(int)) == 1)
        assert (~present).sum() / begun > 1.6  # 1.18 if each frame were its own


def test_boxes_err_more_about_the_hidden():
    def spread(visible: float) -> float:
        return float(np.std([d.box.height for person in found(seen(visible), 0.0) for d in person]))

    assert 3.0 < spread(1.0) < 14.0
    assert spread(0.7) > 1.2 * spread(1.0)


def test_confidence_tells_the_hidden_from_the_seen():
    mean = [
        np.mean([d.confidence for person in found(seen(share), 0.0) for d in person])
        for share in (1.0, 0.7)
    ]
    assert mean[0] > mean[1] + 0.08


def test_of_boxes_that_nearly_coincide_the_surest_stays():
    couple = [[Sight(1, 300.0, 300.0, 150.0, 1.0), Sight(2, 299.0, 303.0, 150.0, 0.6)]] * FRAMES
    apart = [[Sight(1, 300.0, 300.0, 150.0, 1.0), Sight(2, 299.0, 340.0, 150.0, 0.6)]] * FRAMES

    def counts(sights: list[list[Sight]]) -> np.ndarray:
        detections = detect(np.random.default_rng(0), sights, SIZE, 0.0)
        sure = [d for d in detections if abs(d.box.left - 280) < 60 and d.confidence > 0.62]
        return np.bincount([d.frame for d in sure], minlength=FRAMES)

    assert counts(couple).mean() < 1.25
    assert counts(apart).mean() > 1.7


def test_no_two_boxes_nearly_coincide():
    crowd = [[Sight(i, 300.0, 300.0 + 9.0 * i, 150.0, 0.8) for i in range(1, 9)]] * 100
    detections = detect(np.random.default_rng(0), crowd, SIZE, 0.1)
    overlaps = []
    for a, b in combinations(detections, 2):
        if a.frame == b.frame:
            sides = [np.array([[*vars(d.box).values()]]) for d in (a, b)]
            overlaps.append(intersections_over_unions(*sides).item())
    assert 0.5 < max(overlaps) <= 0.6


def test_there_are_a_few_false_alarms():
    alarms = detect(np.random.default_rng(0), [[] for _ in range(FRAMES)], SIZE, 0.1)
    assert 0.1 < len(alarms) / FRAMES < 0.6
    assert np.mean([alarm.confidence for alarm in alarms]) < 0.6


def test_boxes_lie_in_the_frame_in_order():
    sights = [[Sight(1, 350.0, 5.0, 200.0, 0.5), Sight(2, 380.0, 630.0, 150.0, 0.6)]] * 200
    detections = detect(np.random.default_rng(0), sights, SIZE, 0.1)
    assert [d.frame for d in detections] == sorted(d.frame for d in detections)
    for detection in detections:
        box = detection.box
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.width <= SIZE[1] + 1e-9
        assert box.top + box.height <= SIZE[0] + 1e-9
        assert min(box.width, box.height) >= 8
        assert 0 < detection.confidence < 1


def test_nothing_is_found_in_no_frames():
    assert detect(np.random.default_rng(0), [], SIZE, 0.1) == []
