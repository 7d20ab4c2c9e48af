"""A YAML 1.2 file, as DVC reads it: by ruamel.yaml, into plain Python values, one line an error."""

from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode

from deepsort_reid.core.errors import ConfigError, first_line

MAX_BYTES = 1 << 16  # of a file; ruamel.yaml takes a second or so for that much
SHOWN = 100  # characters of a value in a message
TAG = "tag:yaml.org,2002:"
CORE = ("null", "bool", "int", "float", "str", "seq", "map")  # YAML 1.2's core schema


class CoreConstructor(SafeConstructor):
    """Makes the values of YAML's core schema and no others: no sets, no dates, no objects."""

    # A date stays the text that it is. The entry None refuses every other tag.
    yaml_constructors = {  # noqa: RUF012
        **{TAG + name: SafeConstructor.yaml_constructors[TAG + name] for name in CORE},
        TAG + "timestamp": SafeConstructor.construct_yaml_str,
        None: SafeConstructor.construct_undefined,
    }

    def flatten_mapping(self, node: MappingNode) -> None:
        """Refuse the merge key `<<`: merges of merges grow without bound."""
        for key, _ in node.value:
            if key.tag == f"{TAG}merge":
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: '<<' merges sections; state each parameter")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping.

    Raises:
        ConfigError: the file cannot be read or is no mapping; one line.
    """
    try:
        content = parse_yaml(read_text(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a YAML text: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{path}: {reason}; run this in the project's folder, where params.yaml stands"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold parameters, `name: value` a line")
    return content


def parse_yaml(text: str) -> Any:
    """The value that a YAML 1.2 text holds; a key that stands twice in a mapping is an error.

    Raises:
        ConfigError: it is no YAML; the line does not name the file.
    """
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = CoreConstructor
    reader.composer.warn_double_anchors = False  # YAML allows them, and a warning helps nobody
    try:
        return reader.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"line {line} is not YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError("nested too deeply; sections stand two deep at most") from None
    # An explicit tag, `!!int abc`, makes ruamel.yaml convert what does not look like it: any error.
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ConfigError(f"not a YAML text: {first_line(error)}") from None


def read_text(path: Path) -> str:
    """Read a UTF-8 text of at most `MAX_BYTES`.

    Raises:
        ConfigError: it is longer.
        UnicodeDecodeError: it is not UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"longer than {MAX_BYTES:,} bytes, which no file of parameters is")
    return content.decode("utf-8")


def show(value: Any) -> str:
    """A value as params.yaml spells it, the beginning of it if it is long."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    except RecursionError:  # lists within lists, by way of aliases
        return "…"
    text = text.removesuffix("\n...\n").strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
