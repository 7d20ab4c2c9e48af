"""What the command line says of the networks: `[NAME=]PATH`, and `--set NAME.key=value`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepsort_reid.core.arch import is_arch, unknown
from deepsort_reid.core.errors import ConfigError, nearest_hint
from deepsort_reid.core.yaml_file import parse_yaml
from deepsort_reid.model.checkpoint import each, is_count, one_of
from deepsort_reid.model.onnx_file import NORMALISATIONS
from deepsort_reid.model.pretrained.source import REGISTERED

KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {  # of --set: check, what is expected
    "normalisation": (one_of(NORMALISATIONS), "inside (the file does it) or outside"),
    "image_size": (each(is_count, 2), "height and width in pixels, such as [256,128]"),
    "arch": (is_arch, "a network's name, such as osnet_x1_0 or timm/NAME"),
}
COMMON_NAMES = {"model", "weights", "best", "last", "checkpoint", "ckpt"}  # which tell nothing


@dataclass(frozen=True)
class Wanted:
    """A network that is to take part, as the command line states it.

    Attributes:
        name: in the table.
        place: a file, a folder, or a registered model.
        options: by the names of `KEYS`; what is stated of it because its file does not say it.
        base: where a relative place begins.
    """

    name: str
    place: str
    options: Mapping[str, Any] = field(default_factory=dict)
    base: Path = Path()

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.base / Path(self.place).expanduser()

    def refuse_options(self, allowed: Sequence[str], kind: str) -> None:
        """Refuse options that would contradict the file.

        Raises:
            ConfigError: one is stated that is not allowed.
        """
        for key in self.options.keys() - set(allowed):
            raise ConfigError(
                f"--set {self.name}.{key}: {self.place} is {kind}, which states that itself; "
                "leave the option out"
            )


def parse(networks: Sequence[str], settings: Sequence[str] = ()) -> list[Wanted]:
    """Read the arguments.

    Args:
        networks: `PATH` or `NAME=PATH`.
        settings: `NAME.key=value`.

    Raises:
        ConfigError: two networks have one name, or a setting is none.
    """
    named = [split_name(text) for text in networks]
    names = distinct_names(named)
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in settings:
        name, key, value = parse_setting(text, names)
        options[name][key] = value
    pairs = zip(names, named, strict=True)
    return [Wanted(name, place, options[name], Path.cwd()) for name, (_, place) in pairs]


def split_name(text: str) -> tuple[str, str]:
    """The name, empty if none is stated, and the place."""
    name, equals, place = text.partition("=")
    return (name, place) if equals and place and not Path(text).exists() else ("", text)


def distinct_names(named: Sequence[tuple[str, str]]) -> list[str]:
    """The stated names, and for the others the shortest that tells them apart.

    Raises:
        ConfigError: two networks have one name.
    """
    counts = Counter(short_name(place) for name, place in named if not name)
    names = [
        name or (short if counts[short] == 1 else place)
        for name, place in named
        for short in [short_name(place)]
    ]
    for name, count in Counter(names).items():
        if count > 1:
            raise ConfigError(f"{name}: two networks of this name; name them: NAME=PATH")
    return names


def short_name(place: str) -> str:
    """`osnet` of `zoo/osnet.onnx`; `run1` of `run1/models/model.pth`, which the file does not tell.

    A registered model keeps its name and version.
    """
    if place.startswith(REGISTERED):
        return place.removeprefix(REGISTERED)
    path = Path(place).resolve()
    if path.is_dir():
        return path.name
    path = path.with_suffix("") if path.suffix == ".tar" else path  # .pth.tar
    if path.stem.lower() not in COMMON_NAMES:
        return path.stem
    folders = [part for part in path.parts[1:-1] if part not in ("models", "export", "weights")]
    return folders[-1] if folders else path.stem


def parse_setting(text: str, names: Sequence[str]) -> tuple[str, str, Any]:
    """The network's name, the key and the value of `NAME.key=value`.

    Raises:
        ConfigError: there is no such network or key, or the value is none of its kind.
    """
    start, equals, written = text.partition("=")
    name, dot, key = start.rpartition(".")
    if not equals or not dot:
        raise ConfigError(f"--set {text}: expected NAME.key=value, with a key of {', '.join(KEYS)}")
    if name not in names:
        raise ConfigError(f"--set {text}: no network '{name}'; {nearest_hint(name, names)}")
    if key not in KEYS:
        raise ConfigError(f"--set {text}: no key '{key}'; {nearest_hint(key, list(KEYS))}")
    value, (check, expected) = parse_yaml(written), KEYS[key]
    if not check(value):
        hint = f"; {unknown(str(value))}" if key == "arch" else ""
        raise ConfigError(f"--set {text}: expected {expected}{hint}")
    return name, key, value
