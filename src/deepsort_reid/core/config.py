"""params.yaml, parsed into frozen, typed objects before anything costs time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SkipValidation, ValidationError, model_validator

from deepsort_reid.core.arch import is_arch, unknown
from deepsort_reid.core.config_errors import explain, most_telling
from deepsort_reid.core.dataset_config import (
    DatasetConfig,
    SourceConfig,
    SyntheticConfig,
    check_names,
)
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.section import Section, Side
from deepsort_reid.core.yaml_file import read_yaml

DESIGN = ("arch", "head", "last_stride", "pooling", "neck")  # what kind of network it is


def check_arch(name: str) -> str:
    """Refuse a name that no network has."""
    if not is_arch(name):
        raise ConfigError(f"unknown arch={name}; {unknown(name)}")
    return name


FrameSide = Annotated[int, Field(ge=64, le=4096)]  # pixels
Arch = Annotated[str, AfterValidator(check_arch)]
ClassNumber = Annotated[int, Field(ge=0)]


class SplitConfig(Section):
    """Stage split: which image serves for what, and its size."""

    image_size: tuple[Side, Side] = Field(
        strict=False, description="height and width of the network's images, pixels"
    )
    val_fraction: float = Field(
        gt=0, lt=1, description="share of each training identity's images kept for validation"
    )
    test_fraction: float = Field(
        gt=0,
        lt=1,
        description="share of the identities held out for query and gallery, "
        "where the dataset has no test part of its own",
    )
    tune_fraction: float = Field(
        ge=0,
        lt=1,
        description="share of the training identities that replace the test part; 0: none",
    )
    seed: int = Field(ge=0, description="seed of the draw of identities and images")
    skip_unreadable: int = Field(ge=0, description="unreadable images that may be left out")
    skip_single: int = Field(ge=0, description="identities with one image that may be left out")


class TrainConfig(Section):
    """Stage train: the hyperparameters, at the top level of params.yaml."""

    nnodes: int = Field(ge=1, description="machines that train together")
    nproc_per_node: int = Field(
        ge=1, le=1024, description="processes (ranks) that train on a machine"
    )
    seed: int = Field(ge=0, description="seed of weights, order of images, augmentation")
    arch: Arch = Field(
        description="the network: a ResNet, an OSNet, deep_sort_pytorch's small `deepsort`, or "
        "`timm/` and a name of timm's; [networks](networks.md) lists them"
    )
    head: Literal["linear", "cosine"] = Field(
        description="the classifier: a linear layer, or Deep SORT's cosine softmax"
    )
    last_stride: int = Field(
        ge=1, le=2, description="stride of the last stage; 1 keeps its feature map large"
    )
    pooling: Literal["average", "gem"] = Field(
        description="how the last feature map becomes an embedding; `gem`: generalised mean"
    )
    neck: Literal["none", "bnneck"] = Field(
        description="`bnneck`: a batch normalisation between embedding and classifier"
    )
    weights: str | None = Field(
        min_length=1,
        description="pretrained weights: a file, `URL#sha256=…`, `imagenet`, or MLflow's "
        "`models:/NAME@ALIAS`; `null`: random ones",
    )
    freeze_layers: tuple[str, ...] = Field(
        strict=False, description="parts that are not trained, such as [conv1, bn1, layer1]"
    )
    epochs: int = Field(ge=1, description="passes over the training part")
    batch_size: int = Field(ge=2, description="images in a batch of one process")
    accumulate_steps: int = Field(
        ge=1, description="batches whose gradients are added up for a step"
    )
    optimizer: Literal["sgd", "adam", "adamw"] = Field(description="the optimizer")
    lr: float = Field(gt=0, description="learning rate for one process, before `lr_scale`")
    lr_scale: Literal["linear", "sqrt", "none"] = Field(
        description="how `lr` grows with the number of processes"
    )
    lrf: float = Field(ge=0, le=1, description="the last learning rate as a share of the highest")
    schedule: Literal["cosine", "flat_cosine", "step"] = Field(
        description="how the learning rate falls: steadily, from the middle on, or in two steps"
    )
    warmup_epochs: float = Field(
        ge=0, description="epochs in which the learning rate rises from 0; at most half of all"
    )
    momentum: float = Field(ge=0, lt=1, description="momentum of SGD; beta 1 of Adam and AdamW")
    weight_decay: float = Field(ge=0, description="weight decay")
    label_smoothing: float = Field(
        ge=0, lt=1, description="share of each label that is spread over all identities"
    )
    angular_margin: float = Field(
        ge=0, le=1, description="angle that a cosine head adds between image and identity, radians"
    )
    triplet_weight: float = Field(ge=0, description="weight of the batch-hard triplet loss; 0: off")
    triplet_margin: float | None = Field(
        ge=0, description="margin of the triplet loss; `null`: the soft margin"
    )
    center_weight: float = Field(ge=0, description="weight of the center loss; 0: off")
    teacher: str | None = Field(
        min_length=1,
        description="a trained checkpoint, whose similarities the network follows: a file, "
        "`URL#sha256=…` or MLflow's `models:/NAME@ALIAS`; `null`: none",
    )
    teacher_weight: float = Field(gt=0, description="weight of following the teacher")
    num_instances: int = Field(
        ge=0, description="images of each identity in a batch; 0: images are drawn one by one"
    )
    balance_sources: bool = Field(
        description="as many images of each dataset in an epoch, where `dataset.source` lists "
        "several; else each image once"
    )
    ema: float = Field(
        ge=0,
        lt=1,
        description="decay of the weights' moving average in a step; 0: no average",
    )
    sync_bn: bool = Field(description="batch normalisation over the batches of all processes")
    amp: bool = Field(
        description="bfloat16 arithmetic on GPUs that have it, and on CPUs where it is faster"
    )
    deterministic: bool = Field(description="GPU kernels that give the same bits in every run")
    flip: float = Field(ge=0, le=1, description="probability that an image is mirrored")
    crop_padding: int = Field(ge=0, description="largest random shift of an image, pixels")
    erase: float = Field(ge=0, le=1, description="probability that a rectangle is erased")
    color_jitter: float = Field(
        ge=0,
        lt=1,
        description="largest random change of brightness, contrast and saturation, as a share",
    )
    best_metric: Literal["val_error", "val_loss"] = Field(
        description="the number by which the best epoch is chosen: the lowest"
    )
    patience: int = Field(
        ge=0, description="epochs without a better one before training stops; 0: never"
    )
    num_workers: int = Field(ge=0, le=256, description="threads that read batches ahead; 0: none")

    @property
    def design(self) -> dict[str, Any]:
        """What `network.build` makes the network from, besides the number of classes."""
        return {name: getattr(self, name) for name in DESIGN}

    @property
    def world_size(self) -> int:
        """The processes of all machines together."""
        return self.nnodes * self.nproc_per_node

    @property
    def determining(self) -> dict[str, Any]:
        """What a checkpoint depends on besides `world_size`: all but where the processes run."""
        return self.model_dump(mode="json", exclude={"nnodes", "nproc_per_node"})

    @property
    def fitted_warmup(self) -> float:
        """The epochs of the warm-up: as stated, but at most half of all epochs."""
        return min(self.warmup_epochs, self.epochs / 2)

    @model_validator(mode="after")
    def check_combinations(self) -> Self:
        """Refuse values that do not work together."""
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
        return self


class EvaluateConfig(Section):
    """Stage evaluate: how the test part is searched and shown."""

    batch_size: int = Field(ge=1, description="images embedded at a time")
    ranked_queries: int = Field(ge=1, description="queries shown in ranked.jpg")
    false_match_rate: float = Field(
        gt=0,
        lt=1,
        description="share of pairs of two people that match at the recommended threshold",
    )
    also: tuple[SourceConfig, ...] = Field(
        strict=False,
        description="further datasets that are only tested on, each with a `name` and a `source`",
    )
    short_range: int = Field(
        ge=1,
        le=10**6,
        description="frames at most between two images of one person that form a pair",
    )
    flip: bool = Field(description="also rank by the mean embeddings of images and mirror images")
    rerank: bool = Field(description="also re-rank by k-reciprocal encoding")
    rerank_k1: int = Field(
        ge=1, le=1000, description="nearest images among which reciprocal neighbours are sought"
    )
    rerank_k2: int = Field(
        ge=1, le=1000, description="nearest images over which encodings are averaged"
    )
    rerank_lambda: float = Field(
        ge=0, le=1, description="share of the original distance in the final one"
    )

    @model_validator(mode="after")
    def check_also(self) -> Self:
        """Refuse names that are given twice."""
        check_names(self.also, "evaluate.also")
        return self


class ExportConfig(Section):
    """Stage export: the forms in which the network goes to trackers."""

    fp16: bool = Field(description="also write ONNX files in half precision, and measure them")
    int8: bool = Field(description="also write ONNX files quantised to 8 bits, and measure them")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those asked for beside float32."""
        return tuple(name for name in ("fp16", "int8") if getattr(self, name))


