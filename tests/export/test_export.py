"""Every exported file does what the checkpoint does, says what it is, and is the same twice."""

import csv
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from deepsort_reid.core import files
from deepsort_reid.core.errors import ExportError
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.export import export, formats, parity, quantize, runtimes
from deepsort_reid.export.export import Export
from deepsort_reid.export.formats import FORMS, Form, Trained
from deepsort_reid.export.parity import Parity
from deepsort_reid.export.runtimes import Floats
from deepsort_reid.model import checkpoint
from deepsort_reid.model.network import Design, build
from deepsort_reid.model.weights import read_safely
from tests.support import stages
from tests.support.exports import CALIBRATION, EVALUATION, THRESHOLD, crops, part, trained

EVERYWHERE = {"boxmot.onnx", "ultralytics.onnx", "model.pt2"}
FILES = {
    "resnet18": EVERYWHERE | {"boxmot.pt", "torchreid.pth", "roboflow"},
    "deepsort": EVERYWHERE | {"deep_sort_pytorch.pth"},
}


def files_in(folder: Path) -> list[Path]:
    """Those of the forms that are folders too."""
    return [path for path in folder.rglob("*") if path.is_file()]


def run(folder: Path, network: Trained, precisions: tuple[str, ...] = ()) -> Export:
    size = network.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return export.export(
            folder, network, train=part(8, size, seed=3), query=part(8, size),
            gallery=part(16, size, seed=5), precisions=precisions,
        )  # fmt: skip


@cache
def shared(arch: str) -> Trained:
    """A network whose graph is traced once for several tests; they must not change it."""
    return trained(arch)


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    """A ResNet in all forms and precisions."""
    folder = tmp_path_factory.mktemp("export")
    return folder, run(folder, trained(), ("fp16", "int8"))


@pytest.mark.parametrize(("arch", "size"), [("resnet18", (32, 16)), ("deepsort", (128, 64))])
@pytest.mark.slow
def test_every_form_of_a_network(arch: str, size: tuple[int, int], tmp_path: Path) -> None:
    done = run(tmp_path, trained(arch, size))
    assert {path.name for path in tmp_path.iterdir()} == FILES[arch] | {"README.md"}
    of_files = {row.file for row in done.rows}
    assert of_files == FILES[arch] | {"model.pth"}
    assert sorted((row.file, row.batch) for row in done.rows) == sorted(
        (file, batch) for file in of_files for batch in (1, 7, 64)
    )
    assert all(row.passed and row.least == 0.99999 and row.speed > 0 for row in done.rows)


@pytest.mark.slow
def test_what_the_embedding_is_made_by_goes_along(tmp_path: Path) -> None:
    """Stride, pooling and neck are in graphs; readers that build the plain network get no file."""
    network = trained(last_stride=1, pooling="gem", neck="bnneck", head="cosine")
    done = run(tmp_path, network, ("fp16", "int8"))
    in_full = {row.file for row in done.rows if row.least == 0.99999}
    assert in_full == EVERYWHERE | {"model.pth"}
    assert (
        "torchreid builds the plain resnet18, last_stride is 1, pooling is gem, neck is"
        in (tmp_path / "README.md").read_text()
    )


@pytest.mark.parametrize("arch", ["resnet34", "resnet50"])
@pytest.mark.slow
def test_weights_of_deeper_networks_fit_torchvision_s(arch: str, tmp_path: Path) -> None:
    network, images = trained(arch), crops(7)
    formats.write_torchreid(tmp_path / "a.pth", network)
    found = runtimes.by_name(tmp_path / "a.pth")(images)
    assert parity.cosines(found, parity.reference(network, images)).min() >= 0.99999


@pytest.mark.slow
def test_lower_precisions_are_measured_beside_the_full_one(lowered: tuple[Path, Export]) -> None:
    folder, done = lowered
    sizes = {path.name: path.stat().st_size for path in files_in(folder)}
    for name in ("boxmot", "ultralytics"):
        assert sizes[f"{name}.fp16.onnx"] < 0.51 * sizes[f"{name}.onnx"]
        assert sizes[f"{name}.int8.onnx"] < 0.27 * sizes[f"{name}.onnx"]
    least = {row.file: row.least for row in done.rows}
    assert least["boxmot.fp16.onnx"] == 0.999
    numbers = done.metrics()
    assert numbers["files"] == 10
    assert numbers["least_cosine"] >= 0.99999
    measured, told = export.numbers_of_run(done)
    names = ("least_cosine", "mAP_fp32", "mAP_fp16", "mAP_int8")
    speeds = {name for name in measured if name.startswith("export/crops_per_second/")}
    assert len(speeds) == numbers["files"] + 1  # and the Extractor's
    assert all(measured.pop(name) > 0 for name in speeds)
    assert measured == {f"export/{name}": numbers[name] for name in names}
    assert told == {"export.files": numbers["files"]}
    for name in ("fp32", "fp16", "int8"):
        assert 0 < numbers[f"mAP_{name}"] <= 1
    taken = {
        name: onnx.load(folder / f"boxmot.{name}.onnx").graph.input[0].type.tensor_type.elem_type
        for name in ("fp16", "int8")
    }
    assert set(taken.values()) == {onnx.TensorProto.FLOAT}  # trackers give float32


