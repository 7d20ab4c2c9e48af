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
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from deepsort_reid.core.project import project_root
from deepsort_reid.core.stage import run_stage
from deepsort_reid.core.yaml_file import show
from deepsort_reid.lineage import git as history
from deepsort_reid.lineage.origin import Origin, Sources, find
from deepsort_reid.lineage.workspace import Comparison, compare, flat, parameters
from deepsort_reid.runs.names import cut
from deepsort_reid.runs.provenance import git
from deepsort_reid.runs.store import tracking_uri, where_to_look
from deepsort_reid.training.fingerprint import Identity

INDENT = 13  # characters before what a section holds
WIDTH = 100
HOLDERS = 10  # commits that are listed
SUBJECT = 40  # characters of a commit's message


def main(arguments: Sequence[str]) -> None:
    """Find the checkpoint, tell of it, and end with status 1 if `--check` finds a difference.

    Raises:
        LineageError: the target leads to no checkpoint, or to several.
        WeightsError: the file cannot be read.
    """
    options = parser().parse_args(arguments)
    root = project_root()
    origin = find(options.target, Sources(root))
    lock = origin.records.lock if origin.records else None
    comparison = compare(origin.identity, lock, root)
    if options.json:
        text = json.dumps(as_plain(origin, comparison, root), indent=2, ensure_ascii=False)
    else:
        text = "\n".join(report(origin, comparison, root, everything=options.all))
    print(text)  # noqa: T201
    if options.check and (comparison is None or comparison.differences):
        raise SystemExit(1)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    made = argparse.ArgumentParser(
        prog="python -m deepsort_reid.lineage",
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


def report(
    origin: Origin, comparison: Comparison | None, root: Path, *, everything: bool
) -> Iterator[str]:
    """Yield the lines of all sections, and of the verdict."""
    sections = {
        "checkpoint": checkpoint_lines(origin),
        "data": data_lines(origin),
        "parameters": parameter_lines(origin, root),
        "code": code_lines(origin, root),
        "environment": environment_lines(origin.identity),
        "MLflow run": run_lines(origin),
        "held by": holder_lines(origin),
        "not known": origin.unknown,
    }
    for title, lines in sections.items():
        for name, line in zip_longest([title], lines):
            if line is not None:
                yield f"{name or '':<{INDENT}}{line}"
    yield ""
    yield from verdict(comparison, everything=everything)


def checkpoint_lines(origin: Origin) -> Iterator[str]:
    """Yield what the checkpoint is, and where it lies."""
    yield origin.target
    if origin.epoch is not None:
        accuracy = "" if origin.accuracy is None else f", accuracy on val {origin.accuracy:.1f} %"
        yield f"epoch {origin.epoch}{accuracy}"
    yield from (f"{name} {value}" for name, value in hashes(origin).items())
    yield from origin.places
    if not origin.places:
        yield f"its bytes are not on this machine; {remedy(origin)}"


def hashes(origin: Origin) -> dict[str, str]:
    """The checksums that are known."""
    known = {"md5": origin.md5, "sha256": origin.sha256}
    return {name: value for name, value in known.items() if value}


def remedy(origin: Origin) -> str:
    """What may bring a checkpoint's bytes here."""
    if not origin.holders:
        return "the MLflow run's artifacts may have them"
    commit = origin.commit or origin.holders[0].commit
    return f"to bring them: git checkout {commit[:7]} && dvc pull models/model.pth"


def data_lines(origin: Origin) -> Iterator[str]:
    """Yield the data's checksums, source and counts."""
    source = known_parameters(origin).get("dataset.source")
    if source is not None:
        yield f"source {source}"
    if origin.identity:
        yield from (f"{name} sha256 {digest}" for name, digest in origin.identity.data.items())
    counts = origin.records.counts if origin.records else None
    if isinstance(counts, Mapping):
        parts = {part: kinds for part, kinds in counts.items() if part != "tuning"}
        yield "   ".join(f"{part} {kinds['images']} images" for part, kinds in parts.items())
        if counts.get("tuning"):
            yield "query and gallery of people held out to choose parameters by"


def known_parameters(origin: Origin) -> dict[str, Any]:
    """Every parameter that is known to have played a part, those of data and split first."""
    lock = origin.records.lock if origin.records and origin.records.lock else {}
    table: dict[str, Any] = {}
    for stage in ("download", "split", "train"):
        table |= flat(lock.get(stage, {}).get("params", {}).get("params.yaml", {}))
    if not table and origin.run:
        texts = origin.run.params
        table = {
            name: text for name, text in texts.items() if name.startswith(("dataset.", "split."))
        }
    of_training = origin.identity.as_plain()["params"] if origin.identity else {}
    return {**{name: table[name] for name in table if name not in of_training}, **of_training}


def parameter_lines(origin: Origin, root: Path) -> Iterator[str]:
    """Yield the parameters in columns; one that is another here has a star and the value here."""
    here, cells = parameters(root), []
    for name, value in known_parameters(origin).items():
        spelled = show_plain(value)
        other = "missing" if name not in here else show_plain(here[name])
        differs = other != spelled and here.get(name) != value  # 1 and 1.0 are the same
        cells.append(
            f"{'*' if differs else ' '} {name} {spelled}{f' ({other} here)' if differs else ''}"
        )
    yield from columns(cells, WIDTH - INDENT)


def show_plain(value: Any) -> str:
    """A value as params.yaml spells it, but texts bare."""
    return value if isinstance(value, str) else show(value)


def columns(cells: Sequence[str], width: int) -> Iterator[str]:
    """Yield lines of as many equal columns as fit, read downwards."""
    widest = max(map(len, cells), default=0) + 2
    count = max(1, width // max(1, widest))
    rows = -(-len(cells) // count)
    for row in range(rows):
        yield "".join(cell.ljust(widest) for cell in cells[row::rows]).rstrip()


def code_lines(origin: Origin, root: Path) -> Iterator[str]:
    """Yield which commit has the code, or what its code differs in."""
    if origin.identity is None:
        return
    code = origin.identity.code
    candidates = commits_to_try(origin, root)
    others = {commit: changed_files(code, commit, root) for commit in candidates}
    same = next((commit for commit, files in others.items() if files == []), None)
    if same:
        yield f"{len(code)} files, all as in commit {same[:7]}"
    elif candidates:
        nearest, differing = candidates[0][:7], others[candidates[0]]
        yield f"{len(code)} files, {len(differing)} of them other than in commit {nearest}:"
        yield from (f"{name} sha256 {code[name]}" for name in differing)
    else:
        yield f"{len(code)} files, of no commit that is known here"
    tags = origin.run.tags if origin.run else {}
    if tags.get("git_dirty"):
        state = "uncommitted changes" if tags["git_dirty"] == "true" else "no uncommitted changes"
        yield f"the run says: commit {tags.get('git_commit', '')[:7]}, {state}"


def commits_to_try(origin: Origin, root: Path) -> list[str]:
    """The commits whose code may be the checkpoint's, the likeliest first."""
    tagged = origin.run.tags.get("git_commit") if origin.run else None
    head = git("rev-parse", "HEAD", at=root)
    holders = [holder.commit for holder in origin.holders[:HOLDERS]]
    found = [tagged, origin.commit, *holders, head]
    return [commit for commit in dict.fromkeys(found) if commit and history.exists(commit, root)]


def changed_files(code: Mapping[str, str], commit: str, root: Path) -> list[str]:
    """The files of a checkpoint's code that a commit has otherwise, or not at all."""
    contents = history.contents([(commit, name) for name in code], root)
    return [
        name
        for (name, digest), content in zip(code.items(), contents, strict=True)
        if content is None or hashlib.sha256(content).hexdigest() != digest
    ]


def environment_lines(identity: Identity | None) -> Iterator[str]:
    """Yield versions, processes and device."""
    if identity:
        cells = [f"{name} {value}" for name, value in identity.environment.items()]
        yield from columns(cells, WIDTH - INDENT)


def run_lines(origin: Origin) -> Iterator[str]:
    """Yield the run's name and id, and where to look at it."""
    if origin.run:
        run = origin.run
        yield f"{run.name}, {run.status}, begun {run.started}"
        yield f"id {run.run_id}   key {origin.run_key}"
        yield f"to see it: {where_to_look(tracking_uri(), run.experiment_id, run.run_id)}"
    elif origin.run_key:
        yield f"{origin.run_name or ''} key {origin.run_key}".strip()


def holder_lines(origin: Origin) -> Iterator[str]:
    """Yield the commits that hold the checkpoint, and what points to them."""
    for holder in origin.holders[:HOLDERS]:
        names = f"   {', '.join(holder.names)}" if holder.names else ""
        yield f"{holder.commit[:7]} {holder.date} {cut(holder.subject, SUBJECT)}{names}"
    if len(origin.holders) > HOLDERS:
        yield f"and {len(origin.holders) - HOLDERS} commits more"


def verdict(comparison: Comparison | None, *, everything: bool) -> Iterator[str]:
    """Yield whether the workspace would make the same checkpoint, and what differs if not."""
    if comparison is None:
        yield "Nobody can tell whether the workspace would make the same checkpoint: no identity."
        return
    lines = comparison.differences
    if not lines and comparison.is_sure:
        yield "The workspace would make the same checkpoint."
    elif not lines:
        yield (
            "The workspace would make the same checkpoint if this is the environment it was made "
            "in, which nobody knows."
        )
    else:
        would = "would" if comparison.is_sure else "may"
        yield f"The workspace {would} make another one: {lines[0]}"
        if everything:
            yield from (f"  {line}" for line in lines[1:])
        elif len(lines) > 1:
            yield f"and {len(lines) - 1} more differences; --all lists them"


def as_plain(origin: Origin, comparison: Comparison | None, root: Path) -> dict[str, Any]:
    """All of it as JSON has it."""
    here = parameters(root)
    known = known_parameters(origin)
    return {
        "target": origin.target,
        "checkpoint": {
            **hashes(origin),
            "epoch": origin.epoch,
            "accuracy": origin.accuracy,
            "places": list(origin.places),
        },
        "identity": origin.identity.as_plain() if origin.identity else None,
        "parameters": known,
        "differing_parameters": [
            name for name, value in known.items() if show_plain(value) != show_plain(here.get(name))
        ],
        "images": origin.records.counts if origin.records else None,
        "run": asdict(origin.run) if origin.run else None,
        "run_key": origin.run_key,
        "held_by": [asdict(holder) for holder in origin.holders],
        "unknown": list(origin.unknown),
        "same": None if comparison is None else not comparison.differences,
        "sure": comparison and comparison.is_sure,
        "differences": comparison and comparison.differences,
    }


if __name__ == "__main__":
    logging.disable()  # what the libraries have to say while we look is no part of the answer
    run_stage(lambda: main(sys.argv[1:]))
