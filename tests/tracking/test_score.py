"""Scores by hand, and as TrackEval reads them out of MOTChallenge's files."""

import numpy as np
import pytest
from trackeval import Evaluator
from trackeval.datasets import MotChallenge2DBox
from trackeval.metrics import CLEAR, HOTA, Identity

from deepsort_reid.core.boxes import intersections_over_unions
from deepsort_reid.data.layouts.video.mot import DISTRACTORS
from deepsort_reid.tracking import score as scoring
from deepsort_reid.tracking.score import align, find_switches, score
from deepsort_reid.tracking.tracks import Tracks
from tests.support.tracks import Row, boxes

BOX = (10.0, 10.0, 20.0, 40.0)
FAR = (100.0, 10.0, 20.0, 40.0)


def tracks(rows: list[Row]) -> Tracks:
    made = boxes(rows)
    return Tracks(made.frames, made.ids, made.ltwh)


def scores_of(truth: list[Row], found: list[Row], frames: int = 10, **more: list[float]):
    return score({"a": align(boxes(truth, **more), tracks(found), frames)})[1]


def test_a_switch_by_hand() -> None:
    # One person in ten frames. Track 1 has six of them, track 2 the last four.
    truth = [(frame, 7, BOX) for frame in range(1, 11)]
    found = [(frame, 1 if frame <= 6 else 2, BOX) for frame in range(1, 11)]
    scores = scores_of(truth, found)
    assert (scores.id_switches, scores.fragments) == (1, 0)
    assert scores.mota == pytest.approx(1 - 1 / 10)
    # IDTP 6, IDFN 4, IDFP 4: 2 * 6 / (2 * 6 + 4 + 4).
    assert scores.idf1 == pytest.approx(0.6)
    # Boxes are right at every overlap: DetA is 1, AssA (6 * 6/10 + 4 * 4/10) / 10.
    assert scores.hota == pytest.approx((0.6 * 0.6 + 0.4 * 0.4) ** 0.5)


def test_misses_and_false_boxes_by_hand() -> None:
    truth = [(frame, 7, BOX) for frame in range(1, 11)]
    found = [(frame, 1, BOX) for frame in range(1, 11) if frame not in (4, 5)]
    scores = scores_of(truth, [*found, (4, 1, FAR)])
    # Two misses and a false box of ten; the track is taken up again.
    assert scores.mota == pytest.approx(1 - 3 / 10)
    assert (scores.id_switches, scores.fragments) == (0, 1)


def test_a_box_of_which_just_half_overlaps_counts() -> None:
    half = (BOX[0], BOX[1], BOX[2], BOX[3] / 2)
    less = (BOX[0], BOX[1], BOX[2], BOX[3] / 2 - 0.1)
    truth: list[Row] = [(1, 1, BOX)]
    assert scores_of(truth, [(1, 1, half)], 1).mota == 1
    assert scores_of(truth, [(1, 1, less)], 1).mota == -1


def test_distractors_and_what_does_not_count_are_left_out() -> None:
    truth: list[Row] = [(1, 1, BOX), (1, 2, FAR), (1, 3, (60.0, 10.0, 20.0, 40.0))]
    found = tracks([(1, 1, BOX), (1, 2, FAR)])
    # The second is a reflection, and a track on it no mistake; the third is to be ignored.
    aligned = align(
        boxes(truth, classes=[1, 12, 1], confidences=[1, 1, 0]), found, 1, distractors=DISTRACTORS
    )
    assert [ids.tolist() for ids in aligned.truth] == [[1]]
    assert [ids.tolist() for ids in aligned.tracks] == [[1]]
    # A car is neither a distractor nor somebody: a track on it is a mistake.
    aligned = align(
        boxes(truth, classes=[1, 3, 1], confidences=[1, 1, 0]), found, 1, distractors=DISTRACTORS
    )
    assert [ids.tolist() for ids in aligned.tracks] == [[1, 2]]


def test_other_classes_are_scored_if_asked_for() -> None:
    truth = boxes([(1, 1, BOX), (1, 2, FAR)], classes=[1, 8])
    aligned = align(truth, tracks([(1, 1, BOX), (1, 2, FAR)]), 1, [8], DISTRACTORS)
    assert [ids.tolist() for ids in aligned.truth] == [[2]]
    # Who is of class 8 is no distractor then, and a track on a pedestrian is a mistake.
    assert [ids.tolist() for ids in aligned.tracks] == [[1, 2]]


def test_tracks_on_nobody_in_a_region_without_annotations_are_no_mistakes() -> None:
    region = (BOX[0] - 5, BOX[1] - 5, 2 * BOX[2], 2 * BOX[3])
    truth: list[Row] = [(1, 1, BOX), (1, -1, region)]
    beside = (BOX[0] + 0.6 * BOX[2], *BOX[1:])  # in the region, and half on nobody
    found = tracks([(1, 1, BOX), (1, 2, beside), (1, 3, FAR)])
    for confidence, kept in ((0, [1, 3]), (1, [1, 2, 3])):  # class 0 of other files is a class
        given = boxes(truth, classes=[1, 0], confidences=[1, confidence])
        aligned = align(given, found, 1)
        assert [ids.tolist() for ids in aligned.tracks] == [kept]
        assert [ids.tolist() for ids in aligned.truth] == [[1]]


