"""Says where a checkpoint comes from, and whether the workspace would make the same one now.

`python -m deepsort_reid.lineage TARGET` tells which data, parameters, code and environment made a
checkpoint, where its bytes lie, and which MLflow run, commits and experiments hold it. TARGET is

    models/model.pth, any path       a checkpoint; the workspace's if there is no TARGET
    HEAD~1, main, v1, 0a1b2c3        a commit, branch or tag
    misty-fox                        a DVC experiment
    an MLflow run                    its id, its key (the tag run_key) or its name

and with `file:`, `commit:` or `run:` before it, that kind of thing alone.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.lineage.origin import find_origin
from deepsort_reid.lineage.report import as_plain, report
from deepsort_reid.lineage.workspace import compare_with_workspace


def main(arguments: Sequence[str], program: str = "python -m deepsort_reid.lineage") -> None:
    """Find the checkpoint, tell of it, and end with status 1 if `--check` finds a difference.

    Raises:
        LineageError: the target leads to no checkpoint, or to several.
        WeightsError: the file cannot be read.
    """
    options = parser(program).parse_args(arguments)
    root = project_root()
    origin = find_origin(options.target, root)
    lock = origin.records.lock if origin.records else None
    comparison = compare_with_workspace(origin.identity, lock, root)
    if options.json:
        text = json.dumps(as_plain(origin, comparison, root), indent=2, ensure_ascii=False)
    else:
        text = "\n".join(report(origin, comparison, root, list_all=options.all))
    print(text)  # noqa: T201
    if options.check and (comparison is None or comparison.differences):
        raise SystemExit(1)


def parser(program: str) -> argparse.ArgumentParser:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        prog=program,
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("target", nargs="?", metavar="TARGET", help="what to tell of; see below")
    made.add_argument("--all", action="store_true", help="list every difference, not the first")
    made.add_argument(
        "--check", action="store_true", help="end with status 1 unless the same would be made"
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


if __name__ == "__main__":
    logging.disable()  # what the libraries have to say while we look is no part of the answer
    run_stage(lambda: main(sys.argv[1:]), ())
