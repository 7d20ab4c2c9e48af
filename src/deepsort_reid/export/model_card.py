"""MODEL_CARD.md: what a network is, learned from, was measured on, and should not be used for.

Its sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019; the YAML in
front is what Hugging Face's tools read. The card is a function of the checkpoint, the reports and
the parameters, so the same training has the same card. Hence it states weights and multiply-adds,
which are exact, and no speeds, which are those of a machine and a moment: stage export prints them,
and the MLflow run records them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

import yaml

from deepsort_reid.core.errors import ReportError
from deepsort_reid.core.secrets import masked
from deepsort_reid.data.packed import Summary
from deepsort_reid.evaluation.calibration import PLACES
from deepsort_reid.evaluation.threshold import REMEDY
from deepsort_reid.export.export import Export
from deepsort_reid.export.formats import Trained
from deepsort_reid.model.size import embedding_weights, multiply_adds

RENDERED = "synthetic"  # the source of images that this project draws itself
RENDERED_LAYOUTS = ("randperson", "unrealperson")  # of datasets that others have drawn
NOT_STATED = "not stated"
TASK = "image-feature-extraction"  # Hugging Face's name of it
NUMBERS = {"mAP": "mAP", "rank1": "rank-1", "mINP": "mINP"}  # in the reports -> in words


@dataclass(frozen=True)
class Source:
    """A dataset, as params.yaml names it; the only one has the name ''."""

    name: str
    place: str
    license: str | None

    @property
    def title(self) -> str:
        """Its name, or that of its file or folder; of the built-in data `synthetic`."""
        return self.name or PurePath(urlsplit(self.place).path).name or self.origin

    @property
    def origin(self) -> str:
        """Where it comes from, without what is nobody else's business.

        Passwords and query strings are hidden, and of a path on this machine all but the last name.
        """
        scheme, is_address, _ = self.place.partition(":/")
        return masked(self.place) if is_address and scheme != "file" else PurePath(self.place).name

    @property
    def licence(self) -> str:
        """Its licence as the user states it, in one line."""
        return one_line(self.license or "") or NOT_STATED


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """All that a card is written from.

    Attributes:
        trained: the network.
        done: the files that were written.
        sources: the datasets that it learned from, at least one.
        also: the datasets that it was only tested on.
        data: what the parts hold.
        evaluation: reports/evaluation.json.
        calibration: reports/calibration.json.
    """

    trained: Trained
    done: Export
    sources: Sequence[Source]
    also: Sequence[Source]
    data: Summary
    evaluation: Mapping[str, Any]
    calibration: Mapping[str, Any]

    @property
    def rendered(self) -> list[str]:
        """The datasets that show nobody, since a program has drawn them."""
        layouts = self.data.layout.split(" + ")
        return [
            one.title
            for one, layout in zip(self.sources, layouts, strict=False)
            if one.place == RENDERED or layout in RENDERED_LAYOUTS
        ]


def model_card(record: Record, folder: Path) -> str:
    """The card of a network, as Markdown with YAML in front.

    Args:
        record: what it is written from.
        folder: holds the exported files, whose sizes it states.

    Raises:
        ReportError: a report lacks a number.
    """
    about = record.trained.about
    try:
        parts = [
            front_matter(record),
            f"# {about.arch}: embeddings for re-identification\n",
            *details(record),
            *intended_use(),
            *training_data(record),
            *training_procedure(record),
            *evaluation(record),
            *threshold(record),
            *exported_files(record, folder),
            *limits(record),
        ]
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ReportError(
            f"reports/evaluation.json or calibration.json: {error} is missing; {REMEDY}"
        ) from None
    return "\n".join(parts)


def front_matter(record: Record) -> str:
    """The YAML that tools read."""
    about, stated = record.trained.about, sorted({one.licence for one in record.sources})
    content: dict[str, Any] = {
        "license": "unknown" if stated == [NOT_STATED] else "other",
        **({} if stated == [NOT_STATED] else {"license_name": "data: " + "; ".join(stated)}),
        "library_name": "deepsort-reid",
        "pipeline_tag": TASK,
        "tags": ["re-identification", "object-tracking", "deep-sort", "pytorch", "onnx"],
        "metrics": list(NUMBERS.values()),
        "model-index": [{"name": about.arch, "results": list(results(record))}],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def results(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the measured numbers of each dataset as Hugging Face lists them."""
    for name, numbers in measured(record):
        dataset = {"type": "-".join(name.lower().split()), "name": name}
        yield {
            "task": {"type": TASK, "name": "re-identification"},
            "dataset": dataset,
            "metrics": [
                {"type": word, "name": word, "value": round(float(numbers[key]), 6)}
                for key, word in NUMBERS.items()
            ],
        }


