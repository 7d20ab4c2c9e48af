"""The line of docs/search.md that searches on SLURM, on a real one: told to stop, it goes on."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.search.test_real import SEARCH, SMALL, START
from tests.support import projects, slurm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DOCS = projects.ROOT / "docs" / "search.md"
PROGRAM = f'{sys.executable} -c "{START}"'  # the clone's, in a project without .venv
ENDED = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT")


def test_a_search_that_slurm_has_stopped_goes_on_when_it_is_submitted_again(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if missing := slurm.missing():
        assert "CI" not in os.environ, missing
        pytest.skip(f"not installed: {', '.join(missing)}")
    found = re.search(r"^sbatch .*--signal=(\S+) .*--wrap '(.*)'$", DOCS.read_text(), re.MULTILINE)
    assert found is not None
    script = found[2].replace(".venv/bin/deepsort-reid", PROGRAM).replace("40", "2")
    projects.begin(tmp_path, SMALL)
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    projects.commit(tmp_path, "Begin")
    output = tmp_path / "output.txt"
    line = ("sbatch", "--parsable", "--open-mode=append", "--output=output.txt",
            f"--signal={found[1]}", "--wrap", script)  # fmt: skip

    with slurm.running(tmp_path_factory.mktemp("slurm")) as cluster:
        job = cluster.command(*line, cwd=tmp_path).strip()
        history = tmp_path / ".search/search/trials/0000/reports/history.csv"
        cluster.wait_for(history.exists, 200)
        # What --signal does two minutes before the job's time is up.
        cluster.command("scancel", "--batch", "--signal=TERM", job)
        assert cluster.wait(job, *ENDED)["JobState"] == "FAILED", output.read_text()
        assert "1 in flight: the same command goes on" in output.read_text()
        job = cluster.command(*line, f"--nodelist={slurm.NODES[1]}", cwd=tmp_path).strip()
        assert cluster.wait(job, *ENDED)["JobState"] == "COMPLETED", output.read_text()

    assert "trial 0 goes on" in output.read_text()
    assert "2 trials of study 'search'" in output.read_text()
    log = (tmp_path / ".search/search/trials/0000/log.txt").read_text()
    assert "going on with an interrupted training" in log
    assert "Traceback" not in output.read_text() + log