@pytest.mark.parametrize("name", ["boxmot", "boxmot.fp16", "boxmot.int8", "ultralytics"])
@pytest.mark.slow
def test_onnx_takes_any_batch_of_one_size_and_says_what_it_is(
    lowered: tuple[Path, Export], name: str
) -> None:
    proto = onnx.load(lowered[0] / f"{name}.onnx")
    onnx.checker.check_model(proto)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 32, 16]
    facts = {prop.key: prop.value for prop in proto.metadata_props}
    assert float(facts["max_cosine_distance"]) == THRESHOLD
    assert json.loads(facts["image_size"]) == [32, 16]
    assert facts["normalisation"] == ("inside" if name == "ultralytics" else "outside")
    assert facts["arch"] == "resnet18"


@pytest.mark.slow
def test_the_threshold_travels_with_the_other_files(lowered: tuple[Path, Export]) -> None:
    folder = lowered[0]
    extra = {"deepsort_reid.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    assert json.loads(extra["deepsort_reid.json"])["max_cosine_distance"] == THRESHOLD
    content = read_safely(folder / "torchreid.pth")
    assert content["max_cosine_distance"] == THRESHOLD
    content = read_safely(folder / "boxmot.pt")
    assert content["deepsort_reid"]["max_cosine_distance"] == THRESHOLD
    assert not any(name.startswith(("fc", "classifier")) for name in content["state_dict"])


@pytest.mark.slow
def test_the_readme_says_how_to_load_each_file(lowered: tuple[Path, Export]) -> None:
    folder, done = lowered
    text = (folder / "README.md").read_text()
    for form in done.forms:
        assert text.count(f"models/export/{form.file}") == 1
        assert len(form.usage.splitlines()) == 2
    assert f"`max_cosine_distance={THRESHOLD}`" in text
    assert "`deep_sort_pytorch.pth`: " in text
    assert "{" not in text


EXPORT = """
import sys
from pathlib import Path
from tests.support.exports import trained
from tests.export.test_export import run
run(Path(sys.argv[1]), trained(), ("fp16", "int8"))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(
    lowered: tuple[Path, Export], tmp_path: Path
) -> None:
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(tmp_path)], cwd=stages.ROOT, check=True,
        env=environment(),
    )  # fmt: skip
    first, second = (
        {path.name: files.md5(path) for path in files_in(folder)}
        for folder in (lowered[0], tmp_path)
    )
    assert first == second


@pytest.mark.slow
def test_nothing_says_where_it_was_made(lowered: tuple[Path, Export]) -> None:
    for path in files_in(lowered[0]):
        data = path.read_bytes()
        assert str(stages.ROOT).encode() not in data, path.name
        assert b"torch/nn/" not in data, path.name
        assert str(path.parent).encode() not in data, path.name


# What does not do what the checkpoint does


def damaged(write: Callable[[Path, Trained], None]) -> Callable[[Path, Trained], None]:
    """Write another network than the one that is asked for."""

    def write_other(path: Path, network: Trained) -> None:
        other = build(Design(network.about.arch), 4, seed=7).eval()
        write(path, replace(network, net=other))

    return write_other


@pytest.mark.parametrize("file", sorted(FILES["resnet18"]))
@pytest.mark.slow
def test_a_file_with_other_weights_is_refused(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (form,) = [form for form in FORMS if form.file == file]
    monkeypatch.setattr(export, "FORMS", (replace(form, write=damaged(form.write)),))
    with pytest.raises(ExportError) as error:
        run(tmp_path, trained())
    assert str(error.value).startswith(
        f"{file}: in {form.runtime}, in a batch of 1, the cosine with the checkpoint's embeddings "
    )
    assert str(error.value).endswith("expected at least 0.99999; nothing was exported")


@pytest.mark.slow
def test_other_colours_and_no_normalisation_are_noticed(tmp_path: Path) -> None:
    network, images = shared("resnet18"), crops(64)
    expected = parity.reference(network, images)
    formats.write_onnx_colours(tmp_path / "a.onnx", network)
    twice = runtimes.onnx_normalised(tmp_path / "a.onnx")
    right = runtimes.onnx_colours(tmp_path / "a.onnx")
    for wrong in (twice, lambda images: right(images[..., ::-1])):
        with pytest.raises(ExportError, match=r"a.onnx: in r, in a batch of 1, the cosine"):
            parity.measure_parity("a.onnx", "r", wrong, images, expected, least=0.99999)
    assert len(parity.measure_parity("a.onnx", "r", right, images, expected, least=0.99999)) == 3


@pytest.mark.slow
def test_a_precision_that_costs_too_much_names_its_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = shared("resnet18"), crops(64)
    formats.write_onnx_normalised(tmp_path / "boxmot.onnx", network)
    monkeypatch.setattr(export, "FORMS", [form for form in FORMS if form.file == "boxmot.onnx"])
    (form,) = export.lowered(tmp_path, "int8", crops(8))
    wrong = np.roll(parity.reference(network, images), 1, axis=0)
    with pytest.raises(ExportError, match=r"at least 0.9; nothing was exported; set export.int8: "):
        export.verify_file(tmp_path, form, images, wrong)


def test_numbers_that_are_none_are_refused() -> None:
    expected = np.ones((64, 4), np.float32)

    def nothing(images: Any) -> Any:
        return np.full((len(images), 4), np.nan, np.float32)

    with pytest.raises(ExportError, match="embeddings is nan; expected at least"):
        parity.measure_parity("a", "r", nothing, crops(64), expected, least=0.9)
    with pytest.raises(
        ExportError, match=r"r returns \(1, 3\) for a batch of 1; expected \(1, 4\)"
    ):
        parity.measure_parity(
            "a", "r", lambda x: np.ones((len(x), 3)), crops(64), expected, least=0.9
        )


@pytest.mark.parametrize(
    ("arch", "size", "file", "reason"),
    [
        ("deepsort", (32, 16), "boxmot.pt", "boxmot has no such network (boxmot.onnx does the"),
        ("deepsort", (32, 16), "torchreid.pth", "torchreid has no such network, arch is deepsort"),
        ("deepsort", (32, 16), "deep_sort_pytorch.pth", "resizes every crop to 128×64"),
        ("resnet18", (128, 64), "deep_sort_pytorch.pth", "own network is arch: deepsort"),
    ],
)
def test_what_a_tracker_cannot_take(
    arch: str, size: tuple[int, int], file: str, reason: str
) -> None:
    network = trained()
    about = replace(network.about, arch=arch, image_size=list(size))
    (form,) = [form for form in FORMS if form.file == file]
    assert reason in (form.obstacle(replace(network, about=about)) or "")


def test_the_log_stays_as_it_was() -> None:
    before = logging.root.manager.disable
    with pytest.raises(RuntimeError), formats.without_logs():
        raise RuntimeError
    assert logging.root.manager.disable == before


@pytest.mark.parametrize("file", sorted(set().union(*FILES.values())))
def test_a_full_disk_is_told_as_one(file: str, tmp_path: Path) -> None:
    (form,) = [form for form in FORMS if form.file == file]
    network = shared("deepsort" if file == "deep_sort_pytorch.pth" else "resnet18")
    path = Path("/dev/full")
    if file == "roboflow":
        path = tmp_path
        (path / "weights.safetensors").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        form.write(path, network)


# The stage


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a split, a checkpoint and an evaluation's report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    stages.write_params(tmp_path, {"export.int8": True})
    for stage in ("download", "split"):
        stages.run(stage)
    network = trained()
    checkpoint.save(tmp_path / "models/model.pth", network.net.state_dict(), network.about)
    files.write_json(tmp_path / "reports/evaluation.json", EVALUATION)
    files.write_json(tmp_path / "reports/calibration.json", CALIBRATION)
    files.write_json(tmp_path / "reports/run.json", {"key": None, "run_id": None})
    return tmp_path


def test_the_stage(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.run("export")
    out = capsys.readouterr().out
    with (project / "reports/parity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} > FILES["resnet18"]
    assert all(float(row["cosine"]) >= float(row["at_least"]) for row in rows)
    *_, full, eighth = out.splitlines()  # one for each cosine that is needed
    assert full.startswith("  7 files give the checkpoint's embeddings: cosine at least 1.0000000")
    assert "2 files give" in eighth
    assert "(needs 0.9)" in eighth
    numbers = json.loads((project / "reports/export.json").read_text())
    assert set(numbers) == {
        "files", "least_cosine", "mAP_fp32", "mAP_int8", "meaningful", "too_few",
    }  # fmt: skip
    assert numbers["meaningful"] is True
    exported = project / "models/export"
    before = {path.name: files.md5(path) for path in files_in(exported)}
    more = {"README.md", "MODEL_CARD.md"}
    assert len({path.name for path in exported.iterdir()} - more) == numbers["files"]
    assert more <= {path.name for path in exported.iterdir()}

    def broken(form: Form) -> Form:
        is_last = form.file == "model.pt2"
        return replace(form, write=damaged(form.write)) if is_last else form

    two = [form for form in FORMS if form.file in ("torchreid.pth", "model.pt2")]
    monkeypatch.setattr(export, "FORMS", tuple(map(broken, two)))
    stages.write_params(project, {})
    few = {"threshold": "identities: 2 (needs 20)"}
    doubtful = EVALUATION | {"max_cosine_distance": 0.5, "too_few": few}
    files.write_json(project / "reports/evaluation.json", doubtful)
    with pytest.raises(SystemExit):
        stages.run("export")
    said = capsys.readouterr()
    (line,) = [s for s in said.err.splitlines() if s.startswith("error: ")]
    assert "model.pt2                torch.export       1" in said.err, "the table, if it is wrong"
    assert said.out == ""
    assert "evaluation.json: the threshold 0.500 is not meaningful" in said.err
    assert "too few identities: 2 (needs 20)" in said.err
    assert line.startswith("error: model.pt2: in torch.export, in a batch of 1, the cosine with")
    after = {path.name: files.md5(path) for path in files_in(exported)}
    assert after == before


def test_a_threshold_from_too_few_people_says_so_wherever_it_goes(tmp_path: Path) -> None:
    sure, few = shared("resnet18"), "identities: 2 (needs 20)"
    unsure = replace(sure, too_few={"threshold": few, "ranking": "queries: 2 (needs 20)"})
    told = [export.readme(network, Export([], {}, [], {})) for network in (sure, unsure)]
    assert ["**This threshold is not meaningful.**" in text for text in told] == [False, True]
    assert f"It was found from too few {few}." in told[1]
    for network, expected in ((sure, None), (unsure, few)):
        formats.write_torchreid(tmp_path / "a.pth", network)
        content = read_safely(tmp_path / "a.pth")
        assert content.get("max_cosine_distance_too_few") == expected
    row = Parity("model.pth", "Extractor", 64, 1.0, 0.99999, 1.0)
    for measured, groups in (({}, {"threshold"}), ({"fp32": 0.5}, {"threshold", "ranking"})):
        export.write_reports(tmp_path, Export([], {}, [row], measured), unsure.too_few)
        numbers = files.read_json(tmp_path / "export.json")
        assert (numbers["meaningful"], numbers["too_few"].keys()) == (False, groups)


def test_the_table_is_for_people() -> None:
    text = parity.table([Parity("a.onnx", "onnxruntime", 7, 0.99999987, 0.99999, 1234.4)])
    assert text.splitlines()[1].split() == [
        "a.onnx", "onnxruntime", "7", "0.9999999", "0.99999", "1,234",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """What another Python needs to find the project, with one thread as the tests have."""
    paths = [str(stages.ROOT), str(stages.ROOT / "src")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def a_part(images: np.ndarray) -> Part:
    """A part of these images."""
    return replace(part(len(images)), images=images)


@pytest.mark.parametrize("count", [1, 5, 64, 200])
def test_a_sample_comes_from_all_over_a_part(count: int) -> None:
    numbers = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (count, 4, 2, 3))
    found = parity.spread_sample(a_part(images), 64)[:, 0, 0, 0]
    assert found.shape == (64,)
    assert len(set(found.tolist())) == min(count, 64)
    assert count < 64 or found[-1] > 0.9 * count - 10


def test_precisions_are_measured_where_nobody_is_seen_by_two_cameras() -> None:
    """As stage evaluate does it of annotated videos, in which every right answer is its own's."""

    def by_colour(images: Images) -> Floats:
        return images.reshape(len(images), -1).astype(np.float32)

    seen_once = replace(part(8), camids=np.ones(8, np.int64))
    assert quantize.mean_average_precision(by_colour, seen_once, seen_once) > 0.5
