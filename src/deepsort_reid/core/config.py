"""params.yaml, parsed into frozen, typed objects before anything costs time."""

import difflib
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from deepsort_reid.core.errors import ConfigError

MAX_BYTES = 1 << 20  # of params.yaml; PyYAML takes a second or so for that much
MAX_INT = 2**63 - 1  # what NumPy and torch take
DESIGN = ("arch", "head", "last_stride", "pooling", "neck")  # what kind of network it is
SHOWN = 100  # characters of a value in a message

Config = TypeVar("Config")


def parameter(
    doc: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare a parameter: what it means (the README's table shows it) and its bounds.

    There are no defaults: params.yaml states every value, so that it alone is the experiment.
    """
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    return field(metadata={"doc": doc, "bounds": bounds})


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What the built-in dataset is rendered from."""

    seed: int = parameter("another number, another crowd", at_least=0)
    train_identities: int = parameter("people to learn from", at_least=2)
    test_identities: int = parameter("other people, for query and gallery", at_least=2)
    images_per_identity: int = parameter("images of each, over all cameras", at_least=4)
    cameras: int = parameter("cameras, each with its colours, blur and view", at_least=2)
    distractors: int = parameter("gallery images of people nobody asks for", at_least=0)
    junk: int = parameter("gallery images the protocol ignores", at_least=0)
    image_size: tuple[int, int] = parameter("height and width in pixels", at_least=16, at_most=4096)


@dataclass(frozen=True, kw_only=True)
class MotConfig:
    """Which boxes of annotated videos become crops to learn from."""

    every: int = parameter("one frame of so many is cut", at_least=1)
    classes: tuple[int, ...] = parameter("numbers of the classes that are cut", at_least=0)
    min_visibility: float = parameter("least share of a person that is seen", at_least=0, at_most=1)
    min_height: int = parameter("least height of a box, pixels", at_least=1)


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Stage download: where the images come from."""

    source: str = parameter("`synthetic`, a folder, an archive (zip, tar), or a URL of one")
    sha256: str | None = parameter("the archive's checksum, if you know it")
    layout: Literal["auto", "market1501", "folders", "mot"] = parameter(
        "how identities are told; `auto` recognises all three"
    )
    mot: MotConfig = field()
    synthetic: SyntheticConfig = field()


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Stage split: which image serves for what, and its size."""

    image_size: tuple[int, int] = parameter(
        "height and width of every image, pixels", at_least=16, at_most=4096
    )
    val_fraction: float = parameter(
        "share of each training identity's images kept for validation", above=0, below=1
    )
    test_fraction: float = parameter(
        "share of the identities held out for query and gallery (not market1501)", above=0, below=1
    )
    tune_fraction: float = parameter(
        "share of the training identities that takes the test part's place, to choose parameters "
        "by; 0: none",
        at_least=0,
        below=1,
    )
    seed: int = parameter("draws these shares", at_least=0)
    skip_unreadable: int = parameter("how many unreadable images may be left out", at_least=0)
    skip_single: int = parameter("how many one-image identities may be left out", at_least=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Stage train: the hyperparameters, at the top level of params.yaml."""

    nproc_per_node: int = parameter("processes (ranks) torchrun starts on a machine", at_least=1)
    seed: int = parameter("initial weights, order of the images, augmentation", at_least=0)
    arch: Literal["resnet18", "resnet34", "resnet50", "deepsort"] = parameter(
        "the network; `deepsort` is the small one of deep_sort_pytorch"
    )
    head: Literal["linear", "cosine"] = parameter(
        "the classifier: the network's own, or Deep SORT's cosine softmax"
    )
    last_stride: int = parameter(
        "of the last layer; 1 keeps its feature map large", at_least=1, at_most=2
    )
    pooling: Literal["average", "gem"] = parameter(
        "what makes an embedding of the last feature map; `gem`: a generalised mean"
    )
    neck: Literal["none", "bnneck"] = parameter(
        "`bnneck`: a batch normalisation between embedding and classifier"
    )
    weights: str | None = parameter("a file of pretrained weights to start from")
    freeze_layers: tuple[str, ...] = parameter(
        "parts that keep their weights: [conv1, bn1, layer1]"
    )
    epochs: int = parameter("passes over the training part", at_least=1)
    batch_size: int = parameter("images a process takes at a time", at_least=2)
    accumulate_steps: int = parameter("batches a process adds up before a step", at_least=1)
    optimizer: Literal["sgd", "adam", "adamw"] = parameter("how a step is made")
    lr: float = parameter("learning rate for one process, before `lr_scale`", above=0)
    lr_scale: Literal["linear", "sqrt", "none"] = parameter(
        "how `lr` grows with the number of processes"
    )
    lrf: float = parameter("the last learning rate, as a share of the first", at_least=0, at_most=1)
    schedule: Literal["cosine", "flat_cosine", "step"] = parameter(
        "how the learning rate falls: all the time, from the middle on, or twice"
    )
    warmup_epochs: float = parameter("epochs in which the learning rate rises from 0", at_least=0)
    momentum: float = parameter("SGD's momentum; beta 1 of Adam and AdamW", at_least=0, below=1)
    weight_decay: float = parameter("pull of the weights towards 0", at_least=0)
    label_smoothing: float = parameter(
        "share of each label that is spread over all identities", at_least=0, below=1
    )
    angular_margin: float = parameter(
        "radians that a cosine head adds between an image and its identity", at_least=0, at_most=1
    )
    triplet_weight: float = parameter(
        "of the batch-hard triplet loss beside the classification", at_least=0
    )
    triplet_margin: float | None = parameter(
        "by how much other identities shall be farther; `null`: the soft margin", at_least=0
    )
    center_weight: float = parameter("of the center loss beside the classification", at_least=0)
    num_instances: int = parameter(
        "images of an identity that come together in a batch; 0: as it happens", at_least=0
    )
    ema: float = parameter(
        "share of the weights' moving average that a step leaves; 0: none is kept",
        at_least=0,
        below=1,
    )
    sync_bn: bool = parameter("batch statistics over all processes")
    amp: bool = parameter("bfloat16 arithmetic where a GPU has it")
    deterministic: bool = parameter("kernels that give the same bits at every run on a GPU")
    flip: float = parameter("chance of a mirrored image", at_least=0, at_most=1)
    crop_padding: int = parameter("largest random shift, pixels", at_least=0)
    erase: float = parameter("chance of a random rectangle erased", at_least=0, at_most=1)
    color_jitter: float = parameter(
        "how far the factors of brightness, contrast and saturation may be from 1",
        at_least=0,
        below=1,
    )
    best_metric: Literal["val_error", "val_loss"] = parameter("what the best epoch is lowest in")
    patience: int = parameter("epochs without a better one before the end; 0: never", at_least=0)
    num_workers: int = parameter("threads that read batches ahead; 0: none", at_least=0)

    @property
    def design(self) -> dict[str, Any]:
        """What `model.build` makes the network from, besides the number of classes."""
        return {name: getattr(self, name) for name in DESIGN}

    def __post_init__(self) -> None:
        """Refuse what cannot work together."""
        if self.warmup_epochs >= self.epochs:
            raise ConfigError(
                f"warmup_epochs={self.warmup_epochs} must be less than epochs={self.epochs}"
            )
        if self.schedule == "step" and self.lrf == 0:
            raise ConfigError("schedule=step needs an lrf above 0: it is reached in equal factors")
        if self.angular_margin and self.head != "cosine":
            raise ConfigError(
                f"angular_margin={self.angular_margin} needs head=cosine, but head={self.head}: "
                "a linear head knows no angles"
            )
        if self.num_instances == 1:
            raise ConfigError("num_instances=1 brings nothing together; expected 0, or at least 2")
        if self.triplet_weight and not self.num_instances:
            raise ConfigError(
                f"triplet_weight={self.triplet_weight} needs num_instances of at least 2: without, "
                "a batch seldom has two images of an identity"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Stage evaluate: how the test part is searched and shown."""

    batch_size: int = parameter("images embedded at a time", at_least=1)
    ranked_queries: int = parameter("queries on the page of nearest images", at_least=1)
    false_match_rate: float = parameter(
        "share of pairs of two people that the recommended threshold takes for one",
        above=0,
        below=1,
    )
    short_range: int = parameter(
        "frames, at most, between two images of a person that a tracker compares",
        at_least=1,
        at_most=10**6,
    )
    flip: bool = parameter("also rank by the mean embeddings of images and mirror images")
    rerank: bool = parameter("also re-rank by k-reciprocal encoding")
    rerank_k1: int = parameter(
        "nearest images among which reciprocal neighbours are sought", at_least=1, at_most=1000
    )
    rerank_k2: int = parameter(
        "nearest images over which encodings are averaged", at_least=1, at_most=1000
    )
    rerank_lambda: float = parameter(
        "share of the original distance in the final one", at_least=0, at_most=1
    )


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Stage export: the forms in which the network goes to trackers."""

    fp16: bool = parameter("also in half precision, measured beside the full one")
    int8: bool = parameter("also quantised to 8 bits, measured beside the full one")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those asked for beside float32."""
        return tuple(name for name in ("fp16", "int8") if getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class SequencesConfig:
    """What the built-in sequences are rendered from."""

    seed: int = parameter("another number, another street", at_least=0)
    sequences: int = parameter("how many are rendered", at_least=1)
    frames: int = parameter("frames of each, 14 a second", at_least=10)
    people: int = parameter("people who walk through each, two thirds in view", at_least=2)
    image_size: tuple[int, int] = parameter("height and width in pixels", at_least=64, at_most=4096)
    missed: float = parameter(
        "share of the people in view whom the detector misses", at_least=0, below=1
    )


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """Stage track: the tracker, and the sequences it is tried on."""

    source: str = parameter("`synthetic`, or MOTChallenge sequences: a folder, archive or URL")
    sha256: str | None = parameter("the archive's checksum, if you know it")
    max_cosine_distance: float | None = parameter(
        "farthest that two images of one person may lie apart; `null`: as evaluate recommends",
        above=0,
        at_most=2,
    )
    classes: tuple[int, ...] = parameter(
        "numbers of the classes in `gt` that are scored", at_least=0
    )
    min_confidence: float = parameter("detections below it are not used", at_least=-1e9)
    max_iou_distance: float = parameter(
        "1 - overlap, at most, of a box and its track", above=0, at_most=1
    )
    max_age: int = parameter("frames without a detection after which a track ends", at_least=1)
    n_init: int = parameter("detections in a row that make a track", at_least=1)
    nn_budget: int = parameter("embeddings kept of each track", at_least=1)
    synthetic: SequencesConfig = field()


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a training is run, on which no result depends: DVC reruns nothing for it."""

    save_seconds: float = parameter("at most so much time between two resume states", above=0)
    max_restarts: int = parameter("how often torchrun starts failed ranks again", at_least=0)


SECTIONS: dict[str, type] = {
    "dataset": DatasetConfig,
    "split": SplitConfig,
    "run": RunConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "track": TrackConfig,
}


@dataclass(frozen=True, kw_only=True)
class Params:
    """The whole of params.yaml."""

    dataset: DatasetConfig
    split: SplitConfig
    train: TrainConfig
    run: RunConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    track: TrackConfig
    raw: Mapping[str, Any]  # as read, nested; what MLflow records


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check every parameter, whichever stage asks.

    Args:
        path: a YAML 1.2 file, as DVC reads it (`1e-3` is a number, `yes` a word).

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing, of the wrong
            type or out of bounds; one line with the key, the value and what was expected.
    """
    raw = read_yaml(path)
    try:
        return parse(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(raw: Mapping[str, Any]) -> Params:
    """Check every parameter of a params.yaml that has been read.

    Raises:
        ConfigError: see `load_params`; the line does not name the file.
    """
    top = {key: value for key, value in raw.items() if key not in SECTIONS}
    known = [f.name for f in fields(TrainConfig)] + list(SECTIONS)
    check_keys(raw, known, known, "")
    return Params(
        dataset=build(DatasetConfig, raw["dataset"], "dataset."),
        split=build(SplitConfig, raw["split"], "split."),
        train=build(TrainConfig, top, ""),
        run=build(RunConfig, raw["run"], "run."),
        evaluate=build(EvaluateConfig, raw["evaluate"], "evaluate."),
        export=build(ExportConfig, raw["export"], "export."),
        track=build(TrackConfig, raw["track"], "track."),
        raw=raw,
    )


def build(config: type[Config], values: Any, prefix: str) -> Config:
    """Make a config object from a mapping, checking keys, types and bounds.

    Args:
        config: a dataclass whose fields were declared with `parameter`.
        values: the mapping from params.yaml.
        prefix: how the section's keys begin in messages, `"dataset."`.

    Raises:
        ConfigError: see `load_params`.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')}={show(values)} must be a section of parameters")
    hints = get_type_hints(config)
    check_keys(values, list(hints), list(hints), prefix)
    bounds = {f.name: f.metadata.get("bounds", {}) for f in fields(config)}  # type: ignore[arg-type]
    return config(
        **{
            name: convert(values[name], hint, bounds[name], prefix + name)
            for name, hint in hints.items()
        }
    )


def check_keys(values: Mapping[str, Any], known: list[str], needed: list[str], where: str) -> None:
    """Refuse unknown keys, with the nearest known one, and missing keys."""
    for key in values:
        if key not in known:
            shown = f"{where}{show(key)}"
            hint = nearest_hint(shown, [where + name for name in known])
            raise ConfigError(f"unknown key '{shown}'; {hint}")
    for key in needed:
        if key not in values:
            raise ConfigError(f"key '{where}{key}' is missing; every parameter must be stated")


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """`did you mean 'epochs'?`, or all that is known where nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"


def convert(value: Any, hint: Any, bounds: Mapping[str, float | None], key: str) -> Any:
    """Check one value against its type and bounds; integers serve as floats.

    Raises:
        ConfigError: the value does not fit, with key, value and what was expected.
    """
    if is_dataclass(hint):
        return build(hint, value, f"{key}.")  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # only `X | None` is used
        return None if value is None else convert(value, arguments[0], bounds, key)
    if origin is Literal:
        return one_of(value, arguments, key)
    if origin is tuple:
        return items(value, arguments, bounds, key)
    if type(value) is int and abs(value) > MAX_INT:
        raise ConfigError(f"{key}={show(value)} must be a number of at most 63 bits")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise ConfigError(f"{key}={show(value)} must be {KINDS[hint]}")
    check_bounds(value, bounds, key)
    return value


KINDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text (quote it if it looks like a number)",
}


def one_of(value: Any, choices: tuple[Any, ...], key: str) -> Any:
    """Check that a value is one of the choices, and name the nearest if not."""
    if value in choices and isinstance(value, str):
        return value
    raise ConfigError(f"unknown {key}={show(value)}; {nearest_hint(show(value), choices)}")


def items(
    value: Any, arguments: tuple[Any, ...], bounds: Mapping[str, float | None], key: str
) -> tuple[Any, ...]:
    """Check a list: of exactly the given types, or any number of one (`tuple[str, ...]`)."""
    any_length = arguments[-1] is Ellipsis
    kind = KINDS[arguments[0]]
    if not isinstance(value, list) or not (any_length or len(value) == len(arguments)):
        count = "any number of values" if any_length else f"{len(arguments)} values"
        raise ConfigError(f"{key}={show(value)} must be a list of {count}, each {kind}")
    return tuple(convert(v, arguments[0], bounds, f"{key}[{i}]") for i, v in enumerate(value))


def check_bounds(value: Any, bounds: Mapping[str, float | None], key: str) -> None:
    """Check a number against `parameter`'s bounds."""
    meets = {
        "at least": lambda limit: value >= limit,
        "above": lambda limit: value > limit,
        "at most": lambda limit: value <= limit,
        "below": lambda limit: value < limit,
    }
    set_bounds = {name: limit for name, limit in bounds.items() if limit is not None}
    if not all(meets[name](limit) for name, limit in set_bounds.items()):
        expected = " and ".join(f"{name} {limit}" for name, limit in set_bounds.items())
        raise ConfigError(f"{key}={show(value)} must be {expected}")


def show(value: Any) -> str:
    """A value as params.yaml spells it, the beginning of it if it is long."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    except RecursionError:  # lists within lists, by way of aliases
        return "…"
    text = text.removesuffix("\n...\n").strip()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with YAML 1.2's core scalars and no duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, and refuse a key that stands in it twice."""
        seen = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {line}: a list or section stands where a key should")
            if key_node.value in seen:
                raise ConfigError(f"line {line}: key '{key_node.value}' stands there twice")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _add_core_schema() -> None:
    """Resolve plain scalars as https://yaml.org/spec/1.2.2/#103-core-schema does."""
    tags = (
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        (
            "float",
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "-+0123456789.",
        ),
    )
    for name, pattern, first in tags:
        tag, regexp = f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$")
        first_letters = [letter.replace("\0", "") for letter in first]
        Yaml12Loader.add_implicit_resolver(tag, regexp, first_letters)
    Yaml12Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(str(node.value)))


_add_core_schema()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping.

    Raises:
        ConfigError: the file cannot be read or is no mapping; one line.
    """
    try:
        content = yaml.load(read_text(path), Loader=Yaml12Loader)  # noqa: S506
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}: line {line} is not YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; sections stand two deep at most") from None
    # An explicit tag, `!!int abc`, has PyYAML convert what does not look like it: any error.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: not a YAML text: {reason}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{path}: {reason}; run this in the project's folder, where params.yaml stands"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold parameters, `name: value` a line")
    return content


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


def describe(config: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each parameter's key and meaning, sections included, in the order declared."""
    hints = get_type_hints(config)
    for f in fields(config):
        if is_dataclass(hints[f.name]):
            yield from describe(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f.metadata["doc"]
