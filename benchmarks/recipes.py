"""Measures options of the training recipe: trains without and with each of them, seed by seed.

    uv run benchmarks/recipes.py [--option 'KEY=VALUE …']… [--set KEY=VALUE …] [--seeds N …]
        [--jobs N] [--data FOLDER] [--test-part] [--out FILE] [--table FILE] [--keep FOLDER]

for example with --option 'label_smoothing=0.1' --option 'triplet_weight=1 num_instances=4'.

The baseline is params.yaml with what `--set` changes; an option is the baseline with changes of its
own, `key=value` as params.yaml spells them. Each is trained with each seed, and the network of its
best epoch is searched as stage evaluate does it. The table says what each option did, compared with
the baseline of the same seed.

Parameters should not be chosen by the people one tests with, so query and gallery are held out of
the training ones: the default dataset is rendered and split with `split.tune_fraction=0.25`, and
`--data` takes a folder of such a split. `--test-part` measures on the test part.

A run is one process with one thread (on a GPU if there is one), `--jobs` of them at a time. It
plays all `nproc_per_node` ranks: its batch is theirs together, its learning rate what `lr_scale`
makes of their number. Batch normalisation then sees the whole batch, as with `sync_bn`, where ranks
without it see their share.

`--keep` receives the checkpoints, as `NUMBER-SEED.pth` by the option's place on the command line, 0
for the baseline: networks to go on from (`weights`), or to learn from (`teacher`).

Each run is a line of `--out`. One that stands there, of the same data, parameters and code, is not
repeated: the same command goes on with what is missing.
"""

import argparse
import copy
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepsort_reid.core import config, files
from deepsort_reid.core.config import Params, TrainConfig
from deepsort_reid.core.errors import (
    ConfigError,
    DatasetError,
    DeepSortReidError,
    TrainingError,
    WeightsError,
)
from deepsort_reid.core.signals import LAUNCHER
from deepsort_reid.core.stage import run_stage
from deepsort_reid.core.yaml_file import parse_yaml
from deepsort_reid.data import pack, packed, split
from deepsort_reid.data.layouts.registry import open_dataset
from deepsort_reid.data.loading import augment
from deepsort_reid.data.packed import Part, open_part
from deepsort_reid.evaluation.embedding import Embedder
from deepsort_reid.evaluation.evaluate import embedded_sides, sides_to_rank
from deepsort_reid.evaluation.ranking import ranking
from deepsort_reid.model import checkpoint
from deepsort_reid.model.checkpoint import Description
from deepsort_reid.model.embed import Predictor
from deepsort_reid.model.network import Design, build
from deepsort_reid.model.pretrained.loading import load_weights
from deepsort_reid.model.pretrained.source import sources
from deepsort_reid.sources.archive import Archive
from deepsort_reid.synthetic.dataset import write_synthetic
from deepsort_reid.training import fingerprint
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.history import EpochResult
from deepsort_reid.training.losses.teacher import Teacher
from deepsort_reid.training.observers import Observer
from deepsort_reid.training.optim import scale_lr
from deepsort_reid.training.ranks import distributed
from deepsort_reid.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
TUNE_FRACTION = 0.25  # of the default dataset's training identities
POLL_SECONDS = 0.1

Result = Mapping[str, Any]  # what `measure` returns


