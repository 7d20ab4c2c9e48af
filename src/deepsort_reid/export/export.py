"""A trained network in every form that trackers take, each one verified before it appears."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.data.packed import Images, Part
from deepsort_reid.data.sample_size import verdict
from deepsort_reid.export import parity, quantize, runtimes
from deepsort_reid.export.formats import FORMS, Form, Trained
from deepsort_reid.export.parity import Parity
from deepsort_reid.model.extractor import Extractor
from deepsort_reid.model.onnx_file import Floats, colours
from deepsort_reid.runs.names import Numbers

logger = logging.getLogger(__name__)

# Less than these says that a file is broken. What 8 bits cost is told by the mAP.
LEAST_COSINE = {"fp16": 0.999, "int8": 0.9}
PREPARE = {"boxmot.onnx": runtimes.normalised, "ultralytics.onnx": colours}


@dataclass(frozen=True, eq=False)
class Export:
    """The files that were written, and how closely they agree with the checkpoint."""

    forms: Sequence[Form]
    obstacles: Mapping[str, str]  # file -> why it is not there
    rows: Sequence[Parity]
    mean_average_precisions: Mapping[str, float]  # of float32 and the others, if asked for

    def metrics(self) -> dict[str, float | int]:
        """The numbers of reports/export.json."""
        least = min(row.cosine for row in self.rows if row.file in FULL)
        found: dict[str, float | int] = {"files": len(self.forms), "least_cosine": round(least, 7)}
        return found | {
            f"mAP_{name}": value for name, value in self.mean_average_precisions.items()
        }

    def speeds(self) -> dict[str, float]:
        """Crops a second of each file, in the largest of the batches, on this machine."""
        most = max(parity.BATCHES)
        return {row.file: row.speed for row in self.rows if row.batch == most}


FULL = {"model.pth", *(form.file for form in FORMS)}  # in float32


def export(
    folder: Path,
    trained: Trained,
    *,
    train: Part,
    query: Part,
    gallery: Part,
    precisions: Sequence[str] = (),
) -> Export:
    """Write a network in each form that takes it, verify each file, and say how to load them.

    Args:
        folder: receives the files and README.md.
        trained: the network.
        train: its crops set the ranges of int8.
        query: its crops are what the files are compared on; searched for, where precisions are
            asked for.
        gallery: searched through, likewise.
        precisions: `fp16`, `int8`: the two ONNX files in these too.

    Raises:
        ExportError: a file does not do what the checkpoint does; `folder` is not to be used then.
        OSError: the disk is full.
    """
    images = parity.spread_sample(query, max(parity.BATCHES))
    expected = parity.reference(trained, images)
    obstacles = {form.file: why for form in FORMS if (why := form.obstacle(trained))}
    for file, why in obstacles.items():
        logger.info("no %s: %s", file, why)
    forms = [form for form in FORMS if form.file not in obstacles]
    for form in forms:
        form.write(folder / form.file, trained)
    crops = parity.spread_sample(train, min(quantize.CALIBRATION, len(train)))
    lower = [form for name in precisions for form in lowered(folder, name, crops)]
    rows = verify_extractor(trained, images, expected)
    for form in (*forms, *lower):
        rows += verify_file(folder, form, images, expected)
    done = Export([*forms, *lower], obstacles, rows, {})
    if precisions:
        done = replace(
            done, mean_average_precisions=dict(measure(folder, precisions, query, gallery))
        )
    files.write_text(folder / "README.md", readme(trained, done))
    return done


def verify_extractor(trained: Trained, images: Images, expected: Floats) -> list[Parity]:
    """The package's own Extractor beside the checkpoint's network, as its files are compared."""
    about = trained.about
    extractor = Extractor.from_network(
        trained.net, image_size=trained.image_size, mean=about.mean, std=about.std, device="cpu"
    )
    return parity.measure_parity(
        "model.pth", "Extractor", lambda crops: extractor(crops, order="rgb"), images, expected,
        least=FORMS[0].least_cosine,
    )  # fmt: skip


def verify_file(folder: Path, form: Form, images: Images, expected: Floats) -> list[Parity]:
    """Load a file and compare it.

    Raises:
        ExportError: see `export`.
    """
    run = form.open(folder / form.file)
    return parity.measure_parity(
        form.file, form.runtime, run, images, expected, least=form.least_cosine,
        remedy=f"; set {form.parameter}: false" if form.parameter else "",
    )  # fmt: skip


def lowered(folder: Path, precision: str, crops: Images) -> Iterator[Form]:
    """Write the ONNX files in a lower precision, and yield their forms."""
    for form in FORMS:
        if form.file not in PREPARE:
            continue
        file = form.file.replace(".onnx", f".{precision}.onnx")
        if precision == "fp16":
            quantize.write_fp16(folder / file, folder / form.file)
        else:
            quantize.write_int8(
                folder / file, folder / form.file, crops=crops, prepare=PREPARE[form.file]
            )
        usage = form.usage.replace(form.file, file)
        yield replace(
            form, file=file, usage=usage, least_cosine=LEAST_COSINE[precision],
            parameter=f"export.{precision}",
        )  # fmt: skip


def measure(
    folder: Path, precisions: Sequence[str], query: Part, gallery: Part
) -> Iterator[tuple[str, float]]:
    """The mAP of the ONNX file in float32, and in each precision."""
    for name, file in (("fp32", "boxmot.onnx"), *((p, f"boxmot.{p}.onnx") for p in precisions)):
        run = runtimes.onnx_normalised(folder / file)
        yield name, quantize.mean_average_precision(run, query, gallery)


def numbers_of_run(done: Export) -> Numbers:
    """The numbers of `Export.metrics` as the training's run records them, and the speeds.

    The run alone has speeds: an output of the stage must be the same each time it is made.
    """
    metrics = done.metrics()
    count = metrics.pop("files")
    measured = {f"export/{name}": value for name, value in metrics.items()}
    measured |= {f"export/crops_per_second/{name}": value for name, value in done.speeds().items()}
    return Numbers(measured, {"export.files": count})


def write_reports(folder: Path, done: Export, too_few: Mapping[str, str]) -> None:
    """Write export.json and parity.csv; speeds are never the same twice, so they stay out.

    Args:
        folder: receives them.
        done: what to write.
        too_few: what the evaluation's numbers have too little of; of its ranking the mAP is one.
    """
    of_numbers = ("threshold", "ranking") if done.mean_average_precisions else ("threshold",)
    said = {name: too_few[name] for name in of_numbers if name in too_few}
    files.write_json(folder / "export.json", done.metrics() | verdict(said))
    files.write_csv(
        folder / "parity.csv",
        ["file", "runtime", "batch", "cosine", "at_least"],
        [(r.file, r.runtime, r.batch, f"{r.cosine:.7f}", r.least) for r in done.rows],
    )


# The README beside the files


def readme(trained: Trained, done: Export) -> str:
    """How each file is loaded, and with which threshold."""
    threshold = trained.max_cosine_distance
    height, width = trained.image_size
    about = trained.about
    values = {"height": height, "width": width, "arch": about.arch}
    parts = [
        f"# {about.arch}, {about.embedding_size} numbers for a crop of {height}×{width} pixels\n",
        f"All files hold the network of `models/model.pth`, epoch {about.epoch}. Each was loaded "
        "by its runtime and compared with it when it was made: `reports/parity.csv`.\n",
        thresholds(threshold),
        *doubt(trained),
        *(
            f"## {form.file}\n\n```python\n{form.usage.format(**values)}\n```\n"
            for form in done.forms
        ),
        "## deep-sort-realtime\n\n```python\n"
        "from deep_sort_realtime.deepsort_tracker import DeepSort\n"
        "from deepsort_reid import Extractor\n"
        'embeds = Extractor("models/model.pth").of_boxes(frame, boxes, order="bgr", form="ltwh")\n'
        "DeepSort(embedder=None).update_tracks(detections, embeds=embeds)\n```\n",
        *not_there(done),
    ]
    return "\n".join(parts)


def thresholds(threshold: float) -> str:
    """The recommended threshold in each tracker's own words."""
    half = threshold / 2
    return "\n".join(
        [
            f"Recommended: the same one is shown up to a cosine distance of **{threshold:g}**. "
            "Every file says so itself, as `max_cosine_distance`. In the trackers' words:\n",
            "| tracker | setting |",
            "|---|---|",
            f"| deep-sort-realtime | `max_cosine_distance={threshold:g}` |",
            f"| deep_sort_pytorch | `MAX_DIST: {threshold:g}` |",
            f"| boxmot StrongSORT | `max_cos_dist: {threshold:g}` |",
            f"| boxmot BoT-SORT | `appearance_thresh: {half:g}` (it halves distances) |",
            f"| ultralytics BoT-SORT | `appearance_thresh: {1 - half:g}` (1 - half of it) |\n",
        ]
    )


def doubt(trained: Trained) -> Iterator[str]:
    """That the threshold is not meaningful, if it is not."""
    if why := trained.threshold_too_few:
        yield (
            f"**This threshold is not meaningful.** It was found from too few {why}. Find it again "
            "with more people in the test part before you rely on it.\n"
        )


def not_there(done: Export) -> Iterator[str]:
    """What could not be exported, and why."""
    if done.obstacles:
        yield "## Not here\n"
        yield "\n".join(f"- `{file}`: {why}." for file, why in done.obstacles.items()) + "\n"
