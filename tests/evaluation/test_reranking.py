"""Re-ranking against the published method written out in full, and its promises of exactness."""

import math

import numpy as np
import pytest
import torch

from deepsort_reid.core.errors import DatasetError
from deepsort_reid.evaluation import distances, reranking
from deepsort_reid.evaluation.distances import TICKS, Embedded
from deepsort_reid.evaluation.ranking import ranking, ranking_by
from deepsort_reid.evaluation.reranking import reranked

STEP = 1 / TICKS
PAPER = {"k1": 20, "k2": 6, "weight": 0.3}


def literal(query, gallery, settings):
    """The method for image after image and set after set, by all distances at once.

    Returns:
        (num_query, num_gallery without junk) float64.
    """
    kept = gallery.embeddings[gallery.pids != -1]
    points = torch.cat([query.embeddings, kept]).double()
    points = points / points.norm(dim=1, keepdim=True).clamp_min(1e-300)
    squared = (points[:, None] - points).pow(2).sum(2).numpy()
    # A zero vector is at a cosine distance of 1 from everything but itself.
    nothing = (points == 0).all(1).numpy()
    squared[nothing] = squared[:, nothing] = 2.0
    np.fill_diagonal(squared, 0)
    count = len(squared)

    ranked = [
        sorted(range(count), key=lambda j, i=i: (j != i, round(squared[i][j], 9), j))
        for i in range(count)
    ]
    d = squared / np.maximum(squared.max(axis=1, keepdims=True), 1e-9)

    def reciprocal(i, k):
        return {j for j in ranked[i][: k + 1] if i in ranked[j][: k + 1]}

    v = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, settings["k1"])
        members = set(own)
        for q in own:
            others = reciprocal(q, round(settings["k1"] / 2))
            if 3 * len(others & own) > 2 * len(others):
                members |= others
        for j in members:
            v[i, j] = math.exp(-d[i, j])
        v[i] /= v[i].sum()
    v = np.array(
        [np.mean([v[j] for j in ranked[i][: settings["k2"]]], axis=0) for i in range(count)]
    )

    final = np.zeros((len(query), len(kept)))
    for i in range(len(query)):
        for g in range(len(kept)):
            j = len(query) + g
            overlap, union = np.minimum(v[i], v[j]).sum(), np.maximum(v[i], v[j]).sum()
            final[i, g] = (1 - settings["weight"]) * (1 - overlap / union) + settings["weight"] * d[
                i, j
            ]
    return final


def dense(query, gallery, settings, **options):
    """Our distances in one array, and the gallery positions of its columns."""
    tiles = list(reranked(query, gallery, **settings, **options))
    assert torch.equal(torch.cat([tile.rows for tile in tiles]), torch.arange(len(query)))
    assert all(torch.equal(tile.columns, tiles[0].columns) for tile in tiles)
    return torch.cat([tile.ticks for tile in tiles]).numpy() * STEP, tiles[0].columns.tolist()


