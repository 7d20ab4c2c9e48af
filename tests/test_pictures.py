"""Every picture: readable, unclipped, the same bytes each time, and true to its numbers."""

import math
import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from deepsort_reid.comparison import picture
from deepsort_reid.data.packed import Part
from deepsort_reid.data.report import draw_images_per_identity
from deepsort_reid.evaluation import plots
from deepsort_reid.evaluation.calibration import PLACES, Calibration, Curve, Estimate, MatchRates
from deepsort_reid.evaluation.pairs import STEPS
from deepsort_reid.evaluation.plots import best_to_worst
from deepsort_reid.evaluation.ranking import DistanceHistograms, Neighbours, Ranking
from deepsort_reid.training.report import training_curves
from tests.support.comparisons import comparison

EDGES = np.linspace(0, 2, 201)
BELL = np.round(1e4 * np.exp(-((EDGES[:-1] - 0.5) ** 2) / 0.02)).astype(int)


def history(epochs, start=1):
    return [
        SimpleNamespace(
            epoch=epoch, lr=0.1 / epoch, train_loss=6 / epoch, val_loss=7 / epoch,
            train_error=0.9 / epoch, val_error=0.95 / epoch,
        )
        for epoch in range(start, start + epochs)
    ]  # fmt: skip


def exploding(epochs):
    """A history whose first val loss is a hundred times the others."""
    first, *others = history(epochs)
    first.val_loss = 700.0
    return [first, *others]


def crop(colour, size=(128, 64)):
    return np.full((*size, 3), colour, dtype=np.uint8)


def a_part(images, pids, camids):
    names = [str(pid) for pid in pids]
    return Part(np.stack(images), np.array(pids), np.array(camids), names, names)


def page(path, size=(128, 64), answers=10):
    """Two queries, for whom every other of the nearest images is a match."""
    query = a_part([crop((200, 200, 90), size)] * 2, [1501] * 2, [6, -1])
    pids = [1501 if k % 2 else 0 for k in range(1, 13)]
    gallery = a_part([crop((90, 90, 200), size)] * 12, pids, range(1, 13))
    places = np.where(np.arange(10) < answers, np.arange(10), -1)
    nearest = Neighbours(np.stack([places] * 2), np.stack([np.arange(1, 11) / 10] * 2))
    scores = Ranking(0.5, 0.5, np.ones(50), np.array([0.5, 0.5]), 2, 0, 12, True, 1)
    plots.ranked_page(path, query, gallery, ranking=scores, neighbours=nearest, chosen=[0, 1])


def distances(path, *counts):
    plots.distance_distributions(path, DistanceHistograms(*map(np.asarray, counts)))


STEPPED_BELL = np.round(1e4 * np.exp(-((np.arange(STEPS) / 2048 - 0.5) ** 2) / 0.02)).astype(int)


def kind(same=STEPPED_BELL, different=STEPPED_BELL[::-1], eer=0.1):
    rates = np.logspace(-4, 0, 9)
    found = rates**0.3
    known = Estimate(0.37, 0.3, 0.4)
    curve = Curve(rates, found, found * 0.9, np.minimum(1, 1.1 * found))
    return MatchRates(different, same, 9, known, True, known, Estimate(eer, 0, 1), {}, curve)


def calibration(path, *kinds):
    plots.calibration(path, Calibration(0.01, dict(zip(PLACES, kinds, strict=False)), [], []))


LONG = "a long name of a network, trained on everything that there is, number "
MANY = {f"{LONG if k % 2 else 'osnet_'}{k}": 0.3 + 0.01 * k for k in range(12)}
ONE_PAIR = np.bincount([1000], minlength=STEPS)

