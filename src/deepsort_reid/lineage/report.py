"""A checkpoint's origin in words, and as plain data for JSON."""

import hashlib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from deepsort_reid.core.git import git
from deepsort_reid.core.yaml_file import show
from deepsort_reid.lineage.commits import files_at, has_commit
from deepsort_reid.lineage.origin import CheckpointOrigin
from deepsort_reid.lineage.workspace import WorkspaceComparison, flat, parameters
from deepsort_reid.training.fingerprint import Fingerprint

INDENT = 13  # characters before what a section holds
WIDTH = 100
LISTED = 10  # commits, and files of code, that are listed
SUBJECT = 40  # characters of a commit's message


def report(
    origin: CheckpointOrigin, comparison: WorkspaceComparison | None, root: Path, *, list_all: bool
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
    yield from verdict(comparison, list_all=list_all)


def checkpoint_lines(origin: CheckpointOrigin) -> Iterator[str]:
    """Yield what the checkpoint is, and where it lies."""
    yield origin.target
    if origin.epoch is not None:
        accuracy = "" if origin.accuracy is None else f", accuracy on val {origin.accuracy:.1f} %"
        yield f"epoch {origin.epoch}{accuracy}"
    yield from (f"{name} {value}" for name, value in hashes(origin).items())
    yield from origin.places
    if not origin.places:
        yield f"its bytes are not on this machine; {remedy(origin)}"


def hashes(origin: CheckpointOrigin) -> dict[str, str]:
    """The checksums that are known."""
    known = {"md5": origin.md5, "sha256": origin.sha256}
    return {name: value for name, value in known.items() if value}


def remedy(origin: CheckpointOrigin) -> str:
    """What may bring a checkpoint's bytes here."""
    if not origin.holders:
        return "the MLflow run's artifacts may have them"
    commit = origin.commit or origin.holders[0].commit
    there = f"git checkout {commit[:7]} &&"
    return (
        f"to bring them from a DVC remote: {there} dvc pull models/model.pth; "
        f"to make them again: {there} dvc repro"
    )


def data_lines(origin: CheckpointOrigin) -> Iterator[str]:
    """Yield the data's source, checksums and counts."""
    source = known_parameters(origin).get("dataset.source")
    if source is not None:
        yield f"source {source}"
    if origin.identity:
        yield from (f"{name} sha256 {digest}" for name, digest in origin.identity.data.items())
    counts = origin.records.counts if origin.records else {}
    if counts:
        parts = {part: kinds for part, kinds in counts.items() if part != "tuning"}
        yield "   ".join(f"{part} {kinds['images']} images" for part, kinds in parts.items())
        if counts.get("tuning"):
            yield "query and gallery of people held out to choose parameters by"


def known_parameters(origin: CheckpointOrigin) -> dict[str, Any]:
    """Every parameter that is known to have played a part, those of data and split first."""
    lock = origin.records.lock if origin.records and origin.records.lock else {}
    table: dict[str, Any] = {}
    for stage in ("download", "split", "train"):
        table |= flat(lock.get(stage, {}).get("params", {}).get("params.yaml", {}))
    if not table and origin.run:
        texts = origin.run.params.items()
        table = {name: text for name, text in texts if name.startswith(("dataset.", "split."))}
    of_training = origin.identity.as_plain()["params"] if origin.identity else {}
    return {**{name: table[name] for name in table if name not in of_training}, **of_training}


def differing_parameters(origin: CheckpointOrigin, here: Mapping[str, Any]) -> dict[str, str]:
    """The known parameters that are others in the workspace -> the value there, in words."""
    found = {}
    for name, value in known_parameters(origin).items():
        other = show_plain(here[name]) if name in here else "missing"
        # Another spelling of a number, 1 and 1.0, is no difference.
        if other != show_plain(value) and here.get(name) != value:
            found[name] = other
    return found


def parameter_lines(origin: CheckpointOrigin, root: Path) -> Iterator[str]:
    """Yield the parameters in columns; one that is another here has a star and the value here."""
    others = differing_parameters(origin, parameters(root))
    cells = [
        f"{'*' if name in others else ' '} {name} {show_plain(value)}"
        + (f" ({others[name]} here)" if name in others else "")
        for name, value in known_parameters(origin).items()
    ]
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


def code_lines(origin: CheckpointOrigin, root: Path) -> Iterator[str]:
    """Yield which commit has the code, or what its code differs in."""
    if origin.identity is None:
        return
    code = origin.identity.code
    candidates = commits_to_try(origin, root)
    others = {commit: changed_files(code, commit, root) for commit in candidates}
    same = next((commit for commit, files in others.items() if not files), None)
    if same:
        yield f"{len(code)} files, all as in commit {same[:7]}"
    elif candidates:
        nearest = min(candidates, key=lambda commit: len(others[commit]))
        names = others[nearest]
        yield f"{len(code)} files, {len(names)} of them other than in commit {nearest[:7]}:"
        yield from (f"{name} sha256 {code[name]}" for name in names[:LISTED])
        if len(names) > LISTED:
            yield f"and {len(names) - LISTED} files more; --json has all digests"
    else:
        yield f"{len(code)} files, of no commit that is known here"
    tags = origin.run.tags if origin.run else {}
    if tags.get("git_dirty"):
        state = "uncommitted changes" if tags["git_dirty"] == "true" else "no uncommitted changes"
        yield f"the run says: commit {tags.get('git_commit', '')[:7]}, {state}"


def commits_to_try(origin: CheckpointOrigin, root: Path) -> list[str]:
    """The commits whose code may be the checkpoint's, the likeliest first."""
    tagged = origin.run.tags.get("git_commit") if origin.run else None
    head = git("rev-parse", "HEAD", at=root)
    holders = [holder.commit for holder in origin.holders[:LISTED]]
    found = [tagged, origin.commit, *holders, head]
    return [commit for commit in dict.fromkeys(found) if commit and has_commit(commit, root)]


def changed_files(code: Mapping[str, str], commit: str, root: Path) -> list[str]:
    """The files of a checkpoint's code that a commit has otherwise, or not at all."""
    contents = files_at(commit, list(code), root)
    return [
        name
        for (name, digest), content in zip(code.items(), contents, strict=True)
        if content is None or hashlib.sha256(content).hexdigest() != digest
    ]


def environment_lines(identity: Fingerprint | None) -> Iterator[str]:
    """Yield versions, processes and device."""
    if identity:
        cells = [f"{name} {value}" for name, value in identity.environment.items()]
        yield from columns(cells, WIDTH - INDENT)


def run_lines(origin: CheckpointOrigin) -> Iterator[str]:
    """Yield the run's name and id, and where to look at it."""
    if run := origin.run:
        yield f"{run.name}, {run.status}, begun {run.started}"
        yield f"id {run.run_id}   key {run.key}"
        yield f"to see it: {run.page}"
    elif origin.run_key:
        yield f"{origin.run_name or ''} key {origin.run_key}".strip()


def holder_lines(origin: CheckpointOrigin) -> Iterator[str]:
    """Yield the commits that hold the checkpoint, and what points to them."""
    for holder in origin.holders[:LISTED]:
        names = f"   {', '.join(holder.names)}" if holder.names else ""
        subject = textwrap.shorten(holder.subject, SUBJECT, placeholder="…")
        yield f"{holder.commit[:7]} {holder.date} {subject}{names}"
    if len(origin.holders) > LISTED:
        yield f"and {len(origin.holders) - LISTED} commits more"


def verdict(comparison: WorkspaceComparison | None, *, list_all: bool) -> Iterator[str]:
    """Yield whether the workspace would make the same checkpoint, and what differs if not."""
    if comparison is None:
        yield (
            "Nobody can tell whether the workspace would make the same checkpoint: it has no "
            "identity, and no dvc.lock that DVC can compare."
        )
        return
    lines = comparison.differences
    if not lines:
        condition = f" if {comparison.condition}" if comparison.condition else ""
        yield f"The workspace would make the same checkpoint{condition}."
        return
    would = "would" if comparison.is_sure else "may"
    yield f"The workspace {would} make another one: {lines[0]}"
    if list_all:
        yield from (f"  {line}" for line in lines[1:])
    elif len(lines) > 1:
        yield f"and {len(lines) - 1} more differences; --all lists them"


def as_plain(
    origin: CheckpointOrigin, comparison: WorkspaceComparison | None, root: Path
) -> dict[str, Any]:
    """All of it as JSON has it."""
    return {
        "target": origin.target,
        "checkpoint": {
            **hashes(origin),
            "epoch": origin.epoch,
            "accuracy": origin.accuracy,
            "places": list(origin.places),
        },
        "identity": origin.identity.as_plain() if origin.identity else None,
        "parameters": known_parameters(origin),
        "differing_parameters": list(differing_parameters(origin, parameters(root))),
        "images": origin.records.counts if origin.records else None,
        "run": asdict(origin.run) if origin.run else None,
        "run_key": origin.run_key,
        "held_by": [asdict(holder) for holder in origin.holders],
        "unknown": origin.unknown,
        "same": None if comparison is None else not comparison.differences,
        "sure": comparison and comparison.is_sure,
        "differences": comparison and comparison.differences,
    }