def case(seed, num_query=12, num_gallery=60, *, people=6, ties=False):
    """Clusters of people, distractors and junk between them; with `ties`, few exact distances."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(people + 1, 8))
    sides = []
    for count, lowest in [(num_query, 1), (num_gallery, -1)]:
        pids = draw.integers(lowest, people + 1, count)
        points = centres[np.maximum(pids, 0)] * (pids > 0)[:, None]
        points = points + 0.6 * draw.normal(size=(count, 8))
        if ties:  # cosines are multiples of 1/4
            points = np.where(points[:, :4] > 0, 0.5, -0.5)
        embeddings = torch.from_numpy(points).float()
        sides.append(Embedded(embeddings, pids, draw.integers(1, 4, count)))
    return sides[0], sides[1]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "settings",
    [
        PAPER,
        {"k1": 5, "k2": 1, "weight": 0.3},
        {"k1": 7, "k2": 3, "weight": 0.0},
        {"k1": 1, "k2": 2, "weight": 0.5},
        {"k1": 4, "k2": 9, "weight": 0.3},  # averages over more than k1
        {"k1": 500, "k2": 600, "weight": 0.3},  # and over more than there are
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_agrees_with_the_method_written_out(seed, settings):
    query, gallery = case(seed, ties=seed % 2 == 1)
    ours, columns = dense(query, gallery, settings)
    assert columns == (gallery.pids != -1).nonzero().flatten().tolist()
    # The grid of embeddings turns a direction by up to 2^-26 in each component.
    np.testing.assert_allclose(ours, literal(query, gallery, settings), atol=2e-8)


def test_the_original_distance_alone_keeps_the_order():
    query, gallery = case(0)
    settings = {"k1": 20, "k2": 6, "weight": 1.0}
    ours, _ = dense(query, gallery, settings)
    np.testing.assert_allclose(ours, literal(query, gallery, settings), atol=2e-8)
    plain = ranking(query, gallery)
    again = ranking_by(reranked(query, gallery, **settings), query, gallery)
    assert np.array_equal(plain.average_precision, again.average_precision, equal_nan=True)
    assert np.array_equal(plain.cmc, again.cmc)


def test_who_shares_neighbours_comes_nearer():
    """A chain of views of one person, and somebody else who is nearer to its end than its start."""
    degrees = torch.tensor([0.0, 8, 16, 24, 32, -34, -35, -36]).deg2rad()
    points = torch.stack([degrees.cos(), degrees.sin()], 1)
    query = Embedded(points[4:5], [1])
    gallery = Embedded(torch.cat([points[:4], -points[5:]]), [1, 1, 1, 1, 2, 2, 2])
    settings = {"k1": 3, "k2": 2, "weight": 0.3}
    before = ranking(query, gallery)
    after = ranking_by(reranked(query, gallery, **settings), query, gallery)
    assert before.mAP <= after.mAP == 1.0


def test_people_stand_out_of_the_noise():
    query, gallery = case(3, 40, 400, people=20)
    before, after = (
        ranking(query, gallery),
        ranking_by(reranked(query, gallery, **PAPER), query, gallery),
    )
    assert after.mAP > before.mAP
    assert (after.num_query, after.num_gallery) == (40, before.num_gallery)
    assert after.num_unmatched == before.num_unmatched


def by_hand(final, query, gallery, columns):
    """Average precisions of given distances in plain loops."""
    precisions = []
    for q, row in enumerate(final):
        found = []
        for d, g in zip(row, columns, strict=True):
            same = int(gallery.pids[g]) == int(query.pids[q])
            if same and gallery.camids[g] == query.camids[q]:
                continue
            found.append((d, g, same and int(query.pids[q]) > 0))
        right = [place for place, (_, _, same) in enumerate(sorted(found), 1) if same]
        precision = [n / place for n, place in enumerate(right, 1)]
        precisions.append(np.mean(precision) if right else math.nan)
    return precisions


@pytest.mark.parametrize("seed", range(4))
def test_the_protocol_is_that_of_the_ranking(seed):
    query, gallery = case(seed, ties=seed % 2 == 1)
    result = ranking_by(reranked(query, gallery, **PAPER), query, gallery)
    final, columns = dense(query, gallery, PAPER)
    expected = by_hand(final, query, gallery, columns)
    np.testing.assert_allclose(result.average_precision, expected)
    # Given the distances of the embeddings themselves, it says what `ranking` says, to the bit.
    plain = distances.whole_rows("", query, gallery, rows=3)
    given, own = ranking_by(plain, query, gallery), ranking(query, gallery)
    assert given.average_precision.tobytes() == own.average_precision.tobytes()
    assert (given.mAP, given.mINP, given.num_gallery) == (own.mAP, own.mINP, own.num_gallery)
    assert given.cmc.tobytes() == own.cmc.tobytes()


def test_the_same_bits_in_blocks_of_any_size(monkeypatch):
    query, gallery = case(5, ties=True)
    whole = dense(query, gallery, PAPER)[0]
    for rows, block_bytes in [(1, 1), (5, 20_000), (1000, 1 << 20)]:
        monkeypatch.setattr(reranking, "ENCODED_ROWS", rows)
        assert dense(query, gallery, PAPER, block_bytes=block_bytes)[0].tobytes() == whole.tobytes()


def test_whole_rows_stay_within_block_bytes():
    query, gallery = case(0, num_gallery=200)
    listed = int((gallery.pids != -1).sum())
    tiles = list(reranked(query, gallery, **PAPER, block_bytes=100_000))
    assert {tuple(tile.ticks.shape) for tile in tiles} == {(5, listed), (2, listed)}
    assert all(tile.ticks.numel() * 96 <= 100_000 for tile in tiles)


def test_junk_is_no_neighbour():
    query, gallery = case(1)
    kept = gallery.pids != -1
    without = Embedded(gallery.embeddings[kept], gallery.pids[kept], gallery.camids[kept])
    assert len(without) < len(gallery)
    assert np.array_equal(dense(query, gallery, PAPER)[0], dense(query, without, PAPER)[0])


def test_an_image_is_its_own_nearest_among_many_that_are_alike():
    query = Embedded(torch.ones(3, 4), [1, 2, 3])
    gallery = Embedded(torch.ones(40, 4), np.arange(40) % 3 + 1)
    found = reranking.neighbourhood(reranking.merged(query, gallery), 5)
    assert found.nearest[:, 0].tolist() == list(range(43))
    assert found.nearest[20].tolist() == [20, 0, 1, 2, 3]
    settings = {"k1": 4, "k2": 2, "weight": 0.3}
    ours, _ = dense(query, gallery, settings)
    np.testing.assert_allclose(ours, literal(query, gallery, settings), atol=2e-8)


@pytest.mark.parametrize("k1", [4, 50])
@pytest.mark.parametrize("ties", [False, True])
def test_one_identity_and_duplicates_and_a_zero_vector(ties, k1):
    query, gallery = case(2, 3, 10, people=1, ties=ties)
    points = torch.cat([gallery.embeddings, query.embeddings, gallery.embeddings[:4]])
    points[1] = 0
    gallery = Embedded(points, [1] * len(points), [9] * len(points))
    settings = {"k1": k1, "k2": 2, "weight": 0.3}
    ours, _ = dense(query, gallery, settings)
    np.testing.assert_allclose(ours, literal(query, gallery, settings), atol=2e-8)
    assert ranking_by(reranked(query, gallery, **settings), query, gallery).mAP == 1.0


def test_a_gallery_of_one():
    query, gallery = Embedded(torch.eye(2)[:1], [1]), Embedded(torch.eye(2)[1:], [1])
    ours, _ = dense(query, gallery, PAPER)
    np.testing.assert_allclose(ours, literal(query, gallery, PAPER), atol=2e-8)
    assert ranking_by(reranked(query, gallery, **PAPER), query, gallery).mAP == 1.0


def test_what_does_not_belong_together_or_holds_nothing():
    one = Embedded(torch.ones(1, 2), [1], [1])
    with pytest.raises(ValueError, match="2 components, the gallery's 3"):
        next(reranked(one, Embedded(torch.ones(1, 3), [1], [1]), **PAPER))
    with pytest.raises(ValueError, match="both have camids"):
        ranking_by([], one, Embedded(torch.ones(1, 2), [1]))
    for pids in ([], [-1], [0], [1]):  # nobody, junk, a distractor, the query's own camera
        gallery = Embedded(torch.ones(len(pids), 2), pids, [1] * len(pids))
        with pytest.raises(DatasetError, match="none of the 1 queries"):
            ranking_by(reranked(one, gallery, **PAPER), one, gallery)
