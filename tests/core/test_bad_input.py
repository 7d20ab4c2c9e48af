"""Whatever a user can do wrong ends in one clear line and status 1, and loses nothing."""

import errno
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deepsort_reid.core.stage import run_stage
from deepsort_reid.runs import deliver
from tests.support import stages

pytestmark = pytest.mark.usefixtures("narrow_networks")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which download, split and train have gone well."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        stages.write_params(folder, {})
        for stage in ("download", "split", "train"):
            stages.run(stage)
        yield folder


@pytest.fixture
def project(workspace: Path) -> Path:
    """An empty project, the current folder."""
    return workspace


def files_of(folder: Path) -> dict[str, bytes]:
    outputs = (folder / name for name in ("data", "models", "reports"))
    return {str(p): p.read_bytes() for o in outputs for p in sorted(o.rglob("*")) if p.is_file()}


def fails(stage: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a stage that must fail; return its one line."""
    before = files_of(folder)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        stages.run(stage)
    assert caught.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert files_of(folder) == before, "something was lost or half written"
    return errors[0]


def picture(shade: int = 100) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 32), (shade, shade, shade)).save(file, "png")
    return file.getvalue()


def crops(identities: int = 6, images: int = 4) -> dict[str, bytes]:
    return {
        f"id{i}/c{k % 2 + 1}_{k}.png": picture(20 * i + k)
        for i in range(identities)
        for k in range(images)
    }


def as_folder(folder: Path, contents: dict[str, bytes]) -> str:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def as_zip(path: Path, contents: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return str(path)


def as_tar(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> str:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        data = picture() if kind == tarfile.REGTYPE else b""
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return str(path)


# Parameters, of which every stage checks all


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lrr": 0.1}, "unknown key 'lrr'; did you mean 'lr'?"),
        ({"lr": "abc"}, "lr=abc must be a finite number"),
        ({"lrf": 2.0}, "lrf=2.0 must be at least 0 and at most 1"),
        ({"split.val_fraction": 0}, "split.val_fraction=0 must be above 0 and below 1"),
    ],
)
@pytest.mark.parametrize(
    "stage", ["download", "split", "train", "evaluate", "export", "sequences", "track"]
)
def test_parameters(
    project: Path, capsys: pytest.CaptureFixture[str], stage: str, change: Any, message: str
) -> None:
    stages.write_params(project, change)
    assert f"params.yaml: {message}" in fails(stage, project, capsys)


# Sources


def cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return str(path)


SOURCES: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda at: str(at / "nowhere.zip"), "nowhere.zip"),
    "no archive": (lambda at: as_folder(at, {"a.zip": b"just text" * 99}) + "/a.zip", "a.zip"),
    "cut zip": (lambda at: cut(Path(as_zip(at / "a.zip", crops()))), "a.zip"),
    "cut tar": (lambda at: cut(Path(as_tar(at / "a.tar.gz", "id/1.png"))), "a.tar.gz"),
    "absolute": (lambda at: as_tar(at / "a.tar.gz", "/etc/1.png"), "/etc/1.png"),
    "dotdot": (lambda at: as_zip(at / "a.zip", {"../1.png": picture()}), "../1.png"),
    "link": (lambda at: as_tar(at / "a.tar.gz", "x.png", tarfile.SYMTYPE, "/etc/passwd"), "x.png"),
    "hard link": (lambda at: as_tar(at / "a.tar.gz", "x.png", tarfile.LNKTYPE, "y"), "x.png"),
    "no scheme": (lambda _: "nosuch://host/a.zip", "nosuch"),
    "dead host": (lambda _: "file:///nowhere/a.zip", "/nowhere/a.zip"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    make, named = SOURCES[case]
    stages.write_params(project, {"dataset.source": make(tmp_path)})
    as_folder(project, {"data/raw/dataset.zip": b"an older dataset"})
    assert named in fails("download", project, capsys)


@pytest.mark.parametrize("case", SOURCES)
def test_sources_of_sequences(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    make, named = SOURCES[case]
    stages.write_params(project, {"track.source": make(tmp_path)})
    as_folder(project, {"data/sequences/dataset.zip": b"older sequences"})
    assert named in fails("sequences", project, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"track.sha256": "0" * 64}, "track.sha256 expects 0000"),
        ({"track.sha256": "abc"}, "track.sha256: 'abc' is no SHA-256"),
        ({"track.source": " "}, "track.source is empty"),
        ({"track.synthetic.frames": 0}, "track.synthetic.frames=0 must be at least 10"),
        (
            {"track.synthetic.missed": 1},
            "track.synthetic.missed=1 must be at least 0 and below 1",
        ),
    ],
)
def test_sequences(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: dict[str, Any], message: str,
) -> None:  # fmt: skip
    source = as_zip(tmp_path / "a.zip", crops())
    stages.write_params(project, {"track.source": source} | change)
    assert message in fails("sequences", project, capsys)


def test_a_wrong_checksum(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = as_zip(tmp_path / "a.zip", crops())
    stages.write_params(project, {"dataset.source": source, "dataset.sha256": "0" * 64})
    assert "0" * 64 in fails("download", project, capsys)


# Datasets


DATASETS: dict[str, tuple[dict[str, bytes], str]] = {
    "no images": ({"a/b.txt": b"text"}, "no images in the dataset"),
    "no layout": ({"1.png": picture(), "2.png": picture()}, "lies in no identity's folder"),
    "one image": (crops() | {"id9/c1_1.png": picture()}, "split.skip_single: 1"),
    "one identity": (crops(1), "the dataset has 1 identity"),
    "no gallery": (
        {f"bounding_box_train/000{i}_c{k}s1_0.png": picture() for i in (1, 2) for k in (1, 2)}
        | {"query/0003_c1s1_0.png": picture()},
        "no images in 'bounding_box_test'",
    ),
    "corrupt": (crops() | {"id1/c1_2.png": picture()[:50]}, "split.skip_unreadable: 1"),
    "empty image": (crops() | {"id1/c1_2.png": b""}, "the file is empty"),
}


@pytest.mark.parametrize("case", DATASETS)
def test_datasets(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    contents, message = DATASETS[case]
    # Of the two identities held out, "id9" must not be one.
    stages.write_params(project, {"dataset.source": as_folder(tmp_path / "crops", contents)})
    stages.run("download")
    assert message in fails("split", project, capsys)


# Training


def test_an_address_that_can_be_no_store(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.write_params(project, {})
    stages.copy_outputs(made, project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://server:5000")
    line = fails("train", project, capsys)
    assert "MLflow store htp://server:5000 cannot be opened: expected sqlite:///FILE" in line
    assert "correct or unset MLFLOW_TRACKING_URI" in line


def test_a_store_that_cannot_be_opened_stops_nothing(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages.write_params(project, {})
    (project / "data").mkdir()
    (project / "data" / "split").symlink_to(made / "data" / "split")
    (project / "broken.db").write_bytes(b"this is no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/broken.db")
    stages.run("train")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(said) == 2
    assert "broken.db fails (file is not a database); work goes on" in said[0]
    assert "are kept in" in said[1]
    assert (project / "models" / "model.pth").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run_stage(deliver.main, ())
    assert capsys.readouterr().err.endswith(": delivered\n")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (b"no weights", "no file of torch.save"),
        ({"a": torch.zeros(3)}, "none of its 1 tensors fits the network"),
        ({"net_dict": Evil()}, "only running its code could load"),
        (None, "no such file"),
    ],
    ids=["text", "other", "code", "missing"],
)
def test_weights(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str], weights: Any, message: str
) -> None:
    stages.write_params(project, {"weights": "w.pth"})
    stages.copy_outputs(made, project)
    if isinstance(weights, bytes):
        (project / "w.pth").write_bytes(weights)
    elif weights is not None:
        torch.save(weights, project / "w.pth")
    line = fails("train", project, capsys)
    assert message in line
    assert "w.pth" in line
    assert not (project / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"freeze_layers": ["layer9"]}, "the network has no 'layer9'; did you mean 'layer"),
        ({"accumulate_steps": 50}, "every share needs at least 2"),
        ({"lr": 1e30, "warmup_epochs": 0.0, "epochs": 3}, "no longer a finite number: epoch"),
    ],
)
def test_training(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    stages.write_params(project, change)
    (project / "data").mkdir()
    (project / "data" / "split").symlink_to(made / "data" / "split")
    assert message in fails("train", project, capsys)


def test_nothing_to_evaluate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages.write_params(project, {})
    assert "models/model.pth: no such file" in fails("evaluate", project, capsys)


@pytest.fixture
def tracked(project: Path, made: Path) -> Path:
    """A project in which all is ready to track but a threshold."""
    stages.write_params(project, {})
    stages.copy_outputs(made, project)
    stages.run("sequences")
    return project


def test_no_threshold_to_track_with(tracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "reports/evaluation.json: cannot be read" in fails("track", tracked, capsys)
    (tracked / "reports/evaluation.json").write_text("{}")
    assert "recommends no max_cosine_distance" in fails("track", tracked, capsys)


def test_nothing_detected(tracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tracked / "data/sequences/dataset.zip"
    with zipfile.ZipFile(archive) as whole:
        names = [name for name in whole.namelist() if "/det/" not in name]
        contents = {name: whole.read(name) for name in names}
    as_zip(archive, contents)
    stages.write_params(tracked, {"track.max_cosine_distance": 0.2})
    assert "sequence 'synthetic-01' has no det/det.txt" in fails("track", tracked, capsys)


@pytest.mark.parametrize("content", ["", '{"key": "0123", "run_id": "4567"}'])
def test_a_damaged_run_json_costs_only_its_record(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    stages.write_params(project, {})
    stages.copy_outputs(made, project)
    (project / "reports" / "run.json").write_text(content)
    stages.run("evaluate")
    said = capsys.readouterr()
    assert "warning: " in said.err
    assert (project / "reports" / "evaluation.json").exists()


# A full disk


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("stage", "call"),
    [
        ("download", "os.fsync"),
        ("sequences", "os.fsync"),
        ("split", "os.posix_fallocate"),
        ("split", "os.pwrite"),
        ("train", "torch.save"),
        ("train", "os.fsync"),
        ("evaluate", "os.fsync"),
        ("track", "os.fsync"),
    ],
)
def test_a_full_disk(
    project: Path, made: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, stage: str, call: str,
) -> None:  # fmt: skip
    stages.write_params(project, {"track.max_cosine_distance": 0.2})
    stages.copy_outputs(made, project)
    if stage == "track":
        stages.run("sequences")
    monkeypatch.setattr(call, full)
    assert "no space left on" in fails(stage, project, capsys)
