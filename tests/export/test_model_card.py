"""The card says what a network is and was measured on, to people and to Hugging Face's tools."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from deepsort_reid.core.config import load_params, parse
from deepsort_reid.core.errors import ConfigError, ReportError
from deepsort_reid.core.yaml_file import read_yaml
from deepsort_reid.data.packed import Summary
from deepsort_reid.export.export import Export
from deepsort_reid.export.formats import FORMS
from deepsort_reid.export.model_card import Record, Source, model_card
from tests.support.exports import CALIBRATION, EVALUATION, trained
from tests.support.stages import ROOT, load

OF_PART = {"images": 1200, "identities": 96, "cameras": 4}
SUMMARY = Summary("folders", "cd" * 32, tuning=False, counts={"train": OF_PART, "val": OF_PART},
                  files={})  # fmt: skip
MADE = trained("osnet_x0_25", (64, 32))
IDENTITY = {
    "params": {"epochs": 12, "seed": 3, "lr": 0.002, "weights": None, "best_metric": "val_error",
               "teacher": "https://me:secret@models.example/big.pth?token=abc#sha256=00"},
    "environment": {"torch": "2.14.1", "python": "3.12.1", "device": "Some CPU", "processes": 2,
        "arithmetic": "bfloat16"},
}  # fmt: skip
FORM = next(form for form in FORMS if form.file == "boxmot.pt")
FOLDER_FORM = next(form for form in FORMS if form.file == "roboflow")


def record(**changes: Any) -> Record:
    """Of a network that was trained on a folder of this machine's."""
    usual: dict[str, Any] = {
        "trained": replace(MADE, about=replace(MADE.about, identity=IDENTITY)),
        "done": Export([FORM, FOLDER_FORM], {}, [], {}),
        "sources": [Source("", "/home/somebody/footage/street.zip", "CC BY 4.0")],
        "also": [],
        "data": SUMMARY,
        "evaluation": EVALUATION,
        "calibration": CALIBRATION,
    }
    return Record(**(usual | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Exported files of 5 and of 7 + 11 bytes."""
    (tmp_path / "boxmot.pt").write_bytes(b"1" * 5)
    (tmp_path / "roboflow").mkdir()
    for name, size in (("weights.safetensors", 7), ("reid_config.json", 11)):
        (tmp_path / "roboflow" / name).write_bytes(b"1" * size)
    return tmp_path


def row(text: str, beginning: str) -> list[str]:
    """The cells of the table's row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {beginning} |")]
    return line.strip("| ").split(" | ")


def test_hugging_face_reads_it(folder: Path) -> None:
    text = model_card(record(), folder)
    card = ModelCard(text)
    assert card.data.license == "other"
    assert card.data.to_dict()["license_name"] == "data: CC BY 4.0"
    assert card.data.library_name == "deepsort-reid"
    assert card.data.metrics == ["mAP", "rank-1", "mINP"]
    assert "re-identification" in card.data.tags
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert found == {"mAP": 0.6218, "rank-1": 0.8125, "mINP": 0.5}
    assert {one.dataset_name for one in card.data.eval_results} == {"street.zip"}
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    assert card.text.lstrip().startswith("# osnet_x0_25: embeddings for re-identification")


def test_it_says_what_a_user_must_know(folder: Path) -> None:
    text = model_card(record(), folder)
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sections == [
        "Model details", "Intended use", "Training data", "Training procedure", "Evaluation",
        "Threshold", "Files", "Limits",
    ]  # fmt: skip
    assert "| street.zip | street.zip | CC BY 4.0 | 96 | 1,200 | 4 |" in text
    assert "| street.zip | 64 | 32 | 400 | 62.2% | 81.2% | 50.0% |" in text
    assert f"`{'cd' * 32}`" in text
    assert row(text, "weights")[1].startswith("0.20 million")
    assert row(text, "multiply-adds")[1].startswith("0.005 billion")
    assert row(text, "epoch")[1] == "3 of at most 12, the best by val_error"
    assert row(text, "trained on")[1] == "Some CPU, 2 processes, bfloat16"
    assert row(text, "with")[1] == "torch 2.14.1, python 3.12.1"
    assert row(text, "started from")[1] == "random weights"
    assert "**0.137** (0.1200 to 0.1510)" in text
    assert (
        "| in one camera | 32 | 300 | 9,000 | 0.1370 (0.1200 to 0.1510) | 91.0% | 0.99% |" in text
    )
    assert row(text, "`boxmot.pt`") == ["`boxmot.pt`", "boxmot", "5"]
    assert row(text, "`roboflow`")[-1] == "18"
    assert "lr: 0.002" in text
    assert "no proof of identity" in text
    assert "rendered" not in text
    assert "Not meaningful" not in text
    assert text == model_card(record(), folder)


def test_nobody_s_secrets_are_in_it(folder: Path) -> None:
    place = "https://me:secret@data.example/people.zip?token=abc"
    text = model_card(record(sources=[Source("", place, None)]), folder)
    for secret in ("secret", "token", "abc", "somebody"):
        assert secret not in text
    assert "| people.zip | https://***@data.example/people.zip?*** | not stated |" in text
    assert "https://***@models.example/big.pth?***" in row(text, "teacher")[1]
    for place in ("/home/somebody/a.zip", "file:///home/somebody/a.zip", "../somebody/a"):
        assert "somebody" not in model_card(record(sources=[Source("", place, None)]), folder)


def test_a_licence_that_nobody_states(folder: Path) -> None:
    text = model_card(record(sources=[Source("", "synthetic", None)]), folder)
    assert "| synthetic | synthetic | not stated | 96 |" in text
    assert ModelCard(text).data.license == "unknown"
    assert "- synthetic: rendered images, which show no people." in text
    folders = replace(SUMMARY, layout="folders + randperson")
    two = [Source("real", "a.zip", None), Source("drawn", "b.zip", None)]
    assert "- drawn: rendered images" in model_card(record(sources=two, data=folders), folder)


def test_several_datasets_have_a_licence_and_numbers_each(folder: Path) -> None:
    of_each = {"yard": EVALUATION | {"mAP": 0.25}, "zoo": EVALUATION | {"mAP": 0.75}}
    too_few = {"too_few": {"ranking": "queries: 3 (needs 20)"}, "queries": 3}
    counts = {"train": {"images": 7, "identities": 3}}
    text = model_card(
        record(
            sources=[Source("yard", "a.zip", "ours\nalone | really"), Source("zoo", "b.zip", None)],
            also=[Source("moon", "c.zip", "CC0")],
            data=replace(SUMMARY, sources={"yard": counts, "zoo": {"train": OF_PART}}),
            evaluation=EVALUATION | {"sources": of_each, "also": {"moon": EVALUATION | too_few}},
        ),
        folder,
    )
    assert r"| yard | a.zip | ours alone \| really | 3 | 7 | unknown |" in text
    assert "| zoo | b.zip | not stated | 96 | 1,200 | 4 |" in text
    assert "| yard + zoo | 64 | 32 | 400 | 62.2% |" in text
    assert "| yard | 64 | 32 | 400 | 25.0% |" in text
    assert "| moon | 3 | 32 |" in text
    assert "moon (from c.zip; licence of the data: CC0)" in text
    assert "**Not meaningful on moon**: too few queries: 3 (needs 20)." in text
    card = ModelCard(text)
    assert card.data.to_dict()["license_name"] == "data: not stated; ours alone | really"
    assert len(card.data.eval_results) == 12


def test_what_is_not_known_is_said(folder: Path) -> None:
    """A checkpoint of an earlier version, and an evaluation of few people without cameras."""
    few = {"threshold": "identities: 3 (needs 20)"}
    text = model_card(
        record(
            trained=replace(MADE, too_few=few),
            evaluation=EVALUATION | {
                "cameras_known": False, "same_camera_removed": False, "tuning": True,
                "too_few": few,
            },
        ),
        folder,
    )  # fmt: skip
    assert "**Not meaningful**: found from too few identities: 3 (needs 20)." in text
    assert "- Too few for the numbers of threshold: identities: 3 (needs 20)." in text
    assert "does not say which camera" in text
    assert "also of the same camera" in text
    assert "to choose a recipe by" in text
    assert "The checkpoint does not say." in text
    assert row(text, "seed")[1] == "not stated"


def test_an_interval_that_one_identity_cannot_give(folder: Path) -> None:
    kind = CALIBRATION["kinds"]["within"]  # type: ignore[index]
    alone = kind | {"threshold": {"value": 0.137, "low": None, "high": None}}
    text = model_card(record(calibration=CALIBRATION | {"kinds": {"within": alone}}), folder)
    assert "**0.137**. It is" in text


@pytest.mark.parametrize("lacking", ["mAP", "queries", "too_few"])
def test_a_report_that_lacks_a_number(lacking: str, folder: Path) -> None:
    left = {name: value for name, value in EVALUATION.items() if name != lacking}
    with pytest.raises(ReportError, match=rf"'{lacking}' is missing; make it again: dvc repro"):
        model_card(record(evaluation=left), folder)


# The parameter


def with_dataset(**changes: Any) -> dict[str, Any]:
    content = read_yaml(ROOT / "params.yaml")
    content["dataset"] |= changes
    return content


def test_the_licence_is_a_parameter_of_each_dataset() -> None:
    listed = [{"name": "a", "source": "a.zip", "license": "MIT"}, {"name": "b", "source": "b.zip"}]
    params = parse(with_dataset(license="CC0", source=listed))
    params = params.model_copy(
        update={"evaluate": params.evaluate.model_copy(update={"also": params.dataset.source})}
    )
    found = load("export").datasets(params)
    assert [one.license for one in found["sources"]] == ["MIT", "CC0"]
    assert [one.license for one in found["also"]] == ["MIT", None]  # of other data
    (alone,) = load("export").datasets(parse(with_dataset(license="CC0")))["sources"]
    assert (alone.name, alone.place, alone.license) == ("", "synthetic", "CC0")
    assert load_params(ROOT / "params.yaml").dataset.license is None
    with pytest.raises(ConfigError, match=r"dataset\.license"):
        parse(with_dataset(license=4))


def test_the_licence_concerns_no_stage_but_export() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    wide = {"dataset", "dataset.license"}
    assert [name for name, one in stages.items() if wide & set(one.get("params", []))] == ["export"]