@dataclass(frozen=True)
class Run:
    """One training to measure."""

    option: str  # as typed; empty for the baseline
    params: TrainConfig  # with its seed

    def __str__(self) -> str:
        return f"{self.option or 'the baseline'}, seed {self.params.seed}"

    def key(self, data_digest: str, code: str) -> str:
        """64 hexadecimal digits: equal keys, equal results.

        Raises:
            WeightsError: the pretrained weights cannot be read.
        """
        try:
            made_of = fingerprint.of_training(
                self.params, distributed.ALONE, data_digest=data_digest, bfloat16=False
            ).as_plain()
        except OSError as error:
            raise WeightsError(f"{error.filename}: {error.strerror}") from None
        text = json.dumps([made_of["data"], made_of["params"], code], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Measure what is missing, and print the table of all that was asked for."""
    options = arguments()
    if options.run:
        print(json.dumps(measure(**json.loads(options.run))))
        return
    params = baseline(options.set, test_part=options.test_part, given=options.data is not None)
    runs = [
        Run(option, varied(params.raw, option, seed).train)
        for seed in options.seeds
        for option in ["", *options.option]
    ]
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or make_data(params, Path(temporary) / "split")
        summary = packed.read_summary(data)
        packed.verify_parts(data, summary, packed.PARTS)
        if not (summary.tuning or options.test_part):
            raise DatasetError(
                f"{data}: query and gallery are the test part, by which no parameter should be "
                "chosen; split with split.tune_fraction=0.25, or say --test-part"
            )
        code = code_digest()
        keys = {run: run.key(summary.digest, code) for run in runs}
        done, failures = read_results(options.out), []
        missing = list({keys[run]: run for run in runs if keys[run] not in done}.values())
        print(f"{len(missing)} of {len(runs)} runs to do, the others stand in {options.out}")
        order = ["", *options.option]
        jobs = [
            job(run, data, code, params.evaluate.batch_size, options.keep, order.index(run.option))
            for run in missing
        ]
        for number, found in run_all(jobs, options.jobs, Path(temporary)):
            run = missing[number]
            if isinstance(found, str):
                failures.append(f"{run}: {found}")
                print(failures[-1], flush=True)
                continue
            done[keys[run]] = {
                "key": keys[run], "option": run.option, "seed": run.params.seed,
                "data": summary.digest, "code": code, "jobs": options.jobs, **found,
                "params": run.params.model_dump(),
            }  # fmt: skip
            append(options.out, done[keys[run]])
            print(f"{run}: {told(found)}", flush=True)
    found = {(run.option, run.params.seed): done.get(keys[run]) for run in runs}
    text = "\n".join([*table(found), "", *conditions(found, summary, options)])
    print(f"\n{text}")
    if options.table:
        files.write_text(options.table, f"{text}\n")
    if failures:
        raise TrainingError(f"{len(failures)} of {len(runs)} runs failed; the first, {failures[0]}")


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--option", action="append", default=[], metavar="'KEY=VALUE …'", help="what to measure")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the baseline")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--jobs", type=int, default=1, help="runs at a time")
    add("--data", type=Path, metavar="FOLDER", help="a packed split; the default dataset's else")
    add("--test-part", action="store_true", help="measure on the test part")
    add("--out", type=Path, default=Path("results.jsonl"), metavar="FILE", help="a line a run")
    add("--table", type=Path, metavar="FILE", help="receives the table")
    add("--keep", type=Path, metavar="FOLDER", help="receives the checkpoints")
    add("--run", help=argparse.SUPPRESS)  # one run, as JSON: what this program starts itself with
    options = parser.parse_args()
    options.option = list(dict.fromkeys(" ".join(option.split()) for option in options.option))
    options.seeds = list(dict.fromkeys(options.seeds))
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options


# Parameters


def baseline(changes: Sequence[str], *, test_part: bool, given: bool) -> Params:
    """params.yaml with the changes of `--set`.

    Args:
        changes: `key=value` each; of the data too, where they are made here.
        test_part: whether to measure on the test part.
        given: whether the data are there already.

    Raises:
        ConfigError: a change cannot be made, or has no effect.
    """
    stated = config.load_params(ROOT / "params.yaml")
    fraction = 0.0 if test_part else stated.split.tune_fraction or TUNE_FRACTION
    raw = {**stated.raw, "split": {**stated.raw["split"], "tune_fraction": fraction}}
    sections = () if given else ("dataset", "split")
    return changed(raw, changes, "--set", sections)


def varied(raw: Mapping[str, Any], option: str, seed: int) -> Params:
    """The baseline with an option's changes, and a seed."""
    return changed({**raw, "seed": seed}, option.split(), f"--option '{option}'", ())


def changed(
    raw: Mapping[str, Any], changes: Sequence[str], where: str, sections: Sequence[str]
) -> Params:
    """Parameters with some of them changed.

    Args:
        raw: as params.yaml has them.
        changes: `key=value` each, the value in YAML.
        where: what to call the changes in errors.
        sections: those whose parameters may be changed beside the training's.

    Raises:
        ConfigError: it is no `key=value`, has no effect here, or the parameters refuse it.
    """
    new = copy.deepcopy(dict(raw))
    for change in changes:
        key, equals, text = change.partition("=")
        *parents, name = key.split(".")
        if not equals:
            raise ConfigError(f"{where}: '{change}' must be key=value")
        if key == "seed":
            raise ConfigError(f"{where}: '{change}': --seeds gives the seeds")
        if [*parents, name][0] in set(config.SECTIONS) - set(sections):
            raise ConfigError(f"{where}: '{change}' changes nothing that is measured here")
        target = new
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{where}: '{change}': '{parent}' has no parts")
        target[name] = value_of(text, f"{where}: '{change}'")
    try:
        return config.parse(new)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if changes else str(error)) from None


