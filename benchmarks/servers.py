"""Times what the tracking costs: the pipeline with a local store, and with servers.

    uv run benchmarks/servers.py [ROUNDS]

Each round runs `dvc repro` twice, with tiny data, in a fresh copy of one project: once with SQLite
and once with MLflow's server, with a password, on PostgreSQL and S3, all on this machine. The order
changes from round to round. Needs Debian's package postgresql.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from tests.support import projects  # noqa: E402
from tests.support.servers import servers  # noqa: E402

from deepsort_reid.core.machine import processor  # noqa: E402


def main() -> None:
    """Measure, and print a line for each kind of store."""
    parser = argparse.ArgumentParser(description="Times the pipeline with two kinds of store.")
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="default: 3")
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {"SQLite": [], "servers": []}
    with servers() as stack, tempfile.TemporaryDirectory() as place:
        variables: dict[str, dict[str, str]] = {"SQLite": {}, "servers": stack.environment}
        for number in range(rounds):
            kinds = list(seconds) if number % 2 else list(seconds)[::-1]
            for kind in kinds:
                folder = Path(place) / f"{kind}{number}"
                folder.mkdir()
                projects.begin(folder, {"seed": number})
                begun = time.monotonic()
                projects.run(folder, "dvc", "repro", **variables[kind])
                seconds[kind].append(time.monotonic() - begun)
                print(f"{kind}: {seconds[kind][-1]:.1f} s", flush=True)
    print(f"\n{processor()}, {os.cpu_count()} processors, n = {rounds}")
    for kind, found in seconds.items():
        print(f"{kind:8} {statistics.median(found):6.1f} s ({min(found):.1f} to {max(found):.1f})")


if __name__ == "__main__":
    main()
