"""The protocol by hand, against a slow obvious reference, and its promises of exactness."""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from deepsort_reid.core.errors import DatasetError, WeightsError
from deepsort_reid.evaluation import distances
from deepsort_reid.evaluation import ranking as rankings
from deepsort_reid.evaluation.distances import BLOCK_BYTES, Embedded
from deepsort_reid.evaluation.ranking import ranking, search


def nearest(*sides, k=10, **options):
    return search(*sides, k=k, **options).neighbours()


def distance_histograms(*sides, bins=200, **options):
    return search(*sides, bins=bins, **options).histograms()


def at_angles(degrees, pids, camids):
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return Embedded(torch.stack([radians.cos(), radians.sin()], 1).float(), pids, camids)


@pytest.fixture
def by_hand():
    #                    index   0   1   2   3    4    5    6
    gallery = at_angles(
        degrees=[10, 20, 30, 40, 100, 121, 170],
        pids=[1, -1, 0, 1, 2, 1, 2],
        camids=[1, 2, 2, 2, 1, 3, 3],
    )
    query = at_angles(degrees=[0, 180, 92, 5], pids=[1, 2, 2, 3], camids=[1, 2, 1, 1])
    return query, gallery


def test_a_hand_worked_example(by_hand):
    result = ranking(*by_hand, depth=5)
    # Index 1 is junk and never in a list. What each query finds, nearest first:
    # query 0 at   0°, passes over index 0 (its identity and camera):
    #     2 wrong (distractor), 3 RIGHT, 4 wrong, 5 RIGHT, 6 wrong
    #     AP = (1/2 + 2/4) / 2 = 1/2        INP = 2 answers / place 4 = 1/2     first 2
    # query 1 at 180°: 6 RIGHT, 5 wrong, 4 RIGHT, 3 wrong, 2 wrong, 0 wrong
    #     AP = (1/1 + 2/3) / 2 = 5/6        INP = 2 / 3                         first 1
    # query 2 at  92°, passes over index 4: 5 wrong, 3 wrong, 2 wrong, 6 RIGHT, 0 wrong
    #     AP = 1/4                          INP = 1 / 4                         first 4
    # query 3: nobody else shows identity 3: left out.
    np.testing.assert_allclose(result.average_precision, [1 / 2, 5 / 6, 1 / 4, math.nan])
    assert result.mAP == pytest.approx((1 / 2 + 5 / 6 + 1 / 4) / 3)
    assert result.mINP == pytest.approx((1 / 2 + 2 / 3 + 1 / 4) / 3)
    np.testing.assert_allclose(result.cmc, [1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert (result.num_query, result.num_unmatched, result.num_gallery) == (4, 1, 6)
    assert result.same_camera_removed


def test_the_nearest_of_the_hand_worked_example(by_hand):
    found = nearest(*by_hand, k=6)
    assert found.indices.tolist() == [
        [2, 3, 4, 5, 6, -1],
        [6, 5, 4, 3, 2, 0],
        [5, 3, 2, 6, 0, -1],
        [0, 2, 3, 4, 5, 6],
    ]
    assert found.distances[0, 0] == pytest.approx(1 - math.cos(math.radians(30)), abs=1e-7)
    assert found.distances[0, 5] == math.inf


def test_the_histograms_of_the_hand_worked_example(by_hand):
    counted = distance_histograms(*by_hand, bins=4)  # their edges stand at 60, 90 and 120 degrees
    # Degrees between each query and what it finds, right ones | wrong ones:
    # query 0: 40, 121 | 30, 100, 170       query 1: 80, 10 | 170, 150, 140, 59
    # query 2: 78 | 82, 62, 52, 29          query 3: none | 5, 25, 35, 95, 116, 165
    assert counted.edges.tolist() == [0, 0.5, 1, 1.5, 2]
    assert counted.same.tolist() == [2, 2, 0, 1]
    assert counted.different.tolist() == [7, 2, 3, 5]


def reference(query, gallery, depth):
    """The protocol in plain loops: (average precisions, inverse penalties, first places, lists)."""
    precisions, penalties, firsts, lists = [], [], [], []
    for q in range(len(query)):
        found = []
        for g in range(len(gallery)):
            pid = int(gallery.pids[g])
            if pid == -1:
                continue
            same = pid == int(query.pids[q])
            if same and query.camids is not None and query.camids[q] == gallery.camids[g]:
                continue
            found.append((round(distance(query, q, gallery, g), 12), g, same and pid > 0))
        found.sort()
        lists.append([g for _, g, _ in found])
        right = [place for place, (_, _, same) in enumerate(found, 1) if same]
        if right:
            precisions.append(sum(n / place for n, place in enumerate(right, 1)) / len(right))
            penalties.append(len(right) / right[-1])
            firsts.append(right[0])
    cmc = [sum(first <= k for first in firsts) / len(firsts) for k in range(1, depth + 1)]
    return precisions, penalties, cmc, lists


def distance(query, q, gallery, g):
    a, b = query.embeddings[q].tolist(), gallery.embeddings[g].tolist()
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / (math.hypot(*a) * math.hypot(*b))


def random_side(draw, count, *, ties, cameras):
    """Few identities, junk and distractors; with `ties`, few distances too, all exact."""
    if ties:  # cosines are multiples of 1/2
        rows = [[draw.choice([-0.5, 0.5]) for _ in range(4)] for _ in range(count)]
    else:
        rows = [[draw.gauss(0, 1) for _ in range(6)] for _ in range(count)]
    pids = [draw.choice([-1, 0, 1, 2, 3, 4, 5]) for _ in range(count)]
    camids = [draw.choice([1, 2, 3]) for _ in range(count)] if cameras else None
    return Embedded(torch.tensor(rows), pids, camids)


def random_case(seed):
    draw = random.Random(seed)
    kind = {"ties": seed % 2 == 0, "cameras": seed % 3 != 0}
    query = random_side(draw, draw.randint(6, 12), **kind)
    return query, random_side(draw, draw.randint(20, 50), **kind)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_a_slow_reference(seed):
    query, gallery = random_case(seed)
    precisions, penalties, cmc, lists = reference(query, gallery, depth=15)
    result = ranking(query, gallery, depth=15)
    own = result.average_precision
    np.testing.assert_allclose(own[~np.isnan(own)], precisions, rtol=1e-14)
    assert result.mAP == pytest.approx(sum(precisions) / len(precisions), rel=1e-14)
    assert result.mINP == pytest.approx(sum(penalties) / len(penalties), rel=1e-14)
    np.testing.assert_allclose(result.cmc, cmc, rtol=1e-14)
    assert result.num_unmatched == len(query) - len(precisions)
    assert result.same_camera_removed == (query.camids is not None)
    found = nearest(query, gallery, k=len(gallery))
    assert [[i for i in row if i >= 0] for row in found.indices.tolist()] == lists


def same_everywhere(results):
    first, *others = ([np.asarray(value) for value in dataclasses.astuple(r)] for r in results)
    return all(
        a.tobytes() == b.tobytes() for other in others for a, b in zip(first, other, strict=True)
    )


def near_ties():
    """512-d embeddings a few float32 steps apart: any matrix product's rounding reorders them."""
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(1, 512, generator=generator)
    cloud = base + 1e-6 * torch.randn(90, 512, generator=generator)
    pids = torch.randint(1, 8, (90,), generator=generator).numpy()
    camids = torch.randint(1, 4, (90,), generator=generator).numpy()
    return (
        Embedded(cloud[:20], pids[:20], camids[:20]),
        Embedded(cloud[20:], pids[20:], camids[20:]),
    )


@pytest.mark.parametrize("case", [*range(6), "near ties"])
def test_the_same_bits_in_blocks_of_any_size(case, monkeypatch):
    query, gallery = near_ties() if case == "near ties" else random_case(case)
    results, lists, histograms = [], [], []
    for rows, columns in [(1, 1), (7, 7), (1, 1000), (1000, 1), (1000, 1000)]:
        monkeypatch.setattr(distances, "tile_shape", lambda *_, r=rows, c=columns: (r, c))
        monkeypatch.setattr(rankings, "MAX_WHOLE_ROWS", rows)
        monkeypatch.setattr(rankings, "SORTED_COLUMNS", columns)
        results.append(ranking(query, gallery))
        lists.append(nearest(query, gallery))
        histograms.append(distance_histograms(query, gallery))
    assert same_everywhere(results)
    assert same_everywhere(lists)
    assert same_everywhere(histograms)


def test_cosines_on_the_grid_are_exact():
    query, gallery = near_ties()
    a = distances.on_grid(query, torch.arange(len(query)))
    b = distances.on_grid(gallery, torch.arange(len(gallery)))
    integers = a.long()[:, None] * b.long()  # below 2^52 each, and in sum
    assert torch.equal(a @ b.T, integers.sum(2).double())
    cosine = torch.nn.functional.cosine_similarity(
        query.embeddings.double()[:, None], gallery.embeddings.double(), dim=2
    )
    assert (a @ b.T / distances.GRID**2 - cosine).abs().max() < 2.0**-24


def test_block_bytes_changes_the_tiles_and_not_the_result():
    query, gallery = near_ties()
    assert distances.tile_shape(query, 1) == (1, 1)
    assert distances.tile_shape(query, BLOCK_BYTES)[0] == len(query)
    sizes = [1, 200_000, BLOCK_BYTES]
    for measure in (ranking, nearest, distance_histograms):
        assert same_everywhere([measure(query, gallery, block_bytes=size) for size in sizes])


def test_tiles_of_a_huge_gallery_stay_within_block_bytes():
    query = Embedded(torch.ones(10_000, 2), np.ones(10_000))
    rows, columns = distances.tile_shape(query, 1 << 26)
    assert rows == distances.MAX_ROWS
    assert 1 << 24 < rows * columns * 32 < 1 << 26


def test_whole_rows_of_a_huge_gallery_stay_within_block_bytes():
    gallery = Embedded(torch.ones(1_000_000, 1), np.arange(1_000_000) // 20)
    rows = rankings.rows_at_a_time(gallery, rankings.ROWS_BYTES)
    assert 200 < rows <= 268
    assert rows * len(gallery) * 8 < rankings.ROWS_BYTES
    assert rankings.rows_at_a_time(gallery, 1) == 1


def test_histograms_count_like_numpy():
    query, gallery = random_case(1)
    counted = distance_histograms(query, gallery, bins=30)
    pairs = [
        (distance(query, q, gallery, g), bool(query.pids[q] == gallery.pids[g]))
        for q, row in enumerate(reference(query, gallery, 1)[3])
        for g in row
    ]
    for same, counts in [(True, counted.same), (False, counted.different)]:
        expected, edges = np.histogram([d for d, s in pairs if s is same], 30, (0.0, 2.0))
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_allclose(counted.edges, edges)


def test_a_distance_of_two_falls_into_the_last_bin():
    one = torch.tensor([[0.6, 0.8]])
    counted = distance_histograms(Embedded(one, [1]), Embedded(torch.cat([one, -one]), [1, 2]))
    assert (counted.same[0], counted.different[-1]) == (1, 1)


def test_perfect_embeddings_score_one_everywhere():
    pids = np.repeat(np.arange(1, 11), 4)
    directions = torch.randn(11, 16, generator=torch.Generator().manual_seed(0))
    gallery = Embedded(directions[pids], pids, np.tile([1, 2, 3, 4], 10))
    query = Embedded(directions[1:], np.arange(1, 11), np.ones(10))
    result = ranking(query, gallery)
    assert (result.mAP, result.mINP) == (1.0, 1.0)
    assert result.cmc.tolist() == [1.0] * 50
    assert result.average_precision.tolist() == [1.0] * 10


@pytest.mark.parametrize("value", [1.0, -3.5, 0.0])
def test_constant_embeddings_score_like_the_gallery_order(value):
    pids = np.arange(100) % 10 + 1
    query = Embedded(torch.full((10, 8), value), np.arange(1, 11), np.zeros(10))
    result = ranking(query, Embedded(torch.full((100, 8), value), pids, np.ones(100)))
    # Identity i stands at places i, i + 10, …: the tie rule alone decides.
    assert result.cmc[:10].tolist() == pytest.approx([k / 10 for k in range(1, 11)])
    assert result.mAP < 0.3


def test_ties_go_by_gallery_index():
    query = Embedded(torch.tensor([[1.0, 0.0]]), [1])
    gallery = Embedded(torch.tensor([[0.0, 1.0]] * 5), [2, 1, 2, 1, 2])
    assert nearest(query, gallery, k=5).indices.tolist() == [[0, 1, 2, 3, 4]]
    assert ranking(query, gallery).average_precision.tolist() == [(1 / 2 + 2 / 4) / 2]


def test_length_does_not_matter():
    query, gallery = random_case(1)
    longer = Embedded(gallery.embeddings * 4, gallery.pids, gallery.camids)
    assert same_everywhere([ranking(query, gallery), ranking(query, longer)])


def test_a_zero_vector_is_at_distance_one():
    found = nearest(Embedded(torch.eye(2), [1, 2]), Embedded(torch.zeros(1, 2), [1]), k=1)
    assert found.distances.tolist() == [[1.0], [1.0]]


def test_without_cameras_nothing_is_passed_over():
    embeddings = torch.tensor([[1.0, 0.0]])
    known = ranking(
        Embedded(embeddings, [1], [1]),
        Embedded(embeddings.repeat(3, 1), [1, 2, 1], [1, 1, 2]),
    )
    unknown = ranking(Embedded(embeddings, [1]), Embedded(embeddings.repeat(3, 1), [1, 2, 1]))
    assert (known.mAP, known.same_camera_removed) == (1 / 2, True)
    assert (unknown.mAP, unknown.same_camera_removed) == ((1 + 2 / 3) / 2, False)


def test_a_junk_or_distractor_query_has_no_right_answer():
    embeddings = torch.eye(3)
    result = ranking(Embedded(embeddings, [-1, 0, 1]), Embedded(embeddings, [-1, 0, 1]))
    assert (result.num_query, result.num_unmatched, result.mAP) == (3, 2, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_embeddings_that_are_not_finite_are_refused(value):
    embeddings = torch.ones(5, 3)
    embeddings[2, 1] = value
    with pytest.raises(WeightsError, match="1 of 5 hold NaN or infinity, the first in row 2"):
        Embedded(embeddings, range(5))


@pytest.mark.parametrize("gallery_pids", [[2, 0, -1], [1, 1, 1], [0, 0, -1]])
def test_no_right_answer_at_all_is_an_error(gallery_pids):
    gallery = Embedded(torch.ones(3, 2), gallery_pids, [1, 1, 1])
    with pytest.raises(DatasetError, match="none of the 1 queries has an image of its identity"):
        ranking(Embedded(torch.ones(1, 2), [1], [1]), gallery)


def test_no_query_or_no_gallery_is_an_error():
    some, none = Embedded(torch.ones(1, 2), [1]), Embedded(torch.ones(0, 2), [])
    for query, gallery in [(none, some), (some, none)]:
        with pytest.raises(DatasetError):
            ranking(query, gallery)
        assert nearest(query, gallery, k=3).indices.shape == (len(query), 3)
        assert distance_histograms(query, gallery).different.sum() == 0


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"pids \(N,\), got \(3, 2\) and \(2,\)"):
        Embedded(torch.ones(3, 2), [1, 2])
    with pytest.raises(ValueError, match="camids"):
        Embedded(torch.ones(2, 2), [1, 2], [1])
    with pytest.raises(ValueError, match="both have camids"):
        ranking(Embedded(torch.ones(1, 2), [1], [1]), Embedded(torch.ones(1, 2), [1]))
    with pytest.raises(ValueError, match="2 components"):
        ranking(Embedded(torch.ones(1, 2), [1]), Embedded(torch.ones(1, 3), [1]))