def value_of(text: str, where: str) -> Any:
    """A value as params.yaml spells it.

    Raises:
        ConfigError: it is no YAML.
    """
    try:
        return parse_yaml(text)
    except ConfigError:
        raise ConfigError(f"{where}: '{text}' is no value of YAML") from None


# Data and code


def make_data(params: Params, folder: Path) -> Path:
    """Render and split the default dataset; return the folder of its parts."""
    path = folder.with_name("dataset.zip")
    write_synthetic(path, params.dataset.synthetic)
    archive = Archive(path)
    dataset = open_dataset(archive, params.dataset.sources[0], params.dataset.mot)
    folder.mkdir()
    parts = pack.make_parts(archive, [dataset], folder, params.split)
    tuning = params.split.tune_fraction > 0
    packed.write_summary(folder, dataset.layout, split.count(parts), tuning=tuning)
    return folder


def code_digest() -> str:
    """SHA-256 over this file and the modules of the package that it uses."""
    program = Path(__file__).resolve()
    paths = {program, *fingerprint.used_by(program)}
    sums = files.checksums(sorted(paths))
    text = json.dumps([[path.name, checksum] for path, checksum in sorted(sums.items())])
    return hashlib.sha256(text.encode()).hexdigest()


# One run, in a process of its own


class BestNetwork(Observer):
    """Keeps the best epoch's network in memory."""

    net: nn.Module

    def on_epoch_end(
        self,
        history: Sequence[EpochResult],  # noqa: ARG002
        net: nn.Module,
        *,
        is_best: bool,
    ) -> None:
        """Copy the network if it is the best so far."""
        if is_best:
            self.net = copy.deepcopy(net)


def measure(
    data: str, params: Mapping[str, Any], code: str, batch_size: int, keep: str | None
) -> Result:
    """Train one network and search for people with it.

    Args:
        data: folder of the packed split.
        params: the training's.
        code: what `code_digest` was when the measurement began.
        batch_size: images embedded at a time.
        keep: file that receives the checkpoint; None: none does.

    Raises:
        TrainingError: the code has changed since, or the loss is no longer finite.
    """
    if code != code_digest():
        raise TrainingError("the code has changed since the measurement began; start it again")
    recipe = TrainConfig(**params)
    train, val, query, gallery = (
        open_part(Path(data), name) for name in ("train", "val", "query", "gallery")
    )
    kept = BestNetwork()
    with distributed.joined(deterministic=recipe.deterministic) as process:
        torch.set_num_threads(1)
        net, teacher = network(recipe, train), teacher_of(recipe, process.device)
        bfloat16 = choose_bfloat16(net, recipe, process, image_size=train.image_size)
        trainer = Trainer(
            net, train, val, as_one_process(recipe), process, teacher=teacher, bfloat16=bfloat16
        )
        began = time.perf_counter()
        history = trainer.fit([kept])
        seconds = time.perf_counter() - began
        if keep:
            save(Path(keep), kept.net, recipe, train, history[trainer.best - 1])
        return {
            **searched(kept.net, query, gallery, val, batch_size, process.device),
            "best_epoch": trainer.best,
            "seconds": seconds,
            "images_per_second": statistics.harmonic_mean(
                [result.images_per_second for result in history]
            ),
            "environment": fingerprint.environment(process, recipe.arch, bfloat16=bfloat16),
        }


def network(recipe: TrainConfig, train: Part) -> nn.Module:
    """The network that stage train begins with."""
    net = build(
        Design(**recipe.design), len(train.classes), image_size=train.image_size, seed=recipe.seed
    )
    if recipe.weights:
        load_weights(net, sources(recipe)["weights"].verified())
    return net


