"""Stage train: models/model.pth, by as many ranks as torchrun (or srun, or nobody) starts."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from deepsort_reid.core import signals
from deepsort_reid.core.config import Params, TrainConfig, load_params
from deepsort_reid.core.launch import read_launch
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data.loading import augment
from deepsort_reid.data.packed import PARTS, Part, Summary, open_part, read_summary, verify_parts
from deepsort_reid.model import checkpoint, retrieval
from deepsort_reid.model.device import flush_subnormals
from deepsort_reid.model.network import Design, build, check_image_size
from deepsort_reid.model.pretrained.loading import load_weights
from deepsort_reid.model.pretrained.source import sources
from deepsort_reid.runs import logger, provenance
from deepsort_reid.training import fingerprint
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.checkpointer import open_checkpointer
from deepsort_reid.training.history import EpochResult
from deepsort_reid.training.losses.teacher import Teacher
from deepsort_reid.training.observers import (
    Console,
    Observer,
    RetrievalCurve,
    RunMetrics,
    opening,
)
from deepsort_reid.training.ranks import agreement, distributed
from deepsort_reid.training.report import write_report
from deepsort_reid.training.trainer import Trainer

DATA, REPORTS, CHECKPOINT = Path("data/split"), Path("reports"), Path("models/model.pth")


def main() -> None:
    """Build the network, and train it with the other ranks."""
    flush_subnormals()
    params = load_params()
    config = params.train
    agreement.check_number(config, read_launch(os.environ))
    with distributed.joined(deterministic=config.deterministic) as process:
        # Whatever fails from here on, all ranks are told.
        with agreement.succeeding_together(process):
            agreement.check_recorder(process, os.environ)
            summary = read_summary(DATA)
            train, val = open_part(DATA, "train"), open_part(DATA, "val")
            net, taught = networks(config, train)
            if process.local_rank == 0:
                verify_parts(DATA, summary, PARTS)
            made_of = fingerprint.of_training(
                config, process, data_digest=summary.digest, bfloat16=False
            )
        agreement.check_agreement(made_of, process)
        teacher = Teacher(*taught, process.device) if taught else None
        bfloat16 = choose_bfloat16(
            net, config, process, image_size=train.image_size, data_digest=summary.digest
        )
        trainer = Trainer(net, train, val, config, process, teacher=teacher, bfloat16=bfloat16)
        if process.is_first:
            train_and_record(trainer, params, summary)
        else:
            fit(trainer)


def networks(
    config: TrainConfig, train: Part
) -> tuple[nn.Module, tuple[nn.Module, checkpoint.Description] | None]:
    """The network to train, with its weights, and its teacher's if it has one."""
    net = build(
        Design(**config.design), len(train.classes), image_size=train.image_size, seed=config.seed
    )
    check_image_size(net, config.arch, train.image_size)
    named = sources(config)
    if "weights" in named:
        load_weights(net, named["weights"].verified(), label=named["weights"].place)
    return net, checkpoint.load(named["teacher"].verified()) if "teacher" in named else None


def fit(
    trainer: Trainer, state: bytes = b"", observers: Sequence[Observer] = ()
) -> list[EpochResult]:
    """Train together with the other ranks, from rank 0's resume state if there is one."""
    trainer.load(state)
    with signals.postponed() as stop:
        return trainer.fit(observers, stop)


def train_and_record(trainer: Trainer, params: Params, summary: Summary) -> None:
    """Train as rank 0: write checkpoint, resume states and reports, and record the run."""
    config, train = params.train, trainer.train
    made_of = fingerprint.of_training(
        config, trainer.process, data_digest=summary.digest, bfloat16=trainer.learner.bfloat16
    )
    description = {
        **config.design,
        "embedding_size": trainer.learner.net.feature_size,
        "image_size": train.image_size,
        "mean": augment.MEAN,
        "std": augment.STD,
        "classes": train.classes,
        "data_digest": summary.digest,
        "identity": made_of.as_plain(),
    }
    with open_checkpointer(
        CHECKPOINT,
        REPORTS / "history.csv",
        description,
        fingerprint=made_of,
        every=params.run.save_seconds,
    ) as checkpointer:
        with logger.open_run(
            key=checkpointer.run_key,
            name=provenance.run_name(config.arch, params.raw),
            tags=provenance.provenance_tags(
                data_digest=summary.digest, arch=config.arch, params=params.raw
            ),
        ) as run:
            run.log_params({**params.raw, "derived": derived(trainer)})
            run.log_dataset(
                name=params.dataset.short_name,
                source=params.dataset.label,
                digest=summary.digest,
                profile=summary.flat(),
                context="training",
            )
            observers = [
                checkpointer,
                RunMetrics(run),
                *retrieval_curve(trainer, run),
                Console(config.num_workers, opening(trainer)),
            ]
            history = fit(trainer, checkpointer.newest(), observers)
            write_report(REPORTS, CHECKPOINT, history, run, run_key=checkpointer.run_key)
        checkpointer.finish(REPORTS / "run.json")


def retrieval_curve(trainer: Trainer, run: logger.RunLogger) -> list[Observer]:
    """What records mAP by epoch; nothing where no query could be found."""
    query, gallery = (open_part(DATA, name) for name in ("query", "gallery"))
    sample = retrieval.sample(
        query,
        gallery,
        epoch_images=len(trainer.train),
        mean=augment.MEAN,
        std=augment.STD,
        device=trainer.process.device,
    )
    return [RetrievalCurve(run, sample, trainer.learner.net_to_keep)] if sample else []


def derived(trainer: Trainer) -> dict[str, object]:
    """What follows from the parameters and the machine, for the record."""
    config, process = trainer.config, trainer.process
    return {
        "world_size": process.world_size,
        "global_batch_size": config.batch_size * config.accumulate_steps * process.world_size,
        "steps_per_epoch": trainer.train_batches.steps,
        "scaled_lr": trainer.learner.lr,
        "warmup_epochs": config.fitted_warmup,
        "device": process.device.type,
        "arithmetic": fingerprint.arithmetic(trainer.learner.bfloat16),
    }


if __name__ == "__main__":
    run_stage(main, environ=os.environ)
