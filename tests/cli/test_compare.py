"""The command `compare` on a small project: networks of several origins, files and a run."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deepsort_reid.cli import start
from deepsort_reid.core.config import load_params
from deepsort_reid.data.packed import open_part
from deepsort_reid.evaluation import evaluate
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.model import checkpoint, network
from deepsort_reid.model.embed import Predictor
from deepsort_reid.runs.folder import all_folders
from deepsort_reid.runs.mlflow import store
from tests.support import stages, stores
from tests.support.comparisons import mean_colours
from tests.support.exports import trained

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    narrow_networks: None,  # noqa: ARG001
) -> Iterator[Path]:
    """A folder with a split and sequences, a checkpoint, an ONNX file and a state dict."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "models").mkdir()
    stages.write_params(folder, {"dataset.synthetic.test_identities": 6})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        for stage in ("download", "split", "sequences"):
            stages.run(stage)
        made = trained("resnet18")
        checkpoint.save(folder / "models/model.pth", made.net.state_dict(), made.about)
        other = network.build(network.Design("resnet34"), 3, image_size=(32, 16), seed=4)
        torch.save({"state_dict": other.state_dict()}, folder / "theirs.pth.tar")
        mean_colours(folder / "colours.onnx")
        yield folder


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in that folder -> status, standard output, standard error."""
    stores.forget_mlflow(monkeypatch)
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.setattr("deepsort_reid.comparison.measuring.SECONDS", 0.0)
    capsys.readouterr()

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            start.main(["compare", *map(str, arguments)])
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out, told.err

    return call


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_three_networks_of_three_origins(run: Run, project: Path) -> None:
    status, out, err = run(
        "mine=models/model.pth", "colours.onnx", "theirs.pth.tar", "--image-size", 32, 16,
        "--device", "cpu",
    )  # fmt: skip
    assert status == 0, err
    assert "mine: checkpoint of this project, resnet18; 32×16; torch, cpu\n" in err
    assert "colours: ONNX file; 32×16; ONNX Runtime, CPU\n  normalised by ImageNet's mean" in err
    found = rows(project / "reports/compare/compare.csv")
    assert [row["network"] for row in found] == ["mine", "colours", "theirs", "no appearance"]
    assert [row["place"] for row in found[:2]] == ["models/model.pth", "colours.onnx"]
    assert all(0 <= float(row["hota"]) <= 1 and int(row["people"]) > 0 for row in found)
    assert all(float(row["crops_per_second_32"]) > 0 for row in found[:3])
    assert (project / "reports/compare/compare.png").stat().st_size > 10_000
    for text in (
        "crops a second at",
        "  no appearance",
        "Whether mine is better than colours cannot be told, too few identities: 6",
        "compare.png",
    ):
        assert text in out.replace("\n    ", " ")

    client = store.open_store().client
    (experiment,) = client.search_experiments(filter_string="name = 'deepsort-reid'")
    (recorded,) = client.search_runs([experiment.experiment_id])
    assert recorded.info.run_name == "compare-mine-colours-theirs"
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics["mine/mAP"] == pytest.approx(float(found[0]["mAP"]))
    assert recorded.data.metrics["no appearance/hota"] == pytest.approx(float(found[3]["hota"]))
    assert recorded.data.params["networks.colours"] == "colours.onnx"
    assert "crops a second" in recorded.data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(recorded.info.run_id)} == {
        "compare.csv", "compare.png"
    }  # fmt: skip


@pytest.mark.usefixtures("project")
def test_the_map_is_that_of_stage_evaluate(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network in its checkpoint's own preprocessing, ranked by the same protocol."""
    monkeypatch.setattr("deepsort_reid.runs.logger.find_spec", lambda _: None)
    status, out, err = run("models/model.pth", "--no-track", "-o", tmp_path, "--device", "cpu")
    assert status == 0, err
    (row,) = rows(tmp_path / "compare.csv")
    assert row["hota"] == ""
    net, about = checkpoint.load(Path("models/model.pth"))
    query, gallery = (open_part(Path("data/split"), name) for name in ("query", "gallery"))
    predictor = Predictor(net, mean=about.mean, std=about.std, device=torch.device("cpu"))
    sides = evaluate.embedded_sides(Embedder(predictor, 16), query, gallery)
    wanted = evaluate.scores_on(*sides, load_params().evaluate).numbers(None)
    assert float(row["mAP"]) == pytest.approx(wanted["mAP"], abs=1e-6)
    assert float(row["max_cosine_distance"]) == pytest.approx(wanted["max_cosine_distance"],
                                                              abs=1e-3)  # fmt: skip
    assert "not recorded in MLflow" in out
    newest = max(all_folders(), key=lambda one: one.read("run.json").get("started", 0))
    assert json.loads((newest.path / "run.json").read_text())["name"].startswith("compare-project")


def test_without_sequences_nothing_is_tracked(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepsort_reid.runs.logger.find_spec", lambda _: None)
    hidden = (project / "data/sequences").rename(tmp_path / "sequences")
    try:
        status, out, err = run("colours.onnx", "-o", tmp_path / "out", "--device", "cpu")
    finally:
        hidden.rename(project / "data/sequences")
    assert status == 0
    assert "no data/sequences, so nothing is tracked; `dvc repro sequences` brings them" in err
    assert "HOTA" not in out


def test_a_folder_that_is_not_the_current_one(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks and the output are named from where the user is."""
    monkeypatch.setattr("deepsort_reid.runs.logger.find_spec", lambda _: None)
    mean_colours(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    status, _, err = run("net.onnx", "--folder", project, "--no-track", "-o", "out")
    assert status == 0, err
    assert rows(tmp_path / "out" / "compare.csv")[0]["place"] == "net.onnx"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.pth"], "nothing.pth: no such file or folder"),
        (["params.yaml"], "params.yaml: it is damaged, or no file of torch.save"),
        (["colours.onnx", "--folder", "nowhere"], "nowhere/params.yaml: no such file; expected a"),
        (["colours.onnx", "--device", "abacus"], "device='abacus' cannot be used"),
        (["colours.onnx", "--set", "x.arch=1"], "--set x.arch=1: no network 'x'"),
        pytest.param(
            ["models:/deepsort-reid@worst"], "models:/deepsort-reid@worst: cannot be brought from",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(arguments: list[str], message: str, run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_without_a_split_the_line_says_what_to_run(run: Run, project: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((project / "params.yaml").read_text())
    status, _, err = run("colours.onnx", "--folder", tmp_path)
    assert status == 1
    assert err == ("error: data/split: no split to compare on; `dvc repro split` makes it first\n")
