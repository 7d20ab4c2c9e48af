"""What a finished training leaves in reports/ and in its run, beside checkpoint and history."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from deepsort_reid.core import files
from deepsort_reid.core.figure import BLUE, FAINT, GREEN, ORANGE, drawn
from deepsort_reid.model import checkpoint
from deepsort_reid.model.network import Embedder
from deepsort_reid.runs.logger import RunLogger
from deepsort_reid.runs.names import Numbers
from deepsort_reid.runs.provenance import checkpoint_tags
from deepsort_reid.training.history import EpochResult

BEST_NUMBERS = ("epoch", "train_loss", "train_error", "val_loss", "val_error")
MARKED_EPOCHS = 30  # up to so many, each epoch gets a dot
CUT_ABOVE = 2.0  # times the highest training loss, or the best epoch's val loss


def write_report(
    reports: Path, path: Path, history: Sequence[EpochResult], run: RunLogger, *, run_key: str
) -> None:
    """Write the curves and the best epoch's numbers; record them and the model in the run.

    Args:
        reports: the folder of all reports, history.csv among them.
        path: the checkpoint's.
        history: a result an epoch.
        run: the training's.
        run_key: the run's.
    """
    net, about = checkpoint.load(path)
    best = history[about.epoch - 1]
    results = {name: getattr(best, name) for name in BEST_NUMBERS}
    training_curves(reports / "train.jpg", history, best_epoch=best.epoch)
    files.write_json(
        reports / "train.json", {f"best_{name}": value for name, value in results.items()}
    )
    files.write_json(reports / "identity.json", about.identity)
    run.log_numbers(numbers_of_run(best))
    for name in ("train.jpg", "history.csv", "identity.json"):
        run.log_artifact(reports / name)
    run.log_artifact(path, "checkpoint")
    run.set_tags(checkpoint_tags(path))
    run.log_model(
        Embedder(net, about.mean, about.std),
        example_images(*about.image_size),
        metadata={name: value for name, value in asdict(about).items() if name != "acc"},
    )
    # Last, since by now the store has had time to name the run.
    files.write_json(
        reports / "run.json",
        {"key": run_key, "run_id": run.run_id, "run_name": run.run_name},
    )


def numbers_of_run(best: EpochResult) -> Numbers:
    """The kept network's numbers as its run records them; its curves are the observers'."""
    metrics = best.metrics()
    kept = ("train/loss", "train/error", "val/loss", "val/error")
    return Numbers({name: metrics[name] for name in kept}, {"best_epoch": best.epoch})


def example_images(height: int, width: int) -> np.ndarray:
    """Two images as the network takes them, (2, 3, H, W) float32 in [0, 1]."""
    ramp = np.linspace(0, 1, 2 * 3 * height * width, dtype=np.float32)
    return ramp.reshape(2, 3, height, width)


# The curves


def training_curves(
    path: Path, history: Sequence[EpochResult], *, best_epoch: int | None = None
) -> None:
    """Draw loss and top-1 error of train and val, and the learning rate, over the epochs.

    Args:
        path: a .jpg or .png file.
        history: an entry an epoch, in order; losses in nats, errors in [0, 1].
        best_epoch: the epoch to mark, as in the history.
    """
    epochs = [result.epoch for result in history]
    dot = "o" if len(epochs) <= MARKED_EPOCHS else ""
    with drawn(path, 1200, 440) as figure:
        loss, error, lr = figure.subplots(1, 3, width_ratios=[4, 4, 2])
        for part, colour, line in [("train", BLUE, "--"), ("val", ORANGE, "-")]:
            for axes, name in [(loss, "loss"), (error, "error")]:
                values = [getattr(result, f"{part}_{name}") for result in history]
                axes.plot(epochs, values, line, color=colour, marker=dot, markersize=4, label=part)
        lr.plot(epochs, [r.lr for r in history], color=FAINT, linewidth=1.2, marker=dot, ms=2.5)
        if best_epoch is not None:
            best = {result.epoch: result for result in history}[best_epoch]
            _mark_best(loss, best_epoch, best.val_loss, f"{best.val_loss:.3f}")
            _mark_best(error, best_epoch, best.val_error, f"{best.val_error:.1%}")
        loss.set(title="Loss", ylabel="loss, nats")
        error.set(title="Top-1 error", ylabel="images classified wrongly")
        error.yaxis.set_major_formatter(PercentFormatter(1.0))
        lr.set(title="Learning rate")
        lr.yaxis.set_major_locator(MaxNLocator(nbins=5))
        for axes in (loss, error, lr):
            axes.set(xlabel="epoch", xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
        _cut_outliers(loss, history, best_epoch)
        loss.legend()
        error.legend()


def _cut_outliers(loss: Axes, history: Sequence[EpochResult], best_epoch: int | None) -> None:
    """Let a first epoch's exploding val loss run off the panel, so that the rest can be read.

    Batch statistics need some hundred steps to settle; before, val losses of 100 are common.
    """
    shown = [result.train_loss for result in history]
    shown += [r.val_loss for r in history if r.epoch == best_epoch or len(history) == 1]
    top = CUT_ABOVE * max(shown)
    highest = max(result.val_loss for result in history)
    if highest > top:
        loss.set_ylim(top=top)
        loss.text(
            0.3, 0.98, f"↑ val up to {highest:.0f}",
            transform=loss.transAxes, va="top", color=ORANGE, fontsize="small",
        )  # fmt: skip


def _mark_best(axes: Axes, epoch: int, value: float, text: str) -> None:
    """Draw a line at the best epoch, and a ring around its value."""
    axes.axvline(epoch, color=GREEN, linestyle=":", linewidth=1.4)
    axes.plot(
        [epoch],
        [value],
        "o",
        markerfacecolor="none",
        markeredgecolor=GREEN,
        markeredgewidth=1.8,
        markersize=11,
        clip_on=False,
        label=f"best epoch, {epoch}: val {text}",
    )
