"""What several ranks on one machine are worth, through the real Trainer.

Rows: all ranks, one a core (or GPU), over one rank with all threads and the same global batch; all
ranks with a thread each over as many times one rank with one thread and the same batch (weak
scaling). Counted are images a second of the training passes; the first epoch of each launch is not.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from deepsort_reid.core.machine import cores
from deepsort_reid.model import network
from deepsort_reid.training.arithmetic import choose_bfloat16
from deepsort_reid.training.ranks.distributed import Process
from deepsort_reid.training.trainer import Trainer
from speed_items import launch, noise
from speed_items.rows import ROUNDS, Row, compared, in_turns

BATCH = 16  # of each of all ranks
IDENTITIES = 96  # with 12 images each
EPOCHS = 3  # of a launch; the first is not counted


def measure(quick: bool) -> Iterator[Row]:
    """Launch each side in turn, and compare their training passes."""
    gpus = torch.cuda.device_count()
    ranks = gpus or cores()
    if ranks == 1:
        print("  there is one core or GPU, and nothing to compare")
        return
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        data = Path(folder)
        sizes = noise.QUICK if quick else noise.Sizes(IDENTITIES)
        noise.write_parts(data, replace(sizes, in_val=1))
        passes = in_turns(
            {
                "all": lambda: side(data, ranks, BATCH, quick),
                "one": lambda: side(data, 1, BATCH * ranks, quick),
                "thread": lambda: side(data, 1, BATCH, quick, threads=1),
            },
            1 if quick else ROUNDS,
        )
    every, one, thread = (list(chain(*passes[name])) for name in ("all", "one", "thread"))
    size = noise.QUICK.size if quick else noise.SIZE
    where = f"{size[0]}×{size[1]}, batch {BATCH}"
    unit = "GPU" if gpus else "core"
    yield row(
        f"{ranks} ranks, one a {unit}, over one {'GPU' if gpus else 'rank with all threads'}, "
        f"{where} a rank, the same global batch",
        every, one,
    )  # fmt: skip
    yield row(
        f"{ranks} ranks over {ranks} times one rank{'' if gpus else ' with one thread'}, "
        f"{where} a rank",
        every, [ranks * rate for rate in thread],
    )  # fmt: skip


def row(what: str, ours: list[float], other: list[float]) -> Row:
    """A comparison of two sides that took turns."""
    return compared(
        what,
        ours,
        other,
        unit="images/s",
        conditions=f"{noise.config().arch}, the training passes of epochs 2 to {EPOCHS} of each "
        "launch",
        least=0.95,
    )


def side(data: Path, ranks: int, batch: int, quick: bool, threads: int = 0) -> list[float]:
    """Launch so many ranks, and return their rates together.

    Args:
        data: folder of the packed parts.
        ranks: how many.
        batch: of each.
        quick: one counted epoch is enough.
        threads: of each; 0: its share of the cores.
    """
    epochs = 2 if quick else EPOCHS
    found: list[float] = launch.on_ranks(ranks, rates, data, batch, epochs, threads=threads)[0]
    return found


def rates(process: Process, data: Path, batch: int, epochs: int) -> list[float]:
    """Images a second of each training pass but the first, all ranks together."""
    config = noise.config(epochs=epochs, batch_size=batch, nproc_per_node=process.world_size)
    train, val = noise.open_parts(data)
    net = network.build(network.Design(**config.design), len(train.classes))
    bfloat16 = choose_bfloat16(net, config, process, image_size=train.image_size)
    history = Trainer(net, train, val, config, process, bfloat16=bfloat16).fit()
    return [result.images_per_second for result in history[1:]]
