"""Several searches that begin one study in PostgreSQL at the same moment."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Postgres, postgres

pytestmark = pytest.mark.slow
SEARCHES, TRIALS = 6, 2
SEARCH = """
import sys
from pathlib import Path
from deepsort_reid.search.space import Range
from deepsort_reid.search.study import Study
lr = Range("lr", 0.001, 0.1, log=True, step=None, is_whole=False)
print("ready", flush=True)
sys.stdin.readline()
study = Study(Path(sys.argv[1]), "search", sys.argv[2], seed=0, epochs=10)
for _ in range(int(sys.argv[3])):
    trial = study.ask()
    print(trial.number, lr.draw(trial))
assert len(study.left()) == int(sys.argv[3])
"""


@pytest.fixture
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def test_the_tables_are_made_once_and_no_trial_twice(database: Postgres, tmp_path: Path) -> None:
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**database.arguments())
    for number in range(SEARCHES):
        (tmp_path / str(number)).mkdir()
    searches = [
        subprocess.Popen(
            [sys.executable, "-c", SEARCH, str(tmp_path / str(number)), url, str(TRIALS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(SEARCHES)
    ]  # fmt: skip
    for search in searches:
        assert search.stdout
        assert search.stdout.readline() == "ready\n"
    for search in searches:
        assert search.stdin
        search.stdin.write("\n")
        search.stdin.flush()
    said = [search.communicate(timeout=120) for search in searches]
    assert [search.returncode for search in searches] == [0] * SEARCHES, said
    drawn = dict(line.split() for out, _ in said for line in out.splitlines())
    assert sorted(map(int, drawn)) == list(range(SEARCHES * TRIALS))
    assert len(set(drawn.values())) == len(drawn)