class SequencesConfig(Section):
    """What the built-in sequences are rendered from."""

    seed: int = Field(ge=0, description="seed of the streets and people")
    sequences: int = Field(ge=1, description="number of sequences")
    frames: int = Field(ge=10, description="frames of a sequence, 14 a second")
    people: int = Field(ge=2, description="people in a sequence, about two thirds of them in view")
    image_size: tuple[FrameSide, FrameSide] = Field(
        strict=False, description="height and width in pixels"
    )
    missed: float = Field(
        ge=0, lt=1, description="share of the people in view that the simulated detector misses"
    )


class TrackConfig(Section):
    """Stage track: the tracker, and the sequences it is tried on."""

    source: str = Field(
        description="`synthetic`, or videos with detections: a folder, archive or URL"
    )
    sha256: str | None = Field(description="the archive's SHA-256; `null`: not checked")
    max_cosine_distance: float | None = Field(
        gt=0,
        le=2,
        description="largest distance between images of one person; `null`: as evaluate recommends",
    )
    classes: tuple[ClassNumber, ...] = Field(
        strict=False, description="numbers of the annotated classes that are scored"
    )
    min_confidence: float = Field(
        ge=-1000000000.0, description="least confidence of a detection to use"
    )
    max_iou_distance: float = Field(
        gt=0, le=1, description="largest 1 - IoU of a box and its track"
    )
    max_age: int = Field(ge=1, description="frames without a detection after which a track ends")
    n_init: int = Field(ge=1, description="detections in a row that confirm a track")
    nn_budget: int = Field(ge=1, description="embeddings kept for a track")
    synthetic: SequencesConfig