def teacher_of(recipe: TrainConfig, device: torch.device) -> Teacher | None:
    """What the network learns from beside the images, if the recipe names it."""
    if not recipe.teacher:
        return None
    return Teacher(*checkpoint.load(sources(recipe)["teacher"].verified()), device)


def save(path: Path, net: nn.Module, recipe: TrainConfig, train: Part, best: EpochResult) -> None:
    """Write a checkpoint that other runs can learn from; it does not tell what it was made of."""
    about = Description(
        epoch=best.epoch, acc=100 * (1 - best.val_error), embedding_size=net.feature_size,
        image_size=train.image_size, mean=augment.MEAN, std=augment.STD, classes=train.classes,
        data_digest="0" * 64, identity={}, **recipe.design,
    )  # fmt: skip
    checkpoint.save(path, net.state_dict(), about)


def as_one_process(recipe: TrainConfig) -> TrainConfig:
    """The recipe of one process that does the work of all ranks."""
    ranks = recipe.nproc_per_node
    return recipe.model_copy(
        update={
            "nproc_per_node": 1,
            "batch_size": recipe.batch_size * ranks,
            "lr": scale_lr(recipe.lr, recipe.lr_scale, ranks),
            "lr_scale": "none",
        }
    )


def searched(
    net: nn.Module, query: Part, gallery: Part, val: Part, batch_size: int, device: torch.device
) -> dict[str, float]:
    """How well a network finds people, and tells those apart whom it has learned; shares."""
    predictor = Predictor(net, mean=augment.MEAN, std=augment.STD, device=device)
    embed = Embedder(predictor, batch_size)
    sides = embedded_sides(embed, query, gallery)
    found = ranking(*sides_to_rank(*(side.images for side in sides)))
    return {
        "mAP": found.mAP,
        "rank1": float(found.cmc[0]),
        "mINP": found.mINP,
        "val_accuracy": embed.accuracy(val),
    }


# Many runs


def job(run: Run, data: Path, code: str, batch_size: int, keep: Path | None, number: int) -> str:
    """What a process of its own is told to `measure`."""
    path = keep.resolve() / f"{number}-{run.params.seed}.pth" if keep else None
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    return json.dumps(
        {
            "data": str(data.resolve()),
            "params": run.params.model_dump(),
            "code": code,
            "batch_size": batch_size,
            "keep": str(path) if path else None,
        }
    )


def run_all(
    jobs: Sequence[str], at_a_time: int, folder: Path
) -> Iterator[tuple[int, Result | str]]:
    """Measure each job in a process of its own, so many at a time.

    Args:
        jobs: see `job`.
        at_a_time: how many run beside each other.
        folder: takes what they print.

    Yields:
        a job's number and its result, or the line in which it failed, as they end.
    """
    waiting, running = list(enumerate(jobs)), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                number, told_to = waiting.pop(0)
                running[number] = start(told_to, folder / str(number))
            for number, process in list(running.items()):
                if process.poll() is not None:
                    del running[number]
                    yield number, outcome(process.returncode, folder / str(number))
            time.sleep(POLL_SECONDS)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def start(told_to: str, path: Path) -> subprocess.Popen[bytes]:
    """Start a process that measures; what it prints goes to `path`, with `.out` and `.err`."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", LAUNCHER: str(os.getpid())}
    with path.with_suffix(".out").open("wb") as out, path.with_suffix(".err").open("wb") as err:
        command = [sys.executable, str(Path(__file__).resolve()), "--run", told_to]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environ
        )


def outcome(status: int, path: Path) -> Result | str:
    """What a process has found, or the line in which it failed."""
    if status == 0:
        result: Result = json.loads(path.with_suffix(".out").read_text())
        return result
    said = path.with_suffix(".err").read_text(errors="replace").strip().splitlines()
    return said[-1].removeprefix("error: ") if said else f"ended with status {status}"


# What is known


def read_results(path: Path) -> dict[str, Result]:
    """The runs that stand in a file, by their keys; a line cut short by a crash is passed over.

    Raises:
        DeepSortReidError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise DeepSortReidError(f"{path}: no file of results ({error})") from None
    found: dict[str, Result] = {}
    for number, line in enumerate(lines, start=1):
        try:
            result = json.loads(line)
            found[result["key"]] = result
        except (ValueError, LookupError, TypeError):
            print(f"{path}: line {number} is no result of a run, passed over", file=sys.stderr)
    return found


