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
from deepsort_reid.search.study import Study
print("ready", flush=True)
sys.stdin.readline()
study = Study(Path(sys.argv[1]), "search", sys.argv[2], seed=0, epochs=10)
print(*[study.ask(parallel=False).number for _ in range(int(sys.argv[3]))])
"""


@pytest.fixture
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def test_the_tables_are_made_once_and_no_trial_twice(database: Postgres, tmp_path: Path) -> None:
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**database.arguments())
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
    numbers = sorted(int(number) for out, _ in said for number in out.split())
    assert numbers == list(range(SEARCHES * TRIALS))