def test_truth_without_identity_does_not_count() -> None:
    aligned = align(boxes([(1, -1, BOX), (1, -1, FAR), (1, 4, FAR)]), tracks([]), 1)
    assert [ids.tolist() for ids in aligned.truth] == [[4]]


@pytest.mark.parametrize(("truth", "found"), [([], []), ([(1, 1, BOX)], []), ([], [(1, 1, BOX)])])
def test_nothing_to_align(truth: list[Row], found: list[Row]) -> None:
    scores = scores_of(truth, found, 3)
    assert (scores.idf1, scores.id_switches) == (0, 0)


def test_several_sequences_are_counted_together() -> None:
    long = align(boxes([(f, 1, BOX) for f in range(1, 9)]), tracks([]), 8)
    short = align(boxes([(1, 1, BOX), (2, 1, BOX)]), tracks([(1, 1, BOX), (2, 1, BOX)]), 2)
    each, both = score({"long": long, "short": short})
    assert (each["long"].mota, each["short"].mota) == (0, 1)
    assert both.mota == pytest.approx(2 / 10)  # of boxes, not the mean of 0 and 1


def test_overlaps_by_hand() -> None:
    found = intersections_over_unions(
        np.array([[0.0, 0, 10, 10], [5.0, 5, 0, 0]]), np.array([[5.0, 0, 10, 10], [20.0, 0, 1, 1]])
    )
    np.testing.assert_allclose(found, [[50 / 150, 0], [0, 0]])
    assert intersections_over_unions(np.empty((0, 4)), np.empty((3, 4))).shape == (0, 3)


def random_walk(seed: int) -> tuple[list[Row], list[Row], list[float], list[float]]:
    """People who walk, and tracks of them with misses, noise, false boxes and swaps."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    places = rng.uniform(0, 200, (6, 2))
    owners = np.arange(1, 7)
    for frame in range(1, 41):
        places += rng.normal(0, 4, places.shape)
        if rng.random() < 0.2:
            one, other = rng.choice(6, 2, replace=False)
            owners[[one, other]] = owners[[other, one]]
        if rng.random() < 0.1:
            owners[rng.integers(6)] = owners.max() + 1
        for person, (left, top) in enumerate(places):
            if rng.random() < 0.9:
                truth.append((frame, person + 1, (float(left), float(top), 30.0, 60.0)))
            if rng.random() < 0.8:
                x, y = rng.normal(0, 5, 2)
                found.append((frame, int(owners[person]), (left + x, top + y, 30.0, 60.0)))
    classes = [8.0 if row[1] == 6 else 1.0 for row in truth]
    counts = [float(row[1] != 5) for row in truth]
    return truth, found, classes, counts


@pytest.mark.parametrize("seed", range(3))
def test_files_give_the_same_scores(tmp_path, capsys, seed: int) -> None:  # type: ignore[no-untyped-def]
    truth, found, classes, counts = random_walk(seed)
    annotated = boxes(truth, classes=classes, confidences=counts)
    aligned = align(annotated, tracks(found), 40, distractors=DISTRACTORS)
    _, mine = score({"a": aligned})

    gt, results = tmp_path / "gt" / "a", tmp_path / "results" / "we" / "data"
    (gt / "gt").mkdir(parents=True)
    results.mkdir(parents=True)
    (gt / "seqinfo.ini").write_text("[Sequence]\nname=a\nseqLength=40\n")
    lines = [
        f"{f},{i},{b[0] + 1!r},{b[1] + 1!r},{b[2]},{b[3]},{int(counts[n])},{int(classes[n])},1\n"
        for n, (f, i, b) in enumerate(truth)
    ]
    (gt / "gt" / "gt.txt").write_text("".join(lines).replace("np.float64(", "").replace(")", ""))
    rows = [
        f"{f},{i},{float(b[0]) + 1!r},{float(b[1]) + 1!r},{b[2]},{b[3]},1,-1,-1,-1\n"
        for f, i, b in found
    ]
    (results / "a.txt").write_text("".join(rows))
    dataset = MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "results"),
            "OUTPUT_FOLDER": str(tmp_path / "out"),
            "SEQ_INFO": {"a": 40},
            "SKIP_SPLIT_FOL": True,
            "BENCHMARK": "MOT16",
            "PRINT_CONFIG": False,
        }
    )
    quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False}
    evaluator = Evaluator({**quiet, "PLOT_CURVES": False, "OUTPUT_SUMMARY": False,
                           "OUTPUT_DETAILED": False})  # fmt: skip
    measures = [HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})]
    given = evaluator.evaluate([dataset], measures)[0]
    capsys.readouterr()
    theirs = scoring.as_scores(given["MotChallenge2DBox"]["we"]["a"]["pedestrian"])
    assert mine == theirs
    assert mine.id_switches > 3
    assert len(find_switches(aligned)) == mine.id_switches


def test_a_switch_says_who_when_and_from_whom_to_whom() -> None:
    truth = [(frame, 7, BOX) for frame in range(1, 11)]
    found = [(f, 1 if f <= 4 else 2, BOX) for f in range(1, 11) if f not in (5, 6)]
    (one,) = find_switches(align(boxes(truth), tracks(found), 10))
    assert (one.frame, one.person, one.before, one.after, one.last) == (7, 7, 1, 2, 4)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    scores_of([(1, 1, BOX)], [(1, 1, BOX)], 1)
    assert capsys.readouterr() == ("", "")