def append(path: Path, result: Result) -> None:
    """Add a line to a file of results, on a line of its own whatever stands at its end."""
    torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + json.dumps(result) + "\n")


# Telling


def told(found: Result) -> str:
    """A result in one line."""
    return (
        f"mAP {found['mAP']:.1%}, rank-1 {found['rank1']:.1%}, epoch {found['best_epoch']}, "
        f"{found['seconds']:.0f} s, {found['images_per_second']:,.0f} images/s"
    )


def table(found: Mapping[tuple[str, int], Result | None]) -> list[str]:
    """A Markdown table, a row an option, the baseline first.

    Args:
        found: option and seed -> result; None where a run has failed.
    """
    columns = (
        "option", "n", "mAP off", "mAP on", "difference", "rank-1 off", "rank-1 on", "difference",
        "mINP difference", "val accuracy difference", "images/s off", "images/s on",
    )  # fmt: skip
    rows = [row(option, found) for option in dict.fromkeys(option for option, _ in found)]
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def row(option: str, found: Mapping[tuple[str, int], Result | None]) -> list[str]:
    """The cells of an option's row: it and the baseline, of the seeds that both have."""
    pairs = [
        (off, on)
        for (name, seed), on in found.items()
        if name == option and on and (off := found["", seed])
    ]
    off, on = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def both(key: str) -> list[str]:
        return [
            percent(off, key),
            *([percent(on, key), points(pairs, key)] if option else ["", ""]),
        ]

    return [
        f"`{option}`" if option else "the baseline",
        str(len(pairs)),
        *both("mAP"),
        *both("rank1"),
        points(pairs, "mINP") if option else "",
        points(pairs, "val_accuracy") if option else "",
        spread([result["images_per_second"] for result in off], "{:,.0f}"),
        spread([result["images_per_second"] for result in on], "{:,.0f}") if option else "",
    ]


def percent(results: Sequence[Result], key: str) -> str:
    """A share in percent: mean, least and most."""
    return spread([100 * result[key] for result in results], "{:.1f}", " %")


def points(pairs: Sequence[tuple[Result, Result]], key: str) -> str:
    """What the second of each pair has more than the first, in points of percent."""
    return spread([100 * (on[key] - off[key]) for off, on in pairs], "{:+.1f}")


def spread(values: Sequence[float], form: str, unit: str = "") -> str:
    """`51.4 % (50.7 to 51.8)`: the mean, and least to most where there are several."""
    if not values:
        return "failed"
    mean = form.format(statistics.mean(values)) + unit
    ends = f" ({form.format(min(values))} to {form.format(max(values))})"
    return mean + (ends if len(values) > 1 else "")


def conditions(
    found: Mapping[tuple[str, int], Result | None],
    summary: packed.Summary,
    options: argparse.Namespace,
) -> list[str]:
    """Under what conditions the table was measured, in a few lines."""
    counts, results = summary.counts, [result for result in found.values() if result]
    held_out = "held out of the training part" if summary.tuning else "of the test part"
    source = f"`{options.data}`" if options.data else "the default dataset"
    changes = f" with {', '.join(f'`{change}`' for change in options.set)}" if options.set else ""
    return [
        f"Off: params.yaml{changes}; on: with the option too. Mean (least to most) of seeds "
        f"{', '.join(map(str, options.seeds))}; differences in points, seed by seed.",
        f"Data: {source}, split {summary.digest[:12]}: {counts['train']['images']:,} images of "
        f"{counts['train']['identities']:,} people to learn from; {counts['query']['images']:,} "
        f"queries among {counts['gallery']['images']:,} images of people {held_out}.",
        *sorted({machine(result) for result in results}),
    ]


def machine(result: Result) -> str:
    """What a result was computed on, in one line."""
    on = result["environment"]
    return (
        f"Machine: {on['device']}, one process with one thread a run, {result['jobs']} at a time; "
        f"torch {on['torch']}, Python {on['python']}, {on['system']}."
    )


if __name__ == "__main__":
    run_stage(main, (), environ=os.environ)
