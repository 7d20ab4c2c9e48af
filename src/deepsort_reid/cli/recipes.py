"""Recipes: named values of parameters, files in recipes/ that are written into params.yaml."""

import io
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from deepsort_reid.core import config, files
from deepsort_reid.core.errors import ConfigError, nearest_hint
from deepsort_reid.core.project import resolve
from deepsort_reid.core.yaml_file import parse_yaml, read_text, read_yaml, show

FOLDER, SUFFIX = "recipes", ".yaml"  # of the project
WIDTH = 4096  # characters of a line; a longer one would be folded


class Representer(RoundTripRepresenter):
    """Writes values as params.yaml spells them: ruamel.yaml writes nothing for `null`."""


Representer.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


class Change(NamedTuple):
    """A parameter that a recipe has changed."""

    key: str
    before: Any
    after: Any


def names(root: Path) -> list[str]:
    """The recipes of the project in a folder, by name."""
    return sorted(path.stem for path in (root / FOLDER).glob(f"*{SUFFIX}"))


def find(root: Path, name: str) -> Path:
    """A recipe's file.

    Raises:
        ConfigError: there is no such recipe.
    """
    known = names(root)
    if name not in known:
        hint = nearest_hint(name, known) if known else f"{root / FOLDER} holds none"
        raise ConfigError(f"no recipe {name!r}; {hint}")
    return root / FOLDER / f"{name}{SUFFIX}"


def describe(path: Path) -> list[str]:
    """The comment that a recipe begins with: what it is, for which data, with which result."""
    lines = []
    for line in read_text(path).splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def apply(recipe: Path, params: Path) -> list[Change]:
    """Write a recipe's values into params.yaml; see `write`.

    Args:
        recipe: a file that states some of the parameters, nested as in params.yaml.
        params: the file to change.

    Raises:
        ConfigError: also if the recipe is no YAML.
    """
    return write(read_yaml(recipe), params, str(recipe))


def write(wanted: Mapping[str, Any], params: Path, label: str) -> list[Change]:
    """Write values into params.yaml; its comments and its other values stay.

    Args:
        wanted: some of the parameters, nested as in params.yaml.
        params: the file to change, whole or not at all.
        label: who wants them, in errors.

    Returns:
        the parameters whose values are different now.

    Raises:
        ConfigError: params.yaml is no YAML, or the values are none of its, or do not go together
            with the others.
    """
    before = read_yaml(params)
    editor = YAML(typ="rt")
    editor.preserve_quotes, editor.width, editor.Representer = True, WIDTH, Representer
    document = editor.load(read_text(params))
    try:
        changes = list(put(document, before, wanted))
        changed = io.StringIO()
        editor.dump(document, changed)
        config.parse(parse_yaml(changed.getvalue()))
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}") from None
    if changes:
        files.write_text(params, changed.getvalue())
    return changes


def put(
    document: MutableMapping[str, Any],
    before: Mapping[str, Any],
    wanted: Mapping[str, Any],
    prefix: str = "",
) -> Iterator[Change]:
    """Set the wanted values in a document, and yield those that were others before."""
    for name, value in wanted.items():
        key = f"{prefix}{name}"
        if name not in before:
            raise ConfigError(f"unknown key '{key}'; {nearest_hint(key, list(config.meanings()))}")
        if isinstance(value, dict) and isinstance(before[name], dict):
            yield from put(document[name], before[name], value, f"{key}.")
        elif value != before[name]:
            document[name] = flowing(value)
            yield Change(key, before[name], value)


def flowing(value: Any) -> Any:
    """A value that is written on its key's line."""
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


def listing(root: Path) -> str:
    """Every recipe's name and comment."""
    lines = []
    for name in names(root):
        lines += [name, *(f"    {line}" for line in describe(root / FOLDER / f"{name}{SUFFIX}"))]
    return "\n".join([*lines, "", "`deepsort-reid recipe NAME` writes one into params.yaml."])


def report(recipe: Path, changes: list[Change], params: Path) -> str:
    """What has changed, and the next command.

    Args:
        recipe: the recipe's file.
        changes: by `apply`.
        params: the file that was changed.
    """
    dataset = config.load_params(params).dataset
    source = dataset.label
    is_missing = isinstance(dataset.source, str) and not (
        source == "synthetic" or "://" in source or resolve(source).exists()
    )
    width = max((len(change.key) for change in changes), default=0)
    lines = [
        f"  {change.key:{width}}  {show(change.before)} -> {show(change.after)}"
        for change in changes
    ]
    heading = f"params.yaml, by {FOLDER}/{recipe.name}"
    lines.insert(0, f"{heading}:" if changes else f"{heading}: nothing is different")
    place = " -S dataset.source=PATH" if is_missing else ""
    if is_missing:
        lines.append(f"There is no {source} here: state where the images are.")
    return "\n".join(
        [
            *lines,
            f"Next: uv run dvc exp run{place}",
            "Back to the committed values: git restore params.yaml",
        ]
    )
