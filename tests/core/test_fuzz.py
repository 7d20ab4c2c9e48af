"""Whatever becomes of a file, reading it ends in one clear line or in the right result."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.sources import archive, zip_tar
from tests.fuzz import faults
from tests.fuzz.harness import OUTCOMES, TABLE, Bench, Case, Table, Target
from tests.fuzz.targets import targets

pytestmark = pytest.mark.fuzz

NAMES = (
    "archive, zip", "archive, tar", "archive, tar.gz", "archive, tar.bz2", "archive, tar.xz",
    "image, PNG", "image, JPEG", "image, WEBP", "image, TIFF", "image, BMP", "image, GIF",
    "image, PPM", "image, AVIF", "image, JPEG2000", "image, QOI", "boxes annotated", "boxes found",
    "sequence's description", "labels of KITTI", "annotations of VisDrone", "masks of MOTS",
    "tracks of CVAT", "labels of BDD100K", "items of Datumaro", "list of images",
    "labels of images", "table of images, CSV",
    "table of images, TSV", "params.yaml", "search.yaml", "weights", "weights, older format",
    "weights, safetensors", "checkpoint", "packed array", "packed index", "split summary",
    "packed array, unverified", "resume state", "run's curves", "run's report", "report",
    "evaluation's report",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """All targets, by name."""
    return {target.name: target for target in targets(tmp_path_factory.mktemp("made"))}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and a hundredth of what archives may expand to, so that bombs are small."""
    monkeypatch.setattr(archive, "SMALL", 10 << 20)
    monkeypatch.setattr(zip_tar, "SMALL", 10 << 20)
    monkeypatch.chdir(tmp_path)


def test_every_target_is_tried(made: dict[str, Target]) -> None:
    assert tuple(made) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_read_and_told_apart(
    made: dict[str, Target], name: str, tmp_path: Path
) -> None:
    target = made[name]
    bench = Bench(target, tmp_path)
    assert bench.judge(Case(target.valid[0], made=False)).outcome == "right result"
    assert len({str(right) for right in bench.rights.values()}) == len(bench.rights)
    if target.says:
        assert bench.rights[target.valid[0]] == target.says(target.valid[0])


FEW = 4  # random cases of a kind where nobody waits for more


@pytest.mark.parametrize("name", NAMES)
def test_a_little_damage_ends_in_a_clear_error_or_the_right_result(
    made: dict[str, Target], name: str, tmp_path: Path
) -> None:
    bench = Bench(made[name], tmp_path, strangers_to(name, made))
    for kind in faults.KINDS:
        if kind != "bomb":  # they take seconds
            assert not bench.run(kind, FEW, Table())


@pytest.mark.slow
@pytest.mark.parametrize("kind", faults.KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_damage_ends_in_a_clear_error_or_the_right_result(
    made: dict[str, Target], name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bench = Bench(made[name], tmp_path, strangers_to(name, made))
    wrong = bench.run(kind, request.config.getoption("fuzz_cases"), TABLE)
    assert not wrong, f"{len(wrong)} cases: " + "\n".join(wrong[:9])
    counts = TABLE.counts[name, kind]
    if counts.total() and made[name].checksums:
        assert counts["clear error"], "no damage was noticed"
    assert counts.total() or (kind == "bomb" and not made[name].bombs)


def strangers_to(name: str, made: dict[str, Target]) -> list[bytes]:
    """A whole file of every other kind."""
    return [target.valid[0] for target in made.values() if target.name != name]


# The suite itself can fail


def reads_anything(path: Path) -> object:
    return path.read_bytes()


def unpickles(path: Path) -> object:
    try:
        return pickle.loads(path.read_bytes())
    except Exception:
        raise WeightsError(f"{path}: no pickle") from None


def lets_errors_through(path: Path) -> object:
    return pickle.loads(path.read_bytes()) if path.read_bytes() != b"" else 1 / 0


def says_it_in_two_lines(path: Path) -> object:
    error = WeightsError("")
    error.args = (f"{path}: damaged\nsomewhere",)
    return fail_unless_whole(path, error)


def names_no_file(path: Path) -> object:
    return fail_unless_whole(path, WeightsError("damaged"))


def never_ends(path: Path) -> object:
    data = path.read_bytes()
    while data != WHOLE:
        try:
            data = data[:]
        except Exception:
            raise WeightsError(f"{path}: damaged") from None
    return data


def takes_memory(path: Path) -> object:
    data = path.read_bytes()
    held = b"" if data == WHOLE else b"\1" * (500 << 20)
    return fail_unless_whole(path, WeightsError(f"{path}: damaged{len(held)}"))


def fail_unless_whole(path: Path, error: Exception) -> object:
    if path.read_bytes() != WHOLE:
        raise error
    return WHOLE


WHOLE = pickle.dumps({"some": "content", "and": list(range(50))}, 0)


@pytest.mark.parametrize(
    ("read", "kind", "reason"),
    [
        (reads_anything, "bits flipped", "wrong result"),
        (reads_anything, "emptied", "wrong result"),
        (unpickles, "malicious pickle", "executed code"),
        (lets_errors_through, "truncated", "UnpicklingError"),
        (says_it_in_two_lines, "swapped", "unclear WeightsError"),
        (names_no_file, "swapped", "unclear WeightsError: damaged"),
        (never_ends, "emptied", "took more than 0.2 s"),
        (takes_memory, "emptied", "took 500 MiB"),
    ],
)
def test_a_careless_reader_is_caught(
    read: Callable[[Path], object], kind: str, reason: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tests.fuzz.harness.SECONDS", 0.2)
    table = Table()
    wrong = Bench(Target("careless", "a.pth", [WHOLE], read), tmp_path).run(kind, 4, table)
    assert any(reason in line for line in wrong), wrong
    assert table.counts["careless", kind]["anything else"] == len(wrong)
    assert not (tmp_path / "a pickle ran").exists()


def test_the_cases_are_the_same_each_time(made: dict[str, Target], tmp_path: Path) -> None:
    benches = [Bench(made["weights"], tmp_path / side) for side in "ab"]
    for kind in faults.RANDOM:
        first, second = ([case.data for case in bench.cases(kind, 20)] for bench in benches)
        assert first == second
        assert len(set(first)) > 10


def test_the_table_adds_up() -> None:
    table = Table()
    for number, outcome in enumerate(OUTCOMES, start=1):
        for _ in range(number):
            table.add("image", f"kind {number}", outcome)
    lines = list(table.lines())
    assert [line.split()[-4:] for line in lines if line.startswith("total")] == [
        ["6", "1", "2", "3"]
    ] * 2
