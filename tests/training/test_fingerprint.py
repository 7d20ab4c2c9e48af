"""Equal trainings have equal fingerprints, and what differs is named in order."""

import dataclasses
import json
from pathlib import Path

import pytest

from deepsort_reid.core.config import load_params
from deepsort_reid.training import fingerprint
from deepsort_reid.training.fingerprint import Fingerprint, differences, of_training
from deepsort_reid.training.ranks.distributed import ALONE

ROOT = Path(__file__).parents[2]
CONFIG = load_params(ROOT / "params.yaml").train


def test_the_same_training_has_the_same_key() -> None:
    one, other = (
        of_training(CONFIG, ALONE, data_digest="ab" * 32, bfloat16=False) for _ in range(2)
    )
    assert one.key() == other.key()
    assert differences(one, other) == []


def test_it_survives_json() -> None:
    here = of_training(CONFIG, ALONE, data_digest="ab" * 32, bfloat16=False)
    again = Fingerprint.from_plain(json.loads(json.dumps(here.as_plain())))
    assert again.key() == here.key()
    assert differences(here, again) == differences(again, here) == []


def test_the_code_is_what_the_stage_imports() -> None:
    code = fingerprint.code_digests()
    assert {"pipeline/train.py", "src/deepsort_reid/training/trainer.py"} <= set(code)
    assert "src/deepsort_reid/synthetic/person/cloth.py" not in code
    assert "src/deepsort_reid/training/fingerprint.py" not in fingerprint.code_digests(
        ROOT / "pipeline/split.py"
    )


def test_differences_are_named_data_first() -> None:
    there = of_training(CONFIG, ALONE, data_digest="ab" * 32, bfloat16=False)
    here = of_training(
        CONFIG.model_copy(update={"lr": 0.2, "freeze_layers": ("conv1",)}),
        dataclasses.replace(ALONE, world_size=2),
        data_digest="cd" * 32,
        bfloat16=False,
    )
    code = {**here.code, "pipeline/train.py": "0" * 64}
    lines = differences(there, dataclasses.replace(here, code=code))
    assert lines == [
        "data split: cdcdcdcdcdcd here, abababababab there",
        "parameter freeze_layers is ['conv1'] here, [] there",
        f"parameter lr is 0.2 here, {CONFIG.lr} there",
        "code pipeline/train.py differs",
        "environment: processes is 2 here, 1 there",
    ]


def test_something_more_is_a_difference() -> None:
    there = of_training(CONFIG, ALONE, data_digest="ab" * 32, bfloat16=False)
    here = dataclasses.replace(there, params={**there.params, "later": None})
    assert differences(there, here) == ["parameter later is None here, missing there"]


def test_pretrained_weights_are_data(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    keys = set()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        recipe = CONFIG.model_copy(update={"weights": str(path)})
        keys.add(of_training(recipe, ALONE, data_digest="ab" * 32, bfloat16=False).key())
    assert len(keys) == 2


@pytest.mark.parametrize("plain", [None, [], {}, {"data": {}}, dict.fromkeys(("data", "params"))])
def test_what_is_no_identity(plain: object) -> None:
    with pytest.raises(ValueError, match="it tells no data"):
        Fingerprint.from_plain(plain)