class RunConfig(Section):
    """How a training is run, on which no result depends: DVC reruns nothing for it."""

    save_seconds: float = Field(gt=0, description="seconds at most between two resume states")
    max_restarts: int = Field(ge=0, description="times that torchrun restarts failed ranks")


SECTIONS: dict[str, type[Section]] = {
    "dataset": DatasetConfig,
    "split": SplitConfig,
    "run": RunConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "track": TrackConfig,
}


class Params(Section):
    """The whole of params.yaml."""

    dataset: DatasetConfig
    split: SplitConfig
    train: TrainConfig
    run: RunConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    track: TrackConfig
    raw: SkipValidation[Mapping[str, Any]]  # as read, nested; what MLflow records

    @model_validator(mode="after")
    def check_sources(self) -> Self:
        """Refuse what nothing can be rendered from, and a balance of one dataset."""
        if self.train.balance_sources and isinstance(self.dataset.source, str):
            raise ConfigError("balance_sources=true needs a list of datasets in dataset.source")
        for key, sources in (
            ("dataset.source", self.dataset.sources), ("evaluate.also", self.evaluate.also)
        ):  # fmt: skip
            for place, source in enumerate(sources):
                try:
                    self.dataset.rendering_of(source)
                except ValidationError as error:
                    fault = most_telling(error.errors(include_url=False))
                    line = explain(fault, SyntheticConfig)
                    raise ConfigError(f"{key}[{place}].synthetic: {line}") from None
        return self


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
    sections = {name: raw[name] for name in SECTIONS if name in raw}
    train = {key: value for key, value in raw.items() if key not in SECTIONS}
    try:
        return Params.model_validate({**sections, "train": train, "raw": raw})
    except ValidationError as error:
        raise ConfigError(explain(most_telling(error.errors(include_url=False)), Params)) from None


def describe(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each parameter's key and meaning, nested sections included, in the order declared."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from describe(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


def meanings() -> dict[str, str]:
    """Every parameter's key, as params.yaml nests it, and its meaning."""
    found = dict(describe(TrainConfig))
    for name, section in SECTIONS.items():
        found |= describe(section, f"{name}.")
    return found
