"""The benchmarks run, and the tables in docs/speed.md are in the form that they write."""

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "benchmarks" / "speed.py"
sys.path.append(str(PROGRAM.parent))

import speed  # noqa: E402
from deepsort_reid.data.layouts.registry import open_dataset  # noqa: E402
from deepsort_reid.sources.archive import Archive  # noqa: E402
from speed_items import apart, overhead, ranking  # noqa: E402
from speed_items import split as split_item  # noqa: E402
from speed_items.rows import Row, in_turns, ratio, spread  # noqa: E402
from tests.support.datasets import mot_config, source_config  # noqa: E402

ROW = Row(
    what="whole | bare",
    ours="97 images/s (95 to 99)",
    other="100 images/s (99 to 101)",
    ratio=0.97,
    target="at least 0.97",
    met=True,
    n=5,
    conditions="resnet18",
)


def page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that tables are written to, with none yet."""
    path = folder / "speed.md"
    path.write_text("# Speed\n\n### Mine\n\n<!-- speed: begin x -->\n<!-- speed: end -->\nafter\n")
    monkeypatch.setattr(speed, "PAGE", path)
    return path


def test_the_page_s_tables_are_as_they_are_written() -> None:
    text = speed.PAGE.read_text(encoding="utf-8")
    assert len(speed.SECTION.findall(text)) == 1
    tables = speed.tables_in(text)
    assert tables
    assert speed.with_tables(text, tables) == text
    for table in tables.values():
        head = speed.table("day", [])
        assert head.split("\n\n")[1] in table


def test_a_table_replaces_that_of_the_same_item_and_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page(tmp_path, monkeypatch)
    measured = [("ranks", "A", 1), ("step", "A", 2), ("step", "B", 3), ("step", "A", 4)]
    for item, machine, number in measured:
        speed.write(item, machine, "today", [dataclasses.replace(ROW, n=number)])
    text = path.read_text()
    assert text.startswith("# Speed\n\n### Mine\n")
    assert text.endswith("\nafter\n")
    tables = speed.tables_in(text)
    assert list(tables) == ["`step`, A", "`step`, B", "`ranks`, A"]
    numbers = [4, 3, 1]
    for number, found in zip(numbers, tables.values(), strict=True):
        assert f"| at least 0.97: met | {number} |" in found
        assert "whole / bare" in found
        assert found.startswith("today.\n\n| what | ours |")


def test_a_missed_target_is_not_hidden() -> None:
    missed = dataclasses.replace(ROW, ratio=0.5, met=False)
    assert "ratio  0.500, at least 0.97: missed" in speed.as_text(missed)
    assert "**missed**" in speed.as_line(missed)


def test_sides_take_turns_and_ratios_are_within_rounds() -> None:
    calls: list[str] = []
    sides = {name: (lambda name=name: calls.append(name) or len(calls)) for name in "ab"}
    found = in_turns(sides, 4)
    assert "".join(calls) == "abbaabba"
    assert {name: len(values) for name, values in found.items()} == {"a": 4, "b": 4}
    assert ratio([10, 40, 90], [10, 20, 30]) == 2
    assert spread([1.0, 2.0, 4.0], "s") == "2.00 s (1.00 to 4.00)"


@pytest.mark.parametrize(
    "item", [pytest.param(i, marks=() if i == "split" else pytest.mark.slow) for i in speed.ITEMS]
)
def test_an_item_runs(item: str, tmp_path: Path) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--only", item, "--quick"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "  ours " in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_is_quick_is_not_written() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--only", "ranks", "--quick", "--write"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "leave out one of both" in done.stderr


def test_both_sides_of_the_ranking_get_the_same_case(tmp_path: Path) -> None:
    ranking.write_case(tmp_path / "case.npz", (20, 100))
    query, gallery = ranking.read_case(tmp_path / "case.npz")
    assert (len(query), len(gallery)) == (20, 100)
    scores, _ = ranking.ours(tmp_path / "case.npz")
    assert ranking.agreement("", scores, scores + 2e-6, "").met is False
    assert ranking.agreement("", scores, scores + 2e-7, "").met is True


def test_what_is_imported_before_it_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    script = "import xml.dom, requests\nif __name__ == '__main__':\n    raise ValueError\n"
    (tmp_path / "pipeline" / "download.py").write_text(script)
    row = overhead.imports(tmp_path, "download", 1)
    assert row.n == 1
    assert row.conditions.endswith("not needed yet: requests")
    assert "requests 0." in row.conditions


def test_the_parts_of_the_way_to_the_first_step_add_up() -> None:
    assert len(overhead.PARTS) == len(overhead.WAY)
    whole = overhead.way("", np.array([3.0, 5.0, 4.0]))
    assert whole.ours == "4.00 s (3.00 to 5.00)"


def process_holding(megabytes: int) -> tuple[int, float]:
    held = b"x" * (megabytes * 1_000_000)
    return os.getpid() + 0 * len(held), 0.5


@pytest.mark.slow
def test_a_call_apart_has_its_own_process_and_memory() -> None:
    small, large = (apart.call(process_holding, size) for size in (1, 300))
    assert len({small.value, large.value, os.getpid()}) == 3
    assert small.seconds == 0.5
    assert 250 < large.peak - small.peak < 350


def test_a_call_apart_that_fails_is_no_outcome(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        apart.call(split_item.by_pillow, Path("nothing.zip"))
    assert "nothing.zip" in capfd.readouterr().err


def test_the_archive_of_noise_is_a_whole_dataset(tmp_path: Path) -> None:
    archive = Archive(split_item.write_archive(tmp_path / "market.zip", 96))
    dataset = open_dataset(archive, source_config(), mot_config())
    assert dataset.layout == "market1501"
    roles = Counter(sample.role for sample in dataset.samples)
    assert roles == {"train": 48, "query": 9, "gallery": 39}
    (tmp_path / "parts").mkdir()
    number, seconds = split_item.parts(archive.path, tmp_path / "parts")
    assert number == split_item.by_pillow(archive.path)[0] == 96
    assert seconds > 0
