"""Stage train: models/model.pth, by as many ranks as torchrun (or srun, or nobody) starts."""

from contextlib import ExitStack
from pathlib import Path

from deepsort_reid.core import signals
from deepsort_reid.core.config import load_params
from deepsort_reid.core.project import resolve
from deepsort_reid.core.stage import run_stage
from deepsort_reid.data import augment
from deepsort_reid.data.packed import open_part
from deepsort_reid.data.split import read_summary, verify_parts
from deepsort_reid.model import network as model
from deepsort_reid.runs import logger, provenance
from deepsort_reid.training import distributed, fingerprint, resume
from deepsort_reid.training.recorder import FileRecorder, NullRecorder
from deepsort_reid.training.trainer import Trainer


def main() -> None:
    """Build the network, train it with the other ranks, record what comes out."""
    params, data = load_params(), Path("data/split")
    config, summary = params.train, read_summary(data)
    train, val = open_part(data, "train"), open_part(data, "val")
    net = model.build(classes=len(train.classes), **config.design, seed=config.seed)
    if config.weights:
        model.load_weights(net, resolve(config.weights))

    with distributed.joined(deterministic=config.deterministic) as process:
        if process.local_rank == 0:
            verify_parts(data, summary, ("train", "val"))
        trainer = Trainer(net, train, val, config, process)
        made_of = fingerprint.of_training(config, process, data_digest=summary.digest)
        is_first = process.is_first
        with resume.kept(made_of, every=params.run.save_seconds, enabled=is_first) as states:
            with ExitStack() as stack:
                network = {
                    **config.design,
                    "embedding_size": net.feature_size,
                    "image_size": train.image_size,
                    "mean": augment.MEAN,
                    "std": augment.STD,
                    "classes": train.classes,
                    "data_digest": summary.digest,
                    "identity": made_of.as_plain(),
                }
                checkpoint, reports = Path("models/model.pth"), Path("reports")
                recorder: FileRecorder | NullRecorder = NullRecorder()
                if is_first:
                    run = stack.enter_context(
                        logger.open_run(
                            key=states.run_key,
                            name=provenance.run_name(config.arch),
                            tags=provenance.provenance_tags(
                                data_digest=summary.digest, arch=config.arch
                            ),
                        )
                    )
                    run.log_params({**params.raw, "derived": trainer.derived()})
                    run.log_dataset(
                        name=Path(params.dataset.source).name.partition(".")[0] or summary.layout,
                        source=params.dataset.source,
                        digest=summary.digest,
                        profile=summary.flat(),
                        context="training",
                    )
                    recorder = FileRecorder(checkpoint, reports, run, states, network)
                trainer.load(states.newest())
                recorder.go_on(trainer.history, trainer.best)
                with signals.postponed() as stop:
                    history = trainer.fit(recorder, states, stop)
                recorder.finish(history)
            states.finish(reports / "run.json")


if __name__ == "__main__":
    run_stage(main)
