"""The section `dataset` of params.yaml, and the entries of lists of datasets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from deepsort_reid.core.config_errors import SEVERAL
from deepsort_reid.core.errors import ConfigError
from deepsort_reid.core.section import Section, Side
from deepsort_reid.core.yaml_file import show

LAYOUTS = Path(__file__).parents[1] / "data" / "layouts"  # in its folders one file a layout

ClassNumber = Annotated[int, Field(ge=0)]
# `800` on a command line is a number, and as good a name.
Subset = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) is int else v)]
if TYPE_CHECKING:
    LayoutName = str
else:  # read from the folder, so that a new layout needs no word here
    LayoutName = Literal[("auto", *sorted(file.stem for file in LAYOUTS.glob("*/[a-z]*.py")))]


class SyntheticConfig(Section):
    """What the built-in dataset is rendered from."""

    seed: int = Field(ge=0, description="seed of the people")
    train_identities: int = Field(ge=2, description="number of people in the training part")
    test_identities: int = Field(ge=2, description="number of other people, for query and gallery")
    images_per_identity: int = Field(ge=4, description="images of each person, over all cameras")
    cameras: int = Field(ge=2, description="cameras, each with its own colours, blur and view")
    distractors: int = Field(ge=0, description="gallery images of people who are in no query")
    junk: int = Field(ge=0, description="gallery images that the protocol ignores")
    image_size: tuple[Side, Side] = Field(strict=False, description="height and width in pixels")


class MotConfig(Section):
    """Which boxes of annotated videos become crops to learn from."""

    every: int = Field(ge=1, description="boxes are cut out of every N-th frame")
    classes: tuple[ClassNumber, ...] = Field(
        strict=False, description="numbers of the classes whose boxes are cut out"
    )
    min_visibility: float = Field(ge=0, le=1, description="least visible share of a box to cut out")
    min_height: int = Field(ge=1, description="least height of a box to cut out, pixels")


class SourceConfig(Section):
    """One dataset among several: an entry of `dataset.source` or `evaluate.also`."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,40}$", description="its name in every report")
    source: str = Field(description="as `dataset.source`")
    sha256: str | None = Field(default=None, description="as `dataset.sha256`")
    layout: LayoutName = Field(default="auto", description="as `dataset.layout`")
    table: str | None = Field(default=None, description="as `dataset.table`")
    identity_level: int | None = Field(
        default=None, ge=1, description="as `dataset.identity_level`"
    )
    subset: Subset | None = Field(default=None, description="as `dataset.subset`")
    license: str | None = Field(default=None, description="as `dataset.license`")
    synthetic: Mapping[str, Any] = Field(
        default={}, description="for the source `synthetic`: what differs from `dataset.synthetic`"
    )


Sources = Annotated[
    Annotated[str, Tag("one")]
    | Annotated[tuple[SourceConfig, ...], Field(strict=False, min_length=1), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list | tuple) else "one"),
]


class DatasetConfig(Section):
    """Stage download: where the images come from."""

    source: Sources = Field(
        description="`synthetic`, a folder, an archive (zip, tar), a URL of one, "
        "or a list of several, each with a `name`"
    )
    sha256: str | None = Field(description="the archive's SHA-256; `null`: not checked")
    layout: LayoutName = Field(
        description="how the files are laid out; `auto` recognises all layouts"
    )
    table: str | None = Field(
        description="the CSV or TSV file in the archive that says who is on which image; "
        "`null`: the layout says so"
    )
    identity_level: int | None = Field(
        ge=1,
        description="which level of nested folders is an identity, 1 for the topmost; "
        "`null`: folders are not nested",
    )
    subset: Subset | None = Field(
        description="which version of a dataset that has several, "
        "such as `labeled` of CUHK03-NP or `800` of VehicleID"
    )
    license: str | None = Field(
        description="the licence of the images, in words, for the model card; `null`: not stated"
    )
    mot: MotConfig
    synthetic: SyntheticConfig

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The datasets to learn from; one without a list has the name ''."""
        if not isinstance(self.source, str):
            return self.source
        own = {name: getattr(self, name) for name in ("source", *OF_A_SOURCE)}
        return (SourceConfig.model_construct(name="", **own, synthetic={}),)

    @property
    def label(self) -> str:
        """The source as one text: `synthetic`, a path, or the names of several datasets."""
        if isinstance(self.source, str):
            return self.source
        return " + ".join(source.name for source in self.source)

    @property
    def short_name(self) -> str:
        """The label without folders and ending: `market` of `../data/market.tar.gz`."""
        return Path(self.label).name.partition(".")[0] or self.label

    def license_of(self, source: SourceConfig) -> str | None:
        """The licence of one of `sources`: its own, or the one stated for all of them."""
        return source.license or self.license

    def rendering_of(self, source: SourceConfig) -> SyntheticConfig:
        """What a source named `synthetic` is rendered from."""
        return SyntheticConfig.model_validate(dict(self.synthetic) | dict(source.synthetic))

    @model_validator(mode="after")
    def check_sources(self) -> Self:
        """Refuse names that are given twice, and what only a single source can have."""
        if isinstance(self.source, str):
            return self
        check_names(self.source, "dataset.source")
        for name, none in OF_A_SOURCE.items():
            if getattr(self, name) != none:
                raise ConfigError(
                    f"dataset.{name}={show(getattr(self, name))} beside several sources; "
                    f"state it in the entry of dataset.source that it belongs to"
                )
        return self


OF_A_SOURCE = {
    "sha256": None, "layout": "auto", "table": None, "identity_level": None, "subset": None
}  # fmt: skip


def check_names(sources: Sequence[SourceConfig], key: str) -> None:
    """Refuse two datasets of one name.

    Raises:
        ConfigError: there are two.
    """
    names = [source.name.lower() for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{key} names two datasets '{twice}'; give each a name of its own")