FIGURES = {
    "one epoch": lambda path: training_curves(path, history(1), best_epoch=1),
    "no best epoch": lambda path: training_curves(path, history(3)),
    "many epochs": lambda path: training_curves(path, history(350), best_epoch=350),
    "exploded at first": lambda path: training_curves(path, exploding(9), best_epoch=9),
    "exploded at the best": lambda path: training_curves(path, exploding(9), best_epoch=1),
    "exploded alone": lambda path: training_curves(path, exploding(1)),
    "tiny losses": lambda path: training_curves(path, history(40, start=10**6)),
    "cmc": lambda path: plots.cmc_curve(path, 1 - 0.5 / np.arange(1, 51), mAP=0.3, mINP=0.1),
    "perfect cmc": lambda path: plots.cmc_curve(path, np.ones(50), mAP=1.0, mINP=1.0),
    "poor cmc": lambda path: plots.cmc_curve(path, np.arange(50) / 1e4, mAP=0.0),
    "short cmc": lambda path: plots.cmc_curve(path, [0.5], mAP=0.5),
    "distances": lambda path: distances(path, EDGES, BELL, BELL[::-1]),
    "no pairs": lambda path: distances(path, EDGES, 0 * BELL, 0 * BELL),
    "one bin": lambda path: distances(path, [0.0, 2.0], [10**9], [10**12]),
    "calibration": lambda path: calibration(path, kind(), kind()),
    "three kinds": lambda path: calibration(path, kind(), kind(), kind()),
    "one kind": lambda path: calibration(path, kind()),
    "perfect kind": lambda path: calibration(path, kind(eer=0.0)),
    "two pairs": lambda path: calibration(path, kind(ONE_PAIR, ONE_PAIR)),
    "no kind": lambda path: calibration(path),
    "page": lambda path: page(path),
    "page of wide crops": lambda path: page(path, (64, 128)),
    "page of slim crops": lambda path: page(path, (300, 20)),
    "page of one answer": lambda path: page(path, answers=1),
    "page without answers": lambda path: page(path, answers=0),
    "identities": lambda path: draw_images_per_identity(
        path, {"train": [9] * 90, "val": [1, 2, 3], "query": [], "gallery": range(1, 2000)}
    ),
    "comparison": lambda path: picture.draw(path, comparison({"mine": 0.6, "b": 0.5}, [0.5] * 3)),
    "comparison, untracked": lambda path: picture.draw(path, comparison({"a": 0.6, "b": 0.6})),
    "comparison of one": lambda path: picture.draw(path, comparison({"a": 0.0})),
    "comparison of many": lambda path: picture.draw(
        path, comparison(MANY, np.linspace(0.4, 0.6, 13).tolist())
    ),
    "three parts": lambda path: draw_images_per_identity(path, {p: [2, 3] for p in "abc"}),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_is_drawn_whole(draw, tmp_path):
    draw(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture)
    assert 600 <= pixels.shape[1] <= 1300
    assert (pixels < 128).any(axis=2).mean() > 0.001, "nothing is drawn"
    border = np.concatenate([pixels[[0, -1]].reshape(-1, 3), pixels[:, [0, -1]].reshape(-1, 3)])
    assert (border == 255).all(), "something is cut off at the border"
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("no best epoch", ".jpg"), ("cmc", ".png"), ("calibration", ".png"), ("page", ".jpg")],
)
def test_the_same_bytes_whatever_the_user_prefers(name, suffix, tmp_path):
    FIGURES[name](tmp_path / f"a{suffix}")
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 50, "axes.grid": False}):
        preferred = dict(mpl.rcParams)
        FIGURES[name](tmp_path / f"b{suffix}")
        assert dict(mpl.rcParams) == preferred
    first, second = (tmp_path / f"a{suffix}").read_bytes(), (tmp_path / f"b{suffix}").read_bytes()
    assert first == second
    with Image.open(tmp_path / f"a{suffix}") as picture:
        assert not set(picture.info) & {"Software", "date", "comment", "exif"}


def test_pyplot_is_not_imported():
    code = "import deepsort_reid.core.figure, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_epoch_that_is_not_in_the_history_leaves_the_old_picture(tmp_path):
    path = tmp_path / "train.jpg"
    path.write_text("old")
    with pytest.raises(KeyError):
        training_curves(path, history(3), best_epoch=4)
    assert path.read_text() == "old"


def close_to(pixels, colour):
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(pixels.astype(int) - wanted) < 12).all(axis=-1)


@pytest.mark.parametrize("size", [(64, 32), (128, 64), (256, 128)])
def test_the_page_frames_right_answers_green_and_wrong_ones_dashed_red(size, tmp_path):
    page(tmp_path / "page.png", size)
    with Image.open(tmp_path / "page.png") as picture:
        pixels = np.asarray(picture)
    cell_height = 2 * plots.CROP_WIDTH
    middle = plots.HEADER_HEIGHT + cell_height // 2
    for column, colour in [(0, (200, 200, 90)), (1, (90, 90, 200)), (10, (90, 90, 200))]:
        left = plots._cell_left(column)
        # The frame's smooth edge may touch the outermost pixels.
        assert (pixels[middle, left + 1 : left + plots.CROP_WIDTH - 1] == colour).all()
    for column in range(1, 11):
        left = plots._cell_left(column) - plots.FRAME_WIDTH
        edge = pixels[plots.HEADER_HEIGHT : plots.HEADER_HEIGHT + cell_height, left + 1 : left + 4]
        green, red = (close_to(edge, c).any(axis=1).mean() for c in (plots.RIGHT, plots.WRONG))
        if column % 2:
            assert (green, red) == (1, 0)
        else:
            assert green == 0
            assert 0.4 < red < 0.9  # dashes, and gaps between them


def test_the_median_of_a_histogram():
    values = np.random.default_rng(0).normal(0.7, 0.1, 10_001)
    median = plots._median(EDGES, np.histogram(values, EDGES)[0].astype(float))
    assert median == pytest.approx(np.median(values), abs=1e-3)


def test_chooses_queries_from_best_to_worst():
    scores = [0.1, math.nan, 0.9, 0.5, 0.5, 0.3, 1.0]
    # Best first, ties by index: 6, 2, 3, 4, 5, 0.
    assert best_to_worst(scores, 2) == [6, 0]
    assert best_to_worst(scores, 3) == [6, 3, 0]
    assert best_to_worst(scores, 6) == [6, 2, 3, 4, 5, 0]
    assert best_to_worst(scores, 100) == [6, 2, 3, 4, 5, 0]
    assert best_to_worst(scores, 1) == [6]
    assert best_to_worst(scores, 0) == []
    assert best_to_worst([math.nan], 3) == []