def measured(record: Record) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the test sets and their numbers: all together first, then each."""
    yield " + ".join(one.title for one in record.sources), record.evaluation
    for group in ("sources", "also"):
        yield from record.evaluation.get(group, {}).items()


# Sections


def details(record: Record) -> Iterator[str]:
    """Yield what the network is."""
    trained, about = record.trained, record.trained.about
    height, width = trained.image_size
    made_by, ran_on = about.identity.get("params", {}), about.identity.get("environment", {})
    versions = [f"{name} {ran_on[name]}" for name in ("torch", "python") if name in ran_on]
    processes = ran_on.get("processes", 1)
    hardware = f"{ran_on.get('device', NOT_STATED)}, {processes} process{'es' * (processes > 1)}"
    if "arithmetic" in ran_on:
        hardware += f", {ran_on['arithmetic']}"
    yield "## Model details\n"
    yield table(
        ["", ""],
        [
            ("architecture", f"`{about.arch}`; last_stride {about.last_stride}, pooling "
             f"{about.pooling}, neck {about.neck}, head {about.head}"),
            ("takes", f"crops of {height}×{width} pixels, RGB"),
            ("gives", f"{about.embedding_size} numbers of unit length; 1 - cosine is the distance"),
            ("weights", f"{embedding_weights(trained.net) / 1e6:.2f} million, the classifier not "
             "counted"),
            ("multiply-adds", f"{multiply_adds(trained.net, trained.image_size) / 1e9:.3f} billion "
             "a crop, which papers call GFLOP (each is two floating-point operations)"),
            ("started from", place_of(made_by.get("weights"), "random weights")),
            ("teacher", place_of(made_by.get("teacher"), "none")),
            ("epoch", f"{about.epoch} of at most {made_by.get('epochs', '?')}, the best by "
             f"{made_by.get('best_metric', '?')}"),
            ("seed", made_by.get("seed", NOT_STATED)),
            ("trained on", hardware),
            ("with", ", ".join(versions) or NOT_STATED),
        ],
    )  # fmt: skip


def place_of(named: str | None, nothing: str) -> str:
    """A file of weights in words: its name, without what is nobody else's business."""
    return Source("", named, None).origin if named else nothing


def intended_use() -> Iterator[str]:
    """Yield what the network is for, and with what caution."""
    yield (
        "## Intended use\n\n"
        "A tracker embeds the crops of its detections with this network, to find the same person, "
        "vehicle or animal again in later frames or under another camera.\n\n"
        "To find a person again is surveillance where that person does not know of it: make sure "
        "that there is a legal basis, and that those who are filmed are told. A match is a guess "
        "that two crops look alike and no proof of identity: let nothing that harms a person "
        "follow from it alone. How often it errs may differ between groups of people, which "
        "nobody has measured here.\n"
    )


def training_data(record: Record) -> Iterator[str]:
    """Yield the datasets, their licences and their sizes."""
    yield "## Training data\n"
    of_each = record.data.sources
    rows = []
    for one in record.sources:
        counts = (of_each.get(one.name) or record.data.counts)["train"]
        rows.append((one.title, one.origin, one.licence, counts["identities"], counts["images"],
                     counts.get("cameras", "unknown")))  # fmt: skip
    columns = ["dataset", "source", "licence of the data", "identities", "images", "cameras"]
    yield table(columns, rows)
    val = record.data.counts["val"]
    yield (
        f"{val['images']:,} further images of these identities chose the epoch. SHA-256 of the "
        f"split: `{record.data.digest}`. The licences are as whoever trained has stated them "
        "(`dataset.license`); nobody has checked them.\n"
    )


def training_procedure(record: Record) -> Iterator[str]:
    """Yield every parameter of the training."""
    stated = dict(record.trained.about.identity.get("params", {}))
    for name in ("weights", "teacher"):
        if stated.get(name):
            stated[name] = place_of(stated[name], "")
    yield "## Training procedure\n"
    if not stated:
        yield "The checkpoint does not say.\n"
        return
    text = yaml.safe_dump(stated, sort_keys=True, default_flow_style=None, allow_unicode=True)
    yield f"All parameters, as params.yaml states them:\n\n```yaml\n{text}```\n"


