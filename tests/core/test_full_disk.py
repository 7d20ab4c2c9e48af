"""A disk that fills at any write of any stage: one clear line, and the older outputs intact."""

import errno
import os
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import small_disk, stages
from tests.support.small_disk import Job, Result

pytestmark = pytest.mark.slow  # test_bad_input.py tries a full disk once a stage
KiB, MiB = 1 << 10, 1 << 20

# Other parameters than those of the older outputs, so that every new file would differ.
CHANGES = {
    "download": {"dataset.synthetic.seed": 1},
    "split": {"split.seed": 1, "split.image_size": [24, 16]},
    "train": {"seed": 1},
    "evaluate": {"evaluate.ranked_queries": 2},
    "sequences": {"track.synthetic.seed": 1},
    "track": {"evaluate.false_match_rate": 0.5},
}
LEAVING = {
    "download": (4 * KiB, 20 * KiB),
    "split": (4 * KiB, 16 * KiB, 50 * KiB, 80 * KiB, 120 * KiB),
    "train": (22 * MiB, 44 * MiB),
    "evaluate": (4 * KiB, 50 * KiB),
    "sequences": (4 * KiB, 30 * KiB),
    "track": (4 * KiB, 40 * KiB, 150 * KiB),
}
FREE = 256 * MiB  # enough for any stage
RUN = "reports/run.json"  # names the run, each time another one


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which all stages have gone well."""
    folder = tmp_path_factory.mktemp("older")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(stages.ROOT), str(stages.ROOT / "src")]))
        stages.write_params(folder, {})
        for stage in ("download", "split", "train", "evaluate", "sequences", "track"):
            stages.run(stage)
        yield folder


def run(job: Job, folder: Path) -> Result:
    folder.mkdir()
    try:
        return small_disk.run(job, folder)
    except PermissionError as error:
        pytest.skip(f"no process may mount a disk of its own here: {error}")


@pytest.mark.parametrize("stage", CHANGES)
def test_a_disk_that_fills_at_any_write(older: Path, tmp_path: Path, stage: str) -> None:
    def job(after: int | None, leaving: int = 0) -> Job:
        return Job(stage, older, CHANGES[stage], after, leaving)

    right = run(job(None), tmp_path / "right")
    assert right.status == 0, right.text
    assert right.now != right.before
    # What is moved into place at the end takes no room.
    last = len(set(right.now.items()) - set(right.before.items())) + 1
    moments = [(after, 0) for after in range(min(right.finished, last) + 1)]
    moments += [(0, leaving) for leaving in (*LEAVING[stage], FREE)]
    statuses = set()
    for after, leaving in moments:
        result = run(job(after, leaving), tmp_path / f"{after} {leaving}")
        statuses.add(result.status)
        told = f"after {after} files, {leaving} bytes left: {result.text}"
        if result.status == 0:
            assert without_run(result.now) == without_run(right.now), told
        else:
            assert_clear(result, told)
            assert_intact(stage, result, right, told)
    assert statuses == {0, 1}, "the disk was full in time each time, or never"


def without_run(found: Mapping[str, str]) -> Mapping[str, str]:
    return {name: checksum for name, checksum in found.items() if name != RUN}


def assert_clear(result: Result, told: str) -> None:
    errors = [line for line in result.text.splitlines() if line.startswith("error: ")]
    assert result.status == 1, told
    assert len(errors) == 1, told
    assert re.search("no space left on the disk|make room", errors[0]), told
    assert "the file being written" not in errors[0], told
    assert "Traceback" not in result.text, told


def assert_intact(stage: str, result: Result, right: Result, told: str) -> None:
    if stage != "train":
        assert result.now == result.before, told
        return
    # What training replaces it replaces after each epoch; each file is an older or a newer one.
    assert result.now.keys() == result.before.keys() | right.now.keys(), told
    assert not [name for name in result.now if ".tmp" in name], told


# Any single write that fails, also one that a full disk would not reach

WRITES = ("os.fsync", "os.pwrite", "os.posix_fallocate", "pathlib.Path.replace",
          "pathlib.Path.mkdir", "pathlib.Path.write_text", "pathlib.Path.write_bytes",
          "zipfile.ZipFile.writestr", "zipfile.ZipFile._write_end_record")  # fmt: skip


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("stage", ["download", "split", "sequences"])
def test_a_write_that_fails(
    older: Path, tmp_path: Path, stage: str, call: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    stages.copy_outputs(older, tmp_path)
    stages.write_params(tmp_path, CHANGES[stage])
    for number in range(1, 200):
        before = small_disk.checksums(tmp_path)
        with monkeypatch.context() as patch:
            counted = failing(call, number, patch)
            status = status_of(stage)
        if len(counted) < number:
            assert status == 0
            return
        errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
        assert status == len(errors) == 1
        assert "no space left" in errors[0]
        # Renames take no room; of those at the end, some were done before the one that failed.
        if call != "pathlib.Path.replace":
            assert small_disk.checksums(tmp_path) == before, f"{call} number {number}"
        assert not [name for name in small_disk.checksums(tmp_path) if ".tmp" in name]
    pytest.fail("the stage never succeeded")


def status_of(stage: str) -> object:
    try:
        stages.run(stage)
    except SystemExit as end:
        return end.code
    return 0


def failing(call: str, number: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Let the call of a number fail as on a full disk; the list grows with each call."""
    counted: list[str] = []
    owner, _, name = call.rpartition(".")
    real = getattr(pkgutil.resolve_name(owner), name)

    def counting(*arguments: object, **words: object) -> object:
        counted.append(name)
        if len(counted) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **words)

    patch.setattr(pkgutil.resolve_name(owner), name, counting)
    return counted
