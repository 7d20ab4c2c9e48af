"""The measurement of recipes: what it prints, what it repeats, and how it refuses."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deepsort_reid.core.errors import DeepSortReidError

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "benchmarks" / "recipes.py"
TINY = (
    "dataset.synthetic.train_identities=6",
    "dataset.synthetic.test_identities=2",
    "dataset.synthetic.images_per_identity=6",
    "dataset.synthetic.cameras=2",
    "dataset.synthetic.distractors=0",
    "dataset.synthetic.junk=0",
    "dataset.synthetic.image_size=[32,16]",
    "split.image_size=[32,16]",
    "arch=deepsort",
    "epochs=1",
    "warmup_epochs=0.5",
    "batch_size=8",
)
OPTIONS = ("--option", "label_smoothing=0.1", "--option", "triplet_weight=1 num_instances=2")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The program as a module, in an empty folder."""
    spec = importlib.util.spec_from_file_location("recipes", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipes", module)  # dataclasses look there
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return module


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


@pytest.mark.slow
def test_a_measurement_is_told_kept_and_not_repeated(
    program: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--set", *TINY, "--seeds", "0", "--jobs", "2", *OPTIONS, "--table", "table.md"]
    monkeypatch.setattr(sys, "argv", ["recipes.py", *asked])
    program.main()
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    results = {result["option"]: result for result in map(json.loads, lines)}
    assert sorted(results) == ["", OPTIONS[1], OPTIONS[3]]
    assert {result["environment"]["threads"] for result in results.values()} == {1}
    table = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    head, _, *rows = [cells(line) for line in table.splitlines()[:5]]
    assert [row[0] for row in rows] == ["the baseline", f"`{OPTIONS[1]}`", f"`{OPTIONS[3]}`"]
    off, on = (100 * results[name]["mAP"] for name in ("", OPTIONS[1]))
    told = dict(zip(head[:5], rows[1][:5], strict=True))
    assert told["n"] == "1"
    assert (told["mAP off"], told["mAP on"]) == (f"{off:.1f} %", f"{on:.1f} %")
    assert told["difference"] == f"{on - off:+.1f}"
    assert "held out of the training part" in table

    # A line that a crash cut short is passed over, and what it was is done again, to the same end.
    path.write_text("".join(lines[:2]) + lines[2][:40])
    program.main()
    said = capsys.readouterr()
    assert said.out.startswith("1 of 3 runs to do")
    assert "line 3 is no result of a run" in said.err
    redone = json.loads(path.read_text().splitlines()[-1])
    assert redone["mAP"] == results[redone["option"]]["mAP"]
    assert redone["option"] == json.loads(lines[2])["option"]
    program.main()
    assert capsys.readouterr().out.startswith("0 of 3 runs to do")


@pytest.mark.slow
def test_a_run_that_stands_there_is_not_repeated(
    program: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("mAP", "rank1", "mINP", "val_accuracy", "seconds", "images_per_second")
    machine = {"device": "a CPU", "torch": "2", "python": "3", "system": "Linux"}
    result = dict.fromkeys(names, 0.5) | {"best_epoch": 1, "environment": machine}

    def run_all(jobs: list[str], *_: object) -> list[tuple[int, dict[str, Any]]]:
        return [(number, result) for number in range(len(jobs))]

    monkeypatch.setattr(program, "run_all", run_all)
    asked = ["--set", *TINY, "--seeds", "0", *OPTIONS]
    monkeypatch.setattr(sys, "argv", ["recipes.py", *asked])
    for expected in ("3 of 3 runs to do", "0 of 3 runs to do"):
        program.main()
        assert capsys.readouterr().out.startswith(expected)
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(lines[:2]) + lines[2][:40])
    program.main()
    assert capsys.readouterr().out.startswith("1 of 3 runs to do")


@pytest.mark.slow
def test_a_run_that_fails_says_why(program: Any, tmp_path: Path) -> None:
    told = {"data": "", "params": {}, "code": "another", "batch_size": 1, "keep": None}
    run = json.dumps(told)
    assert list(program.run_all([run], 1, tmp_path)) == [
        (0, "the code has changed since the measurement began; start it again")
    ]


def test_the_table_pairs_runs_by_seed(program: Any) -> None:
    def result(share: float) -> dict[str, float]:
        names = ("mAP", "rank1", "mINP", "val_accuracy")
        return dict.fromkeys(names, share) | {"images_per_second": 1000 * share}

    found = {("", 0): result(0.5), ("", 1): result(0.7), ("", 2): None}
    found |= {("x=1", 0): result(0.6), ("x=1", 1): result(0.65), ("x=1", 2): result(0.9)}
    baseline, option = (cells(line) for line in program.table(found)[2:])
    assert baseline[:4] == ["the baseline", "2", "60.0 % (50.0 to 70.0)", ""]
    assert option[:5] == [
        "`x=1`", "2", "60.0 % (50.0 to 70.0)", "62.5 % (60.0 to 65.0)", "+2.5 (-5.0 to +10.0)",
    ]  # fmt: skip
    assert option[-2:] == ["600 (500 to 700)", "625 (600 to 650)"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--option", "lable_smoothing=0.1"],
            "--option 'lable_smoothing=0.1': unknown key 'lable_smoothing'; did you mean "
            "'label_smoothing'?",
        ),
        (["--option", "lr=fast"], "--option 'lr=fast': lr=fast must be a finite number"),
        (["--option", "lr=[1"], "--option 'lr=[1': 'lr=[1': '[1' is no value of YAML"),
        (["--option", "lr"], "--option 'lr': 'lr' must be key=value"),
        (["--option", "lr.x=1"], "--option 'lr.x=1': 'lr.x=1': 'lr' has no parts"),
        (["--option", "seed=1"], "--option 'seed=1': 'seed=1': --seeds gives the seeds"),
        (["--option", "split.seed=1"], "'split.seed=1' changes nothing that is measured here"),
        (["--option", "angular_margin=0.3"], "angular_margin=0.3 needs head=cosine"),
        (["--set", "track.max_age=1"], "'track.max_age=1' changes nothing that is measured here"),
        (["--set", "batch_size=0"], "--set: batch_size=0 must be at least 2"),
        (["--data", "nowhere"], "nowhere/summary.json: cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(
    program: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["recipes.py", *arguments])
    with pytest.raises(DeepSortReidError) as caught:
        program.main()
    assert line in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_wrong_option_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--option", "lable_smoothing=0.1"],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: --option 'lable_smoothing=0.1': unknown key 'lable_smoothing'; did you mean "
        "'label_smoothing'?\n"
    )
