"""What differs here from the commit that a run starts from: parameters, and files."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.git import git, git_bytes
from deepsort_reid.core.project import outputs_of, project_root
from deepsort_reid.core.yaml_file import parse_yaml, read_yaml, show
from deepsort_reid.runs.names import flattened

PARAMS, LOCK, PIPELINE = "params.yaml", "dvc.lock", "dvc.yaml"
RECIPES = "recipes"  # the folder of named values of parameters
CODE = ("src", "pipeline")  # where a file that git does not know yet is code
TRIAL = "DEEPSORT_REID_TRIAL"  # in the environment of a search's trial: its number
SHOWN = 3  # parameters in a label
LONGEST_VALUE = 24  # characters of a value in a label
PLAIN = re.compile(r"[\w./+-]+( [\w./+-]+)*", re.ASCII)  # what Hydra needs no quotes around


def workspace() -> Path:
    """The folder whose files are compared with a commit: the current one, but for a trial's.

    A search's trial runs in a folder that git ignores, with the project's own code.
    """
    return project_root() if TRIAL in os.environ else Path.cwd()


def base_commit() -> str | None:
    """The commit of the real repository that a run starts from; None without git.

    A temporary experiment's folder is a repository of its own: there DVC names the commit.
    """
    return os.environ.get("DVC_EXP_BASELINE_REV") or git("rev-parse", "HEAD", at=project_root())


def changed_files(commit: str | None) -> list[str] | None:
    """The files of the project that a person changed since a commit; None: unknown.

    Outputs, dvc.lock and params.yaml are left out: DVC writes them, and removes outputs before a
    stage runs. The parameters are compared by `changed_params`.
    """
    if commit is None:
        return None
    others = [f":(exclude){name}" for name in (PARAMS, LOCK, *outputs())]
    here = workspace()
    tracked = git("diff", "--name-only", "-z", "--relative", commit, "--", ".", *others, at=here)
    new = git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE, at=here)
    if tracked is None or new is None:
        return None
    return sorted({name for names in (tracked, new) for name in names.split("\0") if name})


def changed_params(commit: str | None, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters that a commit does not have or has with another value; None: unknown.

    Args:
        commit: the commit.
        params: those here, nested as in params.yaml.

    Returns:
        names with dots (`split.seed`) -> the values here.
    """
    content = git_bytes("show", f"{commit}:./{PARAMS}", at=workspace()) if commit else None
    try:
        there = parse_yaml((content or b"").decode())
    except (ConfigError, UnicodeDecodeError):
        return None
    if not isinstance(there, Mapping):
        return None
    known = flattened(there)
    return {
        name: value
        for name, value in flattened(params).items()
        if name not in known or known[name] != value
    }


def label(changes: Mapping[str, Any]) -> str:
    """Changed parameters in a few characters, for a run's name: `lr0.2-optimizer-sgd`.

    Those that a recipe has changed are called by its name: `market1501-seed1`.
    """
    recipe, written = recipe_among(changes)
    others = {name: value for name, value in changes.items() if name not in written}
    words = [f"{name}{spelled(value)}" for name, value in list(others.items())[:SHOWN]]
    more = len(others) - SHOWN
    tail = [f"and-{more}-more"] if more > 0 else []
    return "-".join([*([recipe] if recipe else []), *words, *tail])


def recipe_among(changes: Mapping[str, Any]) -> tuple[str, set[str]]:
    """The recipe that made most of some changes, and the parameters that it made.

    It has more of their values than other recipes, and more than a name would show.

    Returns:
        the recipe's name, or '' where none did.
    """
    best, explained = "", set[str]()
    for path in sorted(Path(RECIPES).glob("*.yaml")):
        try:
            values = flattened(read_yaml(path))
        except (ConfigError, AttributeError, TypeError):
            continue
        same = {name for name in values if name in changes and changes[name] == values[name]}
        if len(same) > max(SHOWN, len(explained)):
            best, explained = path.stem, same
    return best, explained


def as_options(changes: Mapping[str, Any]) -> str:
    """Changed parameters as `dvc exp run` takes them, to be pasted: ` -S lr=0.2`."""
    return "".join(f" -S {shlex.quote(f'{name}={override(v)}')}" for name, v in changes.items())


def override(value: object) -> str:
    """A value in the grammar of Hydra, by which `dvc exp run -S` reads it.

    Source: https://hydra.cc/docs/advanced/override_grammar/basic/
    """
    if isinstance(value, list):
        return f"[{', '.join(map(override, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {override(item)}' for key, item in value.items())}}}"
    if not isinstance(value, str):
        return show(value)
    if PLAIN.fullmatch(value) and show(value) == value:
        return value
    # A backslash counts only before a quote, and the end is one.
    text = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), value)
    return "'" + text.replace("${", "\\${") + "'"


def spelled(value: object) -> str:
    """A value behind a parameter's name: `0.2`, `128x64`, `-sgd`; of a path its last part."""
    if isinstance(value, list):
        named = [str(item.get("name")) for item in value if isinstance(item, Mapping)]
        return "-" + "+".join(named) if named else "x".join(map(str, value)) or "-none"
    if value is None:
        return "-null"
    if isinstance(value, bool):
        return f"-{str(value).lower()}"
    if isinstance(value, int | float):
        return str(value)
    return f"-{Path(str(value)).name[:LONGEST_VALUE]}"


def outputs() -> list[str]:
    """The paths of all outputs that dvc.yaml states; none if it cannot be read."""
    try:
        stages = read_yaml(workspace() / PIPELINE).get("stages", {}).values()
        return [path for stage in stages for path in outputs_of(stage)]
    except (ConfigError, AttributeError, TypeError):
        return []
