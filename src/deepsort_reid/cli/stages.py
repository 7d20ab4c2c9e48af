"""The pipeline's stages without DVC, in a folder of the user's choice.

A folder of a run looks like this project's: params.yaml, data/, models/ and reports/. The stages
are the scripts of pipeline/, which the wheel brings along.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepsort_reid.cli import recipes
from deepsort_reid.core import config, files
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.project import home, stage_command
from deepsort_reid.core.yaml_file import parse_yaml, read_text

PARAMS, CHECKPOINT = Path("params.yaml"), Path("models/model.pth")


def prepare(
    folder: Path, *, source: str | None, recipe: str | None, values: Sequence[str]
) -> list[recipes.Change]:
    """Make a folder of a run, and write the parameters that are wanted into its params.yaml.

    Args:
        folder: of the run; made if it is not there, with the default parameters, and ignored by
            git then.
        source: the images: `synthetic`, a path or a URL; None: as params.yaml says.
        recipe: the name of a recipe; None: none.
        values: `key=value`, as params.yaml spells them.

    Returns:
        the parameters that are different now.

    Raises:
        ConfigError: there is no such recipe, or a parameter is wrong.
    """
    wanted = [parsed(text) for text in values]
    if source is not None:
        wanted.append({"dataset": {"source": absolute(source)}})
    params, changes = folder / PARAMS, []
    if not folder.exists():  # in it will be images, which are often private
        files.write_text(folder / ".gitignore", "*\n")
    if not params.exists():
        files.write_text(params, read_text(home() / PARAMS))
    if recipe is not None:
        changes += recipes.apply(recipes.find(home(), recipe), params)
    for number, changed in enumerate(wanted):
        label = f"--set {values[number]}" if number < len(values) else f"--source {source}"
        changes += recipes.write(changed, params, label)
    config.load_params(params)
    return changes


def parsed(text: str) -> dict[str, Any]:
    """`key=value` as a mapping, nested as in params.yaml.

    Raises:
        ConfigError: it is no such pair.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected key=value, such as epochs=40")
    *sections, name = key.split(".")
    found: dict[str, Any] = {name: parse_yaml(value)}
    for section in reversed(sections):
        found = {section: found}
    return found


def absolute(source: str) -> str:
    """A source that does not depend on the folder in which it is read."""
    return source if source == "synthetic" or "://" in source else str(Path(source).resolve())


def check_free(folder: Path) -> None:
    """Refuse a folder that holds a checkpoint.

    Raises:
        ConfigError: it does.
    """
    if (folder / CHECKPOINT).exists():
        raise ConfigError(
            f"{folder / CHECKPOINT} is there already; choose another --folder, or --overwrite, by "
            "which an interrupted training also goes on"
        )


def run(stages: Sequence[str], folder: Path) -> None:
    """Run stages in a folder, one after the other.

    Raises:
        ConfigError: the folder holds no params.yaml.
        SystemExit: one has failed, with its status; it has said why.
    """
    if not (folder / PARAMS).exists():
        raise ConfigError(f"{folder / PARAMS}: no such file; `deepsort-reid train` makes it")
    for stage in stages:
        status = subprocess.run(stage_command(stage), cwd=folder, check=False).returncode  # noqa: S603
        if status:
            raise SystemExit(status if status > 0 else 128 - status)
