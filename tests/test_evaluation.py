"""Numbers and files of the evaluate stage, from a network that knows the answers."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deepsort_reid import files, model, reports
from deepsort_reid.augment import MEAN, STD
from deepsort_reid.errors import PackedError
from deepsort_reid.evaluation import Reader, evaluate
from deepsort_reid.packed import Part


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
    names = [f"{i}.jpg" for i in range(len(pids))]
    return Part(images, np.array(pids), np.array(camids), [str(pid) for pid in pids], names)


QUERY = part([1, 2, 3], [1, 1, 1])
GALLERY = part([1, 1, 2, 3, 0, -1, 3], [2, 1, 2, 2, 1, 1, 3], noise=5)
VAL = part([1, 2, 2], [1, 1, 2])


def reader(net: nn.Module, batch_size: int = 2) -> Reader:
    return Reader(net, mean=MEAN, std=STD, batch_size=batch_size, device=torch.device("cpu"))


def test_a_network_that_knows_finds_everyone() -> None:
    found = evaluate(reader(ColourNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2"])
    metrics = found.metrics()
    assert {metrics[key] for key in ("mAP", "mINP", "rank1", "rank20", "val_accuracy")} == {1.0}
    assert (metrics["queries"], metrics["gallery_images"]) == (3, 6)
    assert metrics["same_camera_removed"] is True
    assert all(not isinstance(value, (dict, list)) for value in metrics.values())


def test_one_that_knows_nothing_does_not() -> None:
    found = evaluate(reader(BlindNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2"])
    assert found.metrics()["mAP"] < 0.7


def test_without_cameras_nothing_is_removed() -> None:
    without = [part(p.pids.tolist(), [-1] * len(p)) for p in (QUERY, GALLERY, VAL)]
    found = evaluate(
        reader(ColourNet()),
        query=without[0],
        gallery=without[1],
        val=without[2],
        classes=["1", "2"],
    )
    metrics = found.metrics()
    assert (metrics["same_camera_removed"], metrics["cameras_known"]) == (False, False)
    assert "no cameras known" in reports.closing_summary(metrics, "")
    assert found.histograms.same.sum() == 5  # 2 of identity 1, 1 of 2, 2 of 3


def test_where_nobody_is_seen_by_two_cameras_nothing_is_removed() -> None:
    videos = [part([1, 2, 3], [1, 1, 2]), part([1, 1, 2, 3], [1, 1, 1, 2])]
    found = evaluate(
        reader(ColourNet()), query=videos[0], gallery=videos[1], val=VAL, classes=["1", "2"]
    )
    metrics = found.metrics()
    assert (metrics["same_camera_removed"], metrics["cameras_known"]) == (False, True)
    assert (metrics["mAP"], metrics["queries_without_match"]) == (1.0, 0)
    assert "nobody is seen by two cameras" in reports.closing_summary(metrics, "")


def test_embeddings_do_not_depend_on_the_batch() -> None:
    net = model.build("resnet18", 2, seed=0).double().float()
    one, many = (reader(net, size).embeddings(GALLERY, "gallery") for size in (1, 5))
    torch.testing.assert_close(one, many, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(len(GALLERY)))


def test_a_network_trained_on_other_identities() -> None:
    with pytest.raises(PackedError, match="the checkpoint knows 3 identities, val holds 2"):
        evaluate(
            reader(ColourNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2", "3"]
        )


def test_what_is_written(tmp_path: Path) -> None:
    found = evaluate(reader(ColourNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2"])
    written = reports.write_evaluation(
        tmp_path, found, query=QUERY, gallery=GALLERY, ranked_queries=2
    )
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    assert files.read_json(tmp_path / "metrics.json")["rank1"] == 1.0
    with (tmp_path / "cmc.csv").open() as file:
        assert next(csv.DictReader(file)) == {"k": "1", "found": "1.0"}
    with (tmp_path / "distances.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(float(row["same"]) for row in rows) == pytest.approx(1)
    for name in ("cmc.png", "distances.png", "ranked.jpg"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_the_ranked_page_shows_what_was_found() -> None:
    found = evaluate(reader(ColourNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2"])
    row = reports.ranked_row(found, QUERY, GALLERY, 2)
    assert [answer.right for answer in row.answers][:3] == [True, True, False]
    assert (row.answers[0].image == GALLERY.images[3]).all()
    assert len(row.answers) == 6  # no junk, and no more than there are


def test_the_closing_summary_names_the_protocol() -> None:
    found = evaluate(reader(ColourNet()), query=QUERY, gallery=GALLERY, val=VAL, classes=["1", "2"])
    text = reports.closing_summary(found.metrics(), "MLflow run one")
    assert "mAP 100.0%" in text
    assert "same identity and camera removed" in text
    assert "MLflow run one" in text
