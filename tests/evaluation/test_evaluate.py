"""Numbers and files of the evaluate stage, from a network that knows the answers."""

import csv
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from deepsort_reid.core import files
from deepsort_reid.core.config import load_params
from deepsort_reid.core.errors import PackedError
from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import Part, open_part
from deepsort_reid.data.samples import JUNK
from deepsort_reid.evaluation import plots, report
from deepsort_reid.evaluation.distances import Embedded
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.evaluation.evaluate import (
    Evaluation,
    evaluate,
    flip_averaged,
    sides_to_calibrate,
)
from deepsort_reid.evaluation.pairs import Sightings
from deepsort_reid.model import checkpoint, network, onnx_graph
from deepsort_reid.model import embed as embedding
from deepsort_reid.model.device import computing
from deepsort_reid.model.embed import Predictor
from tests.support import stages
from tests.support.projects import read, run_of


class ColourNet(nn.Module):
    """Its features are the mean colour, which tells identities apart; class 1 is the reddest."""

    feature_size = 3

    def features(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + 3

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([-images[:, 0].mean((1, 2)), images[:, 0].mean((1, 2))], 1)


class BlindNet(ColourNet):
    """Everything looks the same to it."""

    def features(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 3)


def part(pids: list[int], camids: list[int], noise: int = 0) -> Part:
    palette = {
        1: (10, 200, 10),
        2: (230, 10, 10),
        3: (10, 10, 240),
        0: (128, 128, 128),
        -1: (0, 0, 0),
    }
    images = np.stack([np.full((32, 16, 3), palette[pid], np.uint8) for pid in pids])
    images[:, ::2] += np.uint8(noise)
    names = [f"c{camid}s1_{i}.jpg" for i, camid in enumerate(camids)]
    return Part(images, np.array(pids), np.array(camids), [str(pid) for pid in pids], names)


QUERY = part([1, 2, 3], [1, 1, 1])
GALLERY = part([1, 1, 2, 3, 0, -1, 3], [2, 1, 2, 2, 1, 1, 3], noise=5)
VAL = part([1, 2, 2], [1, 1, 2])


CONFIG = load_params(stages.ROOT / "params.yaml").evaluate.model_copy(
    update={"batch_size": 2, "false_match_rate": 0.2, "rerank_k1": 2, "rerank_k2": 1}
)


def search(
    net: nn.Module,
    query: Part = QUERY,
    gallery: Part = GALLERY,
    val: Part = VAL,
    classes: Sequence[str] = ("1", "2"),
    *,
    tuning: bool = False,
    **options: bool,
) -> Evaluation:
    return evaluate(
        Embedder(predictor(net), CONFIG.batch_size),
        query,
        gallery,
        val,
        classes=classes,
        config=CONFIG.model_copy(update=options),
        tuning=tuning,
    )


class LeftNet(ColourNet):
    """It sees the left half of an image alone."""

    def features(self, images: Tensor) -> Tensor:
        return images[..., : images.shape[3] // 2].mean((2, 3)) + 3


def half(pids: list[int], camids: list[int], *, left: bool) -> Part:
    """Images whose colour is on one side, the other being grey."""
    found = part(pids, camids)
    images = found.images.copy()
    images[:, :, slice(8, None) if left else slice(None, 8)] = 128
    return Part(images, found.pids, found.camids, found.classes, found.names)


def predictor(net: nn.Module) -> Predictor:
    return Predictor(net, mean=MEAN, std=STD, device=torch.device("cpu"))


def closing(found: Evaluation) -> str:
    return report.closing_summary(report.contents(found), found.calibration.summary())


def embeddings(
    net: nn.Module, part: Part, batch_size: int = 2, *, mirrored: bool = False
) -> Tensor:
    return Embedder(predictor(net), batch_size)(part, "part", mirrored=mirrored)


def test_a_network_that_knows_finds_everyone() -> None:
    found = search(ColourNet())
    metrics = found.metrics()
    assert {metrics[key] for key in ("mAP", "mINP", "rank1", "rank20", "val_accuracy")} == {1.0}
    assert (metrics["queries"], metrics["gallery_images"]) == (3, 6)
    assert metrics["same_camera_removed"] is True
    assert all(not isinstance(value, (dict, list)) for value in metrics.values())


def test_one_that_knows_nothing_does_not() -> None:
    found = search(BlindNet())
    assert found.metrics()["mAP"] < 0.7


def test_the_threshold_lies_between_one_person_and_two() -> None:
    found = search(ColourNet())
    # Within camera 1: identity 1 with image 1, and with 1, 2 and 3 each of the others but junk.
    assert found.calibration.kinds["within"].same.sum() == 1
    assert found.calibration.kinds["within"].different.sum() == 5
    metrics = found.metrics()
    assert (metrics["tmr_within"], metrics["tmr_across"], metrics["eer_across"]) == (1, 1, 0)
    assert 0 < metrics["max_cosine_distance"] < 1


def test_doubts_about_the_threshold_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    search(BlindNet())
    assert "no threshold keeps them apart" in caplog.text


def test_without_cameras_nothing_is_removed() -> None:
    without = [part(p.pids.tolist(), [-1] * len(p)) for p in (QUERY, GALLERY, VAL)]
    found = search(ColourNet(), *without)
    metrics = found.metrics()
    assert (metrics["same_camera_removed"], metrics["cameras_known"]) == (False, False)
    assert "cameras unknown" in closing(found)
    assert list(found.calibration.kinds) == ["all"]
    assert found.histograms.same.sum() == 5  # 2 of identity 1, 1 of 2, 2 of 3


def test_where_nobody_is_seen_by_two_cameras_nothing_is_removed() -> None:
    videos = [part([1, 2, 3], [1, 1, 2]), part([1, 1, 1, 2, 3], [1, 1, 1, 1, 2])]
    found = search(ColourNet(), *videos)
    assert list(found.calibration.kinds) == ["within", "track"]
    metrics = found.metrics()
    assert (metrics["same_camera_removed"], metrics["cameras_known"]) == (False, True)
    assert (metrics["mAP"], metrics["queries_without_match"]) == (1.0, 0)
    assert "nobody is seen by two cameras" in closing(found)


def test_embeddings_do_not_depend_on_the_batch() -> None:
    """And junk has none."""
    net = network.build(network.Design(), 2, seed=0)
    one, many = (embeddings(net, GALLERY, size) for size in (1, 5))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)
    expected = torch.from_numpy((GALLERY.pids != JUNK).astype(np.float32))
    torch.testing.assert_close(one.norm(dim=1), expected)
    assert 0 < expected.mean() < 1


def test_many_images_are_embedded_by_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same numbers but for rounding."""
    net = network.build(network.Design("resnet10d_x0_5"), 2, image_size=GALLERY.image_size, seed=0)
    predictor = Predictor(net, mean=MEAN, std=STD, device=torch.device("cpu"))
    embed = Embedder(predictor, 5)
    plain = embed(GALLERY, "gallery")
    predictor.prepare_for(len(GALLERY), GALLERY.image_size)
    assert predictor.run is None  # they are few
    monkeypatch.setattr(embedding, "MANY", 3)
    predictor.prepare_for(len(GALLERY), GALLERY.image_size)
    assert predictor.run
    torch.testing.assert_close(embed(GALLERY, "gallery"), plain, rtol=1e-4, atol=1e-5)
    mirrored = embed(GALLERY, "gallery", mirrored=True)
    predictor.run = None
    torch.testing.assert_close(
        embed(GALLERY, "gallery", mirrored=True),
        mirrored,
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("fault", ["no package", "no such layer", "other numbers"])
def test_torch_embeds_many_where_onnx_runtime_does_not(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    predictor = Predictor(
        network.build(network.Design("resnet10d_x0_5"), 2), mean=MEAN, std=STD,
        device=torch.device("cpu"),
    )  # fmt: skip
    monkeypatch.setattr(embedding, "MANY", 3)
    if fault == "other numbers":
        monkeypatch.setattr(embedding, "traced", lambda *_: lambda _: np.zeros((3, 256)))
    else:
        error = ModuleNotFoundError if fault == "no package" else RuntimeError
        monkeypatch.setattr(onnx_graph, "as_onnx", raising(error))
    predictor.prepare_for(len(GALLERY), GALLERY.image_size)
    assert predictor.run is None


def raising(error: type[Exception]) -> Any:
    def raise_it(*_: Any) -> None:
        raise error("here")

    return raise_it


def test_an_image_and_its_mirror_image_have_one_mean_embedding() -> None:
    net = LeftNet()
    pids, camids = [1, 2, 3], [1, 1, 1]
    means = []
    for left in (True, False):
        images = half(pids, camids, left=left)
        plain = Embedded(embeddings(net, images), images.pids, images.camids)
        mean, _ = flip_averaged((plain, plain), (embeddings(net, images, mirrored=True),) * 2)
        means.append(mean.embeddings)
        assert torch.equal(mean.pids, plain.pids)
        mirror = half(pids, camids, left=not left)  # each colour is even, so this is the image's
        both = plain.embeddings + embeddings(net, mirror)
        torch.testing.assert_close(mean.embeddings, F.normalize(both))
        assert not torch.allclose(mean.embeddings, plain.embeddings, atol=1e-3)
    torch.testing.assert_close(*means)
    torch.testing.assert_close(means[0].norm(dim=1), torch.ones(3))


def test_options_add_numbers_and_change_none() -> None:
    query, gallery = half([1, 2, 3], [1, 1, 1], left=True), half([1, 3, 2], [2, 2, 2], left=False)
    plain = search(LeftNet(), query, gallery).metrics()
    assert plain["mAP"] < 1
    both = search(LeftNet(), query, gallery, flip=True, rerank=True).metrics()
    assert plain.items() < both.items(), "what trackers use must not depend on the options"
    names = [f"rank{k}" for k in (1, 5, 10, 20)] + ["mAP", "mINP"]
    added = {name + ending for name in names for ending in ("_flip", "_reranked")}
    assert both.keys() - plain.keys() == added | {"reranked_flip"}
    assert (both["mAP_flip"], both["mAP_reranked"], both["reranked_flip"]) == (1.0, 1.0, True)
    alone = search(LeftNet(), query, gallery, rerank=True).metrics()
    assert "mAP_flip" not in alone
    assert alone["reranked_flip"] is False
    assert alone["mAP_reranked"] < 1, "without flip, plain embeddings are re-ranked"


def test_re_ranking_follows_the_protocol_of_the_search() -> None:
    """Where nobody is seen by two cameras, nothing is passed over: nor by the options."""
    videos = [part([1, 2, 3], [1, 1, 2]), part([1, 1, 1, 2, 3], [1, 1, 1, 1, 2])]
    metrics = search(ColourNet(), *videos, flip=True, rerank=True).metrics()
    assert metrics["same_camera_removed"] is False
    assert (metrics["mAP_flip"], metrics["mAP_reranked"]) == (1.0, 1.0)


def test_the_closing_summary_has_a_line_for_each_option() -> None:
    def ends(*, flip: bool, rerank: bool) -> list[str]:
        found = search(ColourNet(), flip=flip, rerank=rerank)
        lines = closing(found).splitlines()
        assert len(lines) <= 8
        return [line.split("   ")[-1] for line in lines if line.startswith("  mAP")]

    assert ends(flip=False, rerank=False) == ["rank-20 100.0%"]
    assert ends(flip=True, rerank=False) == ["rank-20 100.0%", "with mirror images"]
    assert ends(flip=False, rerank=True) == ["rank-20 100.0%", "re-ranked"]
    assert ends(flip=True, rerank=True)[2] == "re-ranked with mirror images"


@pytest.mark.slow
def test_the_stage_with_both_options(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages.write_params(workspace, {"epochs": 1})
    for stage in ("download", "split", "train", "evaluate"):
        stages.run(stage)
    before = read(workspace / "reports/evaluation.json")
    options = {"evaluate.flip": True, "evaluate.rerank": True, "evaluate.rerank_k1": 3}
    stages.write_params(workspace, {"epochs": 1, **options})
    stages.run("evaluate")
    after = read(workspace / "reports/evaluation.json")
    assert {name: after[name] for name in before} == before
    logged = run_of(workspace).data.metrics
    for name, metric in (
        ("mAP_flip", "reid/mAP_flip"),
        ("mAP_reranked", "reid/mAP_reranked"),
        ("rank10_reranked", "reid/rank-10_reranked"),
    ):
        assert 0 < after[name] <= 1
        assert logged[metric] == after[name]
    assert after["reranked_flip"] is True
    out = capsys.readouterr().out
    assert f"mAP {after['mAP_reranked']:.1%}" in out
    assert "re-ranked with mirror images" in out
    assert run_of(workspace).data.tags["too_few"].startswith("ranking: queries: ")
    # The parameters came through: the same by hand.
    net, description = checkpoint.load(workspace / "models/model.pth")
    with computing():  # as many threads as the stage has
        again = evaluate(
            Embedder(predictor(net), CONFIG.batch_size),
            *(open_part(workspace / "data/split", name) for name in ("query", "gallery", "val")),
            classes=description.classes,
            config=load_params().evaluate.model_copy(update={"flip": True, "rerank": True}),
            tuning=False,
        )
    assert again.metrics()["mAP_reranked"] == pytest.approx(after["mAP_reranked"], abs=1e-12)


def test_a_network_trained_on_other_identities() -> None:
    with pytest.raises(PackedError, match="the checkpoint knows 3 identities, val holds 2"):
        search(ColourNet(), classes=["1", "2", "3"])


def test_what_is_written(tmp_path: Path) -> None:
    found = search(ColourNet())
    written = report.write_evaluation(
        tmp_path, found, query=QUERY, gallery=GALLERY, ranked_queries=2
    )
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    assert files.read_json(tmp_path / "evaluation.json")["rank1"] == 1.0
    with (tmp_path / "cmc.csv").open() as file:
        assert next(csv.DictReader(file)) == {"k": "1", "found": "1.0"}
    with (tmp_path / "distances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["same"]) for row in rows) == pytest.approx(1)
    metrics = files.read_json(tmp_path / "evaluation.json")
    table = files.read_json(tmp_path / "calibration.json")
    assert table["max_cosine_distance"] == metrics["max_cosine_distance"]
    assert table["kinds"]["within"]["equal_error_rate"]["value"] == metrics["eer_within"] == 0.0
    with (tmp_path / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [rows[-1][name] for name in ("log10_false_match_rate", "within", "across", "all")] == [
        "0.0", "1.0", "1.0", "",
    ]  # fmt: skip
    assert rows[0]["within"] == "", "four pairs tell nothing of a rate of 1e-4"
    for name in ("cmc.png", "distances.png", "calibration.png", "ranked.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_the_ranked_page_shows_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = []
    monkeypatch.setattr(plots, "_query_cell", lambda *_: None)
    monkeypatch.setattr(plots, "_gallery_cell", lambda *args: cells.append(args[3:]))
    found = search(ColourNet())
    plots.ranked_page(
        tmp_path / "page.png",
        QUERY,
        GALLERY,
        ranking=found.ranking,
        neighbours=found.neighbours,
        chosen=[2],
    )
    shown = [index for index, *_ in cells]
    assert set(shown[:2]) == {3, 6}
    assert [right for *_, right in cells] == [True, True, False, False, False, False]
    assert 5 not in shown, "no junk, and no more than there are"


def test_the_closing_summary_names_the_protocol() -> None:
    text = closing(search(ColourNet()))
    assert "mAP 100.0%" in text
    assert "3 queries of 3 identities, 6 gallery images; matches under another camera" in text
    assert "max_cosine_distance 0." in text


def test_a_result_on_people_held_out_to_choose_by_says_so() -> None:
    chosen, tested = (search(ColourNet(), tuning=tuning) for tuning in (True, False))
    assert (chosen.metrics()["tuning"], tested.metrics()["tuning"]) == (True, False)
    told = [closing(found) for found in (chosen, tested)]
    assert ["identities held out for tuning" in text for text in told] == [True, False]


def many(count: int) -> tuple[Part, Part, Part]:
    """Query, gallery and val of so many identities, which a network tells apart by colour."""
    pids = np.arange(1, count + 1)
    colours = np.stack([5 * pids, 255 - 5 * pids, 100 + pids], 1).astype(np.uint8)
    images = np.broadcast_to(colours[:, None, None], (count, 32, 16, 3))

    def seen(camera: int, frame: int) -> Part:
        names = [f"c{camera}s1_{frame:06}_{pid}.jpg" for pid in pids]
        return Part(images, pids, np.full(count, camera), [str(pid) for pid in pids], names)

    query, other, again = seen(1, 1), seen(2, 1), seen(1, 2)
    gallery = Part(
        np.concatenate([other.images, again.images]),
        np.concatenate([other.pids, again.pids]),
        np.concatenate([other.camids, again.camids]),
        [*other.identities, *again.identities],
        [*other.names, *again.names],
    )
    classes = np.arange(count) % 2 + 1
    return query, gallery, replace(query, pids=classes, identities=[str(pid) for pid in classes])


def test_numbers_that_rest_on_too_little_say_so(tmp_path: Path) -> None:
    """Two queries were once reported as a mAP of 98.9 % without a word."""
    few = search(ColourNet(), *many(2))
    report.write_evaluation(tmp_path, few, query=many(2)[0], gallery=many(2)[1], ranked_queries=1)
    content = files.read_json(tmp_path / "evaluation.json")
    assert content["meaningful"] is False
    assert content["too_few"] == {
        "ranking": "queries: 2 (needs 20), identities: 2 (needs 20)",
        "threshold": "identities: 2 (needs 20), pairs of one person: 2 (needs 20), "
        "pairs of two people: 2 (needs 50)",
        "val_accuracy": "images: 2 (needs 20)",
    }
    lines = closing(few).splitlines()
    for mark in (
        "  not meaningful, too few queries: 2 (needs 20), identities: 2 (needs 20)",
        "  not meaningful, too few identities: 2 (needs 20), pairs of one person: 2 (needs 20), "
        "pairs of two people: 2 (needs 50)",
    ):
        assert mark in lines
    assert "of 2 images; not meaningful, too few images: 2 (needs 20)" in closing(few)
    assert len(lines) <= 8


def test_numbers_that_rest_on_enough_say_how_much() -> None:
    enough = search(ColourNet(), *many(20))
    content = report.contents(enough)
    assert (content["meaningful"], content["too_few"]) == (True, {})
    counts = ("queries", "query_identities", "val_images", "pairs_of_one_person")
    assert [content[name] for name in counts] == [20] * 4
    assert content["pairs_of_two_people"] == 20 * 19
    text = closing(enough)
    assert "meaningful" not in text
    assert "20 queries of 20 identities, 40 gallery images" in text
    assert "of 20 images" in text
    assert "of 20 pairs of one person match, 19.5% of 380 pairs of two" in text


def test_a_query_without_a_right_answer_does_not_count() -> None:
    query, gallery, val = many(20)
    gallery = Part(*(getattr(gallery, f.name)[1:] for f in fields(Part) if f.name != "extra"))
    found = search(ColourNet(), query, gallery, val)
    assert found.too_few()["ranking"] == "queries: 19 (needs 20), identities: 19 (needs 20)"


def test_the_run_gets_numbers_in_sections_and_counts_as_tags() -> None:
    metrics = search(ColourNet(), flip=True, rerank=True).metrics()
    measured, told = report.numbers_of_run(metrics)
    assert len(measured) + len(told) == len(metrics)
    assert {name.partition("/")[0] for name in measured} == {"reid", "val", "calibration"}
    for name, reported in {
        "reid/mAP": "mAP",
        "reid/rank-1": "rank1",
        "reid/rank-20_flip": "rank20_flip",
        "reid/mINP_reranked": "mINP_reranked",
        "val/accuracy": "val_accuracy",
    }.items():
        assert measured[name] == metrics[reported]
    assert not [name for name, value in measured.items() if isinstance(value, bool)]
    assert told["reid.queries"] == metrics["queries"]
    assert told["reid.same_camera_removed"] is True


def test_a_version_is_described_by_data_scores_and_threshold() -> None:
    metrics = search(ColourNet()).metrics()
    enough = {"ranking": "", "threshold": ""}
    text = report.describe_version(
        metrics | {"max_cosine_distance": 0.25}, data="street (ab12)", too_few=enough
    )
    assert text == (
        f"Trained on street (ab12); mAP 100.0%, rank-1 100.0% ({metrics['queries']} queries, "
        f"{metrics['gallery_images']} gallery images); max_cosine_distance 0.250"
    )
    del metrics["max_cosine_distance"]
    few = {"ranking": "queries: 3 (needs 20)", "threshold": ""}
    text = report.describe_version(metrics, data="street (ab12)", too_few=few)
    assert text.endswith(
        "; no max_cosine_distance could be recommended; "
        "ranking not meaningful, too few queries: 3 (needs 20)"
    )


def test_in_videos_neighbours_in_time_are_compared_for_the_threshold() -> None:
    """A query lies half a track from its answers; a tracker compares frames that follow."""

    def seen(pids: list[int], frames: list[int], camera: int = 1) -> Sightings:
        images = Embedded(torch.ones(len(pids), 2), pids, [camera] * len(pids))
        return Sightings(images, frames)

    query = seen([1, 2], [300, 300])
    gallery = seen([1, 2, 1, 2, 1, 2, 0, -1], [1, 1, 11, 11, 6, 6, 3, 3])

    def told(side: Sightings) -> list[tuple[int, int]]:
        assert side.moments is not None
        return [*zip(side.images.pids.tolist(), side.moments.tolist(), strict=True)]

    both = [told(side) for side in sides_to_calibrate(query, gallery)]
    assert both == [[(1, 1), (1, 11), (2, 6)], [(1, 6), (2, 1), (2, 11)]]
    # Where somebody is seen by two cameras, queries ask.
    assert sides_to_calibrate(seen([1], [300], camera=2), gallery)[1] is gallery
