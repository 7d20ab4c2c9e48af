"""Deep SORT over boxes of which the tests know who is who."""

import numpy as np
import pytest

from deepsort_reid.data.video.sequence import Boxes
from deepsort_reid.tracking.deep_sort import by_appearance, by_motion
from deepsort_reid.tracking.score import align, score
from deepsort_reid.tracking.tracks import Tracks
from tests.support.tracks import CONFIG, Row, boxes, crossing

FRAMES = 40


def known(detections: Boxes) -> np.ndarray:
    """An embedding that tells everybody apart."""
    return np.eye(4, dtype=np.float32)[detections.ids]


def switches(truth: Boxes, tracks: Tracks) -> int:
    return score({"a": align(truth, tracks, FRAMES)})[1].id_switches


def test_who_turns_round_unseen_is_known_by_appearance_and_not_by_motion() -> None:
    found = boxes(crossing(FRAMES))
    looked = by_appearance(found, known(found), FRAMES, CONFIG, 0.2)
    moved = by_motion(found, FRAMES, CONFIG)
    assert switches(found, looked) == 0
    assert switches(found, moved) == 2
    assert set(looked.ids.tolist()) == {1, 2}


def test_motion_finds_again_who_walks_on_unseen() -> None:
    rows: list[Row] = [
        (frame, 1, (10.0 + 3 * frame, 10.0, 20.0, 40.0))
        for frame in range(1, FRAMES + 1)
        if not 15 <= frame <= 22
    ]
    found = boxes(rows)
    assert switches(found, by_motion(found, FRAMES, CONFIG)) == 0
    # What the library makes of no appearance by itself: a new track after every gap.
    blind = np.ones((len(found), 1), np.float32)
    assert switches(found, by_appearance(found, blind, FRAMES, CONFIG, -1.0)) == 1


def test_a_track_begins_with_its_third_box_and_rests_where_it_has_none() -> None:
    rows: list[Row] = [(f, 1, (10.0, 10.0, 20.0, 40.0)) for f in range(1, 11) if f not in (6, 7)]
    found = boxes(rows)
    tracks = by_appearance(found, known(found), 12, CONFIG, 0.2)
    assert tracks.frames.tolist() == [3, 4, 5, 8, 9, 10]
    assert set(tracks.ids.tolist()) == {1}
    np.testing.assert_allclose(tracks.ltwh, [[10, 10, 20, 40]] * 6, atol=1e-6)


def test_a_track_ends_after_max_age() -> None:
    rows: list[Row] = [(f, 1, (10.0, 10.0, 20.0, 40.0)) for f in (1, 2, 3, 9, 10, 11)]
    found = boxes(rows)
    for max_age, identities in ((8, {1}), (3, {1, 2})):
        config = CONFIG.model_copy(update={"max_age": max_age})
        tracks = by_appearance(found, known(found), 12, config, 0.2)
        assert set(tracks.ids.tolist()) == identities


def test_nothing_to_track() -> None:
    nothing = boxes([])
    for tracks in (
        by_motion(nothing, 5, CONFIG),
        by_appearance(nothing, np.empty((0, 4), np.float32), 5, CONFIG, 0.2),
    ):
        assert len(tracks) == 0
        assert tracks.ltwh.shape == (0, 4)
        assert tracks.as_table() == ""


def test_the_table_is_as_motchallenge_takes_it() -> None:
    tracks = Tracks(np.array([3, 3]), np.array([1, 12]), np.array([[0, 0, 5, 9.5], [1, 2, 3, 4.0]]))
    assert tracks.as_table() == (
        "3,1,1.00,1.00,5.00,9.50,1,-1,-1,-1\n3,12,2.00,3.00,3.00,4.00,1,-1,-1,-1\n"
    )


@pytest.mark.parametrize("by", ["appearance", "motion"])
def test_the_same_boxes_give_the_same_tracks(by: str) -> None:
    found = boxes(crossing(FRAMES))

    def once() -> str:
        if by == "motion":
            return by_motion(found, FRAMES, CONFIG).as_table()
        return by_appearance(found, known(found), FRAMES, CONFIG, 0.2).as_table()

    assert once() == once()
