"""What an evaluation has embedded is read by the next one, and never in place of something else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepsort_reid.data.loading.augment import MEAN, STD
from deepsort_reid.data.packed import Part
from deepsort_reid.evaluation import embedding
from deepsort_reid.evaluation.embedding import Embedder, EmbeddingCache
from deepsort_reid.model.embed import Predictor

MADE_OF = ("checkpoint", "images")


class Counting(nn.Module):
    """Counts the images that pass through it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0

    def features(self, images: Tensor) -> Tensor:
        self.passed += len(images)
        return images.mean((2, 3)) + 3

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def part(pids: list[int]) -> Part:
    images = np.random.default_rng(0).integers(0, 256, (len(pids), 8, 4, 3), np.uint8)
    names = [str(pid) for pid in pids]
    return Part(images, np.array(pids), np.array(pids), names, names)


PART = part([1, 2, 0, -1, 2])


def embedded(
    root: Path, made_of: tuple[str, ...] = MADE_OF, images: Part = PART
) -> tuple[list[Any], int]:
    """What an evaluation computes of a part, and how many images passed through its network."""
    predictor = Predictor(Counting(), mean=MEAN, std=STD, device=torch.device("cpu"))
    embed = Embedder(predictor, 2, EmbeddingCache(made_of, root))
    found = [
        embed(images, "query").tolist(),
        embed(images, "query", mirrored=True).tolist(),
        embed.accuracy(images),
    ]
    return found, predictor.net.passed  # type: ignore[return-value]


def test_the_next_evaluation_computes_nothing(tmp_path: Path) -> None:
    first, passed = embedded(tmp_path)
    assert passed == 4 + 4 + 5  # without junk; the validation part as a whole
    assert first[0][3] == [0, 0, 0]
    assert embedded(tmp_path) == (first, 0)


def test_another_checkpoint_does(tmp_path: Path) -> None:
    embedded(tmp_path)
    assert embedded(tmp_path, ("another", "images"))[1] == 13
    assert embedded(tmp_path)[1] == 0


def test_other_code_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded(tmp_path)
    monkeypatch.setattr(embedding, "ROOMS", ("model",))
    assert embedded(tmp_path)[1] == 13


def test_a_part_of_another_length_does(tmp_path: Path) -> None:
    embedded(tmp_path)
    assert embedded(tmp_path, images=part([1, 2, 3]))[1] == 9


@pytest.mark.parametrize("place", [0, 40, -120, -1])
def test_a_damaged_file_is_computed_again(tmp_path: Path, place: int) -> None:
    first, _ = embedded(tmp_path)
    for path in tmp_path.rglob("*.npz"):
        content = bytearray(path.read_bytes())
        content[place] ^= 0xFF
        path.write_bytes(content)
    assert embedded(tmp_path)[0] == first
    for path in tmp_path.rglob("*.npz"):
        content = bytearray(path.read_bytes())
        content[content.rfind(b"PK\x01\x02") + 8] ^= 1  # the flag that it is encrypted
        path.write_bytes(content)
    assert embedded(tmp_path)[0] == first
    for path in tmp_path.rglob("*.npz"):
        path.write_text("text,in,a,table")
    assert embedded(tmp_path)[0] == first
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    assert embedded(tmp_path)[0] == first
    assert embedded(tmp_path)[1] == 0


def test_the_newest_three_stay(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    for name in "abcde":
        embedded(tmp_path, (name,))
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3
    assert [embedded(tmp_path, (name,))[1] for name in "cde"] == [0, 0, 0]


def test_where_nothing_can_be_kept_an_evaluation_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with caplog.at_level("INFO"):
        first, passed = embedded(in_the_way)
    assert passed == 13
    assert "embeddings are not kept for the next evaluation: " in caplog.text
    assert first == embedded(tmp_path / "folder")[0]