def evaluation(record: Record) -> Iterator[str]:
    """Yield the numbers of each test set, each with its count."""
    rows = [
        (name, numbers["queries"], numbers["query_identities"], numbers["gallery_images"],
         *(f"{numbers[key]:.1%}" for key in NUMBERS))
        for name, numbers in measured(record)
    ]  # fmt: skip
    yield "## Evaluation\n"
    found = record.evaluation
    how = "an image of the same identity under another camera counts as found"
    if not found["same_camera_removed"]:
        how = "any other image of the same identity counts as found, also of the same camera"
    unseen = "identities that the training has not seen"
    if found["tuning"]:
        unseen += ", held out of the training part to choose a recipe by"
    yield f"Query and gallery show {unseen}; {how}.\n"
    columns = ["test set", "queries", "identities", "gallery images", *NUMBERS.values()]
    yield table(columns, rows)
    if record.also:
        yield "Only tested on: " + ", ".join(
            f"{one.title} (from {one.origin}; licence of the data: {one.licence})"
            for one in record.also
        ) + ".\n"  # fmt: skip
    for name, numbers in measured(record):
        if why := numbers["too_few"].get("ranking"):
            yield f"**Not meaningful on {name}**: too few {why}.\n"


def threshold(record: Record) -> Iterator[str]:
    """Yield the recommended threshold, how it was found, and what to expect of it."""
    found, kinds = record.calibration, record.calibration["kinds"]
    name, first = next(iter(kinds.items()))
    yield "## Threshold\n"
    yield (
        f"Two crops show the same identity up to a cosine distance of "
        f"**{record.trained.max_cosine_distance:g}**{interval(first['threshold'], '{:.4f}')}. It "
        f"is the largest one at which at most a share of {found['false_match_rate']:g} of the "
        f"pairs of two identities {PLACES[name]} match. The intervals hold 95 % of what resampling "
        "the query identities gives.\n"
    )
    rows = []
    for kind, numbers in kinds.items():
        rates = numbers["at_max_cosine_distance"]
        rows.append(
            (PLACES[kind], numbers["resampled_groups"], numbers["pairs_of_one_person"],
             numbers["pairs_of_two_people"],
             f"{numbers['threshold']['value']:.4f}{interval(numbers['threshold'], '{:.4f}')}",
             f"{rates['true_match_rate']:.1%}", f"{rates['false_match_rate']:.2%}")
        )  # fmt: skip
    columns = ["pairs", "identities", "of one identity", "of two", "own threshold",
               "of one that match at the recommended one", "of two"]  # fmt: skip
    yield table(columns, rows)
    if why := record.trained.threshold_too_few:
        yield f"**Not meaningful**: found from too few {why}.\n"


def interval(estimate: Mapping[str, float | None], form: str) -> str:
    """An interval behind a number, where there is one."""
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return ""
    return f" ({form.format(low)} to {form.format(high)})"


def exported_files(record: Record, folder: Path) -> Iterator[str]:
    """Yield each file, and how large it is."""
    yield "## Files\n"
    rows = [
        (f"`{form.file}`", form.reader, size_of(folder / form.file)) for form in record.done.forms
    ]
    yield table(["file", "for", "bytes"], rows)
    lower = record.done.mean_average_precisions
    if lower:
        shares = ", ".join(f"{name} {value:.1%}" for name, value in lower.items())
        yield f"mAP by precision: {shares}.\n"
    yield (
        "Each was loaded and compared with the checkpoint when it was made; README.md says how to "
        "load it. Speeds are no part of this card, since they are another machine's elsewhere.\n"
    )


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(one.stat().st_size for one in inside if one.is_file())


def limits(record: Record) -> Iterator[str]:
    """Yield what the evaluation does not tell."""
    found = [
        "Other cameras, lights, seasons and angles than those of the data give other distances: "
        "measure again (`evaluate.also`), and find the threshold again, before you rely on them.",
        "All numbers are of crops that the data's annotations cut out. A detector cuts less well.",
        f"Measured on {record.evaluation['query_identities']:,} identities of the same origin as "
        "those of the training; nothing is known of other kinds of objects.",
    ]
    if rendered := record.rendered:
        found.insert(
            0,
            f"{', '.join(rendered)}: rendered images, which show no people. No number on them says "
            "how the network does on photographs.",
        )
    if not record.evaluation["cameras_known"]:
        found.append("The data does not say which camera took an image: nothing is known of how "
                     "it does across cameras.")  # fmt: skip
    for group, why in sorted(record.evaluation["too_few"].items()):
        found.append(f"Too few for the numbers of {group.replace('_', ' ')}: {why}.")
    yield "## Limits\n"
    yield "\n".join(f"- {text}" for text in found) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; whole numbers with thousands apart."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines) + "\n"


def cell(value: object) -> str:
    """A value in a cell."""
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(str(value)).replace("|", r"\|")


def one_line(text: str) -> str:
    """A text without line ends."""
    return " ".join(text.split())
