"""A frame shows who is in it where the truth says, and as much of them as it says."""

from dataclasses import replace

import numpy as np
import pytest

from deepsort_reid.core.config import SequencesConfig
from deepsort_reid.synthetic import frame
from deepsort_reid.synthetic.crop import ASPECT
from deepsort_reid.synthetic.crowd import Walk
from deepsort_reid.synthetic.frame import Cutout, Shot, film
from deepsort_reid.synthetic.person.pose import stride_length
from deepsort_reid.synthetic.street import FRAME_RATE, Street, Walker, street

SIZE = (180, 320)
CONFIG = SequencesConfig(seed=5, sequences=2, frames=60, people=6, image_size=SIZE, missed=0.0)


@pytest.fixture(scope="module")
def scene() -> Street:
    return street(CONFIG, 1)


def standing(scene: Street, *places: tuple[float, float]) -> Street:
    """The scene at its first frame with people at places: shares of the view, metres away."""
    window = scene.windows[0]
    walkers = []
    for walker, (share, away) in zip(scene.walkers, places, strict=False):
        column = window.left + share * window.width
        place = np.array([[(column - frame.PANORAMA / 2) * away / frame.FOCAL, away]])
        walkers.append(replace(walker, walk=Walk(place, np.zeros(1), np.zeros(1))))
    return replace(scene, walkers=walkers, things=[])


def visible(scene: Street) -> dict[int, float]:
    return {sight.identity: sight.visible for sight in film(scene, 0)[1]}


def test_frames_have_the_size_asked_for(scene: Street):
    picture, sights = film(scene, 0)
    assert picture.shape == (*SIZE, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    assert [sight.identity for sight in sights] == sorted(sight.identity for sight in sights)


def test_boxes_hold_what_is_drawn(scene: Street, monkeypatch: pytest.MonkeyPatch):
    laid: list[Cutout | None] = []
    walk_on = Shot.walk_on

    def spy(shot: Shot, walker: Walker) -> Cutout | None:
        laid.append(walk_on(shot, walker))
        return laid[-1]

    monkeypatch.setattr(Shot, "walk_on", spy)
    checked = 0
    for index in range(0, 60, 7):
        for walker in range(6):
            alone = replace(scene, things=[], walkers=[scene.walkers[walker]])
            sights = film(alone, index)[1]
            cutout = laid.pop()
            if not sights or cutout is None or cutout.alpha.sum() < 0.999 * cutout.total:
                continue
            checked += 1
            box = sights[0].box
            drawn = cutout.alpha > 0.5
            rows = cutout.region[0].start + np.flatnonzero(drawn.any(1))
            columns = cutout.region[1].start + np.flatnonzero(drawn.any(0))
            wide = 0.15 * box.height  # a long step, a suitcase
            # The head is lower in the box the more from above one looks, the feet are not.
            assert box.top - 1 <= rows[0] <= box.top + 0.25 * box.height
            assert box.top + 0.9 * box.height <= rows[-1] <= box.top + 1.06 * box.height
            assert box.left - wide <= columns[0]
            assert columns[-1] <= box.left + box.width + wide
            assert columns[0] < box.left + box.width / 2 < columns[-1]
            assert box.width == pytest.approx(ASPECT * box.height)
    assert checked > 10


def test_who_stands_alone_is_wholly_visible(scene: Street):
    assert visible(standing(scene, (0.5, 6.0))) == {1: pytest.approx(1.0)}


def test_who_stands_behind_somebody_is_hidden(scene: Street):
    shown = visible(standing(scene, (0.5, 6.6), (0.5, 6.0)))
    assert shown[2] == pytest.approx(1.0)
    assert shown[1] < 0.5


def test_the_further_aside_the_more_is_seen(scene: Street):
    shares = [visible(standing(scene, (0.5, 6.6), (0.5 + x, 6.0)))[1] for x in (0, 0.03, 0.2)]
    assert shares[0] < shares[1] < shares[2] == pytest.approx(1.0)


def test_who_is_half_outside_is_half_visible(scene: Street):
    assert 0.2 < visible(standing(scene, (0.0, 6.0)))[1] < 0.8


def test_who_is_outside_is_not_seen(scene: Street):
    assert visible(standing(scene, (-0.2, 6.0), (1.2, 6.0))) == {}


def test_things_hide_people(scene: Street):
    people = standing(scene, (0.5, scene.things[0].away + 0.2))
    across = float(people.walkers[0].walk.places[0, 0])
    hidden = [
        visible(replace(people, things=[replace(thing, across=across)]))[1]
        for thing in scene.things
    ]
    assert all(share < 0.999 for share in hidden)


def test_nobody_far_is_larger_than_somebody_near(scene: Street):
    sights = film(standing(scene, (0.3, 7.0), (0.7, 5.2)), 0)[1]
    heights = [
        sight.height / walker.person.build.height
        for sight, walker in zip(sights, scene.walkers, strict=False)
    ]
    assert heights[0] * 7.0 == pytest.approx(heights[1] * 5.2)


def test_legs_go_as_far_as_the_feet(scene: Street):
    for walker in scene.walkers:
        phases = np.unwrap([2 * np.pi * pose.phase for pose in walker.poses]) / (2 * np.pi)
        strides = [stride_length(walker.person, pose.stride) for pose in walker.poses[1:]]
        metres = walker.walk.speeds[1:] / FRAME_RATE
        striding = np.array([pose.stride for pose in walker.poses[1:]]) > 0.1
        walked = np.diff(phases) * np.array(strides)
        np.testing.assert_allclose(walked[striding], metres[striding], rtol=1e-6)


def test_habits_stay(scene: Street):
    for walker in scene.walkers:
        assert len({(pose.arms, pose.lean, pose.nod) for pose in walker.poses}) == 1


def test_exposure_follows_smoothly(scene: Street):
    exposures = np.array([moment.exposure for moment in scene.moments])
    assert exposures.std() > 0
    assert np.abs(np.diff(exposures)).max() < 0.02


def test_nobody_walks_there_whom_a_network_learns_from(scene: Street):
    from deepsort_reid.synthetic import dataset

    crops = [
        dataset.person_of(5, stream, number)
        for stream in (dataset.PEOPLE, dataset.DISTRACTORS)
        for number in range(1, 200)
    ]
    assert not any(walker.person in crops for walker in scene.walkers)
    other = street(CONFIG.model_copy(update={"frames": 10}), 2)
    assert not {w.person for w in other.walkers} & {w.person for w in scene.walkers}
